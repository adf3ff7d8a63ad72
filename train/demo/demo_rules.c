#include "train/demo/demo_rules.h"

#include "engine/image/components.h"
#include "infer/metrics/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = DEMO_SIZE, MIN_AREA = 10, MAX_PARTS = 64, N_SHARES = 8, MAX_OPENING = 3 };
static const double shares[N_SHARES] = {0.2, 0.14, 0.1, 0.07, 0.05, 0.035, 0.02, 0.01};

/* ---- a mask of extreme grey values ---- */

/* Grey values 0..255, inverted for dark lesions, so that the wanted ones are great; smooth: means of 3 x 3 pixels. */
static void grey_of(const struct demo_sample *s, int bright, int smooth, float *grey)
{
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            int sum = 0, n = 0;
            for (int v = y - smooth; v <= y + smooth; v++)
                for (int u = x - smooth; u <= x + smooth; u++)
                    if (u >= 0 && v >= 0 && u < SIDE && v < SIDE) sum += s->image[v * SIDE + u], n++;
            const float mean = (float)sum / (float)n;
            grey[y * SIDE + x] = bright ? mean : 255 - mean;
        }
}

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The brain's grey values in ascending order; returns their number. */
static int sort_brain(const struct demo_sample *s, const float *grey, float *sorted)
{
    int n = 0;
    for (int i = 0; i < DEMO_PIXELS; i++)
        if (s->brain[i]) sorted[n++] = grey[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    return n;
}

/* dst = 1 where every pixel (erode) or any pixel (else) of src within `radius` is set; outside the image is 0. */
static void disc_filter(const uint8_t *src, int radius, int erode, uint8_t *dst)
{
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            int all = 1, any = 0;
            for (int v = y - radius; v <= y + radius; v++)
                for (int u = x - radius; u <= x + radius; u++) {
                    if ((u - x) * (u - x) + (v - y) * (v - y) > radius * radius) continue;
                    const int set = u >= 0 && v >= 0 && u < SIDE && v < SIDE && src[v * SIDE + u];
                    all &= set;
                    any |= set;
                }
            dst[y * SIDE + x] = (uint8_t)(erode ? all : any);
        }
}

/* The share of the brain with the greatest grey values, opened. sorted (n): its grey values in ascending order. */
static void extreme_mask(const struct demo_sample *s, const float *grey, const float *sorted, int n, double share,
                         int opening, uint8_t *mask)
{
    uint8_t raw[DEMO_PIXELS], eroded[DEMO_PIXELS];
    const float cut = n ? sorted[(int)fmin(n - 1, floor((1 - share) * n))] : 0;
    for (int i = 0; i < DEMO_PIXELS; i++) raw[i] = s->brain[i] && grey[i] >= cut;
    disc_filter(raw, opening, 1, eroded);
    disc_filter(eroded, opening, 0, mask);
}

/* ---- components and their features ---- */

struct parts {
    int n, label[MAX_PARTS];
    double feature[MAX_PARTS][DEMO_RULE_FEATURES];
    int32_t labels[DEMO_PIXELS];
};

/* Features of the pixels with `label`: log area; border: mean grey step over 2 pixels across the border, per mean
 * contrast (sharp: near 1); rim: mean grey of the outermost two pixels less that of the inside. */
static void measure(const float *grey, const int32_t *labels, int label, double feature[DEMO_RULE_FEATURES])
{
    static const int dx[4] = {1, -1, 0, 0}, dy[4] = {0, 0, 1, -1};
    double in = 0, out = 0, edge = 0, core = 0, near_edge = 0;
    int area = 0, n_out = 0, n_edge = 0, n_core = 0;
    for (int y = 3; y < SIDE - 3; y++)
        for (int x = 3; x < SIDE - 3; x++) {
            if (labels[y * SIDE + x] != label) continue;
            int border = 0, close = 0;
            for (int k = 0; k < 4; k++) {
                border |= labels[(y + dy[k]) * SIDE + x + dx[k]] != label;
                close |= labels[(y + 2 * dy[k]) * SIDE + x + 2 * dx[k]] != label;
            }
            area++;
            in += (double)grey[y * SIDE + x];
            *(border || close ? &near_edge : &core) += (double)grey[y * SIDE + x];
            n_core += !(border || close);
            for (int k = 0; k < 4 && border; k++) {
                if (labels[(y + dy[k]) * SIDE + x + dx[k]] == label) continue;
                const double far = (double)grey[(y + 3 * dy[k]) * SIDE + x + 3 * dx[k]];
                edge += (double)grey[y * SIDE + x] - (double)grey[(y + 2 * dy[k]) * SIDE + x + 2 * dx[k]];
                out += far;
                n_edge++, n_out++;
            }
        }
    const double contrast = area && n_out ? in / area - out / n_out : 0;
    feature[0] = log(area + 1.0);
    feature[1] = n_edge && contrast > 1 ? fmin(2, fmax(-2, edge / n_edge / contrast)) : 0;
    feature[2] = n_core && area > n_core ? near_edge / (area - n_core) - core / n_core : 0;
}

static int by_area(const void *a, const void *b)
{
    const struct component *x = a, *y = b;
    return x->area != y->area ? (x->area < y->area ? 1 : -1) : (x->label > y->label) - (x->label < y->label);
}

/* The components of a mask, the largest first. */
static enum mcs_status find_parts(const uint8_t *mask, const float *grey, struct parts *p)
{
    struct component_list list = {0};
    MCS_TRY(mcs_components_find(mask, NULL, SIDE, SIDE, p->labels, &list));
    mcs_components_min_area(&list, MIN_AREA);
    qsort(list.items, (size_t)list.n, sizeof *list.items, by_area);
    p->n = list.n < MAX_PARTS ? list.n : MAX_PARTS;
    for (int k = 0; k < p->n; k++) {
        p->label[k] = list.items[k].label;
        measure(grey, p->labels, p->label[k], p->feature[k]);
    }
    mcs_components_free(&list);
    return MCS_OK;
}

static void words_of(const struct demo_lesion *l, int word[DEMO_RULE_FEATURES])
{
    word[0] = l->large != 0;
    word[1] = l->blurred != 0;
    word[2] = l->rim != 0;
}

/* The chosen component, -1: none. */
static int choose(const struct demo_rule *r, const struct parts *p, const struct demo_lesion *l)
{
    const int bright = l->bright != 0;
    int word[DEMO_RULE_FEATURES], best = -1;
    double least = INFINITY;
    words_of(l, word);
    if (!r->reads) return p->n ? 0 : -1;
    for (int k = 0; k < p->n; k++) {
        double distance = 0;
        for (int f = 0; f < DEMO_RULE_FEATURES; f++) {
            if (!(r->reads & 1u << f)) continue;
            const double d = (p->feature[k][f] - r->mean[bright][f][word[f]]) / r->deviation[bright][f];
            distance += d * d;
        }
        if (distance < least) least = distance, best = k;
    }
    return best;
}

static void part_mask(const struct parts *p, int k, uint8_t *mask)
{
    for (int i = 0; i < DEMO_PIXELS; i++) mask[i] = k >= 0 && p->labels[i] == p->label[k];
}

enum mcs_status mcs_demo_rule_apply(const struct demo_rule *rule, const struct demo_sample *s,
                                    const struct demo_lesion *l, uint8_t *mask)
{
    const struct demo_rule_threshold *t = &rule->threshold[l->bright != 0];
    float *grey = malloc(2 * DEMO_PIXELS * sizeof *grey);
    struct parts *p = malloc(sizeof *p);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(grey && p, MCS_E_NOMEM, st, done, "no memory for a rule");
    grey_of(s, l->bright != 0, t->smooth, grey);
    const int n = sort_brain(s, grey, grey + DEMO_PIXELS);
    extreme_mask(s, grey, grey + DEMO_PIXELS, n, t->share, t->opening, mask);
    MCS_TRY_GOTO(find_parts(mask, grey, p), st, done);
    part_mask(p, choose(rule, p, l), mask);
done:
    free(grey);
    free(p);
    return st;
}

/* ---- tuning ---- */

enum { N_THRESHOLDS = N_SHARES * 2 * (MAX_OPENING + 1) };

static struct demo_rule_threshold threshold_of(int i)
{
    return (struct demo_rule_threshold){
        .share = shares[i % N_SHARES], .smooth = i / N_SHARES % 2, .opening = i / N_SHARES / 2};
}

/* Mean and deviation of each feature of the true masks' pixels, by word. A word that no case has takes the mean of the
 * other one, so that it does not choose. */
static enum mcs_status measure_truth(const struct demo_rule_case *cases, int n, struct demo_rule *r)
{
    double sum[2][DEMO_RULE_FEATURES][2] = {0}, square[2][DEMO_RULE_FEATURES] = {0};
    int count[2][DEMO_RULE_FEATURES][2] = {0}, word[DEMO_RULE_FEATURES];
    double(*feature)[DEMO_RULE_FEATURES] = malloc((size_t)(n + 1) * sizeof *feature);
    float *grey = malloc(DEMO_PIXELS * sizeof *grey);
    int32_t *labels = malloc(DEMO_PIXELS * sizeof *labels);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(feature && grey && labels, MCS_E_NOMEM, st, done, "no memory to tune rules");
    for (int i = 0; i < n; i++) {
        const int bright = cases[i].lesion->bright != 0;
        grey_of(cases[i].sample, bright, 0, grey);
        for (int k = 0; k < DEMO_PIXELS; k++) labels[k] = cases[i].truth[k] != 0;
        measure(grey, labels, 1, feature[i]);
        words_of(cases[i].lesion, word);
        for (int f = 0; f < DEMO_RULE_FEATURES; f++) {
            sum[bright][f][word[f]] += feature[i][f];
            count[bright][f][word[f]]++;
        }
    }
    for (int b = 0; b < 2; b++)
        for (int f = 0; f < DEMO_RULE_FEATURES; f++)
            for (int w = 0; w < 2; w++) {
                const int at = count[b][f][w] ? w : 1 - w;
                r->mean[b][f][w] = count[b][f][at] ? sum[b][f][at] / count[b][f][at] : 0;
            }
    for (int i = 0; i < n; i++) {
        const int bright = cases[i].lesion->bright != 0;
        words_of(cases[i].lesion, word);
        for (int f = 0; f < DEMO_RULE_FEATURES; f++)
            square[bright][f] += pow(feature[i][f] - r->mean[bright][f][word[f]], 2);
    }
    for (int b = 0; b < 2; b++)
        for (int f = 0; f < DEMO_RULE_FEATURES; f++) {
            const int m = count[b][f][0] + count[b][f][1];
            r->deviation[b][f] = m ? fmax(1e-3, sqrt(square[b][f] / m)) : 1;
        }
done:
    free(feature);
    free(grey);
    free(labels);
    return st;
}

/* Dice of every threshold and set of words on one case: dice (N_THRESHOLDS, DEMO_READS_SETS). */
static enum mcs_status try_all(const struct demo_rule_case *c, const struct demo_rule *model, double *dice)
{
    const int bright = c->lesion->bright != 0;
    float *grey = malloc(2 * DEMO_PIXELS * sizeof *grey);
    struct parts *p = malloc(sizeof *p);
    uint8_t mask[DEMO_PIXELS];
    enum mcs_status st = MCS_OK;
    int n = 0;
    MCS_REQUIRE_GOTO(grey && p, MCS_E_NOMEM, st, done, "no memory to tune rules");
    for (int i = 0; i < N_THRESHOLDS; i++) {
        const struct demo_rule_threshold t = threshold_of(i);
        double of_part[MAX_PARTS];
        if (i % N_SHARES == 0) {
            grey_of(c->sample, bright, t.smooth, grey);
            n = sort_brain(c->sample, grey, grey + DEMO_PIXELS);
        }
        extreme_mask(c->sample, grey, grey + DEMO_PIXELS, n, t.share, t.opening, mask);
        MCS_TRY_GOTO(find_parts(mask, grey, p), st, done);
        for (int k = 0; k < p->n; k++) {
            part_mask(p, k, mask);
            const struct mask_counts counts = mcs_metrics_count(mask, c->truth, DEMO_PIXELS);
            of_part[k] = mcs_metrics_dice(&counts);
        }
        for (int set = 0; set < DEMO_READS_SETS; set++) {
            struct demo_rule r = *model;
            r.reads = (unsigned)set;
            const int k = choose(&r, p, c->lesion);
            dice[i * DEMO_READS_SETS + set] = k < 0 ? 0 : of_part[k];
        }
    }
done:
    free(grey);
    free(p);
    return st;
}

enum mcs_status mcs_demo_rules_tune(const struct demo_rule_case *cases, int n, struct demo_rule *rules)
{
    enum { ALL = N_THRESHOLDS * DEMO_READS_SETS };
    struct demo_rule model = {0};
    enum mcs_status st = MCS_OK;
    double *dice = malloc((size_t)(n + 1) * ALL * sizeof *dice);
    MCS_REQUIRE_GOTO(dice, MCS_E_NOMEM, st, done, "no memory to tune rules on %d images", n);
    MCS_TRY_GOTO(measure_truth(cases, n, &model), st, done);
    for (int i = 0; i < n; i++) MCS_TRY_GOTO(try_all(&cases[i], &model, dice + (int64_t)i * ALL), st, done);
    for (int set = 0; set < DEMO_READS_SETS; set++) {
        rules[set] = model;
        rules[set].reads = (unsigned)set;
        for (int bright = 0; bright < 2; bright++) {
            double best = -1;
            for (int t = 0; t < N_THRESHOLDS; t++) {
                double sum = 0;
                for (int i = 0; i < n; i++)
                    if ((cases[i].lesion->bright != 0) == bright)
                        sum += dice[(int64_t)i * ALL + (int64_t)t * DEMO_READS_SETS + set];
                if (sum <= best) continue;
                best = sum;
                rules[set].threshold[bright] = threshold_of(t);
            }
            if (n) rules[set].dice += best / n;
        }
    }
done:
    free(dice);
    return st;
}

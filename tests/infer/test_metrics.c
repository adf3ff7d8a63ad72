/* Mask metrics against brute force in double and known discs; statistics against known tables and pair counts. */
#include "engine/base/rng.h"
#include "engine/image/prob_maps.h"
#include "infer/clip/recall.h"
#include "infer/metrics/distance.h"
#include "infer/metrics/metrics.h"
#include "infer/metrics/statistics.h"
#include "infer/unet/uncertainty.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double unit[2] = {1.0, 1.0};

/* ---- distance ---- */

Test(distance, equals_brute_force_in_2d_and_3d)
{
    const int shape[][3] = {{13, 9, 1}, {1, 17, 1}, {7, 6, 5}, {1, 1, 1}, {11, 1, 4}};
    const double spacing[][3] = {{1, 1, 1}, {0.7, 1.3, 2.5}};
    for (int s = 0; s < 5; s++)
        for (int k = 0; k < 2; k++)
            for (uint64_t seed = 0; seed < 8; seed++) {
                int nx = shape[s][0], ny = shape[s][1], nz = shape[s][2], n = nx * ny * nz;
                struct mcs_rng r = {.seed = seed, .site = mcs_rng_site("test.distance")};
                uint8_t sites[256];
                double got[256];
                for (int i = 0; i < n; i++) sites[i] = mcs_rng_uniform(r, (uint32_t)i) < 0.02 + 0.04 * (double)seed;
                cr_assert_eq(mcs_distance_transform(sites, nx, ny, nz, spacing[k], got), MCS_OK);
                for (int i = 0; i < n; i++) {
                    double best = INFINITY;
                    for (int j = 0; j < n; j++) {
                        if (!sites[j]) continue;
                        double dx = (i % nx - j % nx) * spacing[k][0], dy = (i / nx % ny - j / nx % ny) * spacing[k][1],
                               dz = (i / nx / ny - j / nx / ny) * spacing[k][2];
                        best = fmin(best, dx * dx + dy * dy + dz * dz);
                    }
                    /* whole numbers are exact; otherwise three products and two sums */
                    if (isinf(best))
                        cr_assert(isinf(got[i]));
                    else if (!k)
                        cr_assert_eq(got[i], sqrt(best));
                    else
                        cr_assert_float_eq(got[i], sqrt(best), 8e-16 * (1.0 + sqrt(best)) * 4);
                }
            }
}

/* ---- surfaces ---- */

static void disc(uint8_t *mask, int w, int h, double cx, double cy, double r)
{
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) mask[y * w + x] = (x - cx) * (x - cx) + (y - cy) * (y - cy) <= r * r;
}

/* Results of surface-distance 0.1 for discs: Dice, one-slice NSD, 2-D NSD at a tolerance of 2, HD95. */
Test(metrics, discs_with_known_answers)
{
    enum { S = 128 };
    static uint8_t a[S * S], b[S * S];
    const struct {
        double shift, radius, dice, slice, nsd, hd95;
    } known[] = {{10, 40, 0.8423880597014926, 0.8892259152692275, 0.17527817491974054, 10.0},
                 {0, 44, 0.9052422986849217, 0.9564825673118795, 0.0, 4.123105625617661},
                 {0, 30, 0.7190925312261025, 0.7753834131816871, 0.0, 10.198039027185569}};
    /* sums of some 10^4 terms of like sign, each good to an ulp, in another order */
    const double tol = 1e4 * 2.2e-16;
    disc(a, S, S, 60, 64, 40);
    for (int k = 0; k < 3; k++) {
        struct mask_metrics m;
        disc(b, S, S, 60 + known[k].shift, 64, known[k].radius);
        cr_assert_eq(mcs_metrics_measure(b, a, S, S, unit, 2.0, &m), MCS_OK);
        cr_assert_float_eq(m.dice, known[k].dice, tol, "dice %g", m.dice);
        cr_assert_float_eq(m.nsd_slice, known[k].slice, tol, "slice %g", m.nsd_slice);
        cr_assert_float_eq(m.nsd, known[k].nsd, tol, "nsd %g", m.nsd);
        cr_assert_float_eq(m.hd95, known[k].hd95, tol, "hd95 %g", m.hd95);
    }
    struct surface_pair s;
    cr_assert_eq(mcs_surface_measure(a, a, S, S, unit, MCS_SURFACE_SLICE, &s), MCS_OK);
    cr_assert_float_eq(s.ref.total, 10173.028264317938, 1e4 * tol, "area %g", s.ref.total);
    mcs_surface_free(&s);
}

/* Brute force over all pairs from the definitions: corners whose pixels are not all equal, nearest corner of the other
 * mask. */
struct oracle {
    int n;
    double x[4096], y[4096], size[4096], d[4096];
};

static int pixel(const uint8_t *m, int w, int h, int x, int y)
{
    return x >= 0 && y >= 0 && x < w && y < h && m[y * w + x];
}

static void corners(const uint8_t *m, int w, int h, int slice, const double sp[2], struct oracle *o)
{
    o->n = 0;
    for (int y = 0; y <= h; y++)
        for (int x = 0; x <= w; x++) {
            int a = pixel(m, w, h, x - 1, y - 1), b = pixel(m, w, h, x, y - 1), c = pixel(m, w, h, x - 1, y),
                d = pixel(m, w, h, x, y), n = a + b + c + d;
            double half = 0.5 * hypot(sp[0], sp[1]), t = 0.25 * sqrt(3.0) * 0.5; /* equilateral, side sqrt(1/2) */
            double size = 0.0;
            if (!slice) {
                if (n == 1 || n == 3) size = half;
                if (n == 2) size = a == d ? 2.0 * half : a == b ? sp[0] : sp[1];
            } else {
                if (n == 1) size = t;
                if (n == 2) size = a == d ? 2.0 * t : sqrt(0.5);
                if (n == 3) size = 0.5 + 0.5 * (sqrt(2.0) + sqrt(0.5)) * sqrt(0.375); /* half square and trapezoid */
                if (n == 4) size = 1.0;
            }
            if (size == 0.0) continue;
            o->x[o->n] = x * sp[0], o->y[o->n] = y * sp[1];
            o->size[o->n++] = size;
        }
}

static void nearest(struct oracle *a, const struct oracle *b)
{
    for (int i = 0; i < a->n; i++) {
        a->d[i] = INFINITY;
        for (int j = 0; j < b->n; j++) a->d[i] = fmin(a->d[i], hypot(a->x[i] - b->x[j], a->y[i] - b->y[j]));
    }
}

static double share_within(const struct oracle *o, double limit)
{
    double in = 0, all = 0;
    for (int i = 0; i < o->n; i++) {
        all += o->size[i];
        if (o->d[i] <= limit + 1e-12) in += o->size[i];
    }
    return in / all;
}

/* The least distance within which 95 % of the size lies. */
static double oracle_p95(const struct oracle *o)
{
    double best = INFINITY;
    for (int i = 0; i < o->n; i++)
        if (share_within(o, o->d[i]) >= 0.95 - 1e-12 && o->d[i] < best) best = o->d[i];
    return best;
}

Test(metrics, surfaces_equal_brute_force)
{
    enum { W = 23, H = 17 };
    static struct oracle p, q;
    const double spacing[][2] = {{1, 1}, {0.5, 2.0}};
    for (uint64_t seed = 0; seed < 24; seed++) {
        uint8_t a[W * H], b[W * H];
        struct mcs_rng r = {.seed = seed, .site = mcs_rng_site("test.surface")};
        /* noise gives all corner codes, discs (some over the edge) the typical ones */
        disc(a, W, H, mcs_rng_range(r, 0, 0, W), mcs_rng_range(r, 1, 0, H), mcs_rng_range(r, 2, 1, 8));
        disc(b, W, H, mcs_rng_range(r, 3, 0, W), mcs_rng_range(r, 4, 0, H), mcs_rng_range(r, 5, 1, 8));
        for (int i = 0; i < W * H && seed % 3 == 0; i++) {
            a[i] ^= mcs_rng_uniform(r, (uint32_t)(10 + 2 * i)) < 0.1;
            b[i] ^= mcs_rng_uniform(r, (uint32_t)(11 + 2 * i)) < 0.1;
        }
        const double *sp = spacing[seed % 2];
        for (int slice = 0; slice <= (sp[0] == 1.0); slice++) {
            struct surface_pair s;
            cr_assert_eq(mcs_surface_measure(a, b, W, H, sp, slice ? MCS_SURFACE_SLICE : MCS_SURFACE_2D, &s), MCS_OK);
            corners(a, W, H, slice, sp, &p);
            corners(b, W, H, slice, sp, &q);
            nearest(&p, &q);
            nearest(&q, &p);
            double in = 0, all = 0, sum = 0;
            for (int k = 0; k < 2; k++)
                for (int i = 0; i < (k ? q.n : p.n); i++) {
                    const struct oracle *o = k ? &q : &p;
                    all += o->size[i];
                    sum += o->size[i] * o->d[i];
                    if (o->d[i] <= 2.0 + 1e-12) in += o->size[i];
                }
            cr_assert(s.pred.n == p.n && s.ref.n == q.n);
            cr_assert_float_eq(mcs_surface_nsd(&s, 2.0), in / all, 1e-12);
            cr_assert_float_eq(mcs_surface_assd(&s), sum / all, 1e-12 * (1 + sum / all));
            cr_assert_float_eq(mcs_surface_hausdorff(&s, 95.0), fmax(oracle_p95(&p), oracle_p95(&q)), 1e-12);
            mcs_surface_free(&s);
        }
    }
}

Test(metrics, counts_and_empty_masks)
{
    uint8_t a[16] = {0}, b[16] = {0};
    struct mask_metrics m;
    cr_assert_eq(mcs_metrics_measure(a, b, 4, 4, unit, 2.0, &m), MCS_OK);
    cr_assert(isnan(m.dice) && isnan(m.iou) && isnan(m.nsd) && isnan(m.nsd_slice) && isnan(m.hd95) && isnan(m.assd));
    b[5] = b[6] = 255;
    cr_assert_eq(mcs_metrics_measure(a, b, 4, 4, unit, 2.0, &m), MCS_OK);
    cr_assert(m.dice == 0 && m.iou == 0 && m.nsd == 0 && m.nsd_slice == 0 && isinf(m.hd95) && isinf(m.assd));
    cr_assert_eq(mcs_metrics_measure(b, a, 4, 4, unit, 2.0, &m), MCS_OK);
    cr_assert(m.dice == 0 && m.nsd == 0 && isinf(m.hd95) && isinf(m.assd));
    a[6] = a[7] = a[10] = 1;
    cr_assert_eq(mcs_metrics_measure(a, b, 4, 4, unit, 2.0, &m), MCS_OK);
    cr_assert(m.counts.tp == 1 && m.counts.fp == 2 && m.counts.fn == 1 && m.counts.tn == 12);
    cr_assert(m.counts.n_pred == 3 && m.counts.n_ref == 2);
    cr_assert_float_eq(m.dice, 0.4, 1e-15);
    cr_assert_float_eq(m.iou, 0.25, 1e-15);
    cr_assert_eq(mcs_metrics_measure(b, b, 4, 4, unit, 0.0, &m), MCS_OK);
    cr_assert(m.dice == 1 && m.iou == 1 && m.nsd == 1 && m.nsd_slice == 1 && m.hd95 == 0 && m.assd == 0);
    struct surface_pair s;
    const double wide[2] = {1.0, 2.0}, none[2] = {0.0, 1.0};
    cr_assert_eq(mcs_surface_measure(a, b, 4, 4, wide, MCS_SURFACE_SLICE, &s), MCS_E_USAGE);
    mcs_error_clear();
    cr_assert_eq(mcs_surface_measure(a, b, 4, 4, none, MCS_SURFACE_2D, &s), MCS_E_USAGE);
}

/* ---- statistics ---- */

Test(statistics, student_quantiles_of_the_printed_tables)
{
    const double df[] = {1, 2, 4, 10, 30, 1000},
                 want[] = {12.7062047, 4.3026527, 2.7764451, 2.2281389, 2.0422725, 1.9623391};
    for (int i = 0; i < 6; i++) cr_assert_float_eq(mcs_student_quantile(0.975, df[i]), want[i], 6e-8 * (1 + want[i]));
    cr_assert_float_eq(mcs_student_quantile(0.025, 4), -2.7764451, 1e-6);
    cr_assert_float_eq(mcs_student_quantile(0.95, 5), 2.0150484, 1e-6);
    const double v[] = {0.70, INFINITY, 0.75, NAN, 0.71};
    struct mean_interval m = mcs_mean_interval(v, 5);
    cr_assert(m.n == 3 && m.n_left_out == 2);
    cr_assert_float_eq(m.mean, 0.72, 1e-15);
    cr_assert_float_eq(m.hi - m.mean, 4.3026527 * sqrt(0.0007) / sqrt(3.0), 1e-8);
    cr_assert_float_eq(m.mean - m.lo, m.hi - m.mean, 1e-15);
    m = mcs_mean_interval(v, 1);
    cr_assert(m.mean == 0.70 && isnan(m.lo));
    m = mcs_mean_interval(v, 0);
    cr_assert(isnan(m.mean));
    /* differences 1, 2, 3, 6: mean 3, s^2 = 14/3, t = 3 / sqrt(14/12) = 2.7775, df 3: twice the tail by the closed form
     * of df 3 */
    const double a[] = {2, 4, 6, 10}, b[] = {1, 2, 3, 4};
    double t = 3.0 / sqrt(14.0 / 12.0), u = t / sqrt(3.0);
    double p = 1.0 - 2.0 / M_PI * (atan(u) + u / (1.0 + u * u));
    int64_t n;
    cr_assert_float_eq(mcs_paired_t_test(a, b, 4, &n), p, 1e-12);
    cr_assert_eq(n, 4);
    cr_assert_eq(mcs_paired_t_test(a, a, 4, NULL), 1.0);
    cr_assert(isnan(mcs_paired_t_test(a, b, 1, NULL)));
}

Test(statistics, spearman)
{
    const double x[] = {1, 2, 3, 4, 5, NAN}, y[] = {5, 6, 7, 8, 7, 1}, z[] = {9, 7, 5, 3, 1, 0},
                 c[] = {1, 1, 1, 1, 1, 1};
    double rho;
    cr_assert_eq(mcs_spearman(x, y, 6, &rho), MCS_OK);
    /* ranks of y: 1 2 3.5 5 3.5; covariance 8, variances 10 and 9.5 */
    cr_assert_float_eq(rho, 8.0 / sqrt(95.0), 1e-14);
    cr_assert_eq(mcs_spearman(x, z, 6, &rho), MCS_OK);
    cr_assert_float_eq(rho, -1.0, 1e-14);
    cr_assert_eq(mcs_spearman(x, c, 6, &rho), MCS_OK);
    cr_assert(isnan(rho));
    const double inf[] = {INFINITY, 0, 1}, up[] = {3, 1, 2};
    cr_assert_eq(mcs_spearman(inf, up, 3, &rho), MCS_OK);
    cr_assert_float_eq(rho, 1.0, 1e-14);
}

Test(statistics, auroc_counts_pairs)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        enum { N = 200 };
        float s[N];
        uint8_t l[N];
        struct mcs_rng r = {.seed = seed, .site = mcs_rng_site("test.auroc")};
        for (int i = 0; i < N; i++) {
            l[i] = mcs_rng_uniform(r, (uint32_t)(2 * i)) < 0.3 ? 255 : 0;
            s[i] = (float)mcs_rng_normal(r, (uint32_t)(2 * i + 1)) + (l[i] ? 0.5f : 0.0f);
            if (seed % 2) s[i] = roundf(s[i]); /* ties, and both zeros */
        }
        double won = 0, pairs = 0, got;
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                if (l[i] && !l[j]) pairs++, won += s[i] > s[j] ? 1.0 : s[i] == s[j] ? 0.5 : 0.0;
        cr_assert_eq(mcs_auroc(s, l, N, &got), MCS_OK);
        cr_assert_float_eq(got, won / pairs, 1e-15);
    }
    float s[2] = {1, NAN};
    uint8_t l[2] = {1, 1};
    double got;
    cr_assert_eq(mcs_auroc(s, l, 1, &got), MCS_OK);
    cr_assert(isnan(got));
    cr_assert_eq(mcs_auroc(s, l, 2, &got), MCS_E_DATA);
}

/* ---- recall ---- */

Test(recall, hand_made_ranks)
{
    /* texts are axes; an image's row of similarities is then the image itself */
    const float t[] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, i[] = {.9f, .1f, 0, .8f, .6f, 0, .9f, .5f, .3f};
    struct recall_options o = mcs_recall_defaults();
    struct recall_result r;
    cr_assert_eq(mcs_recall(i, t, 3, 3, &o, &r), MCS_OK);
    /* image 0: first; 1: .6 behind .8; 2: .3 behind .9 and .5. text 0: .9 ties with image 2: a miss at 1; 1: first; 2:
     * first */
    cr_assert_float_eq(r.image_to_text[0].mean, 1.0 / 3, 1e-15);
    cr_assert_float_eq(r.image_to_text[1].mean, 2.0 / 3, 1e-15);
    cr_assert_float_eq(r.text_to_image[0].mean, 2.0 / 3, 1e-15);
    cr_assert_float_eq(r.text_to_image[1].mean, 1.0, 1e-15);
    cr_assert(r.n_batches == 1 && r.n_left_out == 0 && isnan(r.image_to_text[0].lo));
    const int32_t group[] = {7, 8, 7}; /* pairs 0 and 2 are the same thing: no rivals */
    o.group = group;
    cr_assert_eq(mcs_recall(i, t, 3, 3, &o, &r), MCS_OK);
    cr_assert_float_eq(r.text_to_image[0].mean, 1.0, 1e-15);
    cr_assert_float_eq(r.image_to_text[1].mean, 1.0, 1e-15);
}

Test(recall, batches_remainder_and_collapse)
{
    enum { N = 23, D = 4 };
    float a[N * D], b[N * D];
    struct mcs_rng g = {.seed = 3, .site = mcs_rng_site("test.recall")};
    mcs_rng_fill_normal(g, a, N * D);
    g.step = 1;
    mcs_rng_fill_normal(g, b, N * D);
    for (int i = 0; i < N * D; i++) b[i] = a[i] + 0.5f * b[i];
    struct recall_options o = {.batch = 5};
    struct recall_result r, again;
    cr_assert_eq(mcs_recall(a, b, N, D, &o, &r), MCS_OK);
    cr_assert(r.n_batches == 4 && r.n_left_out == 3 && r.image_to_text[0].n == 4);
    int found = 0;
    for (int i = 0; i < 20; i++) {
        double s[5];
        int rivals = 0;
        for (int j = 0; j < 5; j++) {
            s[j] = 0;
            for (int k = 0; k < D; k++) s[j] += (double)a[i * D + k] * b[(i / 5 * 5 + j) * D + k];
        }
        for (int j = 0; j < 5; j++) rivals += j != i % 5 && s[j] >= s[i % 5];
        found += rivals == 0;
    }
    cr_assert(found > 4 && found < 20); /* neither chance level nor perfect, so that errors are visible */
    cr_assert_float_eq(r.image_to_text[0].mean, found / 20.0, 1e-12);
    o.n_runs = 5;
    cr_assert_eq(mcs_recall(a, b, N, D, &o, &r), MCS_OK);
    cr_assert_eq(mcs_recall(a, b, N, D, &o, &again), MCS_OK);
    cr_assert(r.n_batches == 20 && !memcmp(&r, &again, sizeof r));
    for (int i = 0; i < N * D; i++) a[i] = b[i] = 0.5f; /* collapsed embeddings find nothing */
    cr_assert_eq(mcs_recall(a, b, N, D, &o, &r), MCS_OK);
    cr_assert(r.image_to_text[1].mean == 0.0 && r.text_to_image[1].mean == 0.0);
    a[7] = NAN;
    cr_assert_eq(mcs_recall(a, b, N, D, &o, &r), MCS_E_DATA);
    cr_assert(strstr(mcs_error_message(), "image embedding of pair 1"));
    mcs_error_clear();
    cr_assert_eq(mcs_recall(a, b, 1, D, &o, &r), MCS_E_SHAPE);
}

/* ---- uncertainty ---- */

Test(uncertainty, entropy)
{
    const float p[] = {0.0f, 1.0f, 0.5f, 0.25f};
    float bits[4];
    cr_assert_eq(mcs_entropy_map(p, 1, 4, bits), MCS_OK);
    cr_assert(bits[0] == 0 && bits[1] == 0 && bits[2] == 1);
    cr_assert_float_eq(bits[3], 0.25 * 2 + 0.75 * log2(4.0 / 3.0), 1e-7);
    const float three[] = {0.5f, 0.0f, 0.25f, 1.0f, 0.25f, 0.0f}; /* classes 3, pixels 2 */
    cr_assert_eq(mcs_entropy_map(three, 3, 2, bits), MCS_OK);
    cr_assert(bits[0] == 1.5f && bits[1] == 0.0f);
    const float bad[] = {0.5f, NAN}, over[] = {1.2f};
    cr_assert_eq(mcs_entropy_map(bad, 1, 2, bits), MCS_E_DATA);
    mcs_error_clear();
    cr_assert_eq(mcs_entropy_map(over, 1, 1, bits), MCS_E_DATA);
}

Test(uncertainty, score_and_its_released_form)
{
    uint8_t mask[25] = {0};
    float bits[25];
    for (int i = 0; i < 25; i++) bits[i] = 0.5f;
    mask[12] = 1; /* a ring of 8 */
    cr_assert_float_eq(mcs_uncertainty_score(bits, mask, 5, 5, MCS_PAPER), 100 * 12.5 / 8, 1e-12);
    cr_assert_float_eq(mcs_uncertainty_score(bits, mask, 5, 5, MCS_RELEASE), 100 * 12.5 / 8 / 255, 1e-12);
    cr_assert_float_eq(mcs_uncertainty_score_area(bits, mask, 25), 1250.0, 1e-12);
    mask[12] = 0;
    mask[0] = 255; /* in the corner, a ring of 3 */
    cr_assert_float_eq(mcs_uncertainty_score(bits, mask, 5, 5, MCS_PAPER), 1250.0 / 3, 1e-12);
    mask[0] = 0;
    cr_assert_float_eq(mcs_uncertainty_score(bits, mask, 5, 5, MCS_PAPER), 1250.0, 1e-12);
    cr_assert(isinf(mcs_uncertainty_score(bits, mask, 5, 5, MCS_RELEASE)));
}

Test(uncertainty, errors_outside_the_band)
{
    enum { W = 20, H = 6 };
    uint8_t pred[W * H], ref[W * H];
    float bits[W * H];
    for (int i = 0; i < W * H; i++) {
        int x = i % W;
        pred[i] = x >= 10;
        ref[i] = x >= 9 || x == 2;
        bits[i] = (float)(x == 2 ? 0.9 : x > 6 && x < 13 ? 1.0 : 0.001 * i);
    }
    struct error_pool p = {0};
    struct error_statistics s;
    cr_assert_eq(mcs_error_pool_add(&p, bits, pred, ref, W, H, 2.0), MCS_OK);
    cr_assert_eq(mcs_error_pool_add(&p, bits, pred, ref, W, H, 2.0), MCS_OK);
    cr_assert_eq(mcs_error_pool_statistics(&p, &s), MCS_OK);
    cr_assert(s.n_pixels == 240 && s.n_wrong == 24 && s.n_outside == 2 * 6 * 16 && s.n_wrong_outside == 12);
    cr_assert_float_eq(s.wrong, 0.95, 1e-7);
    /* band: columns 8 to 11. Outside, the wrong column 2 (0.9) loses to columns 7 and 12 (1.0) of the 15 right ones */
    cr_assert_float_eq(s.auroc_outside_band, 13.0 / 15.0, 1e-15);
    /* in all: column 2 beats 13 of 18 right columns, column 9 (1.0) beats 13 and ties with 5 */
    cr_assert_float_eq(s.auroc, (13.0 + 15.5) / 36.0, 1e-15);
    mcs_error_pool_free(&p);
    for (int i = 0; i < W * H; i++) pred[i] = ref[i] = 0; /* no border, no error */
    cr_assert_eq(mcs_error_pool_add(&p, bits, pred, ref, W, H, 2.0), MCS_OK);
    cr_assert_eq(mcs_error_pool_statistics(&p, &s), MCS_OK);
    cr_assert(s.n_outside == 120 && s.n_wrong == 0 && isnan(s.auroc) && isnan(s.wrong) && isnan(s.auroc_outside_band));
    mcs_error_pool_free(&p);
}

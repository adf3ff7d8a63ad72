/* Healthy images: presence scores, their threshold, false masks and lesions found. */
#include "infer/metrics/statistics.h"
#include "train/demo/demo_results.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double LEAST_FOUND = 0.85; /* share of found lesions that the threshold keeps, at least */

const char *const mcs_demo_presence_names[DEMO_PRESENCES] = {"cosine", "contrast", "iou"};

/* ---- scores ---- */

/* Mean of the map inside the mask less the mean outside; without a mask 0. */
static double contrast(const struct segment_case *c)
{
    double in = 0, out = 0;
    int64_t n_in = 0;
    const int64_t n = (int64_t)c->map.width * c->map.height;
    for (int64_t i = 0; i < n; i++) {
        *(c->mask[i] ? &in : &out) += (double)c->map.values[i];
        n_in += c->mask[i] != 0;
    }
    return n_in && n_in < n ? in / (double)n_in - out / (double)(n - n_in) : 0;
}

double mcs_demo_presence(enum demo_presence kind, const struct segment_case *c)
{
    switch (kind) {
    case PRESENCE_CONTRAST: return contrast(c);
    case PRESENCE_IOU: return (double)c->iou;
    default: return (double)c->presence;
    }
}

/* ---- the threshold ---- */

double mcs_demo_presence_threshold(const double *lesion, const uint8_t *found, int n_lesion, const double *healthy,
                                   int n_healthy)
{
    double best = -INFINITY, threshold = -INFINITY;
    int n_found = 0;
    for (int i = 0; i < n_lesion; i++) n_found += found[i] != 0;
    const double least = LEAST_FOUND * (n_found >= LEAST_FOUND * n_lesion ? n_lesion : n_found);
    for (int t = 0; t < n_lesion; t++) {
        int kept = 0, refused = 0;
        if (!found[t]) continue;
        for (int i = 0; i < n_lesion; i++) kept += found[i] && lesion[i] >= lesion[t];
        for (int i = 0; i < n_healthy; i++) refused += healthy[i] < lesion[t];
        if (kept < least) continue;
        const double youden = (double)kept / n_lesion + (n_healthy ? (double)refused / n_healthy : 0);
        if (youden > best || (youden == best && lesion[t] < threshold)) best = youden, threshold = lesion[t];
    }
    return threshold;
}

static void scores_of(const struct demo_run *run, const struct segment_case *cases, int n, double *score)
{
    for (int i = 0; i < n; i++) score[i] = mcs_demo_presence((enum demo_presence)run->o->presence, &cases[i]);
}

static enum mcs_status segment_set(struct demo_run *run, const struct demo_set *set, struct segment_case **cases)
{
    const struct segment_options o = mcs_demo_segment_options(run->o);
    MCS_TRY(mcs_demo_cases_new(set, DEMO_PROMPT_LOOK, cases));
    return mcs_demo_segment_with(run, &o, &run->sam, *cases, set->n);
}

static double share_from(const double *score, const uint8_t *counted, int n, double threshold, int total)
{
    int passed = 0;
    for (int i = 0; i < n; i++) passed += (!counted || counted[i]) && score[i] >= threshold;
    return total ? (double)passed / total : NAN;
}

enum mcs_status mcs_demo_tune_presence(struct demo_run *run)
{
    const struct demo_set *with = &run->validation, *none = &run->validation_none;
    struct demo_tuned *t = &run->r.tuned;
    struct segment_case *cases[2] = {NULL};
    double *score = calloc((size_t)(with->n + none->n + 1), sizeof *score), *healthy = score + with->n;
    uint8_t *found = calloc((size_t)with->n + 1, 1), truth[DEMO_PIXELS];
    struct bootstrap_interval auroc;
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(score && found, MCS_E_NOMEM, st, done, "no memory for the presence scores");
    MCS_TRY_GOTO(segment_set(run, with, &cases[0]), st, done);
    MCS_TRY_GOTO(segment_set(run, none, &cases[1]), st, done);
    scores_of(run, cases[0], with->n, score);
    scores_of(run, cases[1], none->n, healthy);
    for (int i = 0; i < with->n; i++) {
        mcs_demo_truth(&with->cases[i], DEMO_PROMPT_LOOK, truth);
        found[i] = mcs_demo_dice(cases[0][i].mask, truth) > DEMO_FOUND_DICE;
    }
    t->min_presence = mcs_demo_presence_threshold(score, found, with->n, healthy, none->n);
    t->presence_found = share_from(score, found, with->n, t->min_presence, with->n);
    t->presence_false = 0;
    for (int i = 0; i < none->n; i++)
        t->presence_false +=
            (healthy[i] >= t->min_presence && memchr(cases[1][i].mask, 1, DEMO_PIXELS)) / (double)none->n;
    MCS_TRY_GOTO(mcs_bootstrap_auroc(score, with->n, healthy, none->n, (uint64_t)run->o->seed, &auroc), st, done);
    t->presence_auroc = auroc.value;
done:
    mcs_demo_free_cases(cases[0], with->n);
    mcs_demo_free_cases(cases[1], none->n);
    free(score);
    free(found);
    return st;
}

/* ---- on the test images ---- */

/* How well one generic prompt, by word, tells images with a lesion from healthy ones, without any mask. */
static enum mcs_status generic_presence(struct demo_run *run)
{
    const struct clip_config *c = &run->clip.config;
    const int n_with = run->test.n, n = n_with + run->none.n;
    const int64_t pixels = (int64_t)c->image_size * c->image_size * 3;
    const char *texts[1 + DEMO_NULL_PROMPTS] = {run->test.cases[0].prompt[DEMO_PROMPT_WORD]};
    float *images = malloc((size_t)(n * pixels) * sizeof *images),
          *embedding = malloc((size_t)(n * c->embed) * sizeof *embedding), *score = malloc((size_t)n * sizeof *score);
    float *text = malloc((size_t)((1 + DEMO_NULL_PROMPTS) * c->embed) * sizeof *text);
    uint8_t *label = calloc((size_t)n, 1);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(images && embedding && score && text && label, MCS_E_NOMEM, st, done,
                     "no memory for the presence control");
    for (int k = 0; k < DEMO_NULL_PROMPTS; k++) texts[1 + k] = mcs_demo_null_prompts[k];
    for (int i = 0; i < n; i++) {
        const struct demo_case *d = i < n_with ? &run->test.cases[i] : &run->none.cases[i - n_with];
        label[i] = i < n_with;
        MCS_TRY_GOTO(mcs_clip_prepare(c, &d->image, CLIP_VIEW_WHOLE, images + i * pixels), st, done);
    }
    MCS_TRY_GOTO(mcs_clip_embed_images(&run->clip, images, n, 1, embedding), st, done);
    MCS_TRY_GOTO(mcs_clip_embed_texts(&run->clip, texts, 1 + DEMO_NULL_PROMPTS, 1, text), st, done);
    for (int i = 0; i < n; i++) {
        double s = 0;
        for (int t = 0; t <= DEMO_NULL_PROMPTS; t++)
            for (int k = 0; k < c->embed; k++)
                s += (t ? -1.0 / DEMO_NULL_PROMPTS : 1.0) * (double)embedding[i * c->embed + k] *
                     (double)text[t * c->embed + k];
        score[i] = (float)s;
    }
    st = mcs_auroc(score, label, n, &run->r.presence_auroc);
done:
    free(images);
    free(embedding);
    free(score);
    free(text);
    free(label);
    return st;
}

enum mcs_status mcs_demo_healthy(struct demo_run *run)
{
    struct demo_list_values *l = run->r.list;
    struct segment_case *none = NULL;
    enum mcs_status st = MCS_OK;
    run->r.presence_auroc = NAN;
    if (run->none.n) MCS_TRY(generic_presence(run));
    MCS_TRY(mcs_demo_tune_presence(run));
    MCS_TRY_GOTO(segment_set(run, &run->none, &none), st, done);
    scores_of(run, run->segmented, run->test.n, l[LIST_PRESENCE].v);
    scores_of(run, none, run->none.n, l[LIST_PRESENCE_NONE].v);
    const double least = run->r.tuned.min_presence;
    for (int i = 0; i < run->test.n; i++) {
        l[LIST_PASSED].v[i] = l[LIST_PRESENCE].v[i] >= least;
        l[LIST_FOUND].v[i] = l[LIST_PASSED].v[i] > 0 && l[LIST_LOOK].v[i] > DEMO_FOUND_DICE;
    }
    for (int i = 0; i < run->none.n; i++) {
        const int mask = memchr(none[i].mask, 1, DEMO_PIXELS) != NULL;
        l[LIST_MASK_NONE].v[i] = mask;
        l[LIST_PASSED_NONE].v[i] = mask && l[LIST_PRESENCE_NONE].v[i] >= least;
        MCS_TRY_GOTO(mcs_demo_write_mask(run, "stages/healthy", run->none.cases[i].stem, none[i].mask), st, done);
    }
done:
    mcs_demo_free_cases(none, run->none.n);
    return st;
}

/* The demo's zero-shot segmentation: from a prompt to SAM's mask, and the masks of boxes. */
#include "engine/base/path.h"
#include "train/demo/demo_run.h"

#include <stdlib.h>
#include <string.h>

struct segment_options mcs_demo_segment_options(const struct demo_options *o)
{
    struct segment_options s = mcs_segment_defaults(o->form);
    s.saliency.layer = (int)o->saliency_layer;
    s.saliency.beta = (float)o->saliency_beta;
    s.saliency.steps = (int)o->saliency_steps;
    s.saliency.copies = (int)o->saliency_copies;
    s.saliency.seed = (uint64_t)o->seed;
    s.coarse.seed = (uint64_t)o->seed;
    s.coarse.rank = (enum mcs_coarse_rank)o->rank;
    s.coarse.min_confidence = (float)o->min_confidence;
    s.coarse.grow_px = (int)o->grow;
    s.saliency.null_texts = mcs_demo_null_prompts;
    s.saliency.n_null = DEMO_NULL_PROMPTS;
    return s;
}

void mcs_demo_free_cases(struct segment_case *cases, int n)
{
    for (int i = 0; cases && i < n; i++) mcs_segment_case_free(&cases[i]);
    free(cases);
}

enum mcs_status mcs_demo_cases_new(const struct demo_set *set, enum demo_prompt_level level,
                                   struct segment_case **cases)
{
    struct segment_case *c = *cases = calloc((size_t)set->n + 1, sizeof *c);
    MCS_REQUIRE(c, MCS_E_NOMEM, "no memory for %d cases", set->n);
    for (int i = 0; i < set->n; i++)
        c[i] = (struct segment_case){
            .image = &set->cases[i].image, .text = set->cases[i].prompt[level], .stem = set->cases[i].stem};
    return MCS_OK;
}

enum mcs_status mcs_demo_segment_with(struct demo_run *run, const struct segment_options *o, struct sam_model *sam,
                                      struct segment_case *cases, int n)
{
    struct segment_session s;
    if (!n) return MCS_OK;
    MCS_TRY(mcs_segment_open(&s, &run->clip, sam, o));
    const enum mcs_status st = mcs_segment_run(&s, cases, n, NULL, 1);
    mcs_segment_close(&s);
    return st;
}

static enum mcs_status segment(struct demo_run *run, struct sam_model *sam, struct segment_case *cases, int n)
{
    const struct segment_options o = mcs_demo_segment_options(run->o);
    return mcs_demo_segment_with(run, &o, sam, cases, n);
}

/* ---- the stages from saliency to SAM ---- */

static enum mcs_status score_add(struct demo_run *run, enum demo_stage stage, int i, const uint8_t *mask)
{
    uint8_t truth[DEMO_PIXELS];
    mcs_demo_truth(&run->test.cases[i], DEMO_PROMPT_LOOK, truth);
    return mcs_demo_score_add(&run->r.stage[stage], i, mask, truth);
}

/* Scores the saliency map as a mask, thresholded at 0.5. */
static enum mcs_status score_saliency(struct demo_run *run, enum demo_stage stage, const struct segment_case *cases)
{
    char folder[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(folder, "stages/%s", mcs_demo_stage_folders[stage]));
    for (int i = 0; i < run->test.n; i++) {
        uint8_t mask[DEMO_PIXELS];
        for (int k = 0; k < DEMO_PIXELS; k++) mask[k] = cases[i].map.values[k] > 0.5f;
        MCS_TRY(score_add(run, stage, i, mask));
        MCS_TRY(mcs_demo_write_map(run, folder, run->test.cases[i].stem, cases[i].map.values, 255));
    }
    return MCS_OK;
}

static enum mcs_status score_masks(struct demo_run *run, enum demo_stage stage, const struct segment_case *cases)
{
    char folder[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(folder, "stages/%s", mcs_demo_stage_folders[stage]));
    for (int i = 0; i < run->test.n; i++) {
        const uint8_t *mask = stage == STAGE_POST         ? cases[i].threshold_mask
                              : stage == STAGE_COMPONENTS ? cases[i].coarse_mask
                                                          : cases[i].mask;
        MCS_TRY(score_add(run, stage, i, mask));
        MCS_TRY(mcs_demo_write_mask(run, folder, run->test.cases[i].stem, mask));
    }
    return MCS_OK;
}

enum mcs_status mcs_demo_saliency_before(struct demo_run *run)
{
    struct segment_case *cases;
    MCS_TRY(mcs_demo_cases_new(&run->test, DEMO_PROMPT_LOOK, &cases));
    enum mcs_status st = segment(run, NULL, cases, run->test.n);
    if (st == MCS_OK) st = score_saliency(run, STAGE_SALIENCY_START, cases);
    mcs_demo_free_cases(cases, run->test.n);
    return st;
}

enum mcs_status mcs_demo_zero_shot(struct demo_run *run)
{
    MCS_TRY(mcs_demo_cases_new(&run->test, DEMO_PROMPT_LOOK, &run->segmented));
    MCS_TRY(segment(run, &run->sam, run->segmented, run->test.n));
    MCS_TRY(score_saliency(run, STAGE_SALIENCY, run->segmented));
    for (int s = STAGE_POST; s <= STAGE_SAM; s++) MCS_TRY(score_masks(run, (enum demo_stage)s, run->segmented));
    for (int i = 0; i < run->test.n; i++) run->r.list[LIST_LOOK].v[i] = run->r.stage[STAGE_SAM].dice[i];
    return MCS_OK;
}

/* ---- all lesions of an image ---- */

/* Whether lesion k's look is named by an earlier lesion of the sample too. */
static int is_repeated(const struct demo_sample *s, int k)
{
    char look[DEMO_CAPTION_BYTES], other[DEMO_CAPTION_BYTES];
    mcs_demo_lesion_prompt(&s->lesion[k], DEMO_PROMPT_LOOK, look);
    for (int i = 0; i < k; i++) {
        mcs_demo_lesion_prompt(&s->lesion[i], DEMO_PROMPT_LOOK, other);
        if (!strcmp(look, other)) return 1;
    }
    return 0;
}

static void unite(uint8_t *mask, const uint8_t *with)
{
    for (int i = 0; i < DEMO_PIXELS; i++) mask[i] |= with[i];
}

struct asked {
    int image;
    char prompt[DEMO_CAPTION_BYTES], stem[48];
};

enum mcs_status mcs_demo_segment_all(struct demo_run *run, const struct demo_set *set, const struct segment_case *first,
                                     uint8_t *masks)
{
    const size_t most = (size_t)set->n * DEMO_LESIONS + 1;
    struct segment_case *cases = calloc(most, sizeof *cases);
    struct asked *asked = calloc(most, sizeof *asked);
    enum mcs_status st = MCS_OK;
    int n = 0;
    MCS_REQUIRE_GOTO(cases && asked, MCS_E_NOMEM, st, done, "no memory for %d cases", set->n);
    memset(masks, 0, (size_t)set->n * DEMO_PIXELS);
    for (int i = 0; i < set->n; i++) {
        const struct demo_case *c = &set->cases[i];
        if (first) unite(masks + (int64_t)i * DEMO_PIXELS, first[i].mask);
        for (int k = first ? 1 : 0; k < c->sample->n_lesions; k++) {
            if (is_repeated(c->sample, k)) continue;
            struct asked *a = &asked[n];
            a->image = i;
            mcs_demo_lesion_prompt(&c->sample->lesion[k], DEMO_PROMPT_LOOK, a->prompt);
            snprintf(a->stem, sizeof a->stem, k ? "%s_lesion%d" : "%s", c->stem, k);
            cases[n++] = (struct segment_case){.image = &c->image, .text = a->prompt, .stem = a->stem};
        }
    }
    MCS_TRY_GOTO(segment(run, &run->sam, cases, n), st, done);
    for (int k = 0; k < n; k++) unite(masks + (int64_t)asked[k].image * DEMO_PIXELS, cases[k].mask);
done:
    mcs_demo_free_cases(cases, n);
    free(asked);
    return st;
}

/* ---- boxes into SAM ---- */

enum mcs_status mcs_demo_sam_boxes(struct demo_run *run, const struct demo_set *set, int (*boxes)[4], int grow,
                                   uint8_t *masks)
{
    const struct segment_options o = mcs_demo_segment_options(run->o);
    struct segment_case *cases = calloc((size_t)set->n + 1, sizeof *cases);
    struct box_component *prompts = calloc((size_t)set->n + 1, sizeof *prompts);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(cases && prompts, MCS_E_NOMEM, st, done, "no memory for %d boxes", set->n);
    for (int i = 0; i < set->n; i++) {
        int box[4];
        memcpy(box, boxes[i], sizeof box);
        if (box[2] >= box[0]) mcs_box_grow(box, grow, DEMO_SIZE, DEMO_SIZE);
        prompts[i] = (struct box_component){.x0 = box[0], .y0 = box[1], .x1 = box[2], .y1 = box[3]};
        cases[i] = (struct segment_case){.image = &set->cases[i].image,
                                         .stem = set->cases[i].stem,
                                         .coarse = {.n_boxes = box[2] >= box[0], .boxes = &prompts[i]}};
    }
    MCS_TRY_GOTO(mcs_segment_sam(&run->sam, &o.sam, cases, set->n, NULL, 0), st, done);
    for (int i = 0; i < set->n; i++) memcpy(masks + (int64_t)i * DEMO_PIXELS, cases[i].mask, DEMO_PIXELS);
done:
    mcs_demo_free_cases(cases, set->n);
    free(prompts);
    return st;
}

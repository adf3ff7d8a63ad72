#include "infer/segment.h"

#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/base/stop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct segment_options mcs_segment_defaults(const enum mcs_form form[MCS_FORM_STAGES])
{
    struct segment_options o = {.saliency = mcs_saliency_defaults(),
                                .coarse = mcs_coarse_defaults(form[MCS_FORM_COARSE]),
                                .sam = mcs_sam_defaults(form[MCS_FORM_SAM]),
                                .min_presence = -INFINITY};
    o.saliency.view = form[MCS_FORM_SALIENCY] == MCS_PAPER ? CLIP_VIEW_WHOLE : CLIP_VIEW_PROCESSOR;
    return o;
}

void mcs_segment_case_free(struct segment_case *c)
{
    mcs_map_free(&c->map);
    mcs_coarse_free(&c->coarse);
    free(c->threshold_mask);
    free(c->coarse_mask);
    free(c->mask);
    c->threshold_mask = c->coarse_mask = c->mask = NULL;
}

enum mcs_status mcs_segment_open(struct segment_session *s, struct clip_model *clip, struct sam_model *sam,
                                 const struct segment_options *o)
{
    *s = (struct segment_session){.clip = clip, .sam = sam, .o = *o, .scratch = {.device = clip->device}};
    return mcs_saliency_open(&s->saliency, clip, &o->saliency);
}

void mcs_segment_close(struct segment_session *s)
{
    mcs_saliency_close(&s->saliency);
    mcs_device_scratch_free(&s->scratch);
}

static enum mcs_status saliency(struct segment_session *s, struct segment_case *cases, int n,
                                struct failure_list *failures, int progress)
{
    struct saliency_case *all = calloc((size_t)n + 1, sizeof *all);
    MCS_REQUIRE(all, MCS_E_NOMEM, "no memory for %d cases", n);
    for (int i = 0; i < n; i++)
        all[i] = (struct saliency_case){
            .image = cases[i].image, .text = cases[i].text, .stem = cases[i].stem, .key = mcs_rng_site(cases[i].stem)};
    const enum mcs_status st = mcs_saliency_run(&s->saliency, all, n, failures, progress);
    for (int i = 0; i < n; i++) {
        cases[i].map = all[i].map;
        cases[i].presence = all[i].presence;
        cases[i].status = all[i].status;
    }
    free(all);
    return st;
}

static enum mcs_status coarse(struct segment_session *s, struct segment_case *c)
{
    const int w = c->image->width, h = c->image->height;
    struct text_rank rank = {s->clip, c->image, c->text, s->o.saliency.view};
    const struct coarse_text_scorer scorer = {mcs_text_rank_score, &rank};
    c->threshold_mask = calloc((size_t)w * (size_t)h, 1);
    c->coarse_mask = calloc((size_t)w * (size_t)h, 1);
    MCS_REQUIRE(c->threshold_mask && c->coarse_mask, MCS_E_NOMEM, "%s: no memory for its masks", c->stem);
    if (c->presence < s->o.min_presence) {
        c->coarse.state = MCS_MASK_ABSENT;
        return MCS_OK;
    }
    return mcs_coarse_mask(&s->scratch, &c->map, c->stem, &s->o.coarse, &scorer, c->threshold_mask, c->coarse_mask,
                           &c->coarse);
}

enum { BATCH = 8 };

static enum mcs_status sam_batch(struct sam_model *sam, const struct sam_options *o, struct segment_case *const *cases,
                                 const struct sam_case *sam_cases, int n)
{
    struct sam_result results[BATCH] = {0};
    const enum mcs_status st = mcs_sam_segment(sam, o, sam_cases, n, results);
    for (int i = 0; i < n; i++) {
        struct segment_case *c = cases[i];
        c->mask = results[i].mask; /* ownership moves to the case */
        results[i].mask = NULL;
        c->iou = 0;
        for (int k = 0; k < results[i].n_prompts; k++)
            c->iou += results[i].prompts[k].iou / (float)results[i].n_prompts;
        mcs_sam_result_free(&results[i]);
    }
    return st;
}

enum mcs_status mcs_segment_sam(struct sam_model *sam, const struct sam_options *o, struct segment_case *cases, int n,
                                struct failure_list *failures, int progress)
{
    struct mcs_progress bar;
    struct box_case prompts[BATCH];
    struct sam_case sam_cases[BATCH];
    struct segment_case *batch[BATCH];
    int count = 0;
    if (progress) mcs_progress_start(&bar, "SAM", "image", n);
    for (int i = 0; i < n; i++) {
        struct segment_case *c = &cases[i];
        if (c->status == MCS_OK) {
            prompts[count] = (struct box_case){.image = c->stem,
                                               .width = c->image->width,
                                               .height = c->image->height,
                                               .n_components = c->coarse.n_boxes,
                                               .components = c->coarse.boxes};
            sam_cases[count] = (struct sam_case){c->image, &prompts[count]};
            c->status = mcs_sam_case_check(o, &sam_cases[count]);
            if (c->status == MCS_OK) batch[count++] = c;
            MCS_TRY(mcs_failures_take(failures, c->stem, c->status));
        }
        if (count < BATCH && i + 1 < n) continue;
        if (i >= BATCH) MCS_TRY(mcs_stop_check());
        if (count) MCS_TRY(sam_batch(sam, o, batch, sam_cases, count));
        count = 0;
        if (progress) mcs_progress_set(&bar, i + 1);
    }
    if (progress) mcs_progress_end(&bar);
    return MCS_OK;
}

enum mcs_status mcs_segment_run(struct segment_session *s, struct segment_case *cases, int n,
                                struct failure_list *failures, int progress)
{
    MCS_TRY(saliency(s, cases, n, failures, progress));
    for (int i = 0; i < n; i++) {
        if (cases[i].status == MCS_OK) {
            cases[i].status = coarse(s, &cases[i]);
            MCS_TRY(mcs_failures_take(failures, cases[i].stem, cases[i].status));
        }
    }
    return s->sam ? mcs_segment_sam(s->sam, &s->o.sam, cases, n, failures, progress) : MCS_OK;
}

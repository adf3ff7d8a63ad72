#include "infer/segment.h"

#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/base/stop.h"

#include <stdlib.h>
#include <string.h>

struct segment_options mcs_segment_defaults(const enum mcs_form form[MCS_FORM_STAGES])
{
    struct segment_options o = {.saliency = mcs_saliency_defaults(),
                                .coarse = mcs_coarse_defaults(form[MCS_FORM_COARSE]),
                                .sam = mcs_sam_defaults(form[MCS_FORM_SAM])};
    o.saliency.view = form[MCS_FORM_SALIENCY] == MCS_PAPER ? CLIP_VIEW_WHOLE : CLIP_VIEW_CROP;
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

static enum mcs_status saliency(struct clip_model *clip, const struct segment_options *o, struct segment_case *cases,
                                int n, int progress)
{
    struct saliency_case *s = calloc((size_t)n, sizeof *s);
    MCS_REQUIRE(s, MCS_E_NOMEM, "no memory for %d cases", n);
    for (int i = 0; i < n; i++)
        s[i] =
            (struct saliency_case){.image = cases[i].image, .text = cases[i].text, .key = mcs_rng_site(cases[i].stem)};
    const enum mcs_status st =
        mcs_saliency_run(clip, &o->saliency, s, n, o->null_texts, o->n_null, NULL, NULL, progress);
    for (int i = 0; i < n; i++) {
        cases[i].map = s[i].map;
        cases[i].presence = s[i].presence;
    }
    free(s);
    return st;
}

static enum mcs_status coarse(struct clip_model *clip, const struct segment_options *o, struct device_scratch *scratch,
                              struct segment_case *c)
{
    const int w = c->image->width, h = c->image->height;
    struct text_rank rank = {clip, c->image, c->text, o->saliency.view};
    const struct coarse_text_scorer scorer = {mcs_text_rank_score, &rank};
    c->threshold_mask = calloc((size_t)w * (size_t)h, 1);
    c->coarse_mask = calloc((size_t)w * (size_t)h, 1);
    MCS_REQUIRE(c->threshold_mask && c->coarse_mask, MCS_E_NOMEM, "%s: no memory for its masks", c->stem);
    return mcs_coarse_mask(scratch, &c->map, c->stem, &o->coarse, &scorer, c->threshold_mask, c->coarse_mask,
                           &c->coarse);
}

enum mcs_status mcs_segment_sam(struct sam_model *sam, const struct segment_options *o, struct segment_case *cases,
                                int n, int progress)
{
    enum { BATCH = 8 };
    struct mcs_progress bar;
    if (progress) mcs_progress_start(&bar, "SAM", "image", n);
    for (int at = 0; at < n; at += BATCH) {
        const int count = n - at < BATCH ? n - at : BATCH;
        if (at) MCS_TRY(mcs_stop_check());
        struct box_case prompts[BATCH] = {0};
        struct sam_case sam_cases[BATCH];
        struct sam_result results[BATCH] = {0};
        for (int i = 0; i < count; i++) {
            const struct segment_case *c = &cases[at + i];
            prompts[i] = (struct box_case){.image = c->stem,
                                           .width = c->image->width,
                                           .height = c->image->height,
                                           .n_components = c->coarse.n_boxes,
                                           .components = c->coarse.boxes};
            sam_cases[i] = (struct sam_case){c->image, &prompts[i]};
        }
        const enum mcs_status st = mcs_sam_segment(sam, &o->sam, sam_cases, count, results);
        for (int i = 0; i < count; i++) {
            struct segment_case *c = &cases[at + i];
            c->mask = results[i].mask; /* ownership moves to the case */
            results[i].mask = NULL;
            c->iou = 0;
            for (int k = 0; k < results[i].n_prompts; k++)
                c->iou += results[i].prompts[k].iou / (float)results[i].n_prompts;
            mcs_sam_result_free(&results[i]);
        }
        MCS_TRY(st);
        if (progress) mcs_progress_set(&bar, at + count);
    }
    if (progress) mcs_progress_end(&bar);
    return MCS_OK;
}

enum mcs_status mcs_segment_run(struct clip_model *clip, struct sam_model *sam, const struct segment_options *o,
                                struct segment_case *cases, int n, int progress)
{
    struct device_scratch scratch = {.device = clip->device};
    enum mcs_status st = MCS_OK;
    MCS_TRY(saliency(clip, o, cases, n, progress));
    for (int i = 0; i < n && st == MCS_OK; i++) st = coarse(clip, o, &scratch, &cases[i]);
    mcs_device_scratch_free(&scratch);
    MCS_TRY(st);
    return sam ? mcs_segment_sam(sam, o, cases, n, progress) : MCS_OK;
}

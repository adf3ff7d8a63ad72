#include "infer/segment.h"

#include "engine/log.h"
#include "engine/rng.h"

#include <stdlib.h>
#include <string.h>

struct segment_options mcs_segment_defaults(const enum mcs_form form[MCS_FORM_STAGES])
{
    struct segment_options o = {
        .saliency = mcs_saliency_defaults(), .coarse = mcs_coarse_defaults(form[MCS_FORM_COARSE]), .use_boxes = 1};
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

static enum mcs_status threshold(const struct segment_options *o, const struct map2 *map, uint8_t *mask)
{
    const int64_t n = (int64_t)map->width * map->height;
    enum mcs_mask_state state;
    float at;
    if (o->coarse.threshold == MCS_COARSE_FIXED)
        return mcs_threshold_fixed(map->values, n, o->coarse.threshold_value, mask, &state);
    if (o->coarse.threshold == MCS_COARSE_OTSU) return mcs_threshold_otsu(map->values, n, mask, &at, &state);
    if (o->coarse.form == MCS_RELEASE)
        return mcs_threshold_kmeans_release(map->values, map->width, map->height, mask, &at, &state);
    return mcs_threshold_kmeans(map->values, n, mask, &at, &state);
}

static enum mcs_status coarse(struct clip_model *clip, const struct segment_options *o, struct segment_case *c)
{
    const int w = c->image->width, h = c->image->height;
    struct text_rank rank = {clip, c->image, c->text, o->saliency.view};
    const struct coarse_text_scorer scorer = {mcs_text_rank_score, &rank};
    c->threshold_mask = calloc((size_t)w * (size_t)h, 1);
    c->coarse_mask = calloc((size_t)w * (size_t)h, 1);
    MCS_REQUIRE(c->threshold_mask && c->coarse_mask, MCS_E_NOMEM, "%s: no memory for its masks", c->stem);
    MCS_TRY(threshold(o, &c->map, c->threshold_mask));
    return mcs_coarse_mask(c->map.values, w, h, c->stem, &o->coarse, &scorer, c->coarse_mask, &c->coarse);
}

/* One prompt a box of the coarse result. points and labels hold room for the case's points. */
static int make_prompts(const struct segment_options *o, const struct segment_case *c, struct sam_prompts *prompts,
                        double (*points)[2], int *labels)
{
    int used = 0;
    for (int k = 0; k < c->coarse.n_boxes; k++) {
        const struct box_component *b = &c->coarse.boxes[k];
        struct sam_prompts *p = &prompts[k];
        *p = (struct sam_prompts){.has_box = o->use_boxes, .box = {b->x0, b->y0, b->x1, b->y1}};
        if (!o->use_points) continue;
        p->points = (const double(*)[2])(points + used);
        p->labels = labels + used;
        p->n_points = b->n_points;
        for (int i = 0; i < b->n_points; i++, used++) {
            points[used][0] = b->points[i].x;
            points[used][1] = b->points[i].y;
            labels[used] = b->points[i].label;
        }
    }
    return c->coarse.n_boxes;
}

static enum mcs_status sam_case(struct sam_model *sam, const struct segment_options *o, struct segment_case *c,
                                const struct sam_frame *frame, const float *embedding)
{
    const int w = c->image->width, h = c->image->height, n = c->coarse.n_boxes, side = mcs_sam_side(&sam->config);
    c->mask = calloc((size_t)w * (size_t)h, 1);
    MCS_REQUIRE(c->mask, MCS_E_NOMEM, "%s: no memory for its mask", c->stem);
    if (n == 0) return MCS_OK;
    int n_points = 0;
    for (int k = 0; k < n; k++) n_points += c->coarse.boxes[k].n_points;
    struct sam_prompts *prompts = calloc((size_t)n, sizeof *prompts);
    double(*points)[2] = calloc((size_t)n_points + 1, sizeof *points);
    int *labels = calloc((size_t)n_points + 1, sizeof *labels);
    const int64_t plane = (int64_t)side * side;
    float *low_res = malloc((size_t)(n * SAM_MASKS * plane) * sizeof *low_res),
          *iou = malloc((size_t)(n * SAM_MASKS) * sizeof *iou);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(prompts && points && labels && low_res && iou, MCS_E_NOMEM, st, done,
                     "%s: no memory for %d prompts", c->stem, n);
    make_prompts(o, c, prompts, points, labels);
    MCS_TRY_GOTO(mcs_sam_predict(sam, embedding, frame, 1, prompts, n, low_res, iou), st, done);
    c->iou = 0;
    for (int k = 0; k < n; k++) {
        struct map2 logits = {0};
        const int best = mcs_sam_choose(iou + k * SAM_MASKS, o->multimask);
        MCS_TRY_GOTO(mcs_sam_upscale(&sam->config, low_res + (k * SAM_MASKS + best) * plane, frame, &logits), st, done);
        for (int64_t i = 0; i < (int64_t)w * h; i++) c->mask[i] |= logits.values[i] > 0;
        mcs_map_free(&logits);
        c->iou += iou[k * SAM_MASKS + best] / (float)n;
    }
done:
    free(prompts);
    free(points);
    free(labels);
    free(low_res);
    free(iou);
    return st;
}

enum mcs_status mcs_segment_sam(struct sam_model *sam, const struct segment_options *o, struct segment_case *cases,
                                int n, int progress)
{
    enum { BATCH = 8 };
    const int64_t pixels = (int64_t)sam->config.image_size * sam->config.image_size * 3,
                  embedding = mcs_sam_embedding_values(&sam->config);
    float *images = malloc((size_t)(BATCH * (pixels + embedding)) * sizeof *images),
          *embeddings = images + BATCH * pixels;
    struct sam_frame frames[BATCH];
    struct mcs_progress bar;
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(images, MCS_E_NOMEM, "no memory for a batch of images");
    if (progress) mcs_progress_start(&bar, "SAM", "image", n);
    for (int at = 0; at < n; at += BATCH) {
        const int count = n - at < BATCH ? n - at : BATCH;
        for (int i = 0; i < count; i++)
            MCS_TRY_GOTO(mcs_sam_prepare(&sam->config, cases[at + i].image, images + i * pixels, &frames[i]), st, done);
        MCS_TRY_GOTO(mcs_sam_encode_images(sam, images, count, embeddings), st, done);
        for (int i = 0; i < count; i++)
            MCS_TRY_GOTO(sam_case(sam, o, &cases[at + i], &frames[i], embeddings + i * embedding), st, done);
        if (progress) mcs_progress_set(&bar, at + count);
    }
    if (progress) mcs_progress_end(&bar);
done:
    free(images);
    return st;
}

enum mcs_status mcs_segment_run(struct clip_model *clip, struct sam_model *sam, const struct segment_options *o,
                                struct segment_case *cases, int n, int progress)
{
    MCS_REQUIRE(o->use_boxes || o->use_points, MCS_E_USAGE, "SAM needs boxes, points or both");
    MCS_TRY(saliency(clip, o, cases, n, progress));
    for (int i = 0; i < n; i++) MCS_TRY(coarse(clip, o, &cases[i]));
    return sam ? mcs_segment_sam(sam, o, cases, n, progress) : MCS_OK;
}

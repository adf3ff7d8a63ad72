#include "infer/sam/automask.h"

#include "engine/device_ops.h"
#include "engine/image/nms.h"
#include "infer/sam/automask_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EDGE = 20 /* pixels: a box this near to a crop's edge is cut off by it */ };

struct automask_options mcs_automask_defaults(void)
{
    return (struct automask_options){.points_per_side = 32,
                                     .points_per_batch = 64,
                                     .pred_iou_thresh = 0.88,
                                     .stability_thresh = 0.95,
                                     .stability_offset = 1,
                                     .box_nms_thresh = 0.7,
                                     .crop_nms_thresh = 0.7,
                                     .crop_overlap_ratio = 512.0 / 1500,
                                     .crop_points_downscale = 1};
}

static enum mcs_status check(const struct automask_options *o, const struct sam_embeddings *e)
{
    MCS_REQUIRE(o->points_per_side >= 1 && o->points_per_side <= 1024, MCS_E_USAGE,
                "%d points per side; want 1 to 1024", o->points_per_side);
    MCS_REQUIRE(o->points_per_batch >= 1 && o->points_per_batch <= 4096, MCS_E_USAGE,
                "%d points per batch; want 1 to 4096", o->points_per_batch);
    MCS_REQUIRE(o->crop_n_layers >= 0 && o->crop_n_layers <= AUTOMASK_LAYERS && o->crop_points_downscale >= 1,
                MCS_E_USAGE, "%d layers of crops, points divided by %d; want 0 to %d layers, and at least 1",
                o->crop_n_layers, o->crop_points_downscale, AUTOMASK_LAYERS);
    int side = o->points_per_side;
    for (int i = 0; i < o->crop_n_layers; i++) side /= o->crop_points_downscale;
    MCS_REQUIRE(side > 0, MCS_E_USAGE, "%d points per side, divided by %d in each of %d layers, leave none",
                o->points_per_side, o->crop_points_downscale, o->crop_n_layers);
    MCS_REQUIRE(isfinite(o->stability_offset) && o->stability_offset > 0, MCS_E_USAGE,
                "a stability offset of %g; want more than 0", o->stability_offset);
    MCS_REQUIRE(o->crop_overlap_ratio >= 0 && o->crop_overlap_ratio < 1, MCS_E_USAGE,
                "a crop overlap of %g; want at least 0 and less than 1", o->crop_overlap_ratio);
    MCS_REQUIRE(!(e->load || e->save) || !o->crop_n_layers, MCS_E_USAGE,
                "files of embeddings are of whole images, so they cannot be used with layers of crops");
    return MCS_OK;
}

void mcs_automask_free(struct automask_list *list)
{
    for (int i = 0; i < list->n; i++) mcs_rle_free(&list->v[i].rle);
    free(list->v);
    *list = (struct automask_list){0};
}

/* ---- crops and points ---- */

static int crop_side(int side, int n, int overlap)
{
    return (int)ceil((double)((int64_t)overlap * (n - 1) + side) / n);
}

int mcs_automask_crops(const struct automask_options *o, int width, int height, int (*crops)[4], int *layer)
{
    int n = 1;
    memcpy(crops[0], (int[]){0, 0, width, height}, sizeof crops[0]);
    layer[0] = 0;
    for (int i = 1; i <= o->crop_n_layers; i++) {
        const int side = 1 << i,
                  overlap = (int)(o->crop_overlap_ratio * (width < height ? width : height) * (2.0 / side)),
                  w = crop_side(width, side, overlap), h = crop_side(height, side, overlap);
        for (int x = 0; x < side; x++)
            for (int y = 0; y < side; y++, n++) {
                const int x0 = (w - overlap) * x, y0 = (h - overlap) * y;
                memcpy(crops[n], (int[]){x0, y0, x0 + w < width ? x0 + w : width, y0 + h < height ? y0 + h : height},
                       sizeof crops[n]);
                layer[n] = i;
            }
    }
    return n;
}

/* Coordinate i of n in 0..1, as numpy.linspace(1 / 2n, 1 - 1 / 2n, n) rounds it. */
static double grid_at(int i, int n)
{
    const double first = 1.0 / (2 * n), last = 1 - first;
    return n == 1 ? first : i == n - 1 ? last : i * ((last - first) / (n - 1)) + first;
}

/* ---- masks of a batch of points ---- */

struct work {
    struct sam_model *m;
    const struct automask_options *o;
    const struct image *img; /* whole */
    int crop[4];
    struct sam_frame frame;      /* of the crop */
    uint8_t *mask, *whole;       /* of the crop's size and of the image's */
    float *pixels;               /* prepared image */
    float *embedding, *low_res;  /* on the device */
    struct sam_prompts *prompts; /* (points_per_batch), as the following */
    double (*points)[2];         /* in pixels of the crop */
    int *place;                  /* index of the prompt's masks in low_res */
    float *iou;                  /* (points_per_batch, 4) */
    int32_t *plane;              /* (points_per_batch * 3) */
    int *of;                     /* the point of each plane, times 4, plus the mask */
    struct sam_counts *counts;   /* of each plane */
    struct automask_list *list;
    int capacity;
};

static enum mcs_status work_alloc(struct work *w)
{
    const struct sam_config *c = &w->m->config;
    const size_t n = (size_t)w->o->points_per_batch, side = (size_t)mcs_sam_side(c), s = (size_t)c->image_size;
    const size_t pixels = (size_t)w->img->width * (size_t)w->img->height,
                 decoded = (n + SAM_CHUNK) * SAM_MASKS * side * side;
    w->mask = malloc(pixels);
    w->whole = malloc(pixels);
    w->pixels = malloc(3 * s * s * sizeof *w->pixels);
    w->prompts = malloc(n * sizeof *w->prompts);
    w->points = malloc(n * sizeof *w->points);
    w->place = malloc(n * sizeof *w->place);
    w->iou = malloc(n * SAM_MASKS * sizeof *w->iou);
    w->plane = malloc(n * 3 * sizeof *w->plane);
    w->of = malloc(n * 3 * sizeof *w->of);
    w->counts = malloc(n * 3 * sizeof *w->counts);
    MCS_REQUIRE(w->mask && w->whole && w->pixels && w->prompts && w->points && w->place && w->iou && w->plane &&
                    w->of && w->counts,
                MCS_E_NOMEM, "no memory for the masks of %zu points", n);
    MCS_TRY(
        mcs_device_scratch(&w->m->work, (int64_t)((decoded + (size_t)mcs_sam_embedding_values(c)) * sizeof(float))));
    w->low_res = w->m->work.p;
    w->embedding = w->low_res + decoded;
    return MCS_OK;
}

static void work_free(struct work *w)
{
    void *all[] = {w->mask, w->whole, w->pixels, w->prompts, w->points, w->place, w->iou, w->plane, w->of, w->counts};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* Divides the logits of n prompts by the stability offset, so that +-1 are the levels that mcs_sam_masks counts. */
static enum mcs_status scale_logits(struct work *w, int n)
{
    const struct device *d = w->m->device;
    const int64_t side = mcs_sam_side(&w->m->config), values = n * SAM_MASKS * side * side,
                  bytes = values * (int64_t)sizeof(float);
    const float by = (float)(1 / w->o->stability_offset);
    if (w->o->stability_offset == 1) return MCS_OK;
    float *host = malloc((size_t)bytes);
    MCS_REQUIRE(host, MCS_E_NOMEM, "no memory for the logits of %d points", n);
    enum mcs_status st = d->backend->download(w->m->device, host, w->low_res, bytes);
    for (int64_t i = 0; st == MCS_OK && i < values; i++) host[i] *= by;
    if (st == MCS_OK) st = d->backend->upload(w->m->device, w->low_res, host, bytes);
    free(host);
    return st;
}

/* 1 where the box (of the image) is cut off by an edge of the crop that is none of the image. */
static int touches_crop(const struct work *w, const int box[4])
{
    const int edge[4] = {0, 0, w->img->width, w->img->height};
    for (int k = 0; k < 4; k++)
        if (abs(box[k] - w->crop[k]) <= EDGE && abs(box[k] - edge[k]) > EDGE) return 1;
    return 0;
}

void mcs_automask_box(const uint8_t *mask, int width, int height, int box[4])
{
    memcpy(box, (int[]){width, height, -1, -1}, 4 * sizeof *box);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            if (mask[(int64_t)y * width + x]) {
                if (x < box[0]) box[0] = x;
                if (y < box[1]) box[1] = y;
                if (x > box[2]) box[2] = x;
                if (y > box[3]) box[3] = y;
            }
}

static enum mcs_status list_add(struct work *w, const struct automask *a)
{
    if (w->list->n == w->capacity) {
        const int capacity = w->capacity ? 2 * w->capacity : 64;
        struct automask *v = realloc(w->list->v, (size_t)capacity * sizeof *v);
        MCS_REQUIRE(v, MCS_E_NOMEM, "no memory for %d masks", capacity);
        w->list->v = v;
        w->capacity = capacity;
    }
    w->list->v[w->list->n++] = *a;
    return MCS_OK;
}

/* Adds the mask of plane i, unless the crop cuts it off. */
static enum mcs_status add_mask(struct work *w, int i)
{
    const int width = w->crop[2] - w->crop[0], height = w->crop[3] - w->crop[1], point = w->of[i] / SAM_MASKS;
    struct sam_counts counts;
    struct automask a = {.iou = w->iou[w->of[i]],
                         .stability = (float)w->counts[i].stability,
                         .point = {w->points[point][0] + w->crop[0], w->points[point][1] + w->crop[1]}};
    MCS_TRY(mcs_sam_masks(&w->m->config, &w->m->masks, w->low_res, &w->plane[i], 1, &w->frame, 1, w->mask, &counts));
    mcs_automask_box(w->mask, width, height, a.box);
    for (int k = 0; k < 4; k++) {
        a.crop[k] = w->crop[k];
        a.box[k] += w->crop[k & 1];
    }
    if (touches_crop(w, a.box)) return MCS_OK;
    memset(w->whole, 0, (size_t)w->img->width * (size_t)w->img->height);
    for (int y = 0; y < height; y++)
        memcpy(w->whole + (int64_t)(y + w->crop[1]) * w->img->width + w->crop[0], w->mask + (int64_t)y * width,
               (size_t)width);
    MCS_TRY(mcs_rle_encode(w->whole, w->img->width, w->img->height, &a.rle));
    a.area = mcs_rle_area(&a.rle);
    const enum mcs_status st = list_add(w, &a);
    if (st != MCS_OK) mcs_rle_free(&a.rle);
    return st;
}

/* Masks of points first .. first + n - 1 of the crop's grid of side x side. */
static enum mcs_status run_batch(struct work *w, int side, int first, int n)
{
    static const int inside = 1;
    const struct automask_options *o = w->o;
    int n_planes = 0;
    for (int i = 0; i < n; i++) {
        w->points[i][0] = grid_at((first + i) % side, side) * w->frame.width;
        w->points[i][1] = grid_at((first + i) / side, side) * w->frame.height;
        w->prompts[i] =
            (struct sam_prompts){.n_points = 1, .points = (const double(*)[2])w->points + i, .labels = &inside};
    }
    MCS_TRY(mcs_sam_predict_on_device(w->m, w->embedding, &w->frame, 1, w->prompts, n, w->low_res, w->place, w->iou));
    MCS_TRY(scale_logits(w, n));
    for (int i = 0; i < n; i++)
        for (int k = 1; k < SAM_MASKS; k++) {
            if (o->pred_iou_thresh > 0 && !(w->iou[i * SAM_MASKS + k] > (float)o->pred_iou_thresh)) continue;
            w->of[n_planes] = i * SAM_MASKS + k;
            w->plane[n_planes++] = w->place[i] * SAM_MASKS + k;
        }
    if (!n_planes) return MCS_OK;
    MCS_TRY(mcs_sam_masks(&w->m->config, &w->m->masks, w->low_res, w->plane, n_planes, &w->frame, 1, NULL, w->counts));
    for (int i = 0; i < n_planes; i++) {
        const int stable = o->stability_thresh <= 0 || (float)w->counts[i].stability >= (float)o->stability_thresh;
        if (stable && w->counts[i].area) MCS_TRY(add_mask(w, i));
    }
    return MCS_OK;
}

/* ---- suppression ---- */

enum mcs_status mcs_automask_suppress(struct automask_list *list, int first, const float *scores, double threshold)
{
    const int n = list->n - first;
    int(*boxes)[4] = malloc(((size_t)n + 1) * sizeof *boxes), *keep = malloc(((size_t)n + 1) * sizeof *keep), n_keep;
    struct automask *v = list->v + first, *all = malloc(((size_t)n + 1) * sizeof *all);
    uint8_t *kept = calloc((size_t)n + 1, 1);
    enum mcs_status st;
    MCS_REQUIRE_GOTO(boxes && keep && all && kept, MCS_E_NOMEM, st, done, "no memory for %d masks", n);
    for (int i = 0; i < n; i++) memcpy(boxes[i], v[i].box, sizeof boxes[i]);
    MCS_TRY_GOTO(mcs_nms((const int(*)[4])boxes, scores, n, threshold, keep, &n_keep), st, done);
    if (n) memcpy(all, v, (size_t)n * sizeof *all);
    for (int i = 0; i < n_keep; i++) {
        v[i] = all[keep[i]];
        kept[keep[i]] = 1;
    }
    for (int i = 0; i < n; i++)
        if (!kept[i]) mcs_rle_free(&all[i].rle);
    list->n = first + n_keep;
done:
    free(boxes);
    free(keep);
    free(all);
    free(kept);
    return st;
}

/* Suppression with a score for each mask: its predicted IoU, or with `of_crop` 1 / area of its crop. */
static enum mcs_status suppress(struct automask_list *list, int first, int of_crop, double threshold)
{
    float *scores = malloc(((size_t)list->n + 1) * sizeof *scores);
    MCS_REQUIRE(scores, MCS_E_NOMEM, "no memory for %d masks", list->n);
    for (int i = first; i < list->n; i++) {
        const struct automask *a = &list->v[i];
        const int64_t area = (int64_t)(a->crop[2] - a->crop[0]) * (a->crop[3] - a->crop[1]);
        scores[i - first] = of_crop ? 1.0f / (float)area : a->iou;
    }
    const enum mcs_status st = mcs_automask_suppress(list, first, scores, threshold);
    free(scores);
    return st;
}

/* ---- an image ---- */

static enum mcs_status run_crop(struct work *w, int layer, const struct sam_embeddings *e, const char *stem)
{
    const int width = w->crop[2] - w->crop[0], height = w->crop[3] - w->crop[1], first = w->list->n;
    const struct image *all = w->img;
    struct image part = {0};
    int side = w->o->points_per_side;
    for (int i = 0; i < layer; i++) side /= w->o->crop_points_downscale;
    if (layer) MCS_TRY(mcs_image_crop(w->img, w->crop[0], w->crop[1], width, height, &part));
    if (layer) all = &part;
    const enum mcs_status st =
        mcs_sam_embed(w->m, e, (const char *const[]){stem}, &all, 1, w->pixels, &w->frame, w->embedding);
    mcs_image_free(&part);
    if (st != MCS_OK) return mcs_trace(st, __FILE__, __LINE__);
    for (int at = 0, n = side * side; at < n; at += w->o->points_per_batch)
        MCS_TRY(run_batch(w, side, at, n - at < w->o->points_per_batch ? n - at : w->o->points_per_batch));
    return suppress(w->list, first, 0, w->o->box_nms_thresh);
}

enum mcs_status mcs_automask(struct sam_model *m, const struct automask_options *o, const struct image *img,
                             const struct sam_embeddings *embeddings, const char *stem, struct automask_list *list)
{
    const struct sam_embeddings none = {0}, *e = embeddings ? embeddings : &none;
    struct work w = {.m = m, .o = o, .img = img, .list = list};
    int crops[AUTOMASK_CROPS][4], layer[AUTOMASK_CROPS];
    enum mcs_status st;
    *list = (struct automask_list){0};
    MCS_TRY(check(o, e));
    MCS_TRY_GOTO(work_alloc(&w), st, done);
    const int n = mcs_automask_crops(o, img->width, img->height, crops, layer);
    for (int i = 0; i < n; i++) {
        memcpy(w.crop, crops[i], sizeof w.crop);
        if (w.crop[2] <= w.crop[0] || w.crop[3] <= w.crop[1]) continue; /* of an image narrower than its crops */
        MCS_TRY_GOTO(run_crop(&w, layer[i], e, stem), st, done);
    }
    if (n > 1) MCS_TRY_GOTO(suppress(list, 0, 1, o->crop_nms_thresh), st, done);
    if (o->min_region_area > 0) MCS_TRY_GOTO(mcs_automask_small_regions(o, img->width, img->height, list), st, done);
done:
    work_free(&w);
    if (st != MCS_OK) mcs_automask_free(list);
    return st;
}

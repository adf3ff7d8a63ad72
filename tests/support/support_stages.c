#include "tests/support/support_stages.h"

#include "engine/tape/tensor.h"
#include "infer/clip/saliency.h"
#include "infer/coarse/coarse.h"
#include "infer/sam/sam_model.h"
#include "infer/unet/ensemble.h"
#include "infer/unet/uncertainty.h"
#include "train/unet/augment.h"
#include "train/unet/unet_data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

enum { GUARD = 64, GUARD_BYTE = 0x5c, FILL_BYTE = 0xff };
static int held, damaged, fail_at;

struct block_head {
    int64_t bytes;
    uint8_t guard[GUARD - 8];
};

static enum mcs_status alloc_guarded(struct device *d, int64_t bytes, void **p)
{
    (void)d;
    const size_t rounded = ((size_t)bytes + 2 * GUARD + 63) / 64 * 64;
    MCS_REQUIRE(!fail_at || --fail_at, MCS_E_NOMEM, "no memory: the test wants it so");
    struct block_head *head = aligned_alloc(64, rounded);
    MCS_REQUIRE(head, MCS_E_NOMEM, "no memory for %lld bytes", (long long)bytes);
    head->bytes = bytes;
    memset(head->guard, GUARD_BYTE, sizeof head->guard);
    uint8_t *data = (uint8_t *)(head + 1);
    memset(data, FILL_BYTE, (size_t)bytes);
    memset(data + bytes, GUARD_BYTE, GUARD);
    *p = data;
    held++;
    return MCS_OK;
}

static void free_guarded(struct device *d, void *p)
{
    (void)d;
    if (!p) return;
    struct block_head *head = (struct block_head *)p - 1;
    const uint8_t *after = (uint8_t *)p + head->bytes;
    int changed = 0;
    for (size_t i = 0; i < sizeof head->guard; i++) changed |= head->guard[i] != GUARD_BYTE;
    for (int i = 0; !changed && i < GUARD; i++) changed |= after[i] != GUARD_BYTE;
    damaged += changed;
    held--;
    free(head);
}

int support_stages_held(void)
{
    return held;
}
int support_stages_damaged(void)
{
    return damaged;
}
void support_stages_fail_alloc(int n)
{
    fail_at = n;
}

/* ---- saliency ---- */

static enum mcs_status copy(struct device *d, const struct tensor *from, float *to)
{
    (void)d;
    memcpy(to, from->data, (size_t)mcs_bytes(from));
    return MCS_OK;
}

static enum mcs_status noise(struct device *d, const struct stage_noise *a)
{
    (void)d;
    for (int64_t k = 0; k < a->n_keys; k++)
        for (int64_t c = 0; c < a->copies; c++)
            mcs_rng_fill_normal((struct mcs_rng){a->seed, a->site + (uint32_t)c, a->keys[k], a->step},
                                a->y + (k * a->copies + c) * a->n, a->n);
    return MCS_OK;
}

static enum mcs_status adam(struct device *d, const struct stage_adam *a)
{
    (void)d;
    const double c1 = 1 - pow(0.9, a->step), c2 = 1 - pow(0.999, a->step);
    for (int64_t i = 0; i < a->n; i++) {
        const double g = (double)a->g[i];
        a->m[i] = (float)(0.9 * (double)a->m[i] + 0.1 * g);
        a->v[i] = (float)(0.999 * (double)a->v[i] + 0.001 * g * g);
        a->w[i] -= (float)((double)a->lr * (double)a->m[i] / c1 / (sqrt((double)a->v[i] / c2) + 1e-8));
    }
    return MCS_OK;
}

static enum mcs_status saliency_map(struct device *d, const struct stage_saliency_map *a)
{
    struct map2 map = {0};
    (void)d;
    MCS_TRY(mcs_saliency_upscale(a->tokens, a->side, a->view_side, a->view_side ? CLIP_VIEW_CROP : CLIP_VIEW_WHOLE,
                                 a->width, a->height, &map));
    memcpy(a->map, map.values, (size_t)a->width * (size_t)a->height * sizeof *a->map);
    mcs_map_free(&map);
    return MCS_OK;
}

/* ---- windows and probabilities ---- */

/* The image pixel at pixel (y, x) of window w. */
static int64_t window_pixel(const struct stage_windows *a, int w, int y, int x)
{
    const int32_t *at = a->list[w];
    const int sy = at[2] + (at[4] & 1 ? a->window_height - 1 - y : y),
              sx = at[3] + (at[4] & 2 ? a->window_width - 1 - x : x);
    return ((int64_t)at[0] * a->height + sy) * a->width + sx;
}

static enum mcs_status windows_cut(struct device *d, const struct stage_windows *a)
{
    float *to = a->values->data;
    (void)d;
    for (int w = 0; w < a->count; w++)
        for (int y = 0; y < a->window_height; y++)
            for (int x = 0; x < a->window_width; x++, to += a->channels)
                memcpy(to, a->images + window_pixel(a, w, y, x) * a->channels, (size_t)a->channels * sizeof *to);
    return MCS_OK;
}

static enum mcs_status windows_paste(struct device *d, const struct stage_windows *a)
{
    const float *from = a->values->data;
    (void)d;
    for (int w = 0; w < a->count; w++)
        for (int y = 0; y < a->window_height; y++)
            for (int x = 0; x < a->window_width; x++, from += a->channels) {
                const int flip = a->list[w][4], wy = flip & 1 ? a->window_height - 1 - y : y,
                          wx = flip & 2 ? a->window_width - 1 - x : x;
                float *to = a->images + window_pixel(a, w, y, x) * a->channels;
                for (int k = 0; k < a->channels; k++) to[k] += a->weight[wy * a->window_width + wx] * from[k];
            }
    return MCS_OK;
}

static enum mcs_status windows_mean(struct device *d, const struct stage_windows_mean *a)
{
    float *to = a->logits;
    (void)d;
    for (int i = 0; i < a->n; i++)
        for (int y = 0; y < a->height; y++)
            for (int x = 0; x < a->width; x++)
                for (int k = 0; k < a->channels; k++, to++) {
                    const int64_t at = (int64_t)(y + a->before[0]) * a->padded[1] + x + a->before[1];
                    const int64_t area = (int64_t)a->padded[0] * a->padded[1];
                    *to = a->sums[(i * area + at) * a->channels + k] / (a->weights[at] * a->flips);
                    if (!isfinite(*to)) *a->bad = 1;
                }
    return MCS_OK;
}

static enum mcs_status softmax(struct device *d, const struct stage_softmax *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n * a->pixels; i++) {
        const float *x = a->logits + i * a->classes;
        float *to = a->prob + i / a->pixels * a->classes * a->pixels + i % a->pixels;
        double top = (double)x[0], sum = 0;
        for (int k = 1; k < a->classes; k++) top = fmax(top, (double)x[k]);
        for (int k = 0; k < a->classes; k++) sum += exp((double)x[k] - top);
        for (int k = 0; k < a->classes; k++) {
            const float p = (float)((double)a->share * exp((double)x[k] - top) / sum);
            to[k * a->pixels] = a->first ? p : to[k * a->pixels] + p;
        }
    }
    return MCS_OK;
}

static enum mcs_status prob_maps(struct device *d, const struct stage_prob_maps *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n; i++) {
        const float *prob = a->prob + i * a->classes * a->pixels;
        if (a->labels) mcs_ensemble_labels(prob, a->classes, a->pixels, a->threshold, a->labels + i * a->pixels);
        if (a->bits && mcs_entropy_map(prob, a->classes, a->pixels, a->bits + i * a->pixels) != MCS_OK) {
            mcs_error_clear();
            *a->bad = 1;
        }
    }
    return MCS_OK;
}

/* ---- masks ---- */

static enum mcs_status coarse(struct device *d, const struct stage_coarse *a)
{
    const int release = a->cut == STAGE_KMEANS_RELEASE || a->cut == STAGE_FIXED_RELEASE;
    const int fixed = a->cut == STAGE_FIXED || a->cut == STAGE_FIXED_RELEASE;
    const struct coarse_options o = {.form = release ? MCS_RELEASE : MCS_PAPER,
                                     .threshold = a->cut == STAGE_OTSU ? MCS_COARSE_OTSU
                                                  : fixed              ? MCS_COARSE_FIXED
                                                                       : MCS_COARSE_KMEANS,
                                     .threshold_value = a->value};
    struct component_list list;
    enum mcs_mask_state state;
    (void)d;
    *a->found = (struct stage_found){0};
    if (mcs_coarse_threshold(a->map, a->width, a->height, &o, a->above, &a->found->threshold, &state) != MCS_OK) {
        mcs_error_clear();
        a->found->bad = 1;
        return MCS_OK;
    }
    a->found->constant = state == MCS_MASK_CONSTANT;
    for (int i = 0; i < a->width * a->height; i++) a->found->set += a->above[i];
    MCS_TRY(mcs_components_find(a->above, a->map, a->width, a->height, a->labels, &list));
    a->found->n = list.n;
    for (int i = 0; i < list.n; i++) {
        const struct component *c = list.items + i;
        a->items[i] = (struct stage_component){.label = c->label,
                                               .area = c->area,
                                               .x0 = c->x0,
                                               .y0 = c->y0,
                                               .x1 = c->x1,
                                               .y1 = c->y1,
                                               .cx = c->cx,
                                               .cy = c->cy,
                                               .confidence = c->confidence,
                                               .peak = c->peak,
                                               .peak_x = c->peak_x,
                                               .peak_y = c->peak_y};
    }
    mcs_components_free(&list);
    return MCS_OK;
}

static enum mcs_status coarse_keep(struct device *d, const struct stage_coarse *a)
{
    (void)d;
    for (int i = 0; i < a->width * a->height; i++) {
        MCS_REQUIRE(a->labels[i] >= 0 && a->labels[i] <= a->most_label, MCS_E_SHAPE, "label %d of %d", a->labels[i],
                    a->most_label);
        a->mask[i] = a->keep[a->labels[i]];
    }
    return MCS_OK;
}

static enum mcs_status masks(struct device *d, const struct stage_masks *a)
{
    const struct sam_config c = {.image_size = a->frame, .patch = 4 * a->frame / a->side};
    const struct sam_frame f = {a->width, a->height, a->in_width, a->in_height};
    const int pixels = a->width * a->height;
    float *sum = calloc((size_t)pixels, sizeof *sum);
    (void)d;
    MCS_REQUIRE(sum, MCS_E_NOMEM, "no memory for %d pixels", pixels);
    for (int i = 0; i < a->n; i++) {
        struct map2 map = {0};
        uint32_t *count = a->counts + 3 * i;
        if (mcs_sam_upscale(&c, a->low_res + (int64_t)a->plane[i] * a->side * a->side, &f, &map) != MCS_OK) abort();
        count[0] = count[1] = count[2] = 0;
        for (int k = 0; k < pixels; k++) {
            count[0] += map.values[k] > 0;
            count[1] += map.values[k] > 1;
            count[2] += map.values[k] > -1;
            if (map.values[k] > 0) sum[k] += a->weight;
        }
        mcs_map_free(&map);
    }
    for (int k = 0; a->united && k < pixels; k++) a->united[k] = sum[k] > 0.5f;
    free(sum);
    return MCS_OK;
}

/* ---- training patches ---- */

static enum mcs_status augment(struct device *d, const struct stage_augment *a)
{
    const int height = (int)a->image->dim[1], width = (int)a->image->dim[2];
    const int64_t out = (int64_t)height * width, in = (int64_t)a->src_height * a->src_width;
    const struct augment_patch size = {height, width, a->channels, NULL, NULL};
    float *scratch = malloc(mcs_augment_scratch(&size) * sizeof *scratch);
    int32_t *first = a->labels[0]->data;
    (void)d;
    MCS_REQUIRE(scratch, MCS_E_NOMEM, "no memory for a patch");
    for (int i = 0; i < a->n; i++) {
        const struct augment_patch src = {a->src_height, a->src_width, a->channels,
                                          (float *)a->src + i * in * a->channels, (int32_t *)a->src_label + i * in},
                                   dst = {height, width, a->channels, (float *)a->image->data + i * out * a->channels,
                                          first + i * out};
        mcs_augment_apply(&a->draws[i], &src, &dst, scratch);
    }
    for (int i = 1; i < a->n_labels; i++)
        mcs_unet_target(first, a->n, height, width, (int)a->labels[i]->dim[1], (int)a->labels[i]->dim[2],
                        a->labels[i]->data);
    free(scratch);
    return MCS_OK;
}

enum mcs_status support_stages_open(struct device *d)
{
    static const struct stage_ops stages = {.copy = copy,
                                            .noise = noise,
                                            .adam = adam,
                                            .saliency_map = saliency_map,
                                            .windows_cut = windows_cut,
                                            .windows_paste = windows_paste,
                                            .windows_mean = windows_mean,
                                            .softmax = softmax,
                                            .prob_maps = prob_maps,
                                            .coarse = coarse,
                                            .coarse_keep = coarse_keep,
                                            .masks = masks,
                                            .augment = augment};
    static struct backend backend;
    MCS_TRY(mcs_cpu_open(1, d));
    backend = *d->backend;
    backend.alloc = alloc_guarded;
    backend.free = free_guarded;
    backend.stages = &stages;
    d->backend = &backend;
    return MCS_OK;
}

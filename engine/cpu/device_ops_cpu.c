/* engine/device_ops.h on the host's memory. */
#include "engine/cpu/device_ops_cpu.h"

#include "engine/base/rng.h"
#include "engine/image/augment_apply.h"
#include "engine/image/bilinear.h"
#include "engine/image/components.h"
#include "engine/image/prob_maps.h"
#include "engine/image/threshold.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Scratch of the op that runs, kept with the device: a training step allocates nothing. */
struct cpu_scratch {
    float *values;
    size_t n;
};

static enum mcs_status scratch(struct device *d, size_t n, float **values)
{
    struct cpu_scratch *s = d->state;
    if (!s) s = d->state = calloc(1, sizeof *s);
    MCS_REQUIRE(s, MCS_E_NOMEM, "no memory for the state of a device");
    if (n > s->n) {
        free(s->values);
        s->n = 0;
        s->values = malloc(n * sizeof *s->values);
        MCS_REQUIRE(s->values, MCS_E_NOMEM, "no memory for %zu values of scratch", n);
        s->n = n;
    }
    *values = s->values;
    return MCS_OK;
}

void mcs_cpu_device_ops_close(struct device *d)
{
    struct cpu_scratch *s = d->state;
    if (s) free(s->values);
    free(s);
    d->state = NULL;
}

/* ---- saliency ---- */

static enum mcs_status copy(struct device *d, const struct tensor *from, float *to)
{
    MCS_REQUIRE(from->dt == MCS_F32, MCS_E_SHAPE, "%s: the cpu backend copies float32 alone", from->name);
    memcpy(to, from->data, (size_t)mcs_bytes(from));
    return MCS_OK;
}

static enum mcs_status noise(struct device *d, const struct noise_args *a)
{
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t k = 0; k < a->n_keys; k++)
        for (int64_t c = 0; c < a->copies; c++) {
            const struct mcs_rng r = {a->seed, a->site + (uint32_t)c, a->keys[k], a->step};
            mcs_rng_fill_normal(r, a->y + (k * a->copies + c) * a->n, a->n);
        }
    return MCS_OK;
}

static enum mcs_status adam(struct device *d, const struct adam_args *a)
{
    /* in double: 1 - 0.999f has only five digits, an error that every update would have */
    const float c2 = (float)sqrt(1 - pow(0.999, a->step)), rate = (float)((double)a->lr / (1 - pow(0.9, a->step)));
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < a->n; i++) {
        const float g = a->g[i];
        a->m[i] = 0.9f * a->m[i] + 0.1f * g;
        a->v[i] = 0.999f * a->v[i] + 0.001f * g * g;
        a->w[i] -= rate * a->m[i] / (sqrtf(a->v[i]) / c2 + 1e-8f);
    }
    return MCS_OK;
}

/* tokens (side, side) -> map (height, width) by bilinear resampling, scaled to 0..1 by its minimum and maximum. */
static void scale_tokens(const struct saliency_map_args *a, int width, int height, float *map)
{
    const struct bilinear b = {a->side, a->side, width, height};
    const int64_t n = (int64_t)width * height;
    float lo = INFINITY, hi = -INFINITY;
#pragma omp parallel for schedule(static)
    for (int y = 0; y < height; y++) mcs_bilinear_row(&b, a->tokens, y, width, map + (int64_t)y * width);
    for (int64_t i = 0; i < n; i++) lo = fminf(lo, map[i]), hi = fmaxf(hi, map[i]);
    for (int64_t i = 0; i < n; i++) map[i] = hi > lo ? (map[i] - lo) / (hi - lo) : 0;
}

static enum mcs_status saliency_map(struct device *d, const struct saliency_map_args *a)
{
    const int side = a->view_side;
    float *square;
    if (!side) {
        scale_tokens(a, a->width, a->height, a->map);
        return MCS_OK;
    }
    MCS_TRY(scratch(d, (size_t)side * (size_t)side, &square));
    scale_tokens(a, side, side, square);
    for (int y = 0; y < a->height; y++)
        for (int x = 0; x < a->width; x++) {
            const int sx = mcs_nearest_index(x, side, a->width), sy = mcs_nearest_index(y, side, a->height);
            a->map[(int64_t)y * a->width + x] = rintf(square[(int64_t)sy * side + sx] * 255) / 255;
        }
    return MCS_OK;
}

/* ---- sliding windows and probabilities ---- */

static enum mcs_status windows_cut(struct device *d, const struct windows_args *a)
{
    const int64_t h = a->window_height, w = a->window_width, c = a->channels;
    for (int i = 0; i < a->count; i++) {
        const struct sliding_window *from = &a->list[i];
        float *window = (float *)a->values->data + i * h * w * c;
        for (int64_t y = 0; y < h; y++) {
            const int64_t sy = from->y + (from->flip & FLIP_ROWS ? h - 1 - y : y);
            const float *row = a->images + (((int64_t)from->image * a->height + sy) * a->width + from->x) * c;
            float *to = window + y * w * c;
            if (!(from->flip & FLIP_COLUMNS))
                memcpy(to, row, (size_t)(w * c) * sizeof *row);
            else
                for (int64_t x = 0; x < w; x++)
                    for (int64_t k = 0; k < c; k++) to[x * c + k] = row[(w - 1 - x) * c + k];
        }
    }
    return MCS_OK;
}

static enum mcs_status windows_paste(struct device *d, const struct windows_args *a)
{
    const int64_t h = a->window_height, w = a->window_width, c = a->channels;
    for (int i = 0; i < a->count; i++) {
        const struct sliding_window *at = &a->list[i];
        const float *window = (const float *)a->values->data + i * h * w * c;
        for (int64_t y = 0; y < h; y++) {
            const float *row = window + (at->flip & FLIP_ROWS ? h - 1 - y : y) * w * c;
            float *to = a->images + (((int64_t)at->image * a->height + at->y + y) * a->width + at->x) * c;
            for (int64_t x = 0; x < w; x++) {
                const float *from = row + (at->flip & FLIP_COLUMNS ? w - 1 - x : x) * c, g = a->weight[y * w + x];
                for (int64_t k = 0; k < c; k++) to[x * c + k] += g * from[k];
            }
        }
    }
    return MCS_OK;
}

static enum mcs_status windows_mean(struct device *d, const struct windows_mean_args *a)
{
    const int64_t c = a->channels, area = (int64_t)a->padded[0] * a->padded[1];
    float *to = a->logits, bad = 0;
    for (int i = 0; i < a->n; i++)
        for (int y = 0; y < a->height; y++)
            for (int x = 0; x < a->width; x++, to += c) {
                const int64_t from = (int64_t)(y + a->before[0]) * a->padded[1] + x + a->before[1];
                const float scale = 1 / (a->weights[from] * a->flips);
                for (int64_t k = 0; k < c; k++) {
                    to[k] = a->sums[(i * area + from) * c + k] * scale;
                    bad += to[k] - to[k]; /* 0, or NaN where the value is not finite */
                }
            }
    if (bad != 0) *a->bad = 1;
    return MCS_OK;
}

static enum mcs_status softmax(struct device *d, const struct softmax_args *a)
{
    const int64_t classes = a->classes, pixels = a->pixels;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < a->n * pixels; i++) {
        const float *x = a->logits + i * classes;
        float *prob = a->prob + i / pixels * classes * pixels + i % pixels, top = x[0], sum = 0;
        for (int64_t k = 1; k < classes; k++) top = x[k] > top ? x[k] : top;
        for (int64_t k = 0; k < classes; k++) sum += expf(x[k] - top);
        for (int64_t k = 0; k < classes; k++)
            prob[k * pixels] = (a->first ? 0 : prob[k * pixels]) + a->share * (expf(x[k] - top) / sum);
    }
    return MCS_OK;
}

static enum mcs_status prob_maps(struct device *d, const struct prob_maps_args *a)
{
    for (int64_t i = 0; i < a->n; i++) {
        const float *prob = a->prob + i * a->classes * a->pixels;
        if (a->labels) mcs_prob_labels(prob, a->classes, a->pixels, a->threshold, a->labels + i * a->pixels);
        if (a->bits && mcs_entropy_map(prob, a->classes, a->pixels, a->bits + i * a->pixels) != MCS_OK) {
            mcs_error_clear();
            *a->bad = 1;
        }
    }
    return MCS_OK;
}

/* ---- masks ---- */

static enum mcs_status coarse(struct device *d, const struct coarse_args *a)
{
    const int64_t n = (int64_t)a->height * a->width;
    struct threshold_result *r = &a->found->level;
    struct component_list list;
    enum mcs_mask_state state;
    *a->found = (struct coarse_found){0};
    if (mcs_threshold_check(a->map, n) != MCS_OK) {
        mcs_error_clear();
        r->bad = 1;
        return MCS_OK;
    }
    MCS_TRY(mcs_threshold(a->cut, a->value, a->map, a->width, a->height, a->above, &r->threshold, &state));
    r->constant = state == MCS_MASK_CONSTANT;
    for (int64_t i = 0; i < n; i++) r->set += a->above[i];
    MCS_TRY(mcs_components_find(a->above, a->map, a->width, a->height, a->labels, &list));
    a->found->n = list.n;
    memcpy(a->items, list.items, (size_t)list.n * sizeof *a->items);
    mcs_components_free(&list);
    return MCS_OK;
}

static enum mcs_status coarse_keep(struct device *d, const struct coarse_args *a)
{
    const int64_t n = (int64_t)a->height * a->width;
    for (int64_t i = 0; i < n; i++) a->mask[i] = a->labels[i] <= a->most_label ? a->keep[a->labels[i]] : 0;
    return MCS_OK;
}

static enum mcs_status masks(struct device *d, const struct masks_args *a)
{
    const int64_t pixels = (int64_t)a->height * a->width, part_pixels = (int64_t)a->in_height * a->in_width;
    const struct bilinear to_frame = {a->side, a->side, a->frame, a->frame},
                          to_image = {a->in_width, a->in_height, a->width, a->height};
    float *part, *logits, *sum;
    MCS_TRY(scratch(d, (size_t)(part_pixels + 2 * pixels), &part));
    logits = part + part_pixels;
    sum = logits + pixels;
    memset(sum, 0, (size_t)pixels * sizeof *sum);
    for (int i = 0; i < a->n; i++) {
        const float *low = a->low_res + (int64_t)a->plane[i] * a->side * a->side;
        uint32_t area = 0, inner = 0, outer = 0;
#pragma omp parallel for schedule(static)
        for (int y = 0; y < a->in_height; y++)
            mcs_bilinear_row(&to_frame, low, y, a->in_width, part + (int64_t)y * a->in_width);
#pragma omp parallel for schedule(static) reduction(+ : area, inner, outer)
        for (int y = 0; y < a->height; y++) {
            float *row = logits + (int64_t)y * a->width, *weight = sum + (int64_t)y * a->width;
            mcs_bilinear_row(&to_image, part, y, a->width, row);
            for (int x = 0; x < a->width; x++) {
                area += row[x] > 0.0f;
                inner += row[x] > 1.0f;
                outer += row[x] > -1.0f;
                if (row[x] > 0.0f) weight[x] += a->weight;
            }
        }
        memcpy(a->counts + 3 * i, (uint32_t[]){area, inner, outer}, 3 * sizeof area);
    }
    for (int64_t k = 0; a->united && k < pixels; k++) a->united[k] = sum[k] > 0.5f;
    return MCS_OK;
}

/* ---- training patches ---- */

static enum mcs_status augment(struct device *d, const struct augment_args *a)
{
    const int height = (int)a->image->dim[1], width = (int)a->image->dim[2], ch = a->channels;
    const int64_t out = (int64_t)height * width, in = (int64_t)a->src_height * a->src_width;
    const size_t each = mcs_augment_scratch(&(struct augment_patch){.height = height, .width = width, .channels = ch});
    int32_t *label = a->labels[0]->data;
    float *images = a->image->data, *values;
    MCS_TRY(scratch(d, (size_t)a->n * each, &values));
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < a->n; i++) {
        const struct augment_patch src = {a->src_height, a->src_width, ch, (float *)a->src + i * in * ch,
                                          (int32_t *)a->src_label + i * in},
                                   dst = {height, width, ch, images + i * out * ch, label + i * out};
        mcs_augment_apply(&a->draws[i], &src, &dst, values + each * (size_t)i);
    }
    for (int i = 1; i < a->n_labels; i++) {
        const struct tensor *to = a->labels[i];
        mcs_augment_target(label, a->n, height, width, (int)to->dim[1], (int)to->dim[2], to->data);
    }
    return MCS_OK;
}

const struct device_ops mcs_cpu_device_ops = MCS_DEVICE_OPS_TABLE;

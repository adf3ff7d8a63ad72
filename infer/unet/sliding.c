#include "infer/unet/sliding.h"

#include "data/io/array.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WINDOWS = 4096 };

struct sliding_options mcs_sliding_defaults(void)
{
    return (struct sliding_options){.step = 0.5, .mirror = 1, .batch = 8};
}

int mcs_sliding_starts(int64_t size, int64_t patch, double step, int64_t *start, int max)
{
    const double n = ceil((double)(size - patch) / ((double)patch * step)) + 1;
    if (size < patch || !(n <= max)) return -1;
    for (int i = 0; i < (int)n; i++) start[i] = n > 1 ? (int64_t)nearbyint(i * ((double)(size - patch) / (n - 1))) : 0;
    return (int)n;
}

/* exp(-d^2 / (2 sigma^2)) around n/2, 0 beyond round(4 sigma), as scipy's gaussian_filter truncates it. Its
 * normalisation cancels when the map is scaled. */
static double bell(int64_t i, int64_t n)
{
    const double sigma = (double)n / 8, d = (double)(i - n / 2);
    return fabs(d) > floor(4 * sigma + 0.5) ? 0 : exp(-0.5 * d * d / (sigma * sigma));
}

void mcs_sliding_gaussian(int64_t height, int64_t width, float *weight)
{
    float least = INFINITY;
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            float *w = &weight[y * width + x];
            uint16_t half;
            *w = (float)(10 * bell(y, height) * bell(x, width));
            mcs_float_to_half(w, 1, &half);
            mcs_half_to_float(&half, 1, w);
            if (*w > 0 && *w < least) least = *w;
        }
    for (int64_t i = 0; i < height * width; i++)
        if (!(weight[i] > 0)) weight[i] = least;
}

/* Copies the images into dst (n, padded, channels) with zero padding around each. */
static void place_images(const struct sliding *s, const float *images, int64_t channels, float *dst)
{
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t y = 0; y < s->height; y++)
            memcpy(dst + (((i * s->padded[0] + y + s->before[0]) * s->padded[1]) + s->before[1]) * channels,
                   images + (i * s->height + y) * s->width * channels, (size_t)(s->width * channels) * sizeof *images);
}

/* weights (padded) += the Gaussian of each window. */
static void sum_weights(const struct sliding *s, const float *gaussian, float *weights)
{
    const int64_t *patch = s->model->plans.patch;
    for (int iy = 0; iy < s->n_y; iy++)
        for (int ix = 0; ix < s->n_x; ix++)
            for (int64_t y = 0; y < patch[0]; y++)
                for (int64_t x = 0; x < patch[1]; x++)
                    weights[(s->start_y[iy] + y) * s->padded[1] + s->start_x[ix] + x] += gaussian[y * patch[1] + x];
}

static float *floats(int64_t n)
{
    return calloc((size_t)n + 1, sizeof(float));
}

/* Number of windows of all images, mirrored ones included. */
static int64_t n_items(const struct sliding *s)
{
    return s->n * s->n_y * s->n_x * (s->o.mirror ? 4 : 1);
}

/* Window number i: its image, corner and mirroring. */
static struct sliding_window window_at(const struct sliding *s, int64_t i)
{
    const int flips = s->o.mirror ? 4 : 1;
    const int64_t place = i / flips, tiles = (int64_t)s->n_y * s->n_x, tile = place % tiles;
    return (struct sliding_window){.image = (int32_t)(place / tiles),
                                   .y = (int32_t)s->start_y[tile / s->n_x],
                                   .x = (int32_t)s->start_x[tile % s->n_x],
                                   .flip = (int32_t)(i % flips)};
}

/* ---- buffers of a run ---- */

/* Memory of the device for n values of 4 bytes, filled from src where it is given. */
static enum mcs_status on_device(struct device *d, int64_t n, const void *src, void *to)
{
    void *p;
    MCS_TRY(mcs_device_alloc(d, 4 * n, to));
    memcpy(&p, to, sizeof p);
    return src ? d->backend->upload(d, p, src, 4 * n) : MCS_OK;
}

static enum mcs_status alloc_all(struct sliding *s, const float *gaussian, const float *weights)
{
    struct device *d = s->model->device;
    const int64_t *patch = s->model->plans.patch, area = s->padded[0] * s->padded[1], items = n_items(s);
    const int64_t channels = s->model->plans.net.in_channels, classes = s->model->plans.net.classes;
    struct sliding_window *list = malloc((size_t)items * sizeof *list);
    enum mcs_status st;
    MCS_REQUIRE(list, MCS_E_NOMEM, "no memory for %lld windows", (long long)items);
    for (int64_t i = 0; i < items; i++) list[i] = window_at(s, i);
    MCS_TRY_GOTO(on_device(d, s->n * area * channels, NULL, &s->images), st, done);
    MCS_TRY_GOTO(on_device(d, patch[0] * patch[1], gaussian, &s->gaussian), st, done);
    MCS_TRY_GOTO(on_device(d, area, weights, &s->weights), st, done);
    MCS_TRY_GOTO(on_device(d, items * (int64_t)(sizeof *list / 4), list, &s->list), st, done);
    MCS_TRY_GOTO(on_device(d, s->n * area * classes, NULL, &s->sums), st, done);
    MCS_TRY_GOTO(on_device(d, s->n * s->height * s->width * classes, NULL, &s->logits), st, done);
    MCS_TRY_GOTO(on_device(d, 1, NULL, &s->bad), st, done);
done:
    free(list);
    return st;
}

/* The windows' weights and their sums, computed on the host; memory for everything. */
static enum mcs_status make_memory(struct sliding *s)
{
    const int64_t *patch = s->model->plans.patch;
    float *gaussian = floats(patch[0] * patch[1]), *weights = floats(s->padded[0] * s->padded[1]);
    enum mcs_status st;
    MCS_REQUIRE_GOTO(gaussian && weights, MCS_E_NOMEM, st, done, "no memory for windows");
    mcs_sliding_gaussian(patch[0], patch[1], gaussian);
    sum_weights(s, gaussian, weights);
    st = alloc_all(s, gaussian, weights);
done:
    free(gaussian);
    free(weights);
    return st;
}

enum mcs_status mcs_sliding_load(struct sliding *s, const float *images, int64_t n)
{
    struct device *d = s->model->device;
    const int64_t channels = s->model->plans.net.in_channels, values = n * s->padded[0] * s->padded[1] * channels;
    MCS_REQUIRE(n > 0 && n <= s->capacity, MCS_E_USAGE, "%lld images at once; want 1 to %lld", (long long)n,
                (long long)s->capacity);
    s->n = n;
    MCS_TRY(d->backend->zero(d, s->bad, sizeof *s->bad));
    if (s->padded[0] == s->height && s->padded[1] == s->width)
        return d->backend->upload(d, s->images, images, values * (int64_t)sizeof *images);
    float *padded = floats(values);
    MCS_REQUIRE(padded, MCS_E_NOMEM, "no memory for %lld images of %lld x %lld", (long long)n, (long long)s->width,
                (long long)s->height);
    place_images(s, images, channels, padded);
    const enum mcs_status st = d->backend->upload(d, s->images, padded, values * (int64_t)sizeof *padded);
    free(padded);
    return st;
}

enum mcs_status mcs_sliding_open(struct sliding *s, struct unet_model *m, const struct sliding_options *o,
                                 const float *images, int64_t n, int64_t height, int64_t width)
{
    const int64_t *patch = m->plans.patch;
    enum mcs_status st;
    *s = (struct sliding){.model = m, .o = *o, .n = n, .capacity = n, .height = height, .width = width};
    MCS_REQUIRE(o->step > 0 && o->step <= 1, MCS_E_USAGE, "a step of %g windows cannot be: want above 0 and at most 1",
                o->step);
    MCS_REQUIRE(n > 0 && height > 0 && width > 0 && o->batch > 0, MCS_E_USAGE, "there is nothing to predict");
    const int64_t size[2] = {height, width};
    for (int a = 0; a < 2; a++) {
        s->padded[a] = size[a] > patch[a] ? size[a] : patch[a];
        s->before[a] = (s->padded[a] - size[a]) / 2; /* an odd one more after it */
    }
    s->start_y = calloc(MAX_WINDOWS, sizeof *s->start_y);
    s->start_x = calloc(MAX_WINDOWS, sizeof *s->start_x);
    MCS_REQUIRE_GOTO(s->start_y && s->start_x, MCS_E_NOMEM, st, failed, "no memory for windows");
    s->n_y = mcs_sliding_starts(s->padded[0], patch[0], o->step, s->start_y, MAX_WINDOWS);
    s->n_x = mcs_sliding_starts(s->padded[1], patch[1], o->step, s->start_x, MAX_WINDOWS);
    MCS_REQUIRE_GOTO(s->n_y > 0 && s->n_x > 0, MCS_E_USAGE, st, failed,
                     "a step of %g makes more than %d windows along an axis", o->step, MAX_WINDOWS);
    s->batch = n_items(s) < o->batch ? n_items(s) : o->batch;
    if (m->exec && m->image->dim[0] > s->batch && m->image->dim[0] <= o->batch) s->batch = m->image->dim[0];
    MCS_TRY_GOTO(make_memory(s), st, failed);
    MCS_TRY_GOTO(mcs_unet_model_compile(m, s->batch), st, failed);
    MCS_TRY_GOTO(mcs_sliding_load(s, images, n), st, failed);
    return MCS_OK;
failed:
    mcs_sliding_close(s);
    return st;
}

void mcs_sliding_close(struct sliding *s)
{
    void *const arrays[] = {s->gaussian, s->images, s->sums, s->weights, s->list, s->logits, s->bad};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if (arrays[i]) s->model->device->backend->free(s->model->device, arrays[i]);
    free(s->start_y);
    free(s->start_x);
    *s = (struct sliding){0};
}

enum mcs_status mcs_sliding_enqueue(struct sliding *s)
{
    struct device *d = s->model->device;
    const struct unet_plans *plans = &s->model->plans;
    const int64_t items = n_items(s);
    struct windows_args in = {.channels = (int)plans->net.in_channels,
                              .height = (int)s->padded[0],
                              .width = (int)s->padded[1],
                              .window_height = (int)plans->patch[0],
                              .window_width = (int)plans->patch[1],
                              .values = s->model->image,
                              .images = s->images};
    struct windows_args out = in;
    out.channels = (int)plans->net.classes;
    out.values = s->model->logits;
    out.images = s->sums;
    out.weight = s->gaussian;
    const struct windows_mean_args mean = {.n = (int)s->n,
                                           .channels = out.channels,
                                           .padded = {in.height, in.width},
                                           .before = {(int)s->before[0], (int)s->before[1]},
                                           .height = (int)s->height,
                                           .width = (int)s->width,
                                           .flips = s->o.mirror ? 4 : 1,
                                           .sums = s->sums,
                                           .weights = s->weights,
                                           .logits = s->logits,
                                           .bad = s->bad};
    MCS_TRY(d->backend->zero(d, s->sums, s->n * s->padded[0] * s->padded[1] * out.channels * (int64_t)sizeof(float)));
    /* A last batch of fewer windows still has those of the batch before in its other places: they are not pasted. */
    for (int64_t at = 0; at < items; at += s->batch) {
        in.list = out.list = s->list + at;
        in.count = out.count = (int)(items - at < s->batch ? items - at : s->batch);
        MCS_TRY(d->backend->device_ops->windows_cut(d, &in));
        MCS_TRY(mcs_exec_forward(s->model->exec));
        MCS_TRY(d->backend->device_ops->windows_paste(d, &out));
    }
    return d->backend->device_ops->windows_mean(d, &mean);
}

enum mcs_status mcs_sliding_check(struct sliding *s)
{
    struct device *d = s->model->device;
    uint32_t bad = 0;
    MCS_TRY(d->backend->download(d, &bad, s->bad, sizeof bad));
    MCS_REQUIRE(!bad, MCS_E_DATA, "the network's output is not finite; is the checkpoint whole?");
    return MCS_OK;
}

enum mcs_status mcs_sliding_run(struct sliding *s, float *logits)
{
    struct device *d = s->model->device;
    MCS_TRY(mcs_sliding_enqueue(s));
    MCS_TRY(mcs_sliding_check(s));
    return d->backend->download(d, logits, s->logits,
                                s->n * s->height * s->width * s->model->plans.net.classes * (int64_t)sizeof(float));
}

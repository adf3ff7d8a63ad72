#include "infer/sliding.h"

#include "data/array.h"

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

/* exp(-d^2 / 2 sigma^2) around n/2, 0 beyond round(4 sigma). The filter's norm cancels when the map is scaled. */
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

/* Images into their padded places, zeros around them. */
static void place_images(struct sliding *s, const float *images, int64_t channels)
{
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t y = 0; y < s->height; y++)
            memcpy(s->images + (((i * s->padded[0] + y + s->before[0]) * s->padded[1]) + s->before[1]) * channels,
                   images + (i * s->height + y) * s->width * channels, (size_t)(s->width * channels) * sizeof *images);
}

static void sum_weights(struct sliding *s)
{
    const int64_t *patch = s->model->plans.patch;
    for (int iy = 0; iy < s->n_y; iy++)
        for (int ix = 0; ix < s->n_x; ix++)
            for (int64_t y = 0; y < patch[0]; y++)
                for (int64_t x = 0; x < patch[1]; x++)
                    s->weights[(s->start_y[iy] + y) * s->padded[1] + s->start_x[ix] + x] +=
                        s->gaussian[y * patch[1] + x];
}

static float *floats(int64_t n)
{
    return calloc((size_t)n + 1, sizeof(float));
}

enum mcs_status mcs_sliding_open(struct sliding *s, struct unet_model *m, const struct sliding_options *o,
                                 const float *images, int64_t n, int64_t height, int64_t width)
{
    const int64_t *patch = m->plans.patch, channels = m->plans.net.in_channels, classes = m->plans.net.classes;
    enum mcs_status st;
    *s = (struct sliding){.model = m, .o = *o, .n = n, .height = height, .width = width};
    MCS_REQUIRE(o->step > 0 && o->step <= 1, MCS_E_USAGE, "a step of %g windows cannot be: want above 0 and at most 1",
                o->step);
    MCS_REQUIRE(n > 0 && height > 0 && width > 0 && o->batch > 0, MCS_E_USAGE, "there is nothing to predict");
    const int64_t size[2] = {height, width};
    for (int a = 0; a < 2; a++) {
        s->padded[a] = size[a] > patch[a] ? size[a] : patch[a];
        s->before[a] = (s->padded[a] - size[a]) / 2; /* an odd one more after it */
    }
    const int64_t area = s->padded[0] * s->padded[1], window = patch[0] * patch[1];
    s->start_y = calloc(MAX_WINDOWS, sizeof *s->start_y);
    s->start_x = calloc(MAX_WINDOWS, sizeof *s->start_x);
    MCS_REQUIRE_GOTO(s->start_y && s->start_x, MCS_E_NOMEM, st, failed, "no memory for windows");
    s->n_y = mcs_sliding_starts(s->padded[0], patch[0], o->step, s->start_y, MAX_WINDOWS);
    s->n_x = mcs_sliding_starts(s->padded[1], patch[1], o->step, s->start_x, MAX_WINDOWS);
    MCS_REQUIRE_GOTO(s->n_y > 0 && s->n_x > 0, MCS_E_USAGE, st, failed,
                     "a step of %g makes more than %d windows along an axis", o->step, MAX_WINDOWS);
    const int64_t items = n * s->n_y * s->n_x * (o->mirror ? 4 : 1);
    s->batch = items < o->batch ? items : o->batch;
    s->gaussian = floats(window);
    s->images = floats(n * area * channels);
    s->windows = floats(s->batch * window * channels);
    s->outputs = floats(s->batch * window * classes);
    s->sums = floats(n * area * classes);
    s->weights = floats(area);
    MCS_REQUIRE_GOTO(s->gaussian && s->images && s->windows && s->outputs && s->sums && s->weights, MCS_E_NOMEM, st,
                     failed, "no memory for %lld images of %lld x %lld", (long long)n, (long long)width,
                     (long long)height);
    mcs_sliding_gaussian(patch[0], patch[1], s->gaussian);
    place_images(s, images, channels);
    sum_weights(s);
    MCS_TRY_GOTO(mcs_unet_model_plan(m, s->batch), st, failed);
    return MCS_OK;
failed:
    mcs_sliding_close(s);
    return st;
}

void mcs_sliding_close(struct sliding *s)
{
    free(s->start_y);
    free(s->start_x);
    free(s->gaussian);
    free(s->images);
    free(s->windows);
    free(s->outputs);
    free(s->sums);
    free(s->weights);
    *s = (struct sliding){0};
}

/* Window number i: its image, corner and mirroring (1: rows, 2: columns). */
struct window {
    int64_t image, y, x;
    int flip;
};

static struct window window_at(const struct sliding *s, int64_t i)
{
    const int flips = s->o.mirror ? 4 : 1;
    const int64_t place = i / flips, tiles = (int64_t)s->n_y * s->n_x, tile = place % tiles;
    return (struct window){place / tiles, s->start_y[tile / s->n_x], s->start_x[tile % s->n_x], (int)(i % flips)};
}

static void cut(const struct sliding *s, struct window w, float *dst)
{
    const int64_t *patch = s->model->plans.patch, c = s->model->plans.net.in_channels;
    for (int64_t y = 0; y < patch[0]; y++) {
        const int64_t sy = w.y + (w.flip & 1 ? patch[0] - 1 - y : y);
        const float *row = s->images + ((w.image * s->padded[0] + sy) * s->padded[1] + w.x) * c;
        float *to = dst + y * patch[1] * c;
        if (!(w.flip & 2))
            memcpy(to, row, (size_t)(patch[1] * c) * sizeof *row);
        else
            for (int64_t x = 0; x < patch[1]; x++)
                for (int64_t k = 0; k < c; k++) to[x * c + k] = row[(patch[1] - 1 - x) * c + k];
    }
}

static void paste(const struct sliding *s, struct window w, const float *src)
{
    const int64_t *patch = s->model->plans.patch, c = s->model->plans.net.classes;
    for (int64_t y = 0; y < patch[0]; y++) {
        const float *row = src + (w.flip & 1 ? patch[0] - 1 - y : y) * patch[1] * c;
        float *to = s->sums + ((w.image * s->padded[0] + w.y + y) * s->padded[1] + w.x) * c;
        for (int64_t x = 0; x < patch[1]; x++) {
            const float *from = row + (w.flip & 2 ? patch[1] - 1 - x : x) * c, g = s->gaussian[y * patch[1] + x];
            for (int64_t k = 0; k < c; k++) to[x * c + k] += g * from[k];
        }
    }
}

enum mcs_status mcs_sliding_run(struct sliding *s, float *logits)
{
    const int64_t *patch = s->model->plans.patch;
    const int64_t in = patch[0] * patch[1] * s->model->plans.net.in_channels, c = s->model->plans.net.classes,
                  out = patch[0] * patch[1] * c, area = s->padded[0] * s->padded[1];
    const int64_t flips = s->o.mirror ? 4 : 1, items = s->n * s->n_y * s->n_x * flips;
    struct exec *e = s->model->exec;
    memset(s->sums, 0, (size_t)(s->n * area * c) * sizeof *s->sums);
    for (int64_t at = 0; at < items; at += s->batch) {
        const int64_t n = items - at < s->batch ? items - at : s->batch;
        for (int64_t i = 0; i < n; i++) cut(s, window_at(s, at + i), s->windows + i * in);
        MCS_TRY(mcs_exec_set(e, s->model->image, s->windows)); /* a tail keeps the windows before it */
        MCS_TRY(mcs_exec_forward(e));
        MCS_TRY(mcs_exec_get(e, s->model->logits, s->outputs));
        for (int64_t i = 0; i < n; i++) paste(s, window_at(s, at + i), s->outputs + i * out);
    }
    float bad = 0;
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t y = 0; y < s->height; y++)
            for (int64_t x = 0; x < s->width; x++) {
                const int64_t from = (y + s->before[0]) * s->padded[1] + x + s->before[1];
                const float scale = 1 / (s->weights[from] * (float)flips);
                for (int64_t k = 0; k < c; k++) {
                    const float v = s->sums[(i * area + from) * c + k] * scale;
                    logits[((i * s->height + y) * s->width + x) * c + k] = v;
                    bad += v - v; /* 0, or NaN where v is not finite */
                }
            }
    MCS_REQUIRE(bad == 0, MCS_E_DATA, "the network's output is not finite; is the checkpoint whole?");
    return MCS_OK;
}

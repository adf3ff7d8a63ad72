/* Resizing by cubic B-splines, as skimage.transform.resize does it through scipy.ndimage: gaussian_filter,
 * spline_filter and zoom in float64, borders mirrored about the centre of the outermost pixel.
 *
 * The sums are taken in scipy's order, because the result is cut to 8 bits: a flat area of grey level 100 becomes 100
 * or 99 by the last bit. For the same reason the channels are a third axis of the splines, as in the reference, though
 * their number does not change. */
#include "data/image/image.h"
#include "data/io/bounds.h"
#include "engine/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHANNELS = 3, TAPS = 4 };

/* Index or coordinate mirrored into 0 .. n - 1. */
static double mirror(double at, int n)
{
    const double period = 2.0 * n - 2;
    if (n <= 1) return 0;
    if (at < 0) {
        at = period * (double)(int64_t)(-at / period) + at;
        return at <= 1 - n ? at + period : -at;
    }
    if (at > n - 1) {
        at -= period * (double)(int64_t)(at / period);
        if (at >= n) at = period - at;
    }
    return at;
}

/* ---- gaussian_filter1d, truncated at 4 sigma ---- */

/* numpy's sum: eight partial sums for up to 128 numbers, halves of more. */
static double pairwise_sum(const double *v, int n)
{
    double r[8], sum = 0;
    if (n < 8) {
        for (int i = 0; i < n; i++) sum += v[i];
        return sum;
    }
    if (n > 128) {
        const int half = n / 2 - n / 2 % 8;
        return pairwise_sum(v, half) + pairwise_sum(v + half, n - half);
    }
    memcpy(r, v, sizeof r);
    int i = 8;
    for (; i < n - n % 8; i += 8)
        for (int k = 0; k < 8; k++) r[k] += v[i + k];
    sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    for (; i < n; i++) sum += v[i];
    return sum;
}

/* A line of n values with `radius` mirrored ones on each side. */
struct line {
    int n, radius;
    double *values;  /* the first of the n */
    double *weights; /* weights[k]: of distance k, for k <= radius */
};

static void gaussian_weights(double sigma, struct line *l, double *phi)
{
    const int size = 2 * l->radius + 1;
    for (int i = 0; i < size; i++) {
        const double x = i - l->radius;
        phi[i] = exp(-0.5 / (sigma * sigma) * (x * x));
    }
    const double sum = pairwise_sum(phi, size);
    for (int k = 0; k <= l->radius; k++) l->weights[k] = phi[l->radius + k] / sum;
}

static void gaussian_line(struct line *l, double *dst, int64_t stride)
{
    for (int k = 1; k <= l->radius; k++) {
        l->values[-k] = l->values[(int)mirror(-k, l->n)];
        l->values[l->n - 1 + k] = l->values[(int)mirror(l->n - 1 + k, l->n)];
    }
    for (int i = 0; i < l->n; i++) {
        const double *v = l->values + i;
        double sum = v[0] * l->weights[0];
        for (int k = l->radius; k > 0; k--) sum += (v[-k] + v[k]) * l->weights[k];
        dst[i * stride] = sum;
    }
}

/* ---- spline_filter1d of order 3 ---- */

static void spline_line(double *c, int n)
{
    const double z = -0.267949192431122706472553658494127633057 /* sqrt(3) - 2 */, gain = (1.0 - z) * (1.0 - 1.0 / z),
                 z_n_1 = pow(z, n - 1);
    double z_i = z;
    for (int i = 0; i < n; i++) c[i] *= gain;
    c[0] = c[0] + z_n_1 * c[n - 1];
    for (int i = 1; i < n - 1; i++) {
        c[0] += z_i * (c[i] + z_n_1 * c[n - 1 - i]);
        z_i *= z;
    }
    c[0] /= 1 - z_n_1 * z_n_1;
    for (int i = 1; i < n; i++) c[i] += z * c[i - 1];
    c[n - 1] = (z * c[n - 2] + c[n - 1]) * z / (z * z - 1);
    for (int i = n - 2; i >= 0; i--) c[i] = z * (c[i + 1] - c[i]);
}

/* ---- the axes of an image: lines along rows, columns and channels ---- */

/* Runs `sigma` > 0: the Gaussian, 0: the spline's filter, over all lines of length n and this stride. The lines start
 * at `outer` x `inner` places with these strides. */
struct axis {
    int n;
    int64_t stride;
    int outer, inner;
    int64_t outer_stride, inner_stride;
};

static enum mcs_status filter_axis(double *v, const struct axis *a, double sigma)
{
    struct line l = {.n = a->n, .radius = sigma > 0 ? (int)(4.0 * sigma + 0.5) : 0};
    if (a->n < 2 && !l.radius) return MCS_OK; /* a spline through one point is constant */
    const size_t size = (size_t)a->n + 2 * (size_t)l.radius;
    double *memory = malloc((size + 3 * (size_t)l.radius + 2) * sizeof *memory);
    MCS_REQUIRE(memory, MCS_E_NOMEM, "no memory for a line of %d pixels", a->n);
    l.values = memory + l.radius;
    l.weights = memory + size;
    if (sigma > 0) gaussian_weights(sigma, &l, l.weights + l.radius + 1);
    for (int i = 0; i < a->outer; i++)
        for (int k = 0; k < a->inner; k++) {
            double *at = v + i * a->outer_stride + k * a->inner_stride;
            for (int j = 0; j < a->n; j++) l.values[j] = at[j * a->stride];
            if (sigma > 0) {
                gaussian_line(&l, at, a->stride);
            } else {
                spline_line(l.values, a->n);
                for (int j = 0; j < a->n; j++) at[j * a->stride] = l.values[j];
            }
        }
    free(memory);
    return MCS_OK;
}

static enum mcs_status filter(double *v, const struct image *src, int width, int height)
{
    const int64_t row = (int64_t)src->width * CHANNELS;
    const struct axis axes[3] = {{src->height, row, src->width, CHANNELS, CHANNELS, 1},
                                 {src->width, CHANNELS, src->height, CHANNELS, row, 1},
                                 {CHANNELS, 1, src->height, src->width, row, CHANNELS}};
    const double factor[2] = {(double)src->height / height, (double)src->width / width};
    for (int k = 0; k < 2; k++)
        if (factor[k] > 1) MCS_TRY(filter_axis(v, &axes[k], (factor[k] - 1) / 2));
    for (int k = 0; k < 3; k++) MCS_TRY(filter_axis(v, &axes[k], 0));
    return MCS_OK;
}

/* ---- zoom ---- */

/* The four source indices and weights of each output place along one axis. */
struct taps {
    int64_t index[TAPS];
    double weight[TAPS];
};

static void taps_make(int n_in, int n_out, int64_t stride, struct taps *t)
{
    const double zoom = (double)n_in / n_out;
    for (int i = 0; i < n_out; i++, t++) {
        const double at = mirror((i + 0.5) * zoom - 0.5, n_in), y = at - floor(at), z = 1.0 - y;
        for (int k = 0; k < TAPS; k++) t->index[k] = stride * (int64_t)mirror(floor(at) - 1 + k, n_in);
        t->weight[0] = z * z * z / 6.0;
        t->weight[1] = (y * y * (y - 2.0) * 3.0 + 4.0) / 6.0;
        t->weight[2] = (z * z * (z - 2.0) * 3.0 + 4.0) / 6.0;
        t->weight[3] = 1.0;
        for (int k = 0; k < 3; k++) t->weight[3] -= t->weight[k];
    }
}

static double value_at(const double *v, const struct taps *y, const struct taps *x, const struct taps *c)
{
    double sum = 0;
    for (int i = 0; i < TAPS; i++)
        for (int k = 0; k < TAPS; k++) {
            const double *at = v + y->index[i] + x->index[k], wy = y->weight[i], wx = x->weight[k];
            for (int j = 0; j < TAPS; j++) sum += at[c->index[j]] * wy * wx * c->weight[j];
        }
    return sum;
}

static void zoom(const double *v, const struct taps *rows, const struct taps *columns, const struct taps *channels,
                 const uint8_t range[2], struct image *dst)
{
    uint8_t *to = dst->pixels;
    for (int y = 0; y < dst->height; y++)
        for (int x = 0; x < dst->width; x++)
            for (int k = 0; k < CHANNELS; k++) {
                const double value = value_at(v, &rows[y], &columns[x], &channels[k]);
                *to++ = (uint8_t)fmin(fmax(value, range[0]), range[1]); /* cut, not rounded */
            }
}

enum mcs_status mcs_image_resize_spline(const struct image *src, int width, int height, struct image *dst)
{
    const int64_t n = (int64_t)src->width * src->height * CHANNELS;
    uint8_t range[2] = {255, 0};
    *dst = (struct image){0};
    MCS_REQUIRE(n > 0 && src->channels == CHANNELS && width > 0 && height > 0, MCS_E_SHAPE,
                "%d x %d pixels of %d channels to %d x %d; want %d channels and at least a pixel", src->width,
                src->height, src->channels, width, height, CHANNELS);
    if (width == src->width && height == src->height) return mcs_image_crop(src, 0, 0, width, height, dst);
    MCS_TRY(mcs_memory_check_as(MCS_E_NOMEM, mcs_size_mul(n, sizeof(double)), "resizing %d x %d pixels", src->width,
                                src->height));
    double *v = malloc((size_t)n * sizeof *v);
    struct taps *taps = malloc(((size_t)width + (size_t)height + CHANNELS) * sizeof *taps);
    enum mcs_status st;
    MCS_REQUIRE_GOTO(v && taps, MCS_E_NOMEM, st, done, "no memory to resize %d x %d pixels", src->width, src->height);
    for (int64_t i = 0; i < n; i++) {
        v[i] = src->pixels[i];
        if (src->pixels[i] < range[0]) range[0] = src->pixels[i];
        if (src->pixels[i] > range[1]) range[1] = src->pixels[i];
    }
    MCS_TRY_GOTO(filter(v, src, width, height), st, done);
    taps_make(src->height, height, (int64_t)src->width * CHANNELS, taps);
    taps_make(src->width, width, CHANNELS, taps + height);
    taps_make(CHANNELS, CHANNELS, 1, taps + height + width);
    MCS_TRY_GOTO(mcs_image_alloc(dst, width, height, CHANNELS), st, done);
    zoom(v, taps, taps + height, taps + height + width, range, dst);
done:
    free(v);
    free(taps);
    return st;
}

/* Pillow's resampling of 8-bit images, byte for byte. */
#include "data/image/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The sanitizers' runtime is not ready when the loader picks a clone. */
#if defined(__x86_64__) && !defined(MCS_SANITIZE)
#define VECTOR __attribute__((target_clones("avx2", "default")))
#else
#define VECTOR
#endif

/* Of the weights, whose sums are int32: 8 bits are the pixel's, 2 are headroom for bicubic's negative lobes and the
 * sign. */
enum { FRACTION_BITS = 32 - 8 - 2 };

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* Keys' cubic convolution with a = -0.5. */
static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

/* Along one axis: the first source pixel of each output pixel, their number, and fixed-point weights. */
struct taps {
    int n_max;        /* capacity: weights per pixel */
    int *first, *n;   /* (n_out) */
    int32_t *weights; /* (n_out, n_max) */
};

static void taps_free(struct taps *t)
{
    free(t->first);
    free(t->n);
    free(t->weights);
}

static enum mcs_status taps_make(int n_in, int n_out, enum mcs_filter filter, struct taps *t)
{
    enum mcs_status st = MCS_OK;
    double scale = (double)n_in / n_out, stretch = scale < 1 ? 1 : scale,
           support = (filter == MCS_BICUBIC ? 2 : 1) * stretch;

    t->n_max = (int)ceil(support) * 2 + 1;
    t->first = calloc((size_t)n_out, sizeof *t->first);
    t->n = calloc((size_t)n_out, sizeof *t->n);
    t->weights = calloc((size_t)n_out * (size_t)t->n_max, sizeof *t->weights);
    double *w = calloc((size_t)t->n_max, sizeof *w);
    MCS_REQUIRE_GOTO(t->first && t->n && t->weights && w, MCS_E_NOMEM, st, done, "no memory to resize %d to %d", n_in,
                     n_out);
    for (int i = 0; i < n_out; i++) {
        double centre = (i + 0.5) * scale, sum = 0;
        int lo = (int)(centre - support + 0.5), hi = (int)(centre + support + 0.5);
        if (lo < 0) lo = 0;
        if (hi > n_in) hi = n_in;
        for (int k = 0; k < hi - lo; k++) {
            double x = (lo + k - centre + 0.5) * (1 / stretch);
            w[k] = filter == MCS_BICUBIC ? bicubic(x) : bilinear(x);
            sum += w[k];
        }
        for (int k = 0; k < hi - lo; k++) {
            double exact = (sum != 0 ? w[k] / sum : w[k]) * (1 << FRACTION_BITS);
            t->weights[(size_t)i * t->n_max + k] = (int32_t)(exact < 0 ? exact - 0.5 : exact + 0.5);
        }
        t->first[i] = lo;
        t->n[i] = hi - lo;
    }
done:
    free(w);
    return st;
}

static uint8_t clip8(int32_t sum)
{
    sum >>= FRACTION_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

VECTOR static void pass_across(const struct image *src, const struct taps *t, struct image *dst)
{
    const int32_t half = 1 << (FRACTION_BITS - 1);

    for (int y = 0; y < src->height; y++) {
        const uint8_t *row = src->pixels + (size_t)y * src->width * src->channels;
        uint8_t *out = dst->pixels + (size_t)y * dst->width * dst->channels;
        for (int x = 0; x < dst->width; x++) {
            const int32_t *w = t->weights + (size_t)x * t->n_max;
            if (src->channels == 1) {
                const uint8_t *p = row + t->first[x];
                int32_t sum = half;
                for (int k = 0; k < t->n[x]; k++) sum += p[k] * w[k];
                out[x] = clip8(sum);
            } else {
                const uint8_t *p = row + 3 * (size_t)t->first[x];
                int32_t r = half, g = half, b = half;
                for (int k = 0; k < t->n[x]; k++, p += 3) {
                    r += p[0] * w[k];
                    g += p[1] * w[k];
                    b += p[2] * w[k];
                }
                out[3 * x] = clip8(r);
                out[3 * x + 1] = clip8(g);
                out[3 * x + 2] = clip8(b);
            }
        }
    }
}

VECTOR static void pass_down(const struct image *src, const struct taps *t, int32_t *sums, struct image *dst)
{
    int n = src->width * src->channels;

    for (int y = 0; y < dst->height; y++) {
        const int32_t *w = t->weights + (size_t)y * t->n_max;
        uint8_t *out = dst->pixels + (size_t)y * n;
        for (int i = 0; i < n; i++) sums[i] = 1 << (FRACTION_BITS - 1);
        for (int k = 0; k < t->n[y]; k++) {
            const uint8_t *row = src->pixels + (size_t)(t->first[y] + k) * n;
            for (int i = 0; i < n; i++) sums[i] += row[i] * w[k];
        }
        for (int i = 0; i < n; i++) out[i] = clip8(sums[i]);
    }
}

/* Pillow steps through the source by adding the scale, so this must accumulate the same rounding errors. */
static void nearest(const struct image *src, struct image *dst)
{
    int c = src->channels;
    double scale_x = (double)src->width / dst->width, scale_y = (double)src->height / dst->height, at_y = scale_y * 0.5;

    for (int y = 0; y < dst->height; y++, at_y += scale_y) {
        int from_y = (int)at_y < src->height ? (int)at_y : src->height - 1;
        const uint8_t *row = src->pixels + (size_t)from_y * src->width * c;
        uint8_t *out = dst->pixels + (size_t)y * dst->width * c;
        double at_x = scale_x * 0.5;
        for (int x = 0; x < dst->width; x++, at_x += scale_x) {
            int from_x = (int)at_x < src->width ? (int)at_x : src->width - 1;
            memcpy(out + (size_t)x * c, row + (size_t)from_x * c, (size_t)c);
        }
    }
}

enum mcs_status mcs_image_resize(const struct image *src, int width, int height, enum mcs_filter filter,
                                 struct image *dst)
{
    enum mcs_status st = MCS_OK;
    struct taps across = {0}, down = {0};
    struct image between = {0};
    const struct image *now = src;
    int32_t *sums = NULL;

    memset(dst, 0, sizeof *dst);
    MCS_TRY(mcs_image_alloc(dst, width, height, src->channels));
    if (width == src->width && height == src->height) {
        memcpy(dst->pixels, src->pixels, (size_t)width * height * src->channels);
        return MCS_OK;
    }
    if (filter == MCS_NEAREST) {
        nearest(src, dst);
        return MCS_OK;
    }
    if (width != src->width) {
        MCS_TRY_GOTO(taps_make(src->width, width, filter, &across), st, done);
        if (height != src->height) MCS_TRY_GOTO(mcs_image_alloc(&between, width, src->height, src->channels), st, done);
        pass_across(src, &across, height != src->height ? &between : dst);
        now = &between;
    }
    if (height != src->height) {
        MCS_TRY_GOTO(taps_make(src->height, height, filter, &down), st, done);
        sums = malloc((size_t)width * src->channels * sizeof *sums);
        MCS_REQUIRE_GOTO(sums, MCS_E_NOMEM, st, done, "no memory to resize to %d x %d", width, height);
        pass_down(now, &down, sums, dst);
    }
done:
    free(sums);
    taps_free(&across);
    taps_free(&down);
    mcs_image_free(&between);
    if (st != MCS_OK) mcs_image_free(dst);
    return st;
}

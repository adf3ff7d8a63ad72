#include "infer/unet/uncertainty.h"

#include "infer/metrics/distance.h"
#include "infer/metrics/statistics.h"

#include <math.h>
#include <stdlib.h>

enum { WRONG = 1, OUTSIDE = 2 };

static double sum_of(const float *v, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += v[i];
    return sum;
}

/* 1 if a pixel of the 3 x 3 neighbourhood of (x, y) is in the mask. */
static int touches(const uint8_t *mask, int x, int y, int width, int height)
{
    for (int v = y ? y - 1 : 0; v <= y + 1 && v < height; v++)
        for (int u = x ? x - 1 : 0; u <= x + 1 && u < width; u++)
            if (mask[(int64_t)v * width + u]) return 1;
    return 0;
}

double mcs_uncertainty_score(const float *bits, const uint8_t *mask, int width, int height, enum mcs_form form)
{
    int64_t edge = 0;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) edge += !mask[(int64_t)y * width + x] && touches(mask, x, y, width, height);
    double sum = 100.0 * sum_of(bits, (int64_t)width * height);
    if (form == MCS_RELEASE) return sum / (255.0 * (double)edge);
    return sum / (double)(edge ? edge : 1);
}

double mcs_uncertainty_score_area(const float *bits, const uint8_t *mask, int64_t n)
{
    int64_t area = 0;
    for (int64_t i = 0; i < n; i++) area += mask[i] != 0;
    return 100.0 * sum_of(bits, n) / (double)(area ? area : 1);
}

static enum mcs_status reserve(struct error_pool *p, int64_t n)
{
    if (p->n + n <= p->capacity) return MCS_OK;
    int64_t capacity = p->n + n > 2 * p->capacity ? p->n + n : 2 * p->capacity;
    float *bits = realloc(p->bits, (size_t)capacity * sizeof *bits);
    if (bits) p->bits = bits;
    uint8_t *flags = realloc(p->flags, (size_t)capacity);
    if (flags) p->flags = flags;
    MCS_REQUIRE(bits && flags, MCS_E_NOMEM, "no memory to pool %lld pixels", (long long)capacity);
    p->capacity = capacity;
    return MCS_OK;
}

enum mcs_status mcs_error_pool_add(struct error_pool *p, const float *bits, const uint8_t *pred, const uint8_t *ref,
                                   int width, int height, double band_px)
{
    static const double unit[3] = {1.0, 1.0, 1.0};
    int64_t n = (int64_t)width * height;
    for (int64_t i = 0; i < n; i++)
        MCS_REQUIRE(!isnan(bits[i]), MCS_E_DATA, "entropy map: value %lld is NaN", (long long)i);
    MCS_TRY(reserve(p, n));
    enum mcs_status st = MCS_OK;
    uint8_t *sites = malloc((size_t)n);
    double *distance = malloc((size_t)n * sizeof *distance);
    MCS_REQUIRE_GOTO(sites && distance, MCS_E_NOMEM, st, done, "no memory for a %d x %d band", width, height);
    uint8_t *flags = p->flags + p->n;
    for (int64_t i = 0; i < n; i++) {
        p->bits[p->n + i] = bits[i];
        flags[i] = (pred[i] != 0) != (ref[i] != 0) ? WRONG : 0;
    }
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < n; i++) sites[i] = (pred[i] != 0) != side;
        MCS_TRY_GOTO(mcs_distance_transform(sites, width, height, 1, unit, distance), st, done);
        for (int64_t i = 0; i < n; i++)
            if (!sites[i] && distance[i] > band_px) flags[i] |= OUTSIDE;
    }
    p->n += n;
done:
    free(sites);
    free(distance);
    return st;
}

enum mcs_status mcs_error_pool_statistics(const struct error_pool *p, struct error_statistics *s)
{
    *s = (struct error_statistics){.n_pixels = p->n, .auroc = NAN, .auroc_outside_band = NAN};
    enum mcs_status st = MCS_OK;
    float *bits = malloc(((size_t)p->n + 1) * sizeof *bits);
    uint8_t *wrong = malloc((size_t)p->n + 1);
    MCS_REQUIRE_GOTO(bits && wrong, MCS_E_NOMEM, st, done, "no memory for %lld pixels", (long long)p->n);
    double sum[2] = {0.0, 0.0};
    for (int64_t i = 0; i < p->n; i++) {
        wrong[i] = p->flags[i] & WRONG;
        s->n_wrong += wrong[i];
        sum[wrong[i]] += p->bits[i];
    }
    s->right = s->n_pixels > s->n_wrong ? sum[0] / (double)(s->n_pixels - s->n_wrong) : NAN;
    s->wrong = s->n_wrong ? sum[1] / (double)s->n_wrong : NAN;
    MCS_TRY_GOTO(mcs_auroc(p->bits, wrong, p->n, &s->auroc), st, done);
    for (int64_t i = 0; i < p->n; i++) {
        if (!(p->flags[i] & OUTSIDE)) continue;
        bits[s->n_outside] = p->bits[i];
        wrong[s->n_outside++] = p->flags[i] & WRONG;
        s->n_wrong_outside += p->flags[i] & WRONG;
    }
    MCS_TRY_GOTO(mcs_auroc(bits, wrong, s->n_outside, &s->auroc_outside_band), st, done);
done:
    free(bits);
    free(wrong);
    return st;
}

void mcs_error_pool_free(struct error_pool *p)
{
    free(p->bits);
    free(p->flags);
    *p = (struct error_pool){0};
}

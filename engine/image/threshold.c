#include "engine/image/threshold.h"

#include <math.h>
#include <string.h>

enum { BINS = MCS_THRESHOLD_BINS };

struct histogram {
    float lo, hi;
    float edge[BINS + 1]; /* bin k is [edge[k], edge[k+1]), the last one closed */
    int64_t count[BINS];
    double sum[BINS], sum_sq[BINS]; /* of value - lo, to avoid cancellation for maps with a large offset */
};

const char *mcs_mask_state_text(enum mcs_mask_state state)
{
    switch (state) {
    case MCS_MASK_OK: return "not empty";
    case MCS_MASK_CONSTANT: return "the map is constant";
    case MCS_MASK_NOTHING: return "nothing lies above the threshold";
    case MCS_MASK_FILTERED: return "no component passed the filters";
    case MCS_MASK_ABSENT: return "the presence score is below the least one";
    }
    return "unknown";
}

static enum mcs_status find_range(const float *map, int64_t n, float *lo, float *hi)
{
    MCS_REQUIRE(n > 0, MCS_E_SHAPE, "a saliency map without pixels");
    *lo = INFINITY;
    *hi = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        MCS_REQUIRE(isfinite(map[i]), MCS_E_DATA, "saliency map: value %lld is %s", (long long)i,
                    isnan(map[i]) ? "NaN" : "infinite");
        if (map[i] < *lo) *lo = map[i];
        if (map[i] > *hi) *hi = map[i];
    }
    return MCS_OK;
}

/* Bin of v, checked against the edges: the quotient may be off by one for values next to an edge. */
static int bin_of(const struct histogram *h, float v)
{
    int k = (int)(((double)v - h->lo) / ((double)h->hi - h->lo) * BINS);
    if (k > BINS - 1) k = BINS - 1;
    if (k > 0 && v < h->edge[k]) k--;
    if (k < BINS - 1 && v >= h->edge[k + 1]) k++;
    return k;
}

static void fill(struct histogram *h, const float *map, int64_t n)
{
    double step = ((double)h->hi - h->lo) / BINS;
    for (int k = 0; k < BINS; k++) h->edge[k] = (float)(h->lo + k * step);
    h->edge[BINS] = h->hi;
    memset(h->count, 0, sizeof h->count);
    memset(h->sum, 0, sizeof h->sum);
    memset(h->sum_sq, 0, sizeof h->sum_sq);
    for (int64_t i = 0; i < n; i++) {
        int k = bin_of(h, map[i]);
        double v = (double)map[i] - h->lo;
        h->count[k]++;
        h->sum[k] += v;
        h->sum_sq[k] += v * v;
    }
}

/* The cut after bin 0 .. BINS-2 with the greatest w0 w1 (m0 - m1)^2, the first of equal ones; it also has the least
 * within-class sum of squares. sum[k] = count[k] * representative value of bin k. */
static int best_cut(const int64_t *count, const double *sum, double *mean_lo, double *mean_hi)
{
    double total = 0.0, total_n = 0.0;
    for (int k = 0; k < BINS; k++) {
        total += sum[k];
        total_n += (double)count[k];
    }
    int best = 0;
    double best_var = -1.0, s0 = 0.0, n0 = 0.0;
    for (int k = 0; k < BINS - 1; k++) {
        s0 += sum[k];
        n0 += (double)count[k];
        double n1 = total_n - n0;
        if (n0 == 0.0 || n1 == 0.0) continue;
        double m0 = s0 / n0, m1 = (total - s0) / n1, var = n0 * n1 * (m0 - m1) * (m0 - m1);
        if (var > best_var) {
            best_var = var;
            best = k;
            *mean_lo = m0;
            *mean_hi = m1;
        }
    }
    return best;
}

static enum mcs_status constant_map(float value, int64_t n, uint8_t *mask, float *threshold, enum mcs_mask_state *state)
{
    memset(mask, 0, (size_t)n);
    *threshold = value;
    *state = MCS_MASK_CONSTANT;
    return MCS_OK;
}

static void cut_above(const float *map, int64_t n, float threshold, uint8_t *mask, enum mcs_mask_state *state)
{
    int64_t n_set = 0;
    for (int64_t i = 0; i < n; i++) n_set += mask[i] = map[i] > threshold;
    *state = n_set ? MCS_MASK_OK : MCS_MASK_NOTHING;
}

enum mcs_status mcs_threshold_otsu(const float *map, int64_t n, uint8_t *mask, float *threshold,
                                   enum mcs_mask_state *state)
{
    struct histogram h;
    MCS_TRY(find_range(map, n, &h.lo, &h.hi));
    if (h.lo == h.hi) return constant_map(h.lo, n, mask, threshold, state);
    fill(&h, map, n);
    double sum[BINS], m0, m1;
    for (int k = 0; k < BINS; k++) sum[k] = (double)h.count[k] * (0.5 * ((double)h.edge[k] + h.edge[k + 1]) - h.lo);
    int cut = best_cut(h.count, sum, &m0, &m1);
    *threshold = (float)(0.5 * ((double)h.edge[cut] + h.edge[cut + 1]));
    cut_above(map, n, *threshold, mask, state);
    return MCS_OK;
}

enum mcs_status mcs_threshold_kmeans(const float *map, int64_t n, uint8_t *mask, float *threshold,
                                     enum mcs_mask_state *state)
{
    struct histogram h;
    MCS_TRY(find_range(map, n, &h.lo, &h.hi));
    if (h.lo == h.hi) return constant_map(h.lo, n, mask, threshold, state);
    fill(&h, map, n);
    double m0 = 0.0, m1 = 0.0;
    int cut = best_cut(h.count, h.sum, &m0, &m1);
    *threshold = (float)(h.lo + 0.5 * (m0 + m1));
    for (int64_t i = 0; i < n; i++) mask[i] = bin_of(&h, map[i]) > cut;
    *state = MCS_MASK_OK;
    return MCS_OK;
}

void mcs_map_to_u8(const float *map, int64_t n, uint8_t *dst)
{
    for (int64_t i = 0; i < n; i++) {
        float v = rintf(map[i] * 255.0f);
        dst[i] = v >= 255.0f ? 255 : v > 0.0f ? (uint8_t)v : 0; /* NaN compares false: 0 */
    }
}

/* The pixels whose level in the reduced map (256, 256) is above the cut, resized back. */
static void cut_reduced(const uint8_t *small, float cut, int width, int height, uint8_t *mask,
                        enum mcs_mask_state *state)
{
    int64_t n_set = 0;
    for (int y = 0; y < height; y++) {
        const uint8_t *row = small + (int64_t)mcs_nearest_index(y, MCS_RELEASE_SIDE, height) * MCS_RELEASE_SIDE;
        for (int x = 0; x < width; x++)
            n_set += mask[(int64_t)y * width + x] = row[mcs_nearest_index(x, MCS_RELEASE_SIDE, width)] > cut;
    }
    /* Resizing more than 256 x 256 pixels may skip the only bright ones, which leaves the mask empty. */
    *state = n_set ? MCS_MASK_OK : MCS_MASK_NOTHING;
}

enum mcs_status mcs_threshold_kmeans_release(const float *map, int width, int height, uint8_t *mask, float *threshold,
                                             enum mcs_mask_state *state)
{
    static _Thread_local uint8_t small[MCS_RELEASE_SIDE * MCS_RELEASE_SIDE];
    int cut;
    MCS_TRY(mcs_threshold_check(map, (int64_t)width * height));
    mcs_kmeans_release_reduce(map, width, height, small);
    mcs_kmeans_release_cut(small, &cut, threshold);
    cut_reduced(small, (float)cut, width, height, mask, state);
    if (cut == BINS - 1) *state = MCS_MASK_CONSTANT;
    return MCS_OK;
}

/* By a cut that is known. */
static enum mcs_status cut_release(const float *map, int width, int height, float cut, uint8_t *mask, float *threshold,
                                   enum mcs_mask_state *state)
{
    static _Thread_local uint8_t small[MCS_RELEASE_SIDE * MCS_RELEASE_SIDE];
    MCS_TRY(mcs_threshold_check(map, (int64_t)width * height));
    mcs_kmeans_release_reduce(map, width, height, small);
    cut_reduced(small, cut, width, height, mask, state);
    *threshold = cut / 255.0f;
    return MCS_OK;
}

enum mcs_status mcs_threshold_fixed(const float *map, int64_t n, float threshold, uint8_t *mask,
                                    enum mcs_mask_state *state)
{
    float lo, hi;
    MCS_TRY(find_range(map, n, &lo, &hi));
    cut_above(map, n, threshold, mask, state);
    return MCS_OK;
}

/* The released code compares the 8-bit map / 255, in double. */
static enum mcs_status fixed_release(const float *map, int64_t n, float threshold, uint8_t *mask,
                                     enum mcs_mask_state *state)
{
    int64_t n_set = 0;
    MCS_TRY(mcs_threshold_check(map, n));
    mcs_map_to_u8(map, n, mask);
    for (int64_t i = 0; i < n; i++) n_set += mask[i] = mask[i] / 255.0 > (double)threshold;
    *state = n_set ? MCS_MASK_OK : MCS_MASK_NOTHING;
    return MCS_OK;
}

enum mcs_status mcs_threshold(enum threshold_kind kind, float value, const float *map, int width, int height,
                              uint8_t *mask, float *threshold, enum mcs_mask_state *state)
{
    const int64_t n = (int64_t)width * height;
    switch (kind) {
    case THRESHOLD_OTSU: return mcs_threshold_otsu(map, n, mask, threshold, state);
    case THRESHOLD_KMEANS: return mcs_threshold_kmeans(map, n, mask, threshold, state);
    case THRESHOLD_KMEANS_RELEASE: return cut_release(map, width, height, value, mask, threshold, state);
    case THRESHOLD_FIXED:
    case THRESHOLD_FIXED_RELEASE: break;
    }
    *threshold = value;
    return (kind == THRESHOLD_FIXED ? mcs_threshold_fixed : fixed_release)(map, n, value, mask, state);
}

enum mcs_status mcs_threshold_check(const float *map, int64_t n)
{
    float lo, hi;
    return find_range(map, n, &lo, &hi);
}

/* Otsu, 2-means and the released code's 2-means against searches written out in double. */
#include "engine/base/rng.h"
#include "engine/image/threshold.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { W = 61, H = 47, N = W * H };

/* A mixture of two overlapping distributions; `share` of the pixels are from the second. */
static void make_map(float *map, int64_t n, uint64_t seed, double share, double offset)
{
    struct mcs_rng r = {.seed = seed, .site = mcs_rng_site("test.threshold")};
    for (int64_t i = 0; i < n; i++) {
        double high = mcs_rng_uniform(r, (uint32_t)(2 * i)) < share;
        map[i] = (float)(offset + 0.25 + 0.4 * high + 0.07 * mcs_rng_normal(r, (uint32_t)(2 * i + 1)));
    }
}

/* Sum of squares within the two classes of values <= t and > t. */
static double within(const float *map, int64_t n, double t)
{
    double s[2] = {0}, q[2] = {0}, k[2] = {0};
    for (int64_t i = 0; i < n; i++) {
        int c = map[i] > t;
        k[c] += 1.0;
        s[c] += map[i];
    }
    for (int64_t i = 0; i < n; i++) {
        int c = map[i] > t;
        q[c] += (map[i] - s[c] / k[c]) * (map[i] - s[c] / k[c]);
    }
    return q[0] + q[1];
}

Test(threshold, otsu_equals_the_definition)
{
    static float map[N];
    static uint8_t mask[N];
    for (uint64_t seed = 0; seed < 6; seed++) {
        make_map(map, N, seed, 0.05 + 0.1 * (double)seed, seed == 3 ? 100.0 : 0.0);
        float lo = map[0], hi = map[0], t;
        for (int i = 0; i < N; i++) lo = fminf(lo, map[i]), hi = fmaxf(hi, map[i]);
        double count[256] = {0}, centre[256], best = -1.0;
        for (int k = 0; k < 256; k++) centre[k] = lo + ((double)hi - lo) * (k + 0.5) / 256.0;
        for (int i = 0; i < N; i++) {
            int k = (int)(((double)map[i] - lo) / ((double)hi - lo) * 256.0);
            count[k > 255 ? 255 : k] += 1.0;
        }
        int at = -1;
        for (int cut = 0; cut < 255; cut++) { /* each cut from scratch by the formula */
            double w0 = 0, w1 = 0, m0 = 0, m1 = 0;
            for (int k = 0; k < 256; k++) {
                if (k <= cut)
                    w0 += count[k], m0 += count[k] * (centre[k] - lo);
                else
                    w1 += count[k], m1 += count[k] * (centre[k] - lo);
            }
            if (w0 == 0 || w1 == 0) continue;
            double v = w0 * w1 * (m0 / w0 - m1 / w1) * (m0 / w0 - m1 / w1);
            if (v > best * (1.0 + 1e-12)) best = v, at = cut;
        }
        enum mcs_mask_state state;
        cr_assert_eq(mcs_threshold_otsu(map, N, mask, &t, &state), MCS_OK);
        cr_assert_eq(state, MCS_MASK_OK);
        /* two float roundings: of the edges and of their mean */
        cr_assert_float_eq(t, centre[at], 2.0 * 6e-8 * fabs(centre[at]));
        for (int i = 0; i < N; i++) cr_assert_eq(mask[i], map[i] > t);
    }
}

Test(threshold, kmeans_is_the_least_of_all_bin_cuts)
{
    static float map[N];
    static uint8_t mask[N];
    for (uint64_t seed = 0; seed < 4; seed++) {
        make_map(map, N, seed, 0.2, 0.0);
        float t, lo = map[0], hi = map[0];
        enum mcs_mask_state state;
        for (int i = 0; i < N; i++) lo = fminf(lo, map[i]), hi = fmaxf(hi, map[i]);
        cr_assert_eq(mcs_threshold_kmeans(map, N, mask, &t, &state), MCS_OK);
        double least = INFINITY, mine = 0.0, s[2] = {0}, k[2] = {0};
        for (int cut = 1; cut < 256; cut++) least = fmin(least, within(map, N, lo + ((double)hi - lo) * cut / 256.0));
        for (int i = 0; i < N; i++) s[mask[i]] += map[i], k[mask[i]] += 1.0;
        for (int i = 0; i < N; i++) mine += pow(map[i] - s[mask[i]] / k[mask[i]], 2.0);
        cr_assert_float_eq(mine, least, 1e-9 * least, "%g is not the least sum of squares %g", mine, least);
        cr_assert_float_eq(t, 0.5 * (s[0] / k[0] + s[1] / k[1]), 1e-6);
    }
}

Test(threshold, release_kmeans_cuts_the_8_bit_map)
{
    enum { SIDE = 256 };
    static float map[SIDE * SIDE];
    static uint8_t mask[SIDE * SIDE], u8[SIDE * SIDE];
    make_map(map, SIDE * SIDE, 5, 0.3, 0.0);
    float t;
    enum mcs_mask_state state;
    cr_assert_eq(mcs_threshold_kmeans_release(map, SIDE, SIDE, mask, &t, &state), MCS_OK);
    mcs_map_to_u8(map, SIDE * SIDE, u8);
    static float grey[SIDE * SIDE];
    for (int i = 0; i < SIDE * SIDE; i++) grey[i] = u8[i];
    double least = INFINITY;
    int at = 0;
    for (int cut = 0; cut < 255; cut++) {
        double v = within(grey, SIDE * SIDE, cut);
        if (v < least) least = v, at = cut;
    }
    for (int i = 0; i < SIDE * SIDE; i++) cr_assert_eq(mask[i], u8[i] > at);
}

Test(threshold, release_kmeans_goes_through_256_pixels)
{
    /* 512 columns: only even ones are sampled, and each result covers two. */
    enum { WIDE = 512, HIGH = 3 };
    static float map[WIDE * HIGH];
    static uint8_t mask[WIDE * HIGH];
    for (int i = 0; i < WIDE * HIGH; i++)
        map[i] = i % WIDE % 2 ? 0.9f : (i % WIDE) >= 100 && (i % WIDE) < 140 ? 0.8f : 0.1f;
    float t;
    enum mcs_mask_state state;
    cr_assert_eq(mcs_threshold_kmeans_release(map, WIDE, HIGH, mask, &t, &state), MCS_OK);
    for (int i = 0; i < WIDE * HIGH; i++) cr_assert_eq(mask[i], i % WIDE >= 100 && i % WIDE < 140);
    cr_assert_float_eq(t, 0.5 * (204.0 + 26.0) / 255.0, 1e-6); /* 0.8 -> 204, 0.1 -> 25.5 -> 26 */
}

Test(threshold, rounding_to_8_bits)
{
    const float v[] = {-1.0f, 0.0f, 0.1f, 0.5f, 1.0f, 2.0f, 128.4f / 255.0f, NAN};
    const uint8_t want[] = {0, 0, 26, 128, 255, 255, 128, 0};
    uint8_t got[8];
    mcs_map_to_u8(v, 8, got);
    cr_assert_arr_eq(got, want, 8);
}

Test(threshold, fixed_and_bad_maps)
{
    float map[4] = {0.1f, 0.3f, 0.5f, 0.2f}, t = 0.0f;
    uint8_t mask[4];
    enum mcs_mask_state state;
    cr_assert_eq(mcs_threshold_fixed(map, 4, 0.3f, mask, &state), MCS_OK);
    cr_assert_arr_eq(mask, ((uint8_t[]){0, 0, 1, 0}), 4);
    cr_assert_eq(mcs_threshold_fixed(map, 4, 0.5f, mask, &state), MCS_OK);
    cr_assert_eq(state, MCS_MASK_NOTHING);
    float flat[4] = {0.4f, 0.4f, 0.4f, 0.4f};
    enum mcs_status (*const each[])(const float *, int64_t, uint8_t *, float *,
                                    enum mcs_mask_state *) = {mcs_threshold_otsu, mcs_threshold_kmeans};
    map[2] = NAN;
    for (int k = 0; k < 2; k++) {
        memset(mask, 7, sizeof mask);
        cr_assert_eq(each[k](flat, 4, mask, &t, &state), MCS_OK);
        cr_assert_eq(state, MCS_MASK_CONSTANT);
        cr_assert_arr_eq(mask, ((uint8_t[4]){0}), 4);
        cr_assert_eq(each[k](map, 4, mask, &t, &state), MCS_E_DATA);
        cr_assert(strstr(mcs_error_message(), "NaN"));
        mcs_error_clear();
    }
    cr_assert_eq(mcs_threshold_kmeans_release(flat, 2, 2, mask, &t, &state), MCS_OK);
    cr_assert_eq(state, MCS_MASK_CONSTANT);
    cr_assert_eq(mcs_threshold_kmeans_release(map, 2, 2, mask, &t, &state), MCS_E_DATA);
    float two[4] = {0.0f, 0.0f, 0.0f, 1.0f};
    mcs_error_clear();
    for (int k = 0; k < 2; k++) {
        cr_assert_eq(each[k](two, 4, mask, &t, &state), MCS_OK);
        cr_assert_arr_eq(mask, ((uint8_t[]){0, 0, 0, 1}), 4);
    }
}

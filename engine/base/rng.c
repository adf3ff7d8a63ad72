#include "engine/base/rng.h"

#include "engine/base/philox.h"

#include <math.h>

void mcs_philox(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < MCS_PHILOX_ROUNDS; round++) {
        mcs_philox_round(&c0, &c1, &c2, &c3, k0, k1);
        mcs_philox_next_key(&k0, &k1);
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint32_t mcs_rng_site(const char *name)
{
    uint64_t h = 0xcbf29ce484222325ull;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 0x100000001b3ull;
    return (uint32_t)(h ^ (h >> 32));
}

/* The last counter word keeps the functions' draws apart: 0 mcs_rng_bits, 1 mcs_rng_normal, 2 mcs_rng_fill_normal, 3
 * mcs_rng_fill_uniform. kernels/common/philox.cuh and the CPU's dropout use the same words. */
static void draw(struct mcs_rng r, uint32_t block, uint32_t function, uint32_t out[4])
{
    const uint32_t ctr[4] = {block, r.sample, r.step, function};
    uint32_t key[2];
    mcs_philox_key(r.seed, r.site, key);
    mcs_philox(ctr, key, out);
}

uint64_t mcs_rng_bits(struct mcs_rng r, uint32_t index)
{
    uint32_t o[4];
    draw(r, index, 0, o);
    return (uint64_t)o[0] << 32 | o[1];
}

double mcs_rng_uniform(struct mcs_rng r, uint32_t index)
{
    return (double)(mcs_rng_bits(r, index) >> 11) * 0x1p-53;
}

double mcs_rng_range(struct mcs_rng r, uint32_t index, double lo, double hi)
{
    return lo + (hi - lo) * mcs_rng_uniform(r, index);
}

double mcs_rng_normal(struct mcs_rng r, uint32_t index)
{
    uint32_t o[4];
    draw(r, index, 1, o);
    const double u = ((double)o[0] + 1.0) * 0x1p-32; /* (0, 1]: log is finite */
    return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * ((double)o[1] * 0x1p-32));
}

uint32_t mcs_rng_below(struct mcs_rng r, uint32_t index, uint32_t n)
{
    return (uint32_t)((unsigned __int128)mcs_rng_bits(r, index) * n >> 64);
}

void mcs_rng_fill_normal(struct mcs_rng r, float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t o[4];
        draw(r, (uint32_t)(i >> 2), 2, o);
        float v[4];
        for (int h = 0; h < 2; h++) {
            const float u = ((float)(o[2 * h] >> 8) + 1.0f) * 0x1p-24f;
            const float rad = sqrtf(-2.0f * logf(u)), ang = 6.28318531f * ((float)(o[2 * h + 1] >> 8) * 0x1p-24f);
            v[2 * h] = rad * cosf(ang);
            v[2 * h + 1] = rad * sinf(ang);
        }
        for (int k = 0; k < 4 && i + k < n; k++) dst[i + k] = v[k];
    }
}

void mcs_rng_fill_uniform(struct mcs_rng r, float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t o[4];
        draw(r, (uint32_t)(i >> 2), 3, o);
        for (int k = 0; k < 4 && i + k < n; k++) dst[i + k] = (float)(o[k] >> 8) * 0x1p-24f;
    }
}

void mcs_rng_permutation(struct mcs_rng r, uint32_t *dst, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) dst[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        const uint32_t j = mcs_rng_below(r, i, i), t = dst[i - 1];
        dst[i - 1] = dst[j];
        dst[j] = t;
    }
}

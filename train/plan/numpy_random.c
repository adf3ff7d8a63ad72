#include "train/plan/numpy_random.h"

enum { N = 624, M = 397 };

void mcs_numpy_seed(struct numpy_random *r, uint32_t seed)
{
    r->state[0] = seed;
    for (uint32_t i = 1; i < N; i++) r->state[i] = 1812433253u * (r->state[i - 1] ^ r->state[i - 1] >> 30) + i;
    r->at = N;
}

static void twist(struct numpy_random *r)
{
    for (int i = 0; i < N; i++) {
        const uint32_t y = (r->state[i] & 0x80000000u) | (r->state[(i + 1) % N] & 0x7fffffffu);
        r->state[i] = r->state[(i + M) % N] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    r->at = 0;
}

uint32_t mcs_numpy_bits(struct numpy_random *r)
{
    if (r->at == N) twist(r);
    uint32_t y = r->state[r->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* Bits below the smallest mask, drawn again where they exceed the largest. */
int64_t mcs_numpy_below(struct numpy_random *r, int64_t largest)
{
    if (largest <= 0) return 0;
    const uint64_t top = (uint64_t)largest, mask = ~(uint64_t)0 >> __builtin_clzll(top);
    uint64_t v;
    do {
        v = mcs_numpy_bits(r);
        if (top > 0xffffffffu) v = v << 32 | mcs_numpy_bits(r);
        v &= mask;
    } while (v > top);
    return (int64_t)v;
}

void mcs_numpy_permutation(struct numpy_random *r, int64_t *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++) dst[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t j = mcs_numpy_below(r, i), other = dst[j];
        dst[j] = dst[i];
        dst[i] = other;
    }
}

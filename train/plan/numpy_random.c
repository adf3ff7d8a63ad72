#include "train/plan/numpy_random.h"

enum { N = 624, M = 397 };

void mcs_numpy_seed(struct numpy_random *r, uint32_t seed)
{
    r->state[0] = seed;
    for (uint32_t i = 1; i < N; i++) r->state[i] = 1812433253u * (r->state[i - 1] ^ r->state[i - 1] >> 30) + i;
    r->at = N;
}

static uint32_t next_word(uint32_t word, uint32_t after, uint32_t far)
{
    const uint32_t y = (word & 0x80000000u) | (after & 0x7fffffffu);
    return far ^ y >> 1 ^ (0x9908b0dfu & (0 - (y & 1)));
}

static void twist(struct numpy_random *r)
{
    uint32_t *s = r->state;
    for (int i = 0; i < N - M; i++) s[i] = next_word(s[i], s[i + 1], s[i + M]);
    for (int i = N - M; i < N - 1; i++) s[i] = next_word(s[i], s[i + 1], s[i + M - N]);
    s[N - 1] = next_word(s[N - 1], s[0], s[M - 1]);
    r->at = 0;
}

static uint32_t temper(uint32_t y)
{
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

uint32_t mcs_numpy_bits(struct numpy_random *r)
{
    if (r->at == N) twist(r);
    return temper(r->state[r->at++]);
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

void mcs_numpy_count(struct numpy_random *r, int64_t n_draws, int64_t largest, uint32_t *counts)
{
    if (largest <= 0 || largest >= 0xffffffff) { /* no draw is needed, or two words for each */
        while (n_draws-- > 0) counts[mcs_numpy_below(r, largest)]++;
        return;
    }
    const uint32_t top = (uint32_t)largest, mask = ~(uint32_t)0 >> __builtin_clz(top);
    while (n_draws > 0) {
        if (r->at == N) twist(r);
        for (; r->at < N && n_draws > 0; r->at++) {
            const uint32_t v = temper(r->state[r->at]) & mask;
            if (v > top) continue;
            counts[v]++;
            n_draws--;
        }
    }
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

/* numpy.random.RandomState, whose draws nnU-Net's fingerprints and foreground locations depend on: MT19937 (Matsumoto,
 * Nishimura, "Mersenne Twister", ACM TOMACS 8, 1998) and numpy's legacy integers, which are frozen (NEP 19). All other
 * random numbers of this program are engine/base/rng.h's. */
#ifndef MCS_NUMPY_RANDOM_H
#define MCS_NUMPY_RANDOM_H

#include <stdint.h>

struct numpy_random {
    uint32_t state[624];
    int at;
};
void mcs_numpy_seed(struct numpy_random *r, uint32_t seed);
uint32_t mcs_numpy_bits(struct numpy_random *r); /* 32 random bits */
/* Uniform in 0 .. largest: randint(0, largest + 1), and the steps of shuffle. largest 0 draws nothing. */
int64_t mcs_numpy_below(struct numpy_random *r, int64_t largest);
/* counts (largest + 1): adds how often each number occurs in n_draws draws. */
void mcs_numpy_count(struct numpy_random *r, int64_t n_draws, int64_t largest, uint32_t *counts);
/* permutation(n): the numbers 0 .. n - 1 in random order. */
void mcs_numpy_permutation(struct numpy_random *r, int64_t *dst, int64_t n);

#endif

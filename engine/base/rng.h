/* Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2,
 * 3", SC 2011). A draw is a pure function of its key and counter, so no result depends on order, thread, rank or
 * skipped draws. The key is (seed, site): the site names the place in the program that draws (MCS_SITE_*, or a hash
 * of a name). The counter is (sample, step, index): whose draw, when, which element.
 *
 * All functions are thread safe and have no state. */
#ifndef MCS_RNG_H
#define MCS_RNG_H

#include <stdint.h>

struct mcs_rng {
    uint64_t seed;   /* of the run */
    uint32_t site;   /* place in the program: mcs_rng_site("demo.lesion") */
    uint32_t sample; /* case, image or row id: never its position in a batch */
    uint32_t step;   /* training step, epoch or round of draws */
};

/* Philox4x32-10: out[4] from ctr[4] and key[2]. */
void mcs_philox(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4]);

/* A 32-bit site from a name (FNV-1a, folded). */
uint32_t mcs_rng_site(const char *name);

/* 64 random bits for element `index`. */
uint64_t mcs_rng_bits(struct mcs_rng r, uint32_t index);
/* Uniform in [0, 1), 53 bits. */
double mcs_rng_uniform(struct mcs_rng r, uint32_t index);
/* Uniform in [lo, hi). */
double mcs_rng_range(struct mcs_rng r, uint32_t index, double lo, double hi);
/* Standard normal by Box-Muller: the cosine value of the pair. */
double mcs_rng_normal(struct mcs_rng r, uint32_t index);
/* Uniform integer in [0, n), n >= 1, without modulo bias beyond 2^-32. */
uint32_t mcs_rng_below(struct mcs_rng r, uint32_t index, uint32_t n);

/* Fills n floats with standard normals: element i depends on (r, i) alone. Four values per Philox call. */
void mcs_rng_fill_normal(struct mcs_rng r, float *dst, int64_t n);
/* Fills n floats uniform in [0, 1), 24 bits each. Four values per Philox call. */
void mcs_rng_fill_uniform(struct mcs_rng r, float *dst, int64_t n);
/* A permutation of 0..n-1 (Fisher-Yates). */
void mcs_rng_permutation(struct mcs_rng r, uint32_t *dst, uint32_t n);

#endif

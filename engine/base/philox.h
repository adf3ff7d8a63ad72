/* The rounds of Philox4x32-10, for rng.c and for loops that draw many numbers at once as vector code. Multipliers and
 * key increments are those of the paper (rng.h). */
#ifndef MCS_PHILOX_H
#define MCS_PHILOX_H

#include <stdint.h>

enum { MCS_PHILOX_ROUNDS = 10 };
#define MCS_PHILOX_INLINE static inline __attribute__((always_inline))

/* The key of (seed, site): the seed's high half is mixed into the site's word, so that all 64 bits count
 * (0x85EBCA6B is odd: a multiplier of MurmurHash3). */
MCS_PHILOX_INLINE void mcs_philox_key(uint64_t seed, uint32_t site, uint32_t key[2])
{
    key[0] = (uint32_t)seed;
    key[1] = site ^ ((uint32_t)(seed >> 32) * 0x85EBCA6Bu);
}

/* One round on the counter c0 .. c3. */
MCS_PHILOX_INLINE void mcs_philox_round(uint32_t *c0, uint32_t *c1, uint32_t *c2, uint32_t *c3, uint32_t k0,
                                        uint32_t k1)
{
    const uint64_t p0 = (uint64_t)0xD2511F53u * *c0, p1 = (uint64_t)0xCD9E8D57u * *c2;
    *c0 = (uint32_t)(p1 >> 32) ^ *c1 ^ k0;
    *c2 = (uint32_t)(p0 >> 32) ^ *c3 ^ k1;
    *c1 = (uint32_t)p1;
    *c3 = (uint32_t)p0;
}

/* The key of the next round. */
MCS_PHILOX_INLINE void mcs_philox_next_key(uint32_t *k0, uint32_t *k1)
{
    *k0 += 0x9E3779B9u;
    *k1 += 0xBB67AE85u;
}

#endif

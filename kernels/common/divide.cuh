/* Division of indices below 2^31 by a divisor known on the host, as one multiplication. From Granlund and
 * Montgomery, "Division by invariant integers using multiplication", PLDI 1994: with s the smallest power 2^s >= d and
 * m = floor(2^32 (2^s - d) / d) + 1, n / d is (high half of m n, plus n) >> s. */
#ifndef MCS_KERNELS_DIVIDE_CUH
#define MCS_KERNELS_DIVIDE_CUH

#include <stdint.h>

#include "kernels/common/device.cuh"

struct divisor {
    uint32_t d, m, s;
};
/* 1 <= d < 2^31 */
static inline divisor divisor_of(int64_t d)
{
    uint32_t s = 0;
    while (((uint64_t)1 << s) < (uint64_t)d) s++;
    return {(uint32_t)d, (uint32_t)((((uint64_t)1 << 32) * (((uint64_t)1 << s) - (uint64_t)d)) / (uint64_t)d + 1), s};
}
static DEV_INLINE uint32_t divide(uint32_t n, const divisor &d)
{
    return ((uint32_t)((uint64_t)n * d.m >> 32) + n) >> d.s;
}
/* n = n / d; returns the remainder. */
static DEV_INLINE uint32_t divide_off(uint32_t &n, const divisor &d)
{
    const uint32_t q = divide(n, d), r = n - q * d.d;
    n = q;
    return r;
}

/* Blocks of `threads` threads for n items, one per thread; 0 where an index would not fit into 31 bits. */
static inline unsigned blocks_of(int64_t n, int threads)
{
    return n > 0 && n <= 0x7fffffff ? (unsigned)((n + threads - 1) / threads) : 0;
}

#endif

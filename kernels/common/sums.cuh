/* Sums of losses: adds the partial sums, in double, that the blocks of a first kernel stored. */
#ifndef MCS_KERNELS_SUMS_CUH
#define MCS_KERNELS_SUMS_CUH

#include "kernels/common/chunks.cuh"

constexpr int SUM_THREADS = CHUNK_THREADS;

/* to (1) = beta to + scale factor sum(part (n)); factor (1) or NULL: 1. One block. */
[[maybe_unused]] static __global__ void __launch_bounds__(SUM_THREADS)
    sum_parts(const double *part, int64_t n, double scale, const float *factor, float beta, float *to)
{
    double s = 0;
    for (int64_t i = threadIdx.x; i < n; i += SUM_THREADS) s += part[i];
    s = block_sum<SUM_THREADS>(s);
    if (threadIdx.x == 0) dev_blend(to, beta, (float)(scale * (factor ? (double)*factor : 1.0) * s));
}

static inline int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}
/* Elements per block for a sum of n: at least `least`, and so many that there are at most 1024 blocks. */
static inline int64_t sum_share(int64_t n, int64_t least)
{
    const int64_t even = div_up(n, 1024);
    return even > least ? even : least;
}

#endif

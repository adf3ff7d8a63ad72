/* Sums over long arrays in an order that depends on their length alone. A first kernel has one block per chunk of CHUNK
 * elements: each thread adds every 256th element, and block_sum adds the threads' sums. A second launch of one block
 * adds the chunks' partial sums in the same way (sum_parts in sums.cuh). */
#ifndef MCS_KERNELS_CHUNKS_CUH
#define MCS_KERNELS_CHUNKS_CUH

#include "kernels/common/device.cuh"
#include "kernels/common/divide.cuh"

constexpr int CHUNK_THREADS = 256, CHUNK = 4096;

/* Number of chunks of n elements: the blocks of the first kernel. */
static inline unsigned chunks_of(int64_t n)
{
    return (unsigned)((n + CHUNK - 1) / CHUNK);
}

/* Sum of v over a block of THREADS, returned to every thread: a shuffle reduction in each warp, then the warps' sums in
 * order. Called by the whole block; ends with a barrier. */
template <int THREADS, class T> static DEV_INLINE T block_sum(T v)
{
    SHARED_ARRAY(T, part, [THREADS / DEV_WARP]);
    v = dev_warp_sum(v);
    if (threadIdx.x % DEV_WARP == 0) part[threadIdx.x / DEV_WARP] = v;
    DEV_SYNC();
    T sum = part[0];
    for (int i = 1; i < THREADS / DEV_WARP; i++) sum += part[i];
    DEV_SYNC();
    return sum;
}

/* Maximum of v over a block, returned to every thread. Called by the whole block; ends with a barrier. */
template <int THREADS, class T> static DEV_INLINE T block_max(T v)
{
    SHARED_ARRAY(T, part, [THREADS / DEV_WARP]);
    v = dev_warp_max(v);
    if (threadIdx.x % DEV_WARP == 0) part[threadIdx.x / DEV_WARP] = v;
    DEV_SYNC();
    T max = part[0];
    for (int i = 1; i < THREADS / DEV_WARP; i++) max = part[i] > max ? part[i] : max;
    DEV_SYNC();
    return max;
}

#endif

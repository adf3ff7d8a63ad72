/* One warp per row: each lane takes every 32nd element, or every 32nd group of four where rows are aligned to four. */
#ifndef MCS_KERNELS_ROWS_CUH
#define MCS_KERNELS_ROWS_CUH

#include "kernels/common/pack.cuh"

constexpr int WARPS_PER_BLOCK = 4; /* rows, and warps, per block */

/* Row of this warp; may be >= the number of rows in the last block. */
static DEV_INLINE int64_t warp_row()
{
    return (int64_t)blockIdx.x * WARPS_PER_BLOCK + threadIdx.x / DEV_WARP;
}
static DEV_INLINE int warp_lane()
{
    return (int)(threadIdx.x % DEV_WARP);
}
static inline unsigned row_blocks(int64_t rows)
{
    return (unsigned)((rows + WARPS_PER_BLOCK - 1) / WARPS_PER_BLOCK);
}

#endif

/* A warp's walk over a row: each lane takes every 32nd element, or every 32nd four where rows lie on multiples of four.
 */
#ifndef MCS_KERNELS_ROWS_CUH
#define MCS_KERNELS_ROWS_CUH

#include "kernels/common/pack.cuh"

constexpr int ROWS_A_BLOCK = 4; /* one warp each */

/* The row of this warp; at least `rows` where there is none for it. */
static DEV_INLINE int64_t warp_row()
{
    return (int64_t)blockIdx.x * ROWS_A_BLOCK + threadIdx.x / DEV_WARP;
}
static DEV_INLINE int warp_lane()
{
    return (int)(threadIdx.x % DEV_WARP);
}
static inline unsigned row_blocks(int64_t rows)
{
    return (unsigned)((rows + ROWS_A_BLOCK - 1) / ROWS_A_BLOCK);
}

#endif

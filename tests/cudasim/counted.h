/* Kernels whose counters can be computed by hand: banks, sectors and lanes of each request. */
#ifndef CUDASIM_COUNTED_H
#define CUDASIM_COUNTED_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One warp each, if not said otherwise. x, y: 2048 floats on the device. */

/* Reads columns of a 32 x 32 or (padded) 32 x 33 tile in shared memory. */
cudaError_t counted_transpose(const float *x, float *y, int padded);
cudaError_t counted_stride(const float *x, float *y, int stride); /* lane i reads x[i * stride], stride 1 to 32 */
cudaError_t counted_wide(const float *x, float *y);               /* 16-byte accesses, global and shared */
cudaError_t counted_half_warp(const float *x, float *y);          /* lanes 0 to 15 load */
cudaError_t counted_mma(float *y);                                /* two warps, each with 6 mma.sync and 2 ldmatrix */
/* y (32,32): lane l stores column l of rows l to 31; meet: __syncwarp before each row. */
cudaError_t counted_diagonal(float *y, int meet);
/* Each thread of 4 blocks of 64 draws n = atomicAdd(turn, 1) and stores its number in y[n]. */
cudaError_t counted_turns(unsigned *turn, unsigned *y);
/* A local array of 80 kB, which overflows a simulated thread's stack. */
cudaError_t counted_deep(float *y);

#ifdef __cplusplus
}
#endif
#endif

/* Kernels whose counts are known: how many banks, sectors and lanes each request takes can be told by hand. */
#ifndef CUDASIM_COUNTED_H
#define CUDASIM_COUNTED_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One warp each; x, y: 2048 floats. */
cudaError_t counted_transpose(const float *x, float *y, int padded); /* a column of a 32 x 32 or 32 x 33 tile */
cudaError_t counted_stride(const float *x, float *y, int stride);    /* every stride-th float, 1 to 32 */
cudaError_t counted_wide(const float *x, float *y);                  /* 16 bytes a lane, global and shared */
cudaError_t counted_half_warp(const float *x, float *y);             /* lanes 0 to 15 load */
cudaError_t counted_products(float *y);                              /* 6 mma.sync, 2 ldmatrix in each of 2 warps */
cudaError_t counted_diagonal(float *y, int meet);                    /* 32 x 32: lane l stores rows l to 31 */
/* Threads of 4 blocks of 64 take numbers in turn: y[n] is the thread that was n-th. */
cudaError_t counted_turns(unsigned *turn, unsigned *y);
/* A thread whose locals are larger than its stack. */
cudaError_t counted_deep(float *y);

#ifdef __cplusplus
}
#endif
#endif

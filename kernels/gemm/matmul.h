/* Batched matrix products with a bias per column. bfloat16 inputs use tensor cores, float inputs FMA; accumulation is
 * in float. */
#ifndef MCS_KERNELS_MATMUL_H
#define MCS_KERNELS_MATMUL_H

#include "kernels/common/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y (batch,m,n) = beta y + bias (n) +
 *   K_MATMUL_NT   a (batch,m,k) b (batch,n,k)^T     y = x w^T
 *   K_MATMUL_NN   a (batch,m,k) b (batch,k,n)       dx = dy w
 *   K_MATMUL_TN   a (batch,k,m)^T b (batch,k,n)     dw = dy^T x
 * `dtype` is the type of a and b, `dtype_y` that of y (K_F32 if a and b are K_F32). bias NULL: none. workspace:
 * k_matmul_bytes, 0 where the sum over k is not split. tile and splits 0: chosen from the shape alone, so the order of
 * summation is reproducible. */
enum k_matmul_form { K_MATMUL_NT, K_MATMUL_NN, K_MATMUL_TN };
enum k_tile { K_TILE_CHOSEN, K_TILE_64, K_TILE_128 };
struct k_matmul {
    enum k_dtype dtype, dtype_y;
    enum k_matmul_form form;
    int64_t batch, m, n, k;
    const void *a, *b;
    const float *bias;
    void *y;
    float *workspace;
    float beta;
    enum k_tile tile;
    int splits;
};
size_t k_matmul_bytes(const struct k_matmul *a); /* reads only shape, dtypes, tile and splits */
cudaError_t k_matmul_run(const struct k_matmul *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif

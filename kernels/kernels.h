/* What kernels/ offers to engine/cuda and to tests, in C: one struct of pointers and sizes an op, one launcher a
 * direction. All pointers are device memory, rows are contiguous; nothing overlaps unless said. x and y are of type
 * `dtype`, weights, their gradients and statistics are float; sums are float or better, in an order that depends on
 * shapes alone. A gradient pointer NULL: not wanted. beta 0: gradients are written, 1: added. Launchers only enqueue;
 * they return what the launch does. A size of 0 is no error and launches nothing. The formulas are those of
 * engine/ops.def. */
#ifndef MCS_KERNELS_H
#define MCS_KERNELS_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum k_dtype { K_F32, K_BF16 };

/* What a captured step is replayed with: lies in device memory, read by kernels that draw random numbers (the numbers
 * of engine/rng.h). */
struct k_run {
    uint64_t seed;
    uint32_t step;
};

/* gelu: x, y, dy, dx (n); exact, by the error function. */
struct k_gelu {
    enum k_dtype dtype;
    int64_t n;
    const void *x, *dy;
    void *y, *dx;
    float beta;
};
cudaError_t k_gelu_fwd(const struct k_gelu *a, cudaStream_t s);
cudaError_t k_gelu_bwd(const struct k_gelu *a, cudaStream_t s);

/* layernorm over the last axis: x, y, dy, dx (rows, n), w, b, dw, db (n), stats (rows, 2) = mean, 1/sqrt(var + eps).
 * workspace: k_layernorm_bwd_bytes, only for dw or db. */
struct k_layernorm {
    enum k_dtype dtype;
    int64_t rows;
    int n;
    float eps;
    const void *x, *dy;
    const float *w, *b;
    void *y, *dx;
    float *stats, *dw, *db, *workspace;
    float beta_x, beta_w, beta_b;
};
size_t k_layernorm_bwd_bytes(int64_t rows, int n);
cudaError_t k_layernorm_fwd(const struct k_layernorm *a, cudaStream_t s);
cudaError_t k_layernorm_bwd(const struct k_layernorm *a, cudaStream_t s);

/* l2norm: y = x / max(|x|, 1e-12) over the last axis: x, y, dy, dx (rows, n), norm (rows) float. The backward reads y,
 * norm and dy. */
struct k_l2norm {
    enum k_dtype dtype;
    int64_t rows;
    int n;
    const void *x, *dy;
    void *y, *dx;
    float *norm;
    float beta;
};
cudaError_t k_l2norm_fwd(const struct k_l2norm *a, cudaStream_t s);
cudaError_t k_l2norm_bwd(const struct k_l2norm *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif

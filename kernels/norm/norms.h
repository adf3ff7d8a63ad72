/* Norms. General conventions: kernels.h. */
#ifndef MCS_KERNELS_NORMS_H
#define MCS_KERNELS_NORMS_H

#include "kernels/common/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

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

/* instance_norm: y = leaky_relu(norm(x) w + b), normalised over the positions sp of each sample and channel; x, y, dy,
 * dx (n, sp, c), w, b, dw, db (c), stats (n, c, 2) = mean, 1/sqrt(var + eps); slope 1: no activation. workspace:
 * k_instance_norm_bytes. moments: partial moments from a convolution's epilogue (convolution.h), part_rows positions
 * per part, or NULL. With them the forward reads x once. */
struct k_instance_norm {
    enum k_dtype dtype;
    int64_t n, sp, c;
    float eps, slope;
    const void *x, *dy;
    const float *w, *b;
    void *y, *dx;
    float *stats, *dw, *db, *workspace;
    float beta_x, beta_w, beta_b;
    const float *moments;
    int part_rows;
};
size_t k_instance_norm_bytes(int64_t n, int64_t sp, int64_t c, int backward);
cudaError_t k_instance_norm_fwd(const struct k_instance_norm *a, cudaStream_t s);
cudaError_t k_instance_norm_bwd(const struct k_instance_norm *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif

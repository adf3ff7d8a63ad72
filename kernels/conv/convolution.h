/* Convolutions as implicit GEMMs, in two and three dimensions, channels last. Activations are of type `dtype`; weights
 * are float in the tape's layout, and are first packed into the workspace in the activations' type. */
#ifndef MCS_KERNELS_CONVOLUTION_H
#define MCS_KERNELS_CONVOLUTION_H

#include "kernels/common/kernels.h"
#include "kernels/gemm/matmul.h"

#ifdef __cplusplus
extern "C" {
#endif

/* conv: x, dx (n, src, c), y, dy (n, dst, o), w, dw (o, c, k), bias, db (o); src, dst, k, stride, pad are (z, y, x);
 * for images z has size 1, stride 1, pad 0. Position p of dst reads p stride + tap - pad of src. Gradients that are
 * NULL are not computed. Positions per sample, and n times dst, are below 2^31. moments (n, parts, o, 2), float, or
 * NULL: for an instance norm. For each part of k_conv_part_rows consecutive positions of a sample (the last part may be
 * shorter): the mean of y as stored, and the sum of squared deviations from it. workspace: k_conv_fwd_bytes,
 * k_conv_bwd_bytes, 16-byte aligned. */
struct k_conv {
    enum k_dtype dtype;
    int64_t n, c, o;
    int src[3], dst[3], k[3], stride[3], pad[3];
    const void *x, *dy;
    const float *w, *bias;
    void *y, *dx;
    float *dw, *db, *moments;
    float beta_x, beta_w, beta_b;
    void *workspace;
    enum k_tile tile; /* matmul.h; chosen from the shape where 0 */
};
size_t k_conv_fwd_bytes(const struct k_conv *a); /* both read only the shapes and which pointers are NULL */
size_t k_conv_bwd_bytes(const struct k_conv *a);
cudaError_t k_conv_fwd(const struct k_conv *a, cudaStream_t s);
cudaError_t k_conv_bwd(const struct k_conv *a, cudaStream_t s);

/* 1 where fprop without moments would split k. Moments exclude split k, and then cost more than the norm
 * saves by them. */
int k_conv_is_split(const struct k_conv *a);
int k_conv_part_rows(const struct k_conv *a);

/* conv_transpose with kernel == stride and no padding: x, dx (n, src, c), y, dy (n, src k, o), w, dw (c, o, k). dst,
 * stride and pad are ignored. */
size_t k_conv_transpose_fwd_bytes(const struct k_conv *a);
size_t k_conv_transpose_bwd_bytes(const struct k_conv *a);
cudaError_t k_conv_transpose_fwd(const struct k_conv *a, cudaStream_t s);
cudaError_t k_conv_transpose_bwd(const struct k_conv *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif

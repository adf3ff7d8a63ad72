/* Convolutions as tile products, in two and three dimensions, channels last. Activations are of type `dtype`; weights
 * lie as the tape has them, in float, and are packed into the workspace in the activations' type first. */
#ifndef MCS_KERNELS_CONVOLUTION_H
#define MCS_KERNELS_CONVOLUTION_H

#include "kernels/kernels.h"
#include "kernels/matmul.h"

#ifdef __cplusplus
extern "C" {
#endif

/* conv: x, dx (n, src, c), y, dy (n, dst, o), w, dw (o, c, k), bias, db (o); src, dst, k, stride, pad by axis, images
 * with a leading 1 (stride 1, pad 0): position p of dst reads p stride + tap - pad of src. Gradients that are NULL are
 * not wanted. Positions of a sample and n times dst: below 2^31.
 * part_sums, if given: for an instance norm, (n, k_conv_parts, o, 2) float: by blocks of a sample's positions, in
 * order, their sum of y and their sum of squares about their own mean; k_conv_stats makes one of them. Sums see y as
 * it was before it was rounded to dtype.
 * workspace: k_conv_fwd_bytes, k_conv_bwd_bytes, on a multiple of 16. */
struct k_conv {
    enum k_dtype dtype;
    int64_t n, c, o;
    int src[3], dst[3], k[3], stride[3], pad[3];
    const void *x, *dy;
    const float *w, *bias;
    void *y, *dx;
    float *dw, *db, *part_sums;
    float beta_x, beta_w, beta_b;
    void *workspace;
    enum k_tile tile; /* matmul.h; chosen from the shape where 0 */
};
size_t k_conv_fwd_bytes(const struct k_conv *a); /* both read shapes, and which pointers are NULL */
size_t k_conv_bwd_bytes(const struct k_conv *a);
cudaError_t k_conv_fwd(const struct k_conv *a, cudaStream_t s);
cudaError_t k_conv_bwd(const struct k_conv *a, cudaStream_t s);

/* Parts of a sample in part_sums, and their sum: stats (n, o, 2) = mean, 1/sqrt(var + eps), biased. */
int k_conv_parts(const struct k_conv *a);
cudaError_t k_conv_stats(const struct k_conv *a, float eps, float *stats, cudaStream_t s);

/* conv_transpose with kernel == stride and no padding: x, dx (n, src, c), y, dy (n, src k, o), w, dw (c, o, k). dst,
 * stride and pad are not read. */
size_t k_conv_transpose_fwd_bytes(const struct k_conv *a);
size_t k_conv_transpose_bwd_bytes(const struct k_conv *a);
cudaError_t k_conv_transpose_fwd(const struct k_conv *a, cudaStream_t s);
cudaError_t k_conv_transpose_bwd(const struct k_conv *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif

/* oneDNN's GEMM and convolutions on OpenMP threads. Only this part of the program includes oneDNN's header. */
#ifndef MCS_CPU_ONEDNN_H
#define MCS_CPU_ONEDNN_H

#include "engine/base/status.h"

#include <stddef.h>
#include <stdint.h>

/* C (m,n) = alpha op(A) op(B) + beta C, row-major; op(A) is (m,k), op(B) is (k,n), 'T' = stored transposed. beta 0
 * overwrites, also NaN. Within an OpenMP parallel region it runs on the calling thread alone. */
enum mcs_status mcs_sgemm(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                          int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

enum conv_pass { CONV_FPROP, CONV_DGRAD, CONV_WGRAD };

/* Two spatial dimensions are stored as three, the first of size 1. */
struct conv_dims {
    int nsp;
    int64_t n, c, o; /* samples, input channels, output channels */
    int64_t src[3], dst[3], k[3], stride[3], pad[3];
};

/* A prepared convolution pass. Activations are channels-last; weights (O,C,k..) are reordered to the primitive's layout
 * on each run, in the workspace. */
struct onednn_conv;
/* *conv stays NULL where oneDNN has only a reference implementation: the caller then uses im2col + GEMM. */
enum mcs_status mcs_onednn_conv_new(enum conv_pass pass, const struct conv_dims *d, int has_bias,
                                    struct onednn_conv **conv);
void mcs_onednn_conv_free(struct onednn_conv *conv);
size_t mcs_onednn_conv_workspace(const struct onednn_conv *conv);
/* The implementation's name: "jit:avx512_core", "brgconv:...". */
const char *mcs_onednn_conv_impl(const struct onednn_conv *conv);
/* CONV_FPROP: src, weight, bias (or NULL) -> dst. CONV_DGRAD: dst, weight -> src. CONV_WGRAD: src, dst -> weight.
 * Outputs are overwritten. */
enum mcs_status mcs_onednn_conv_run(const struct onednn_conv *conv, float *src, float *weight, float *bias, float *dst,
                                    void *workspace);

#endif

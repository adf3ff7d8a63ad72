/* NVIDIA's libraries behind one interface: matrix products by cuBLASLt (vendor_blas.c), convolutions by cuDNN
 * (vendor_dnn.c; only bench uses them, for comparison). */
#ifndef MCS_CUDA_VENDOR_H
#define MCS_CUDA_VENDOR_H

#include "engine/cuda/cuda.h"

/* C (m,n) = A (m,k) B (k,n) + bias (n) + beta C, all row-major. trans_a: A is stored as (k,m); trans_b: B is stored as
 * (n,k). lda, ldb, ldc: elements between rows as stored. dtype: type of A and B; out: type of C and of the bias, if
 * any. Accumulates in float32; TF32 is off. */
struct blas_matmul {
    enum k_dtype dtype, out;
    int trans_a, trans_b;
    int64_t m, n, k, lda, ldb, ldc;
    const void *a, *b, *bias;
    void *c;
    float beta;
};
struct blas_plan;

/* Chooses an algorithm for these shapes (pointers are assumed to be 16-byte aligned), the same one each time, and
 * returns the workspace it needs. *plan NULL with MCS_OK: the library has no algorithm, use k_matmul. */
enum mcs_status mcs_blas_plan(struct cuda_device *c, const struct blas_matmul *p, struct blas_plan **plan,
                              size_t *workspace_bytes);
enum mcs_status mcs_blas_run(struct cuda_device *c, const struct blas_plan *plan, const struct blas_matmul *p,
                             void *workspace);
void mcs_blas_plan_free(struct blas_plan *plan);
void mcs_blas_close(struct cuda_device *c);

/* Channels last, packed, all of type dtype; accumulates in float32, TF32 off. fprop: y (n,dst,o) of x (n,src,c) and w
 * (o,k,c); dgrad: dx of w and dy; wgrad: dw of x and dy. With nsp 2 the last two of each three entries are used. Only
 * algorithms that cuDNN calls deterministic. */
enum dnn_direction { DNN_FPROP, DNN_DGRAD, DNN_WGRAD };
struct dnn_conv {
    enum dnn_direction direction;
    enum k_dtype dtype;
    int nsp, n, c, o, src[3], dst[3], k[3], stride[3], pad[3];
};
struct dnn_plan;
/* *plan NULL with MCS_OK: there is no cuDNN here or it has no such algorithm; why (n bytes) holds the reason. cuDNN is
 * loaded on first use: libcudnn.so.9 or .8, or the file that MCSAM_CUDNN names. */
enum mcs_status mcs_dnn_plan(struct cuda_device *c, const struct dnn_conv *a, struct dnn_plan **plan,
                             size_t *workspace_bytes, char *why, size_t n);
/* first, second: the two operands in the order named above. All pointers are 16-byte aligned. */
enum mcs_status mcs_dnn_run(struct cuda_device *c, const struct dnn_plan *plan, const void *first, const void *second,
                            void *result, void *workspace);
void mcs_dnn_plan_free(struct dnn_plan *plan);
void mcs_dnn_close(struct cuda_device *c);

#endif

/* NVIDIA's own libraries behind one interface: products of matrices by cuBLASLt (vendor_blas.c), convolutions by cuDNN
 * (vendor_dnn.c; bench compares with them, no step uses them). */
#ifndef MCS_CUDA_VENDOR_H
#define MCS_CUDA_VENDOR_H

#include "engine/cuda/cuda.h"

/* C (m,n) = A (m,k) B (k,n) + bias + beta C, all row-major. trans_a: A is stored (k,m); trans_b: B is stored (n,k).
 * ld*: elements from one row to the next as stored. dtype: of A and B; out: of C and, if given, of bias (n). Sums in
 * float32; TF32 is off. */
struct blas_product {
    enum k_dtype dtype, out;
    int trans_a, trans_b;
    int64_t m, n, k, lda, ldb, ldc;
    const void *a, *b, *bias;
    void *c;
    float beta;
};
struct blas_plan;

/* Chooses an algorithm for these shapes (pointers are taken to be multiples of 16 bytes), the same one each time, and
 * says what workspace it wants. *plan NULL and MCS_OK: the library has none, use k_matmul. */
enum mcs_status mcs_blas_plan(struct cuda_device *c, const struct blas_product *p, struct blas_plan **plan,
                              size_t *workspace_bytes);
enum mcs_status mcs_blas_run(struct cuda_device *c, const struct blas_plan *plan, const struct blas_product *p,
                             void *workspace);
void mcs_blas_plan_free(struct blas_plan *plan);
void mcs_blas_close(struct cuda_device *c);

/* Channels last and packed, all of dtype, sums in float32, TF32 off: y (n,dst,o) of x (n,src,c) and w (o,k,c); dx of w
 * and dy; dw of x and dy. nsp 2: the last two of each three. Only algorithms that cuDNN calls deterministic. */
enum dnn_direction { DNN_FORWARD, DNN_DATA, DNN_WEIGHT };
struct dnn_conv {
    enum dnn_direction direction;
    enum k_dtype dtype;
    int nsp, n, c, o, src[3], dst[3], k[3], stride[3], pad[3];
};
struct dnn_plan;
/* *plan NULL and MCS_OK: why (n) says why not: no cuDNN here, or it has no such algorithm. cuDNN is opened when first
 * asked for: libcudnn.so.9 or .8, MCSAM_CUDNN names another file. */
enum mcs_status mcs_dnn_plan(struct cuda_device *c, const struct dnn_conv *a, struct dnn_plan **plan,
                             size_t *workspace_bytes, char *why, size_t n);
/* first, second: as named above. All on multiples of 16 bytes. */
enum mcs_status mcs_dnn_run(struct cuda_device *c, const struct dnn_plan *plan, const void *first, const void *second,
                            void *result, void *workspace);
void mcs_dnn_plan_free(struct dnn_plan *plan);
void mcs_dnn_close(struct cuda_device *c);

#endif

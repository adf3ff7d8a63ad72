/* NVIDIA's own libraries behind one interface: products of matrices by cuBLASLt (vendor_blas.c). */
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

#endif

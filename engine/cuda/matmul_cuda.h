/* One matrix product, by cuBLASLt where it is large and its rows start on multiples of 16 bytes, by k_matmul elsewhere.
 * The choice depends on the shape alone, so the same step always runs the same code. */
#ifndef MCS_CUDA_MATMUL_H
#define MCS_CUDA_MATMUL_H

#include "engine/cuda/vendor.h"

struct cuda_matmul {
    struct k_matmul k; /* shape and types, batch 1; pointers and beta are set before each run */
    struct blas_plan *plan;
    size_t workspace_bytes;
};

/* The same product for cuBLASLt. *is_aligned: 1 where all rows start on multiples of 16 bytes, as cuBLASLt requires. */
struct blas_matmul mcs_cuda_blas_matmul(const struct k_matmul *k, int *is_aligned);

/* Sets plan and workspace_bytes from k's shape and types. has_bias: k.bias will be set when it runs. */
enum mcs_status mcs_cuda_matmul_plan(struct cuda_device *c, int has_bias, struct cuda_matmul *p);
/* k holds the pointers of this run; k.workspace has workspace_bytes. */
enum mcs_status mcs_cuda_matmul_run(struct cuda_device *c, const struct cuda_matmul *p);
void mcs_cuda_matmul_free(struct cuda_matmul *p);

#endif

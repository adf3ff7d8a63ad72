/* A matrix product by whichever is right for its shape: cuBLASLt where it is large and its rows lie on multiples of 16
 * bytes, k_matmul elsewhere. The shape alone decides, so the same step always takes the same way. */
#ifndef MCS_CUDA_PRODUCT_H
#define MCS_CUDA_PRODUCT_H

#include "engine/cuda/vendor.h"

struct cuda_product {
    struct k_matmul k; /* shape and types, batch 1; pointers and beta are set before each run */
    struct blas_plan *plan;
    size_t workspace_bytes;
};

/* Sets plan and workspace_bytes of a product whose k says shape and types; has_bias: one will be given. */
enum mcs_status mcs_cuda_product_plan(struct cuda_device *c, int has_bias, struct cuda_product *p);
/* k's pointers are those of the run; k.workspace has workspace_bytes. */
enum mcs_status mcs_cuda_product_run(struct cuda_device *c, const struct cuda_product *p);
void mcs_cuda_product_free(struct cuda_product *p);

#endif

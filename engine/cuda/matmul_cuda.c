#include "engine/cuda/matmul_cuda.h"

enum { LARGE = 1 << 18 }; /* multiply-adds; below this the library's set-up costs more than the matmul */

struct blas_matmul mcs_cuda_blas_matmul(const struct k_matmul *k, int *is_aligned)
{
    const int trans_a = k->form == K_MATMUL_TN, trans_b = k->form == K_MATMUL_NT;
    const struct blas_matmul p = {.dtype = k->dtype,
                                  .out = k->dtype_y,
                                  .trans_a = trans_a,
                                  .trans_b = trans_b,
                                  .m = k->m,
                                  .n = k->n,
                                  .k = k->k,
                                  .lda = trans_a ? k->m : k->k,
                                  .ldb = trans_b ? k->k : k->n,
                                  .ldc = k->n,
                                  .a = k->a,
                                  .b = k->b,
                                  .bias = k->bias,
                                  .c = k->y,
                                  .beta = k->beta};
    const int64_t in = p.dtype == K_BF16 ? 8 : 4, out = p.out == K_BF16 ? 8 : 4; /* elements in 16 bytes */
    *is_aligned = p.lda % in == 0 && p.ldb % in == 0 && p.ldc % out == 0;
    return p;
}

/* cuBLASLt's bias epilogue wants the bias in C's type: bytes of a bf16 copy. */
static size_t bias_bytes(const struct k_matmul *k)
{
    return k->dtype_y == K_BF16 ? mcs_cuda_round((size_t)k->n * 2) : 0;
}

enum mcs_status mcs_cuda_matmul_plan(struct cuda_device *c, int has_bias, struct cuda_matmul *p)
{
    int is_aligned;
    struct blas_matmul b = mcs_cuda_blas_matmul(&p->k, &is_aligned);
    if (has_bias) b.bias = c; /* any non-NULL address: the plan only needs to know that a bias exists */
    p->plan = NULL;
    p->workspace_bytes = k_matmul_bytes(&p->k);
    if (!is_aligned || b.m * b.n * b.k < LARGE) return MCS_OK;
    size_t bytes;
    MCS_TRY(mcs_blas_plan(c, &b, &p->plan, &bytes));
    if (p->plan) p->workspace_bytes = mcs_cuda_round(bytes) + (has_bias ? bias_bytes(&p->k) : 0);
    return MCS_OK;
}

enum mcs_status mcs_cuda_matmul_run(struct cuda_device *c, const struct cuda_matmul *p)
{
    int is_aligned;
    struct blas_matmul b = mcs_cuda_blas_matmul(&p->k, &is_aligned);
    if (!p->plan) {
        MCS_CUDA(k_matmul_run(&p->k, c->compute));
        return MCS_OK;
    }
    if (p->k.bias && bias_bytes(&p->k)) {
        void *bias = (char *)p->k.workspace + p->workspace_bytes - bias_bytes(&p->k);
        const struct k_cast cast = {.from = K_F32, .to = K_BF16, .n = p->k.n, .x = p->k.bias, .y = bias};
        MCS_CUDA(k_cast(&cast, c->compute));
        b.bias = bias;
    }
    return mcs_blas_run(c, p->plan, &b, p->k.workspace);
}

void mcs_cuda_matmul_free(struct cuda_matmul *p)
{
    mcs_blas_plan_free(p->plan);
    p->plan = NULL;
}

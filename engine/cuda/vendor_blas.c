/* Matrix products by cuBLASLt, which is column-major: it computes C^T = B^T A^T, so our B is its first operand, and our
 * bias along a row is its bias along a column, as the epilogue wants. */
#include "engine/cuda/vendor.h"

#include <cublasLt.h>
#include <stdlib.h>

enum { WORKSPACE_BYTES = 32 << 20, ALIGNED = 16 };

struct blas_plan {
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t first, second, result; /* B, A, C as the library sees them */
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace_bytes;
};

#define BLAS(call)                                                                                                     \
    do {                                                                                                               \
        const cublasStatus_t blas_status = (call);                                                                     \
        if (blas_status != CUBLAS_STATUS_SUCCESS)                                                                      \
            return MCS_FAIL(MCS_E_BACKEND, "cuBLASLt: %s in %s", cublasLtGetStatusString(blas_status), #call);         \
    } while (0)

static cudaDataType_t type_of(enum k_dtype t)
{
    return t == K_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static enum mcs_status handle_of(struct cuda_device *c, cublasLtHandle_t *handle)
{
    if (!c->blas) BLAS(cublasLtCreate((cublasLtHandle_t *)&c->blas));
    *handle = c->blas;
    return MCS_OK;
}

void mcs_blas_close(struct cuda_device *c)
{
    if (c->blas) (void)cublasLtDestroy(c->blas);
    c->blas = NULL;
}

/* A row-major (rows, columns) matrix with leading dimension ld is the library's column-major (columns, rows). */
static enum mcs_status layout_of(cublasLtMatrixLayout_t *l, enum k_dtype t, int64_t rows, int64_t columns, int64_t ld)
{
    BLAS(cublasLtMatrixLayoutCreate(l, type_of(t), (uint64_t)columns, (uint64_t)rows, ld));
    return MCS_OK;
}

static enum mcs_status describe(const struct blas_product *p, struct blas_plan *plan)
{
    const cublasOperation_t first = p->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                            second = p->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t bias = CUBLASLT_EPILOGUE_BIAS;
    /* PEDANTIC: float32 products stay float32. */
    BLAS(cublasLtMatmulDescCreate(&plan->product, p->dtype == K_F32 ? CUBLAS_COMPUTE_32F_PEDANTIC : CUBLAS_COMPUTE_32F,
                                  CUDA_R_32F));
    BLAS(cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
    BLAS(cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
    if (p->bias) {
        const cudaDataType_t type = type_of(p->out);
        const void *aligned = (const void *)(uintptr_t)ALIGNED; /* the heuristic reads only the pointer's alignment */
        BLAS(cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &bias, sizeof bias));
        BLAS(cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type));
        BLAS(
            cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &aligned, sizeof aligned));
    }
    MCS_TRY(p->trans_b ? layout_of(&plan->first, p->dtype, p->n, p->k, p->ldb)
                       : layout_of(&plan->first, p->dtype, p->k, p->n, p->ldb));
    MCS_TRY(p->trans_a ? layout_of(&plan->second, p->dtype, p->k, p->m, p->lda)
                       : layout_of(&plan->second, p->dtype, p->m, p->k, p->lda));
    return layout_of(&plan->result, p->out, p->m, p->n, p->ldc);
}

static enum mcs_status choose(cublasLtHandle_t handle, struct blas_plan *plan, int *found)
{
    const uint64_t most = WORKSPACE_BYTES;
    const uint32_t reductions =
        CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* no atomics: deterministic */
    const uint32_t aligned = ALIGNED;
    cublasLtMatmulPreference_t want;
    cublasLtMatmulHeuristicResult_t best;
    *found = 0;
    BLAS(cublasLtMatmulPreferenceCreate(&want));
    cublasStatus_t s =
        cublasLtMatmulPreferenceSetAttribute(want, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most);
    const cublasLtMatmulPreferenceAttributes_t pointers[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    for (int i = 0; i < 4 && s == CUBLAS_STATUS_SUCCESS; i++)
        s = cublasLtMatmulPreferenceSetAttribute(want, pointers[i], &aligned, sizeof aligned);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmulPreferenceSetAttribute(want, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions,
                                                 sizeof reductions);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmulAlgoGetHeuristic(handle, plan->product, plan->first, plan->second, plan->result, plan->result,
                                           want, 1, &best, found);
    (void)cublasLtMatmulPreferenceDestroy(want);
    if (s == CUBLAS_STATUS_NOT_SUPPORTED) *found = 0, s = CUBLAS_STATUS_SUCCESS;
    BLAS(s);
    if (*found) plan->algorithm = best.algo, plan->workspace_bytes = best.workspaceSize;
    return MCS_OK;
}

enum mcs_status mcs_blas_plan(struct cuda_device *c, const struct blas_product *p, struct blas_plan **made,
                              size_t *workspace_bytes)
{
    cublasLtHandle_t handle;
    enum mcs_status st;
    int found = 0;
    *made = NULL;
    *workspace_bytes = 0;
    MCS_TRY(handle_of(c, &handle));
    struct blas_plan *plan = calloc(1, sizeof *plan);
    MCS_REQUIRE(plan, MCS_E_NOMEM, "no memory for the plan of a product");
    MCS_TRY_GOTO(describe(p, plan), st, failed);
    MCS_TRY_GOTO(choose(handle, plan, &found), st, failed);
    if (!found) {
        mcs_blas_plan_free(plan);
        return MCS_OK;
    }
    *made = plan;
    *workspace_bytes = plan->workspace_bytes;
    return MCS_OK;
failed:
    mcs_blas_plan_free(plan);
    return st;
}

enum mcs_status mcs_blas_run(struct cuda_device *c, const struct blas_plan *plan, const struct blas_product *p,
                             void *workspace)
{
    const float one = 1;
    if (p->bias)
        BLAS(
            cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias));
    BLAS(cublasLtMatmul(c->blas, plan->product, &one, p->b, plan->first, p->a, plan->second, &p->beta, p->c,
                        plan->result, p->c, plan->result, &plan->algorithm, workspace, plan->workspace_bytes,
                        c->compute));
    return MCS_OK;
}

void mcs_blas_plan_free(struct blas_plan *plan)
{
    if (!plan) return;
    if (plan->result) (void)cublasLtMatrixLayoutDestroy(plan->result);
    if (plan->second) (void)cublasLtMatrixLayoutDestroy(plan->second);
    if (plan->first) (void)cublasLtMatrixLayoutDestroy(plan->first);
    if (plan->product) (void)cublasLtMatmulDescDestroy(plan->product);
    free(plan);
}

/* Matrix products by cuBLASLt, which is column-major: it computes C^T = B^T A^T, so our B is its first operand, and our
 * bias along a row is its bias along a column, as the epilogue wants. */
#include "engine/cuda/vendor.h"

#include <cublasLt.h>
#include <stdlib.h>

enum { WORKSPACE_BYTES = 32 << 20, ALIGNED = 16 };

struct blas_plan {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t layout_b, layout_a, layout_c; /* in the order of the library's operands */
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

static enum mcs_status handle_get(struct cuda_device *c, cublasLtHandle_t *handle)
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

static enum mcs_status describe(const struct blas_matmul *p, struct blas_plan *plan)
{
    const cublasOperation_t op_b = p->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                            op_a = p->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t bias = CUBLASLT_EPILOGUE_BIAS;
    /* PEDANTIC: float32 products stay float32. */
    BLAS(cublasLtMatmulDescCreate(&plan->desc, p->dtype == K_F32 ? CUBLAS_COMPUTE_32F_PEDANTIC : CUBLAS_COMPUTE_32F,
                                  CUDA_R_32F));
    BLAS(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, &op_b, sizeof op_b));
    BLAS(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_TRANSB, &op_a, sizeof op_a));
    if (p->bias) {
        const cudaDataType_t type = type_of(p->out);
        static _Alignas(ALIGNED) const char place;
        const void *aligned = &place; /* the heuristic reads only the pointer's alignment */
        BLAS(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &bias, sizeof bias));
        BLAS(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type));
        BLAS(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &aligned, sizeof aligned));
    }
    MCS_TRY(p->trans_b ? layout_of(&plan->layout_b, p->dtype, p->n, p->k, p->ldb)
                       : layout_of(&plan->layout_b, p->dtype, p->k, p->n, p->ldb));
    MCS_TRY(p->trans_a ? layout_of(&plan->layout_a, p->dtype, p->k, p->m, p->lda)
                       : layout_of(&plan->layout_a, p->dtype, p->m, p->k, p->lda));
    return layout_of(&plan->layout_c, p->out, p->m, p->n, p->ldc);
}

static enum mcs_status choose_algorithm(cublasLtHandle_t handle, struct blas_plan *plan, int *found)
{
    const uint64_t max_bytes = WORKSPACE_BYTES;
    const uint32_t reductions =
        CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* no atomics: deterministic */
    const uint32_t aligned = ALIGNED;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t best;
    *found = 0;
    BLAS(cublasLtMatmulPreferenceCreate(&preference));
    cublasStatus_t s = cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                            &max_bytes, sizeof max_bytes);
    const cublasLtMatmulPreferenceAttributes_t pointers[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    for (int i = 0; i < 4 && s == CUBLAS_STATUS_SUCCESS; i++)
        s = cublasLtMatmulPreferenceSetAttribute(preference, pointers[i], &aligned, sizeof aligned);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions,
                                                 sizeof reductions);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmulAlgoGetHeuristic(handle, plan->desc, plan->layout_b, plan->layout_a, plan->layout_c,
                                           plan->layout_c, preference, 1, &best, found);
    (void)cublasLtMatmulPreferenceDestroy(preference);
    if (s == CUBLAS_STATUS_NOT_SUPPORTED) *found = 0, s = CUBLAS_STATUS_SUCCESS;
    BLAS(s);
    if (*found) plan->algorithm = best.algo, plan->workspace_bytes = best.workspaceSize;
    return MCS_OK;
}

enum mcs_status mcs_blas_plan(struct cuda_device *c, const struct blas_matmul *p, struct blas_plan **made,
                              size_t *workspace_bytes)
{
    cublasLtHandle_t handle;
    enum mcs_status st;
    int found = 0;
    *made = NULL;
    *workspace_bytes = 0;
    MCS_TRY(handle_get(c, &handle));
    struct blas_plan *plan = calloc(1, sizeof *plan);
    MCS_REQUIRE(plan, MCS_E_NOMEM, "no memory for the plan of a product");
    MCS_TRY_GOTO(describe(p, plan), st, failed);
    MCS_TRY_GOTO(choose_algorithm(handle, plan, &found), st, failed);
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

enum mcs_status mcs_blas_run(struct cuda_device *c, const struct blas_plan *plan, const struct blas_matmul *p,
                             void *workspace)
{
    const float one = 1;
    if (p->bias)
        BLAS(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias));
    BLAS(cublasLtMatmul(c->blas, plan->desc, &one, p->b, plan->layout_b, p->a, plan->layout_a, &p->beta, p->c,
                        plan->layout_c, p->c, plan->layout_c, &plan->algorithm, workspace, plan->workspace_bytes,
                        c->compute));
    return MCS_OK;
}

void mcs_blas_plan_free(struct blas_plan *plan)
{
    if (!plan) return;
    if (plan->layout_c) (void)cublasLtMatrixLayoutDestroy(plan->layout_c);
    if (plan->layout_a) (void)cublasLtMatrixLayoutDestroy(plan->layout_a);
    if (plan->layout_b) (void)cublasLtMatrixLayoutDestroy(plan->layout_b);
    if (plan->desc) (void)cublasLtMatmulDescDestroy(plan->desc);
    free(plan);
}

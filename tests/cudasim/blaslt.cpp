/* The part of cuBLASLt that a transformer needs: matrix products of float or bfloat16, accumulated in float, with bias,
 * ReLU and GELU (cuBLASLt's tanh form) in the epilogue. Usage that NVIDIA's documentation does not promise is refused:
 * other types, pointers less aligned than the heuristic was told, another problem's algorithm, too small a workspace.
 * The algorithm asks for the largest workspace it may have, up to 4 MiB, and overwrites it with NaN. */
#include <string.h>

#include <algorithm>

#include "tests/cudasim/blaslt.h"

using namespace blaslt;

namespace
{
struct preference {
    uint64_t workspace;
    uint32_t alignment[4], reductions, implementations;
};
struct algorithm { /* contents of a cublasLtMatmulAlgo_t */
    uint64_t magic;
    uint32_t alignment[5]; /* A B C D bias */
    uint32_t problem;
    uint64_t workspace;
};
static_assert(sizeof(algorithm) <= sizeof(cublasLtMatmulAlgo_t), "an algorithm is 64 bytes");
const uint64_t magic = 0x6d63735f63686f63u, max_workspace = 4 << 20;

layout *of(cublasLtMatrixLayout_t x)
{
    return (layout *)x;
}
matmul_desc *of(cublasLtMatmulDesc_t x)
{
    return (matmul_desc *)x;
}
preference *of(cublasLtMatmulPreference_t x)
{
    return (preference *)x;
}

/* The rows for CUBLAS_COMPUTE_32F with float or bfloat16 types in the documentation's table of cublasLtMatmul. */
cublasStatus_t supported(const problem &q)
{
    const matmul_desc &p = q.p;
    if (p.compute != CUBLAS_COMPUTE_32F && p.compute != CUBLAS_COMPUTE_32F_PEDANTIC) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (p.scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (p.trans_c != CUBLAS_OP_N || p.fill != CUBLAS_FILL_MODE_FULL) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (p.mode != CUBLASLT_POINTER_MODE_HOST && p.mode != CUBLASLT_POINTER_MODE_DEVICE)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!epilogue_known(p.epilogue) || q.a.type != q.b.type || q.c.type != q.d.type) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (q.a.type == CUDA_R_32F ? q.d.type != CUDA_R_32F : q.a.type != CUDA_R_16BF) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!bytes_of(q.d.type)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if ((has_bias(p.epilogue) || writes_bias(p.epilogue)) && p.bias_type != -1 && p.bias_type != q.d.type)
        return CUBLAS_STATUS_NOT_SUPPORTED; /* a bias has D's type */
    if (writes_bias(p.epilogue) && q.d.batch > 1) return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t describe(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                        cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, problem *q)
{
    if (!desc || !a || !b || !c || !d) return CUBLAS_STATUS_INVALID_VALUE;
    *q = {*of(desc), *of(a), *of(b), *of(c), *of(d), 0, 0, 0};
    const bool ta = q->p.trans_a != CUBLAS_OP_N, tb = q->p.trans_b != CUBLAS_OP_N;
    q->m = ta ? q->a.cols : q->a.rows;
    q->k = ta ? q->a.rows : q->a.cols;
    q->n = tb ? q->b.rows : q->b.cols;
    const bool shapes = (tb ? q->b.cols : q->b.rows) == q->k && q->d.rows == q->m && q->d.cols == q->n &&
                        q->c.rows == q->m && q->c.cols == q->n && q->m && q->n && q->k;
    if (!shapes) return CUBLAS_STATUS_INVALID_VALUE;
    for (const layout *x : {&q->a, &q->b, &q->c, &q->d}) {
        if (x->order != CUBLASLT_ORDER_COL && x->order != CUBLASLT_ORDER_ROW) return CUBLAS_STATUS_NOT_SUPPORTED;
        if (x->ld < (int64_t)line_length(*x) || x->batch != q->d.batch || x->batch < 1)
            return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (q->c.order != q->d.order) return CUBLAS_STATUS_NOT_SUPPORTED;
    const int64_t one = (int64_t)(lines(q->d) * (size_t)q->d.ld);
    if (q->d.batch > 1 && q->d.stride < one - q->d.ld + (int64_t)line_length(q->d))
        return CUBLAS_STATUS_INVALID_VALUE; /* the matrices of the batch would overlap */
    return supported(*q);
}

uint32_t alignment_of(const void *p)
{
    const uintptr_t u = (uintptr_t)p | 256;
    return (uint32_t)(u & -u);
}

algorithm heuristic(const problem &q, const preference &f)
{
    algorithm c = {magic, {}, q.hash(), std::min(f.workspace, max_workspace) / 256 * 256};
    memcpy(c.alignment, f.alignment, sizeof f.alignment);
    c.alignment[4] = alignment_of(q.p.bias); /* NULL if not set yet: counts as 256-byte aligned */
    return c;
}

bool overlap(const void *a, size_t na, const void *b, size_t nb)
{
    return (const char *)a < (const char *)b + nb && (const char *)b < (const char *)a + na;
}

bool ranges_valid(const call &x, bool needs_c)
{
    const char *name = "cublasLtMatmul";
    const problem &q = x.q;
    if (!sim::range_valid(x.a, span(q.a), true, name) || !sim::range_valid(x.b, span(q.b), true, name) ||
        !sim::range_valid(x.d, span(q.d), true, name) || (needs_c && !sim::range_valid(x.c, span(q.c), true, name)))
        return false;
    if (overlap(x.d, span(q.d), x.a, span(q.a)) || overlap(x.d, span(q.d), x.b, span(q.b))) return false;
    if (needs_c && overlap(x.d, span(q.d), x.c, span(q.c)) && (x.c != x.d || q.c.ld != q.d.ld)) return false;
    if (has_bias(q.p.epilogue) || writes_bias(q.p.epilogue)) {
        const size_t each = bytes_of(q.d.type);
        const size_t n = ((size_t)(q.d.batch - 1) * (size_t)q.p.bias_stride + q.bias_n()) * each;
        if (!q.p.bias || !sim::range_valid(q.p.bias, n, true, "cublasLtMatmul (bias)")) return false;
    }
    return !x.workspace_bytes || sim::range_valid(x.workspace, x.workspace_bytes, true, "cublasLtMatmul (workspace)");
}

template <class T> cublasStatus_t set(T *to, const void *from, size_t n)
{
    if (!from || n != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, from, n);
    return CUBLAS_STATUS_SUCCESS;
}
} // namespace

struct cublasLtContext {
    int device;
};

extern "C" {
cublasStatus_t cublasLtCreate(cublasLtHandle_t *h)
{
    if (!h) return CUBLAS_STATUS_INVALID_VALUE;
    const sim::guard g;
    if (sim::entry_error() != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
    *h = new cublasLtContext{sim::device_now()};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
    if (!h) return CUBLAS_STATUS_NOT_INITIALIZED;
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion(void)
{
    return CUBLAS_VERSION;
}
const char *cublasLtGetStatusName(cublasStatus_t s)
{
    switch (s) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "CUBLAS_STATUS of another kind";
    }
}
const char *cublasLtGetStatusString(cublasStatus_t s)
{
    return cublasLtGetStatusName(s);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType_t scale)
{
    if (!d) return CUBLAS_STATUS_INVALID_VALUE;
    *d = (cublasLtMatmulDesc_t) new matmul_desc{compute,
                                                scale,
                                                CUBLASLT_POINTER_MODE_HOST,
                                                CUBLAS_OP_N,
                                                CUBLAS_OP_N,
                                                CUBLAS_OP_N,
                                                CUBLAS_FILL_MODE_FULL,
                                                CUBLASLT_EPILOGUE_DEFAULT,
                                                NULL,
                                                0,
                                                -1};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete of(d);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t which,
                                              const void *v, size_t n)
{
    if (!d) return CUBLAS_STATUS_INVALID_VALUE;
    matmul_desc *p = of(d);
    switch (which) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE: return set(&p->compute, v, n);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE: return set(&p->scale, v, n);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE: return set(&p->mode, v, n);
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(&p->trans_a, v, n);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(&p->trans_b, v, n);
    case CUBLASLT_MATMUL_DESC_TRANSC: return set(&p->trans_c, v, n);
    case CUBLASLT_MATMUL_DESC_FILL_MODE: return set(&p->fill, v, n);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&p->epilogue, v, n);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(&p->bias, v, n);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE: return set(&p->bias_stride, v, n);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return set(&p->bias_type, v, n);
    default: return CUBLAS_STATUS_INVALID_VALUE; /* not simulated */
    }
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *m, cudaDataType type, uint64_t rows, uint64_t cols,
                                          int64_t ld)
{
    if (!m) return CUBLAS_STATUS_INVALID_VALUE;
    *m = (cublasLtMatrixLayout_t) new layout{type, CUBLASLT_ORDER_COL, rows, cols, ld, 0, 1};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t m)
{
    delete of(m);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t m, cublasLtMatrixLayoutAttribute_t which,
                                                const void *v, size_t n)
{
    if (!m) return CUBLAS_STATUS_INVALID_VALUE;
    layout *x = of(m);
    switch (which) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE: return set(&x->type, v, n);
    case CUBLASLT_MATRIX_LAYOUT_ORDER: return set(&x->order, v, n);
    case CUBLASLT_MATRIX_LAYOUT_ROWS: return set(&x->rows, v, n);
    case CUBLASLT_MATRIX_LAYOUT_COLS: return set(&x->cols, v, n);
    case CUBLASLT_MATRIX_LAYOUT_LD: return set(&x->ld, v, n);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return set(&x->batch, v, n);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return set(&x->stride, v, n);
    default: return CUBLAS_STATUS_INVALID_VALUE;
    }
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    if (!p) return CUBLAS_STATUS_INVALID_VALUE;
    *p = (cublasLtMatmulPreference_t) new preference{0, {256, 256, 256, 256}, CUBLASLT_REDUCTION_SCHEME_MASK, 0};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete of(p);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t which, const void *v, size_t n)
{
    if (!p) return CUBLAS_STATUS_INVALID_VALUE;
    preference *f = of(p);
    switch (which) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return set(&f->workspace, v, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return set(&f->alignment[0], v, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return set(&f->alignment[1], v, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return set(&f->alignment[2], v, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return set(&f->alignment[3], v, n);
    /* stored but not used: the only algorithm adds in a fixed order */
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(&f->reductions, v, n);
    case CUBLASLT_MATMUL_PREF_IMPL_MASK: return set(&f->implementations, v, n);
    default: return CUBLAS_STATUS_INVALID_VALUE;
    }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t p, int asked,
                                              cublasLtMatmulHeuristicResult_t *results, int *n)
{
    if (!h) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (asked <= 0 || !results || !n || !p) return CUBLAS_STATUS_INVALID_VALUE;
    *n = 0;
    problem q;
    const cublasStatus_t s = describe(desc, a, b, c, d, &q);
    if (s != CUBLAS_STATUS_SUCCESS) return s;
    const layout *const all[] = {&q.a, &q.b, &q.c, &q.d};
    for (int i = 0; i < 4; i++)
        if (of(p)->alignment[i] % bytes_of(all[i]->type)) return CUBLAS_STATUS_NOT_SUPPORTED;
    const algorithm x = heuristic(q, *of(p));
    memset(results, 0, sizeof *results);
    memcpy(&results->algo, &x, sizeof x);
    results->workspaceSize = x.workspace;
    results->state = CUBLAS_STATUS_SUCCESS;
    results->wavesCount = 1;
    *n = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                              const void *c, cublasLtMatrixLayout_t lc, void *d, cublasLtMatrixLayout_t ld,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    if (!h) return CUBLAS_STATUS_NOT_INITIALIZED;
    const sim::guard g;
    if (sim::entry_error() != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
    if (!sim::has_kernel_image()) return CUBLAS_STATUS_ARCH_MISMATCH;
    if (h->device != sim::device_now()) return CUBLAS_STATUS_INVALID_VALUE; /* a handle belongs to one device */
    if (!alpha || !beta || !a || !b || !d) return CUBLAS_STATUS_INVALID_VALUE;
    call x = {{}, a, b, c, NULL, NULL, d, workspace, 0, 0, 0};
    const cublasStatus_t s = describe(desc, la, lb, lc, ld, &x.q);
    if (s != CUBLAS_STATUS_SUCCESS) return s;
    algorithm w = heuristic(x.q, preference{0, {256, 256, 256, 256}, 0, 0}); /* algo NULL: the default heuristic */
    if (algo) memcpy(&w, algo, sizeof w);
    if (w.magic != magic || w.problem != x.q.hash()) return CUBLAS_STATUS_INVALID_VALUE;
    if (w.workspace > workspace_bytes || (w.workspace && (!workspace || (uintptr_t)workspace % 256)))
        return CUBLAS_STATUS_INVALID_VALUE;
    x.workspace_bytes = w.workspace;
    bool needs_c = true;
    if (x.q.p.mode == CUBLASLT_POINTER_MODE_HOST) {
        x.alpha = *(const float *)alpha;
        x.beta = *(const float *)beta;
        needs_c = x.beta != 0;
    } else {
        x.alpha_at = alpha;
        x.beta_at = beta;
        if (!sim::range_valid(alpha, 4, true, "cublasLtMatmul (alpha)") ||
            !sim::range_valid(beta, 4, true, "cublasLtMatmul (beta)"))
            return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (needs_c && !c) return CUBLAS_STATUS_INVALID_VALUE;
    const bool bias = has_bias(x.q.p.epilogue) || writes_bias(x.q.p.epilogue);
    const void *const at[] = {a, b, needs_c ? c : NULL, d, bias ? x.q.p.bias : NULL};
    for (int i = 0; i < 5; i++)
        if ((uintptr_t)at[i] % w.alignment[i]) return CUBLAS_STATUS_INVALID_VALUE;
    if (!ranges_valid(x, needs_c)) return CUBLAS_STATUS_INVALID_VALUE;
    return sim::enqueue_call(stream, "cublasLtMatmul", [x]() { return run(x); }) == cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_EXECUTION_FAILED;
}
}

/* Convolutions by cuDNN's legacy API, for bench to compare with. The library is loaded on first use, so a machine
 * without it needs none; a build without cudnn.h has no such comparison. */
#include "engine/cuda/vendor.h"

#include <stdio.h>
#include <stdlib.h>

#if __has_include(<cudnn.h>)

#include <cudnn.h>
#include <dlfcn.h>

enum { MOST_WORKSPACE = 1 << 30 /* bytes */, CHOICES = 8 /* algorithms asked for */ };

#define CALLS(X)                                                                                                       \
    X(cudnnCreate)                                                                                                     \
    X(cudnnDestroy)                                                                                                    \
    X(cudnnSetStream)                                                                                                  \
    X(cudnnGetErrorString)                                                                                             \
    X(cudnnCreateTensorDescriptor)                                                                                     \
    X(cudnnDestroyTensorDescriptor)                                                                                    \
    X(cudnnSetTensorNdDescriptorEx)                                                                                    \
    X(cudnnCreateFilterDescriptor)                                                                                     \
    X(cudnnDestroyFilterDescriptor)                                                                                    \
    X(cudnnSetFilterNdDescriptor)                                                                                      \
    X(cudnnCreateConvolutionDescriptor)                                                                                \
    X(cudnnDestroyConvolutionDescriptor)                                                                               \
    X(cudnnSetConvolutionNdDescriptor)                                                                                 \
    X(cudnnSetConvolutionMathType)                                                                                     \
    X(cudnnGetConvolutionForwardWorkspaceSize)                                                                         \
    X(cudnnGetConvolutionBackwardDataWorkspaceSize)                                                                    \
    X(cudnnGetConvolutionBackwardFilterWorkspaceSize)                                                                  \
    X(cudnnConvolutionForward)                                                                                         \
    X(cudnnConvolutionBackwardData)                                                                                    \
    X(cudnnConvolutionBackwardFilter)
/* cuDNN's heuristics; not in every version. */
#define OPTIONAL(X)                                                                                                    \
    X(cudnnGetConvolutionForwardAlgorithm_v7)                                                                          \
    X(cudnnGetConvolutionBackwardDataAlgorithm_v7)                                                                     \
    X(cudnnGetConvolutionBackwardFilterAlgorithm_v7)

/* The simulation links its implementation of cuDNN: these symbols are then defined, and nothing is loaded. */
#define X(name) extern __typeof__(name) name __attribute__((weak));
CALLS(X)
OPTIONAL(X)
#undef X

static struct {
#define X(name) __typeof__(name) *name;
    CALLS(X)
    OPTIONAL(X)
#undef X
    int asked;         /* open_library has run */
    char missing[120]; /* why cuDNN cannot be used; "" if it can */
} dnn;

struct dnn_plan {
    enum dnn_direction direction;
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv;
    int algorithm; /* of cuDNN's enum for this direction */
    size_t workspace_bytes;
};

#define DNN(call)                                                                                                      \
    do {                                                                                                               \
        const cudnnStatus_t dnn_status = dnn.call;                                                                     \
        if (dnn_status != CUDNN_STATUS_SUCCESS)                                                                        \
            return MCS_FAIL(MCS_E_BACKEND, "cuDNN: %s in %s", dnn.cudnnGetErrorString(dnn_status), #call);             \
    } while (0)

static void open_library(void)
{
    const char *names[] = {getenv("MCSAM_CUDNN"), "libcudnn.so.9", "libcudnn.so.8"};
    void *lib = NULL;
    if (dnn.asked) return;
    dnn.asked = 1;
    for (int i = 0; i < 3 && !lib && !&cudnnCreate; i++)
        if (names[i] && names[i][0]) lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!lib && !&cudnnCreate) {
        snprintf(dnn.missing, sizeof dnn.missing, "no cuDNN here: neither libcudnn.so.9 nor .8 can be opened");
        return;
    }
#define X(name) dnn.name = lib ? (__typeof__(name) *)dlsym(lib, #name) : &name;
    CALLS(X)
    OPTIONAL(X)
#undef X
#define X(name)                                                                                                        \
    if (!dnn.name) snprintf(dnn.missing, sizeof dnn.missing, "this cuDNN has no %s", #name);
    CALLS(X)
#undef X
}

void mcs_dnn_close(struct cuda_device *c)
{
    if (c->dnn) (void)dnn.cudnnDestroy(c->dnn);
    c->dnn = NULL;
}

static enum mcs_status describe(const struct dnn_conv *a, struct dnn_plan *p)
{
    const cudnnDataType_t type = a->dtype == K_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    const int from = 3 - a->nsp, ones[3] = {1, 1, 1};
    int x[5] = {a->n, a->c}, y[5] = {a->n, a->o}, w[5] = {a->o, a->c};
    for (int i = 0; i < a->nsp; i++)
        x[2 + i] = a->src[from + i], y[2 + i] = a->dst[from + i], w[2 + i] = a->k[from + i];
    DNN(cudnnCreateTensorDescriptor(&p->x));
    DNN(cudnnCreateTensorDescriptor(&p->y));
    DNN(cudnnCreateFilterDescriptor(&p->w));
    DNN(cudnnCreateConvolutionDescriptor(&p->conv));
    DNN(cudnnSetTensorNdDescriptorEx(p->x, CUDNN_TENSOR_NHWC, type, 2 + a->nsp, x));
    DNN(cudnnSetTensorNdDescriptorEx(p->y, CUDNN_TENSOR_NHWC, type, 2 + a->nsp, y));
    DNN(cudnnSetFilterNdDescriptor(p->w, type, CUDNN_TENSOR_NHWC, 2 + a->nsp, w));
    DNN(cudnnSetConvolutionNdDescriptor(p->conv, a->nsp, a->pad + from, a->stride + from, ones, CUDNN_CROSS_CORRELATION,
                                        CUDNN_DATA_FLOAT));
    /* FMA: float32 products stay float32. */
    DNN(cudnnSetConvolutionMathType(p->conv, a->dtype == K_BF16 ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH));
    return MCS_OK;
}

static cudnnStatus_t workspace(struct cuda_device *c, const struct dnn_plan *p, int algorithm, size_t *n)
{
    switch (p->direction) {
    case DNN_FPROP:
        return dnn.cudnnGetConvolutionForwardWorkspaceSize(c->dnn, p->x, p->w, p->conv, p->y,
                                                           (cudnnConvolutionFwdAlgo_t)algorithm, n);
    case DNN_DGRAD:
        return dnn.cudnnGetConvolutionBackwardDataWorkspaceSize(c->dnn, p->w, p->y, p->conv, p->x,
                                                                (cudnnConvolutionBwdDataAlgo_t)algorithm, n);
    default:
        return dnn.cudnnGetConvolutionBackwardFilterWorkspaceSize(c->dnn, p->x, p->y, p->conv, p->w,
                                                                  (cudnnConvolutionBwdFilterAlgo_t)algorithm, n);
    }
}

/* The heuristic's algorithms, best first, deterministic ones only, then one that is always deterministic. */
static int candidates(struct cuda_device *c, const struct dnn_plan *p, int *algorithm)
{
    int found = 0, n = 0;
#define TAKE(call, perf_type, ...)                                                                                     \
    {                                                                                                                  \
        perf_type perf[CHOICES];                                                                                       \
        if (dnn.call && dnn.call(c->dnn, __VA_ARGS__, CHOICES, &found, perf) == CUDNN_STATUS_SUCCESS)                  \
            for (int i = 0; i < found; i++)                                                                            \
                if (perf[i].status == CUDNN_STATUS_SUCCESS && perf[i].determinism == CUDNN_DETERMINISTIC)              \
                    algorithm[n++] = (int)perf[i].algo;                                                                \
    }
    switch (p->direction) {
    case DNN_FPROP:
        TAKE(cudnnGetConvolutionForwardAlgorithm_v7, cudnnConvolutionFwdAlgoPerf_t, p->x, p->w, p->conv, p->y);
        algorithm[n++] = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
        break;
    case DNN_DGRAD:
        TAKE(cudnnGetConvolutionBackwardDataAlgorithm_v7, cudnnConvolutionBwdDataAlgoPerf_t, p->w, p->y, p->conv, p->x);
        algorithm[n++] = CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
        break;
    default:
        TAKE(cudnnGetConvolutionBackwardFilterAlgorithm_v7, cudnnConvolutionBwdFilterAlgoPerf_t, p->x, p->y, p->conv,
             p->w);
        algorithm[n++] = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
    }
    return n;
}

enum mcs_status mcs_dnn_plan(struct cuda_device *c, const struct dnn_conv *a, struct dnn_plan **made,
                             size_t *workspace_bytes, char *why, size_t n)
{
    int algorithm[CHOICES + 1];
    enum mcs_status st = MCS_OK;
    *made = NULL;
    *workspace_bytes = 0;
    open_library();
    snprintf(why, n, "%s", dnn.missing);
    if (dnn.missing[0]) return MCS_OK;
    if (!c->dnn) {
        DNN(cudnnCreate((cudnnHandle_t *)&c->dnn));
        DNN(cudnnSetStream(c->dnn, c->compute));
    }
    struct dnn_plan *p = calloc(1, sizeof *p);
    MCS_REQUIRE(p, MCS_E_NOMEM, "no memory for the plan of a convolution");
    p->direction = a->direction;
    MCS_TRY_GOTO(describe(a, p), st, failed);
    for (int i = 0, m = candidates(c, p, algorithm); i < m; i++) {
        if (workspace(c, p, algorithm[i], &p->workspace_bytes) != CUDNN_STATUS_SUCCESS) continue;
        if (p->workspace_bytes > MOST_WORKSPACE) continue;
        p->algorithm = algorithm[i];
        *workspace_bytes = p->workspace_bytes;
        *made = p;
        return MCS_OK;
    }
    snprintf(why, n, "cuDNN has no deterministic algorithm for it");
failed:
    mcs_dnn_plan_free(p);
    return st;
}

enum mcs_status mcs_dnn_run(struct cuda_device *c, const struct dnn_plan *p, const void *first, const void *second,
                            void *result, void *workspace)
{
    const float one = 1, zero = 0;
    switch (p->direction) {
    case DNN_FPROP:
        DNN(cudnnConvolutionForward(c->dnn, &one, p->x, first, p->w, second, p->conv,
                                    (cudnnConvolutionFwdAlgo_t)p->algorithm, workspace, p->workspace_bytes, &zero, p->y,
                                    result));
        return MCS_OK;
    case DNN_DGRAD:
        DNN(cudnnConvolutionBackwardData(c->dnn, &one, p->w, first, p->y, second, p->conv,
                                         (cudnnConvolutionBwdDataAlgo_t)p->algorithm, workspace, p->workspace_bytes,
                                         &zero, p->x, result));
        return MCS_OK;
    default:
        DNN(cudnnConvolutionBackwardFilter(c->dnn, &one, p->x, first, p->y, second, p->conv,
                                           (cudnnConvolutionBwdFilterAlgo_t)p->algorithm, workspace, p->workspace_bytes,
                                           &zero, p->w, result));
        return MCS_OK;
    }
}

void mcs_dnn_plan_free(struct dnn_plan *p)
{
    if (!p) return;
    if (p->conv) (void)dnn.cudnnDestroyConvolutionDescriptor(p->conv);
    if (p->w) (void)dnn.cudnnDestroyFilterDescriptor(p->w);
    if (p->y) (void)dnn.cudnnDestroyTensorDescriptor(p->y);
    if (p->x) (void)dnn.cudnnDestroyTensorDescriptor(p->x);
    free(p);
}

#else /* no cudnn.h */

enum mcs_status mcs_dnn_plan(struct cuda_device *c, const struct dnn_conv *a, struct dnn_plan **plan,
                             size_t *workspace_bytes, char *why, size_t n)
{
    *plan = NULL;
    *workspace_bytes = 0;
    snprintf(why, n, "built without cuDNN: no cudnn.h beside the CUDA headers");
    return MCS_OK;
}
enum mcs_status mcs_dnn_run(struct cuda_device *c, const struct dnn_plan *plan, const void *first, const void *second,
                            void *result, void *workspace)
{
    return MCS_FAIL(MCS_E_BACKEND, "built without cuDNN");
}
void mcs_dnn_plan_free(struct dnn_plan *plan)
{
}
void mcs_dnn_close(struct cuda_device *c)
{
}

#endif

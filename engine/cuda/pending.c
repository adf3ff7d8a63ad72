/* Until the parts that define these are in: weak, so that the real ones win. */
#include <cublasLt.h>
#include "engine/cuda/cuda.h"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define W __attribute__((weak))
W cublasStatus_t cublasLtCreate(cublasLtHandle_t *h) { return CUBLAS_STATUS_NOT_SUPPORTED; }
W cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) { return CUBLAS_STATUS_NOT_SUPPORTED; }
W const char *cublasLtGetStatusString(cublasStatus_t s) { return "pending"; }
W cublasStatus_t cublasLtMatmul(cublasLtHandle_t a, cublasLtMatmulDesc_t b, const void *c, const void *d, cublasLtMatrixLayout_t e, const void *f, cublasLtMatrixLayout_t g, const void *h, const void *i, cublasLtMatrixLayout_t j, void *k, cublasLtMatrixLayout_t l, const cublasLtMatmulAlgo_t *m, void *n, size_t o, cudaStream_t p) { return CUBLAS_STATUS_NOT_SUPPORTED; }
W cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t a, cublasLtMatmulDesc_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatrixLayout_t e, cublasLtMatrixLayout_t f, cublasLtMatmulPreference_t g, int h, cublasLtMatmulHeuristicResult_t i[], int *j) { return CUBLAS_STATUS_NOT_SUPPORTED; }
W cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *a, cublasComputeType_t b, cudaDataType_t c) { return CUBLAS_STATUS_NOT_SUPPORTED; }
W cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t a) { return CUBLAS_STATUS_NOT_SUPPORTED; }
W cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t a, cublasLtMatmulDescAttributes_t b, const void *c, size_t d) { return CUBLAS_STATUS_NOT_SUPPORTED; }
W cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *a) { return CUBLAS_STATUS_NOT_SUPPORTED; }
W cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t a) { return CUBLAS_STATUS_NOT_SUPPORTED; }
W cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t a, cublasLtMatmulPreferenceAttributes_t b, const void *c, size_t d) { return CUBLAS_STATUS_NOT_SUPPORTED; }
W cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *a, cudaDataType b, uint64_t c, uint64_t d, int64_t e) { return CUBLAS_STATUS_NOT_SUPPORTED; }
W cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t a) { return CUBLAS_STATUS_NOT_SUPPORTED; }
W cudaError_t cudaGraphDestroy(cudaGraph_t g) { return cudaErrorNotSupported; }
W cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g) { return cudaErrorNotSupported; }
W cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long f) { return cudaErrorNotSupported; }
W cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t s) { return cudaErrorNotSupported; }
W cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode m) { return cudaErrorNotSupported; }
W cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g) { return cudaErrorNotSupported; }
W enum mcs_status mcs_cuda_optim_update(struct device *d, const struct optim_update *u) { return MCS_E_FAIL; }
W enum mcs_status mcs_cuda_sum_squares(struct device *d, const float *x, const struct optim_range *r, int n, double *sum) { return MCS_E_FAIL; }

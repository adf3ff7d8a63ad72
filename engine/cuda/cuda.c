/* The CUDA backend: device memory, streams, captured graphs, and the table of its ops. */
#include "engine/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/module.h"
#include "engine/cuda/vendor.h"

enum { STAGING_BYTES = 8 << 20, OLDEST_SM = 80 /* the first with bf16 tensor cores */ };

/* ---- errors ---- */

enum mcs_status mcs_cuda_status(cudaError_t e, const char *call)
{
    (void)cudaGetLastError(); /* clear the non-sticky error; it is reported below */
    switch (e) {
    case cudaSuccess: return MCS_OK;
    case cudaErrorMemoryAllocation:
        return MCS_FAIL(MCS_E_NOMEM, "out of memory in %s; close what else uses it, or use a smaller batch", call);
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
        return MCS_FAIL(MCS_E_DEVICE,
                        "this build has no kernels that the GPU and its driver can run (%s); build with "
                        "the GPU's sm_ number, or use --device cpu",
                        cudaGetErrorString(e));
    case cudaErrorDevicesUnavailable:
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
        return MCS_FAIL(MCS_E_DEVICE, "the GPU cannot be used: %s (%s); use another one (--gpu), or --device cpu",
                        cudaGetErrorString(e), cudaGetErrorName(e));
    default:
        return MCS_FAIL(MCS_E_FAIL, "the GPU failed: %s (%s in %s)", cudaGetErrorString(e), cudaGetErrorName(e), call);
    }
}

/* ---- memory ---- */

static double mib(double bytes)
{
    return bytes / 1048576;
}

enum mcs_status mcs_cuda_alloc(const struct cuda_device *c, size_t bytes, void **p)
{
    size_t unused = 0, total = 0;
    const cudaError_t e = cudaMalloc(p, bytes ? bytes : 64);
    if (e != cudaErrorMemoryAllocation) return mcs_cuda_status(e, "cudaMalloc");
    (void)cudaGetLastError();
    (void)cudaMemGetInfo(&unused, &total);
    return MCS_FAIL(MCS_E_NOMEM,
                    "GPU %d (%s): %.1f MiB of device memory wanted in one piece, %.1f MiB of %.1f MiB are free; close "
                    "what else uses the GPU, or use a smaller batch or model",
                    c->index, c->name, mib((double)bytes), mib((double)unused), mib((double)total));
}

static enum mcs_status cuda_alloc(struct device *d, int64_t bytes, void **p)
{
    return mcs_cuda_alloc(d->state, bytes > 0 ? (size_t)bytes : 0, p);
}

/* Suggests a batch that leaves 1/16 of free memory for later allocations (moments, other plans). */
static enum mcs_status cuda_check_memory(struct device *d, int64_t fixed, int64_t by_batch, int64_t batch)
{
    const struct cuda_device *c = d->state;
    size_t unused = 0, total = 0;
    char fits[160];
    MCS_CUDA(cudaMemGetInfo(&unused, &total));
    if (fixed + by_batch <= (int64_t)unused) return MCS_OK;
    const double share = 0.9375 * ((double)unused - (double)fixed) / (double)by_batch;
    const int64_t n = share > 0 ? (int64_t)(share * (double)batch) : 0;
    if (n > 0)
        snprintf(fits, sizeof fits, "a batch of about %lld would fit", (long long)n);
    else
        snprintf(fits, sizeof fits, "no batch would fit: use a smaller model or image, or a GPU with more memory");
    return MCS_FAIL(MCS_E_NOMEM,
                    "GPU %d (%s): a batch of %lld wants %.1f MiB of device memory, %.1f MiB of %.1f MiB are free; %s%s",
                    c->index, c->name, (long long)batch, mib((double)(fixed + by_batch)), mib((double)unused),
                    mib((double)total), fits,
                    mib((double)total) > 2 * mib((double)unused) ? ", or close what else uses the GPU" : "");
}

static void cuda_free(struct device *d, void *p)
{
    if (p) (void)cudaFree(p);
}

enum mcs_status mcs_cuda_stage_open(const struct cuda_device *c, size_t bytes, struct cuda_stage *t)
{
    MCS_CUDA(cudaMallocHost(&t->pinned, bytes));
    MCS_TRY(mcs_cuda_alloc(c, bytes, &t->device));
    MCS_CUDA(cudaEventCreateWithFlags(&t->copied, cudaEventDisableTiming));
    return MCS_CUDA_STATUS(cudaEventCreateWithFlags(&t->used, cudaEventDisableTiming));
}

void mcs_cuda_stage_close(struct cuda_stage *t)
{
    if (t->pinned) (void)cudaFreeHost(t->pinned);
    if (t->device) (void)cudaFree(t->device);
    if (t->copied) (void)cudaEventDestroy(t->copied);
    if (t->used) (void)cudaEventDestroy(t->used);
    *t = (struct cuda_stage){0};
}

/* Copies through the staging buffers, piece by piece: host memory -> pinned (memcpy), pinned -> staging buffer on the
 * device (copy stream), staging buffer -> dst (compute stream). The call returns after the last memcpy, so the next
 * batch is transferred while the steps that read the current one still run. */
static enum mcs_status cuda_upload(struct device *d, void *dst, const void *src, int64_t bytes)
{
    struct cuda_device *c = d->state;
    for (int64_t at = 0; at < bytes; at += STAGING_BYTES) {
        const size_t n = (size_t)(bytes - at < STAGING_BYTES ? bytes - at : STAGING_BYTES);
        struct cuda_stage *t = &c->staging[c->next_staging];
        c->next_staging = (c->next_staging + 1) % N_STAGING;
        MCS_CUDA(cudaEventSynchronize(t->copied));
        memcpy(t->pinned, (const char *)src + at, n);
        MCS_CUDA(cudaStreamWaitEvent(c->copy, t->used, 0));
        MCS_CUDA(cudaMemcpyAsync(t->device, t->pinned, n, cudaMemcpyHostToDevice, c->copy));
        MCS_CUDA(cudaEventRecord(t->copied, c->copy));
        MCS_CUDA(cudaStreamWaitEvent(c->compute, t->copied, 0));
        MCS_CUDA(cudaMemcpyAsync((char *)dst + at, t->device, n, cudaMemcpyDeviceToDevice, c->compute));
        MCS_CUDA(cudaEventRecord(t->used, c->compute));
    }
    return MCS_OK;
}

static enum mcs_status cuda_download(struct device *d, void *dst, const void *src, int64_t bytes)
{
    struct cuda_device *c = d->state;
    MCS_CUDA(cudaMemcpyAsync(dst, src, (size_t)bytes, cudaMemcpyDeviceToHost, c->compute));
    return MCS_CUDA_STATUS(cudaStreamSynchronize(c->compute));
}

static enum mcs_status cuda_zero(struct device *d, void *dst, int64_t bytes)
{
    struct cuda_device *c = d->state;
    return MCS_CUDA_STATUS(cudaMemsetAsync(dst, 0, (size_t)bytes, c->compute));
}

static enum mcs_status cuda_sync(struct device *d)
{
    struct cuda_device *c = d->state;
    return MCS_CUDA_STATUS(cudaStreamSynchronize(c->compute));
}

/* ---- runs: seed and step, captured graphs ---- */

static enum mcs_status cuda_begin_run(struct device *d, const struct run_state *run)
{
    struct cuda_device *c = d->state;
    return MCS_CUDA_STATUS(k_run_set((struct k_run){.seed = run->seed, .step = run->step}, c->run, c->compute));
}

static enum mcs_status cuda_capture_begin(struct device *d)
{
    struct cuda_device *c = d->state;
    return MCS_CUDA_STATUS(cudaStreamBeginCapture(c->compute, cudaStreamCaptureModeThreadLocal));
}

static enum mcs_status cuda_capture_end(struct device *d, void **captured)
{
    struct cuda_device *c = d->state;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    *captured = NULL;
    MCS_CUDA(cudaStreamEndCapture(c->compute, &graph));
    const cudaError_t e = cudaGraphInstantiate(&exec, graph, 0);
    (void)cudaGraphDestroy(graph);
    *captured = exec;
    return mcs_cuda_status(e, "cudaGraphInstantiate");
}

static enum mcs_status cuda_replay(struct device *d, void *captured)
{
    struct cuda_device *c = d->state;
    return MCS_CUDA_STATUS(cudaGraphLaunch((cudaGraphExec_t)captured, c->compute));
}

static void cuda_captured_free(struct device *d, void *captured)
{
    struct cuda_device *c = d->state;
    (void)cudaStreamSynchronize(c->compute);
    (void)cudaGraphExecDestroy((cudaGraphExec_t)captured);
}

/* ---- the ops ---- */

#define OP(name, inputs, outputs, attr) extern const struct op_impl mcs_cuda_##name;
#include "engine/tape/ops.def"
#undef OP

static struct op_impl cuda_ops[MCS_N_OPS];

static void cuda_close(struct device *d);

static const struct backend cuda_backend = {
    .name = "cuda",
    .ops = cuda_ops,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .check_memory = cuda_check_memory,
    .upload = cuda_upload,
    .download = cuda_download,
    .zero = cuda_zero,
    .sync = cuda_sync,
    .optim_update = mcs_cuda_optim_update,
    .optim_norm = mcs_cuda_optim_norm,
    .begin_run = cuda_begin_run,
    .capture_begin = cuda_capture_begin,
    .capture_end = cuda_capture_end,
    .replay = cuda_replay,
    .captured_free = cuda_captured_free,
    .close = cuda_close,
    .comm = mcs_cuda_comm,
    .device_ops = &mcs_cuda_device_ops,
    .measure = mcs_cuda_measure,
};

/* ---- devices ---- */

static enum mcs_status cuda_count(int *n)
{
    int driver = 0, runtime = 0;
    *n = 0;
    const cudaError_t e = cudaGetDeviceCount(n);
    if (e == cudaSuccess && *n > 0) return MCS_OK;
    (void)cudaGetLastError();
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    if (driver == 0)
        return MCS_FAIL(MCS_E_DEVICE, "no NVIDIA driver is installed here; install one, or use --device cpu");
    if (e == cudaErrorInsufficientDriver)
        return MCS_FAIL(MCS_E_DEVICE,
                        "the NVIDIA driver knows CUDA %d.%d, this build wants %d.%d; install a newer driver, or use "
                        "--device cpu",
                        driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    if (e == cudaSuccess || e == cudaErrorNoDevice)
        return MCS_FAIL(MCS_E_DEVICE, "no NVIDIA GPU is visible here (CUDA_VISIBLE_DEVICES may hide it); use --device "
                                      "cpu");
    return MCS_FAIL(MCS_E_DEVICE, "CUDA cannot start: %s; use --device cpu", cudaGetErrorString(e));
}

static enum mcs_status check_index(int index)
{
    int n;
    MCS_TRY(cuda_count(&n));
    MCS_REQUIRE(index >= 0 && index < n, MCS_E_DEVICE, "GPU %d does not exist: %d %s here, counted from 0", index, n,
                n == 1 ? "is" : "are");
    return MCS_OK;
}

/* Properties of GPU `index`; E_DEVICE where the kernels cannot run on its architecture. */
static enum mcs_status get_properties(int index, struct cudaDeviceProp *p)
{
    MCS_TRY(check_index(index));
    MCS_CUDA(cudaGetDeviceProperties(p, index));
    MCS_REQUIRE(10 * p->major + p->minor >= OLDEST_SM, MCS_E_DEVICE,
                "GPU %d (%s) is of architecture sm_%d%d; bf16 tensor cores are there from sm_%d on: use --device cpu",
                index, p->name, p->major, p->minor, OLDEST_SM);
    return MCS_OK;
}

static enum mcs_status cuda_check(int index)
{
    struct cudaDeviceProp p;
    return get_properties(index, &p);
}

static enum mcs_status cuda_describe(int index, char *text, int text_bytes)
{
    struct cudaDeviceProp p;
    MCS_TRY(get_properties(index, &p));
    snprintf(text, (size_t)text_bytes, "%s, sm_%d%d, %.0f MiB", p.name, p.major, p.minor,
             mib((double)p.totalGlobalMem));
    return MCS_OK;
}

static enum mcs_status create_streams(struct cuda_device *c)
{
    MCS_CUDA(cudaStreamCreateWithFlags(&c->compute, cudaStreamNonBlocking));
    MCS_CUDA(cudaStreamCreateWithFlags(&c->copy, cudaStreamNonBlocking));
    for (int i = 0; i < N_STAGING; i++) MCS_TRY(mcs_cuda_stage_open(c, STAGING_BYTES, &c->staging[i]));
    MCS_TRY(mcs_cuda_alloc(c, sizeof *c->run, (void **)&c->run));
    return MCS_CUDA_STATUS(k_run_set((struct k_run){0}, c->run, c->compute));
}

static enum mcs_status cuda_open(int index, struct device *d)
{
    struct cudaDeviceProp p;
    enum mcs_status st;
    MCS_TRY(get_properties(index, &p));
    MCS_CUDA(cudaSetDevice(index));
    struct cuda_device *c = calloc(1, sizeof *c);
    MCS_REQUIRE(c, MCS_E_NOMEM, "no memory for a device");
    c->index = index;
    c->sm = 10 * p.major + p.minor;
    snprintf(c->name, sizeof c->name, "%s", p.name);
#define OP(name, inputs, outputs, attr) cuda_ops[OP_##name] = mcs_cuda_##name;
#include "engine/tape/ops.def"
#undef OP
    *d = (struct device){.backend = &cuda_backend, .state = c, .activations = MCS_F32};
    MCS_TRY_GOTO(create_streams(c), st, failed);
    return MCS_OK;
failed:
    cuda_close(d);
    return st;
}

static void cuda_close(struct device *d)
{
    struct cuda_device *c = d->state;
    if (!c) return;
    if (c->compute) (void)cudaStreamSynchronize(c->compute);
    if (c->copy) (void)cudaStreamSynchronize(c->copy);
    for (int i = 0; i < N_STAGING; i++) mcs_cuda_stage_close(&c->staging[i]);
    mcs_blas_close(c);
    mcs_cuda_optim_close(c);
    mcs_cuda_device_ops_close(c);
    mcs_dnn_close(c);
    if (c->run) (void)cudaFree(c->run);
    if (c->copy) (void)cudaStreamDestroy(c->copy);
    if (c->compute) (void)cudaStreamDestroy(c->compute);
    free(c);
    *d = (struct device){0};
}

const struct cuda_module mcs_cuda_module = {MCS_VERSION, cuda_open, cuda_count, cuda_check, cuda_describe};

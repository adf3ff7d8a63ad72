/* The device itself: one, with the limits of compute capability 9.0; its errors; what its name is. */
#include <stdio.h>
#include <string.h>

#include "tests/cudasim/sim.h"

namespace sim
{
static cudaError_t last, sticky;

cudaError_t fail(cudaError_t e)
{
    last = e;
    return e;
}
cudaError_t fail_sticky(cudaError_t e)
{
    if (sticky == cudaSuccess) sticky = e;
    return fail(sticky);
}
cudaError_t sticky_error()
{
    return sticky;
}

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
#define ERROR(e, text) {e, #e, text},
    ERROR(cudaSuccess, "no error") ERROR(cudaErrorInvalidValue, "invalid argument")
        ERROR(cudaErrorMemoryAllocation, "out of memory")
            ERROR(cudaErrorInvalidConfiguration, "invalid configuration of a launch")
                ERROR(cudaErrorInvalidDeviceFunction, "no such kernel on the device")
                    ERROR(cudaErrorInvalidDevice, "no such device")
                        ERROR(cudaErrorInvalidResourceHandle, "no such stream or event")
                            ERROR(cudaErrorNotReady, "not ready yet") ERROR(cudaErrorIllegalAddress,
                                                                            "a kernel touched an illegal address")
                                ERROR(cudaErrorMisalignedAddress, "a kernel touched a misaligned address")
                                    ERROR(cudaErrorLaunchFailure, "a kernel failed")
                                        ERROR(cudaErrorLaunchOutOfResources, "a kernel needs more than the device has")
                                            ERROR(cudaErrorNotSupported, "not supported")
#undef ERROR
};
} // namespace sim

using namespace sim;

extern "C" {
cudaError_t cudaGetLastError(void)
{
    const cudaError_t e = sticky != cudaSuccess ? sticky : last;
    last = cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError(void)
{
    return sticky != cudaSuccess ? sticky : last;
}
const char *cudaGetErrorName(cudaError_t e)
{
    for (auto &x : errors)
        if (x.error == e) return x.name;
    return "unrecognized error code";
}
const char *cudaGetErrorString(cudaError_t e)
{
    for (auto &x : errors)
        if (x.error == e) return x.text;
    return "unrecognized error code";
}

cudaError_t cudaDeviceReset(void)
{
    forget_streams();
    free_all();
    last = sticky = cudaSuccess;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? sticky : fail(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *v)
{
    *v = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v)
{
    *v = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    if (device != 0) return fail(cudaErrorInvalidDevice);
    memset((void *)p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "cudasim (simulated, compute capability 9.0)");
    p->major = 9;
    p->minor = 0;
    p->warpSize = WARP;
    p->multiProcessorCount = 132;
    p->maxThreadsPerBlock = MAX_THREADS;
    p->maxThreadsPerMultiProcessor = 2048;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->sharedMemPerBlock = SHARED_DEFAULT;
    p->sharedMemPerBlockOptin = SHARED_MAX;
    p->sharedMemPerMultiprocessor = 228 * 1024;
    size_t free_bytes;
    cudaMemGetInfo(&free_bytes, &p->totalGlobalMem);
    p->l2CacheSize = 50 << 20;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr which, int device)
{
    if (device != 0) return fail(cudaErrorInvalidDevice);
    switch (which) {
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMultiProcessorCount: *value = 132; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = MAX_THREADS; break;
    case cudaDevAttrWarpSize: *value = WARP; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = SHARED_DEFAULT; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = SHARED_MAX; break;
    default: return fail(cudaErrorNotSupported);
    }
    return cudaSuccess;
}
}

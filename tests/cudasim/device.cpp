/* Devices: their number, the limits of compute capability 9.0, sticky errors of devices, last errors of host threads,
 * peer access. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>

#include "tests/cudasim/sim.h"

namespace sim
{
static int n_devices = 1, major = 9, minor = 0, driver = CUDART_VERSION;
static cudaError_t sticky[MAX_DEVICES];
static bool peer[MAX_DEVICES][MAX_DEVICES];
static thread_local cudaError_t last;
static thread_local int selected;
int device_running = -1;
bool in_host_function;

static int number_of(const char *name, int otherwise)
{
    const char *s = getenv(name);
    return s && *s ? atoi(s) : otherwise;
}
static void read_environment()
{
    static bool read;
    if (read) return;
    read = true;
    n_devices = std::clamp(number_of("CUDASIM_DEVICES", n_devices), 0, (int)MAX_DEVICES);
    driver = number_of("CUDASIM_DRIVER", driver);
    patience_ms = number_of("CUDASIM_PATIENCE_MS", patience_ms);
    const char *c = getenv("CUDASIM_CAPABILITY");
    if (c) sscanf(c, "%d.%d", &major, &minor);
    const int mib = number_of("CUDASIM_MEMORY_MIB", 0);
    if (mib > 0) memory_limit_set = std::min((size_t)mib << 20, slice_bytes);
}

int device_now()
{
    return selected;
}
bool peer_access(int device, int of)
{
    return device < 0 || device == of || peer[device][of];
}
bool has_kernel_image()
{
    return major >= 8;
}

cudaError_t fail(cudaError_t e)
{
    last = e;
    return e;
}
cudaError_t note_error(cudaError_t e)
{
    return e == cudaSuccess ? e : fail(e);
}
cudaError_t fail_device(int device, cudaError_t e)
{
    if (sticky[device] == cudaSuccess) sticky[device] = e;
    return sticky[device];
}
cudaError_t device_error(int device)
{
    return sticky[device];
}
static cudaError_t no_device()
{
    read_environment();
    if (driver / 1000 < CUDART_VERSION / 1000) return cudaErrorInsufficientDriver;
    return n_devices ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t entry_error()
{
    const cudaError_t e = no_device();
    if (e != cudaSuccess) return e;
    return in_host_function ? cudaErrorNotPermitted : sticky[selected];
}

#define ERRORS(E)                                                                                                      \
    E(cudaSuccess, "no error")                                                                                         \
    E(cudaErrorInvalidValue, "invalid argument")                                                                       \
    E(cudaErrorMemoryAllocation, "out of memory")                                                                      \
    E(cudaErrorInvalidConfiguration, "invalid configuration of a launch")                                              \
    E(cudaErrorInvalidDeviceFunction, "no such kernel on the device")                                                  \
    E(cudaErrorInvalidDevice, "no such device")                                                                        \
    E(cudaErrorInvalidResourceHandle, "no such stream, event or graph")                                                \
    E(cudaErrorNotReady, "not ready yet")                                                                              \
    E(cudaErrorIllegalAddress, "a kernel touched an illegal address")                                                  \
    E(cudaErrorMisalignedAddress, "a kernel touched a misaligned address")                                             \
    E(cudaErrorLaunchTimeout, "a wait that cannot end")                                                                \
    E(cudaErrorLaunchFailure, "a kernel failed")                                                                       \
    E(cudaErrorLaunchOutOfResources, "a kernel needs more than the device has")                                        \
    E(cudaErrorNotSupported, "not supported")                                                                          \
    E(cudaErrorNotPermitted, "not permitted")                                                                          \
    E(cudaErrorNoDevice, "no device that CUDA can use")                                                                \
    E(cudaErrorInsufficientDriver, "the driver is older than the runtime needs")                                       \
    E(cudaErrorNoKernelImageForDevice, "the program has no kernel image for the device")                               \
    E(cudaErrorInvalidMemcpyDirection, "invalid direction of a copy")                                                  \
    E(cudaErrorPeerAccessAlreadyEnabled, "peer access is on already")                                                  \
    E(cudaErrorPeerAccessNotEnabled, "peer access is not on")                                                          \
    E(cudaErrorPeerAccessUnsupported, "no peer access between these devices")                                          \
    E(cudaErrorHostMemoryAlreadyRegistered, "host memory is registered already")                                       \
    E(cudaErrorHostMemoryNotRegistered, "host memory is not registered")                                               \
    E(cudaErrorIllegalState, "not in the state that the call needs")                                                   \
    E(cudaErrorStreamCaptureUnsupported, "not allowed while a stream is captured")                                     \
    E(cudaErrorStreamCaptureInvalidated, "the capture was broken by an earlier error")                                 \
    E(cudaErrorStreamCaptureMerge, "two captures would become one")                                                    \
    E(cudaErrorStreamCaptureUnmatched, "the capture did not begin in this stream")                                     \
    E(cudaErrorStreamCaptureUnjoined, "a stream that forked from the capture has not joined it again")                 \
    E(cudaErrorStreamCaptureIsolation, "a captured stream would depend on work outside the capture")                   \
    E(cudaErrorStreamCaptureImplicit, "the default stream would wait for a captured one")                              \
    E(cudaErrorStreamCaptureWrongThread, "the capture was begun by another thread")                                    \
    E(cudaErrorCapturedEvent, "the event was recorded in a capture")                                                   \
    E(cudaErrorGraphExecUpdateFailure, "the graph differs in more than arguments")
} // namespace sim

using namespace sim;

void cudasim_devices(int n)
{
    const guard g;
    read_environment();
    n_devices = std::clamp(n, 0, (int)MAX_DEVICES);
    if (selected >= n_devices) selected = 0;
}
void cudasim_capability(int to_major, int to_minor)
{
    const guard g;
    read_environment();
    major = to_major, minor = to_minor;
}
void cudasim_driver(int version)
{
    const guard g;
    read_environment();
    driver = version;
}
void cudasim_patience(int milliseconds)
{
    const guard g;
    read_environment();
    patience_ms = milliseconds;
}

extern "C" {
cudaError_t cudaGetLastError(void)
{
    const guard g;
    const cudaError_t e = sticky[selected] != cudaSuccess ? sticky[selected] : last;
    last = cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError(void)
{
    const guard g;
    return sticky[selected] != cudaSuccess ? sticky[selected] : last;
}
const char *cudaGetErrorName(cudaError_t e)
{
#define NAME(x, text)                                                                                                  \
    case x: return #x;
    switch (e) {
        ERRORS(NAME)
    default: return "unrecognized error code";
    }
}
const char *cudaGetErrorString(cudaError_t e)
{
#define TEXT(x, text)                                                                                                  \
    case x: return text;
    switch (e) {
        ERRORS(TEXT)
    default: return "unrecognized error code";
    }
}

cudaError_t cudaDeviceReset(void)
{
    const guard g;
    if (no_device() != cudaSuccess) return fail(no_device());
    reset_streams(selected);
    free_all(selected);
    for (int i = 0; i < MAX_DEVICES; i++) peer[selected][i] = false;
    last = sticky[selected] = cudaSuccess;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *n)
{
    const guard g;
    if (!n) return fail(cudaErrorInvalidValue);
    *n = 0;
    if (no_device() != cudaSuccess) return fail(no_device());
    *n = n_devices;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    const guard g;
    if (no_device() != cudaSuccess) return fail(no_device());
    if (device < 0 || device >= n_devices) return fail(cudaErrorInvalidDevice);
    selected = device;
    this_host_thread();
    return note_error(sticky[device]);
}
cudaError_t cudaGetDevice(int *device)
{
    SIM_ENTER();
    if (!device) return fail(cudaErrorInvalidValue);
    *device = selected;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *v)
{
    const guard g;
    read_environment();
    *v = driver;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v)
{
    *v = CUDART_VERSION;
    return cudaSuccess;
}

/* Peer access is possible between all devices, as on one board with NVLink. */
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int of)
{
    SIM_ENTER();
    if (device < 0 || device >= n_devices || of < 0 || of >= n_devices) return fail(cudaErrorInvalidDevice);
    *can = device != of;
    return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int of, unsigned flags)
{
    SIM_ENTER();
    if (of < 0 || of >= n_devices || of == selected) return fail(cudaErrorInvalidDevice);
    if (flags) return fail(cudaErrorInvalidValue);
    if (peer[selected][of]) return fail(cudaErrorPeerAccessAlreadyEnabled);
    peer[selected][of] = true;
    return cudaSuccess;
}
cudaError_t cudaDeviceDisablePeerAccess(int of)
{
    SIM_ENTER();
    if (of < 0 || of >= n_devices) return fail(cudaErrorInvalidDevice);
    if (!peer[selected][of]) return fail(cudaErrorPeerAccessNotEnabled);
    peer[selected][of] = false;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    SIM_ENTER();
    if (!p) return fail(cudaErrorInvalidValue);
    if (device < 0 || device >= n_devices) return fail(cudaErrorInvalidDevice);
    memset((void *)p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "cudasim (simulated, compute capability %d.%d)", major, minor);
    p->major = major;
    p->minor = minor;
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
    p->totalGlobalMem = memory_limit();
    p->l2CacheSize = 50 << 20;
    p->memoryBusWidth = 6144;
    p->asyncEngineCount = 3;
    p->concurrentKernels = p->unifiedAddressing = 1;
    p->pciBusID = device + 1;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr which, int device)
{
    SIM_ENTER();
    if (!value) return fail(cudaErrorInvalidValue);
    if (device < 0 || device >= n_devices) return fail(cudaErrorInvalidDevice);
    switch (which) {
    case cudaDevAttrComputeCapabilityMajor: *value = major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = minor; break;
    case cudaDevAttrMultiProcessorCount: *value = 132; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = MAX_THREADS; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
    case cudaDevAttrMaxRegistersPerBlock: *value = 65536; break;
    case cudaDevAttrWarpSize: *value = WARP; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = SHARED_DEFAULT; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = SHARED_MAX; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = 228 * 1024; break;
    case cudaDevAttrL2CacheSize: *value = 50 << 20; break;
    case cudaDevAttrClockRate: *value = 1980000; break; /* kHz, of an H200 */
    case cudaDevAttrMemoryClockRate: *value = 3201000; break;
    case cudaDevAttrGlobalMemoryBusWidth: *value = 6144; break;
    case cudaDevAttrUnifiedAddressing: *value = 1; break;
    case cudaDevAttrPciBusId: *value = device + 1; break;
    default: return fail(cudaErrorNotSupported);
    }
    return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char *id, int n, int device)
{
    SIM_ENTER();
    if (!id || n < 13) return fail(cudaErrorInvalidValue);
    if (device < 0 || device >= n_devices) return fail(cudaErrorInvalidDevice);
    snprintf(id, (size_t)n, "0000:%02X:00.0", device + 1);
    return cudaSuccess;
}
}

/* Several devices, no device, unsupported devices; errors of each device; pinned memory; host functions in streams. */
#include <criterion/criterion.h>
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <thread>
#include <vector>

#include "kernels/common/kernels.h"
#include "tests/cudasim/cudasim.h"

#define OK(call) cr_assert_eq(call, cudaSuccess, "%s", #call)

static k_gelu gelu_of(void *x, void *y, int64_t n)
{
    k_gelu k = {};
    k.x = x, k.y = y, k.n = n;
    return k;
}

Test(devices, separate_state)
{
    cudasim_devices(3);
    int n = 0, d = 9;
    OK(cudaGetDeviceCount(&n));
    cr_expect_eq(n, 3);
    size_t free_bytes[3], total;
    char *p[3];
    for (int i = 0; i < 3; i++) {
        OK(cudaSetDevice(i));
        OK(cudaGetDevice(&d));
        cr_expect_eq(d, i);
        OK(cudaMalloc((void **)&p[i], 1 << (10 + i)));
        OK(cudaMemGetInfo(&free_bytes[i], &total));
        cr_expect_eq(total - free_bytes[i], (size_t)1 << (10 + i));
        struct cudaPointerAttributes a;
        OK(cudaPointerGetAttributes(&a, p[i]));
        cr_expect_eq(a.device, i);
    }
    cr_expect_eq(cudaSetDevice(3), cudaErrorInvalidDevice);
    cr_expect_eq(cudaSetDevice(-1), cudaErrorInvalidDevice);
    struct cudaDeviceProp prop;
    cr_expect_eq(cudaGetDeviceProperties(&prop, 3), cudaErrorInvalidDevice);
    OK(cudaGetDevice(&d));
    cr_expect_eq(d, 2, "a wrong one changes nothing");
    std::thread([&d]() { OK(cudaGetDevice(&d)); }).join();
    cr_expect_eq(d, 0, "each host thread begins with device 0");
    for (int i = 0; i < 3; i++) OK(cudaFree(p[i])); /* any device may be current */
    cr_expect_eq(cudasim_bytes_held(), 0);
}

/* Streams and events belong to a device: launches and records on another device fail, copies and waits do not. */
Test(devices, streams_and_events)
{
    cudasim_devices(2);
    cudaStream_t s[2];
    cudaEvent_t e[2];
    char *p[2], host[16];
    for (int i = 0; i < 2; i++) {
        OK(cudaSetDevice(i));
        OK(cudaStreamCreateWithFlags(&s[i], cudaStreamNonBlocking));
        OK(cudaEventCreate(&e[i]));
        OK(cudaMalloc((void **)&p[i], 256));
        OK(cudaMemset(p[i], i + 1, 256));
        OK(cudaDeviceSynchronize());
    }
    OK(cudaSetDevice(0));
    k_gelu k = gelu_of(p[1], p[1], 4);
    cr_expect_eq(k_gelu_fwd(&k, s[1]), cudaErrorInvalidResourceHandle);
    cr_expect_eq(cudaEventRecord(e[0], s[1]), cudaErrorInvalidResourceHandle);
    OK(cudaEventRecord(e[1], s[1]));
    OK(cudaMemcpyPeerAsync(p[0], 0, p[1], 1, 16, s[1]));
    OK(cudaEventRecord(e[1], s[1]));
    OK(cudaStreamWaitEvent(s[0], e[1], 0)); /* an event of another device */
    OK(cudaMemsetAsync(p[0], 7, 1, s[0]));
    OK(cudaStreamSynchronize(s[0]));
    OK(cudaMemcpy(host, p[0], 16, cudaMemcpyDeviceToHost));
    cr_expect(host[0] == 7 && host[1] == 2);
    OK(cudaEventSynchronize(e[1]));
    OK(cudaEventRecord(e[0], s[0]));
    OK(cudaEventSynchronize(e[0]));
    float ms;
    cr_expect_eq(cudaEventElapsedTime(&ms, e[0], e[1]), cudaErrorInvalidResourceHandle);
    cr_expect_eq(cudasim_reports(), 0);
    cudasim_quiet(1);
    cr_expect_eq(cudaMemcpyPeerAsync(p[0], 1, p[1], 1, 16, s[1]), cudaErrorInvalidValue, "not device 1's");
    cr_expect_eq(cudasim_report_kind(0), CUDASIM_DEVICE);
    for (int i = 0; i < 2; i++) {
        OK(cudaStreamDestroy(s[i]));
        OK(cudaEventDestroy(e[i]));
        OK(cudaFree(p[i]));
    }
}

/* A kernel may access another device's memory only after cudaDeviceEnablePeerAccess; its error stays on its device. */
Test(devices, peer_access)
{
    cudasim_devices(2);
    cudasim_quiet(1);
    float *p;
    int can = 0;
    OK(cudaMalloc((void **)&p, 256));
    OK(cudaMemset(p, 0, 256));
    OK(cudaDeviceSynchronize());
    OK(cudaSetDevice(1));
    OK(cudaDeviceCanAccessPeer(&can, 1, 0));
    cr_expect_eq(can, 1);
    cr_expect_eq(cudaDeviceDisablePeerAccess(0), cudaErrorPeerAccessNotEnabled);
    k_gelu k = gelu_of(p, p, 4);
    OK(cudaDeviceEnablePeerAccess(0, 0));
    cr_expect_eq(cudaDeviceEnablePeerAccess(0, 0), cudaErrorPeerAccessAlreadyEnabled);
    OK(k_gelu_fwd(&k, NULL));
    OK(cudaDeviceSynchronize());
    cr_expect_eq(cudasim_reports(), 0);
    OK(cudaDeviceDisablePeerAccess(0));
    cr_expect_eq(cudaDeviceEnablePeerAccess(1, 0), cudaErrorInvalidDevice);
    if (cudasim_checked()) {
        OK(k_gelu_fwd(&k, NULL));
        cr_expect_eq(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
        cr_assert_eq(cudasim_reports(), 1);
        cr_expect_eq(cudasim_report_kind(0), CUDASIM_DEVICE);
        cr_expect_eq(cudaGetLastError(), cudaErrorIllegalAddress);
        cr_expect_eq(cudaSetDevice(1), cudaErrorIllegalAddress);
        OK(cudaSetDevice(0));
        OK(cudaDeviceSynchronize()); /* this device has no error */
        cr_expect_eq(cudaGetLastError(), cudaErrorIllegalAddress, "of the call above, once");
        cr_expect_eq(cudaGetLastError(), cudaSuccess);
        cudaSetDevice(1);
        OK(cudaDeviceReset());
    }
    OK(cudaFree(p));
}

/* Two host threads use one device each. */
Test(devices, threads)
{
    cudasim_devices(2);
    std::vector<std::thread> all;
    int right[2] = {0, 0};
    for (int i = 0; i < 2; i++)
        all.emplace_back([i, &right]() {
            OK(cudaSetDevice(i));
            cudaStream_t s;
            float *p, *host;
            OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
            OK(cudaMalloc((void **)&p, 4096));
            OK(cudaMallocHost((void **)&host, 4096));
            for (int turn = 0; turn < 20; turn++) {
                for (int j = 0; j < 1024; j++) host[j] = (float)(10 + i);
                OK(cudaMemcpyAsync(p, host, 4096, cudaMemcpyHostToDevice, s));
                k_gelu k = gelu_of(p, p, 1024);
                OK(k_gelu_fwd(&k, s));
                OK(cudaMemcpyAsync(host, p, 4096, cudaMemcpyDeviceToHost, s));
                OK(cudaStreamSynchronize(s));
                for (int j = 0; j < 1024; j++) right[i] += host[j] == (float)(10 + i);
            }
            OK(cudaFree(p));
            OK(cudaFreeHost(host));
            OK(cudaStreamDestroy(s));
        });
    for (auto &t : all) t.join();
    cr_expect(right[0] == 20 * 1024 && right[1] == 20 * 1024);
    for (int i = 0; i < cudasim_reports(); i++) cr_expect(0, "%s", cudasim_report_text(i));
}

Test(devices, no_usable_device)
{
    int n = 5, v;
    void *p;
    struct cudaDeviceProp prop;
    cudasim_devices(0);
    cr_expect_eq(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    cr_expect_eq(n, 0);
    cr_expect_eq(cudaSetDevice(0), cudaErrorNoDevice);
    cr_expect_eq(cudaMalloc(&p, 16), cudaErrorNoDevice);
    cr_expect_eq(cudaGetLastError(), cudaErrorNoDevice);
    cudasim_devices(1);
    cudasim_driver(0);
    OK(cudaDriverGetVersion(&v));
    cr_expect_eq(v, 0, "no driver");
    cr_expect_eq(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver);
    cudasim_driver((CUDART_VERSION / 1000 - 1) * 1000);
    cr_expect_eq(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver);
    OK(cudaRuntimeGetVersion(&v));
    cr_expect_eq(v, CUDART_VERSION);
    cudasim_driver(CUDART_VERSION);
    cudasim_capability(7, 5);
    cudaGetLastError();
    OK(cudaGetDeviceProperties(&prop, 0));
    cr_expect(prop.major == 7 && prop.minor == 5);
    OK(cudaMalloc(&p, 16));
    OK(cudaMemset(p, 0, 16));
    k_gelu k = gelu_of(p, p, 4);
    cr_expect_eq(k_gelu_fwd(&k, NULL), cudaErrorNoKernelImageForDevice);
    OK(cudaDeviceSynchronize());
    cudasim_capability(10, 0);
    OK(k_gelu_fwd(&k, NULL));
    OK(cudaFree(p));
}

static void environment_is_set(void)
{
    setenv("CUDASIM_DEVICES", "4", 1);
    setenv("CUDASIM_MEMORY_MIB", "3", 1);
    setenv("CUDASIM_CAPABILITY", "8.6", 1);
}
Test(devices, set_by_environment, .init = environment_is_set)
{
    int n;
    size_t free_bytes, total;
    struct cudaDeviceProp prop;
    void *p;
    OK(cudaGetDeviceCount(&n));
    cr_expect_eq(n, 4);
    OK(cudaGetDeviceProperties(&prop, 3));
    cr_expect(prop.major == 8 && prop.minor == 6);
    cr_expect_eq(prop.totalGlobalMem, 3 << 20);
    OK(cudaMemGetInfo(&free_bytes, &total));
    cr_expect_eq(total, 3 << 20);
    cr_expect_eq(cudaMalloc(&p, (3 << 20) + 1), cudaErrorMemoryAllocation);
}

/* The last error: set by each failing call, cleared by cudaGetLastError, one for each host thread. */
Test(devices, last_error)
{
    void *p;
    cudasim_fail_alloc(1);
    cr_expect_eq(cudaMalloc(&p, 16), cudaErrorMemoryAllocation);
    OK(cudaMalloc(&p, 16)); /* success does not clear it */
    cudaError_t elsewhere = cudaErrorUnknown;
    std::thread([&elsewhere]() { elsewhere = cudaGetLastError(); }).join();
    cr_expect_eq(elsewhere, cudaSuccess);
    cr_expect_eq(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
    cr_expect_eq(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
    cr_expect_eq(cudaGetLastError(), cudaErrorMemoryAllocation);
    cr_expect_eq(cudaPeekAtLastError(), cudaSuccess);
    cudaStream_t s;
    OK(cudaStreamCreate(&s));
    for (int i = 0; i < 3; i++) OK(cudaMemsetAsync(p, 0, 16, s));
    cr_expect_eq(cudaStreamQuery(s), cudaErrorNotReady);
    cr_expect_eq(cudaGetLastError(), cudaErrorNotReady, "noted as well");
    OK(cudaStreamDestroy(s));
    OK(cudaFree(p));
}

Test(devices, pinned_memory)
{
    cudasim_quiet(1);
    static char own[8192];
    char *d, *h;
    struct cudaPointerAttributes a;
    OK(cudaMalloc((void **)&d, 64));
    OK(cudaHostRegister(own, 4096, cudaHostRegisterDefault));
    cr_expect_eq(cudaHostRegister(own + 100, 8, 0), cudaErrorHostMemoryAlreadyRegistered);
    OK(cudaPointerGetAttributes(&a, own + 64));
    cr_expect_eq(a.type, cudaMemoryTypeHost);
    cr_expect_eq(cudaFreeHost(own), cudaErrorInvalidValue);
    cr_expect_eq(cudaHostUnregister(own + 4096), cudaErrorHostMemoryNotRegistered);
    memset(own, 5, 64);
    OK(cudaMemcpyAsync(d, own, 64, cudaMemcpyHostToDevice, NULL));
    OK(cudaDeviceSynchronize());
    cr_expect_eq(cudasim_reports(), 0);
    /* The mistake: the buffer is refilled without waiting for the copy. */
    OK(cudaMemcpyAsync(d, own, 64, cudaMemcpyHostToDevice, NULL));
    own[63]++;
    OK(cudaDeviceSynchronize());
    cr_assert_eq(cudasim_reports(), 1);
    cr_expect_eq(cudasim_report_kind(0), CUDASIM_PINNED);
    cudasim_reports_clear();
    /* Writes by the device are no mistake. */
    OK(cudaHostAlloc((void **)&h, 64, cudaHostAllocPortable));
    OK(cudaMemcpyAsync(h, d, 64, cudaMemcpyDeviceToHost, NULL));
    OK(cudaMemcpyAsync(d, h, 64, cudaMemcpyHostToDevice, NULL));
    OK(cudaDeviceSynchronize());
    cr_expect_eq(h[0], 5);
    OK(cudaHostUnregister(own));
    /* unregistered, so pageable: read before the call returns */
    OK(cudaMemcpyAsync(d, own, 64, cudaMemcpyHostToDevice, NULL));
    own[0] = 99;
    OK(cudaMemcpyAsync(h, d, 64, cudaMemcpyDeviceToHost, NULL));
    OK(cudaDeviceSynchronize());
    cr_expect_eq(h[0], 5);
    cr_expect_eq(cudasim_reports(), 0);
    cr_expect_eq(cudaHostAlloc((void **)&h + 0, 64, 0x80), cudaErrorInvalidValue);
    OK(cudaFreeHost(h));
    OK(cudaFree(d));
}

struct told {
    int calls;
    cudaError_t inside;
};
static void tell(void *data)
{
    told *t = (told *)data;
    void *p;
    t->calls++;
    t->inside = cudaMalloc(&p, 16);
}
Test(devices, host_functions_and_2d_copies)
{
    cudaStream_t s;
    OK(cudaStreamCreate(&s));
    told t = {0, cudaSuccess};
    OK(cudaLaunchHostFunc(s, tell, &t));
    cr_expect_eq(t.calls, 0);
    OK(cudaStreamSynchronize(s));
    cr_expect_eq(t.calls, 1);
    cr_expect_eq(t.inside, cudaErrorNotPermitted, "no CUDA calls from there");
    char *d, host[12] = "abcdefghijk", out[6] = {0};
    OK(cudaMalloc((void **)&d, 64));
    OK(cudaMemcpy2DAsync(d, 16, host, 4, 3, 3, cudaMemcpyHostToDevice, s));
    OK(cudaMemcpy2DAsync(out, 2, d + 1, 16, 2, 3, cudaMemcpyDeviceToHost, s));
    cr_expect_eq(memcmp(out, "bcfgjk", 6), 0);
    cr_expect_eq(cudaMemcpy2DAsync(d, 2, host, 4, 3, 3, cudaMemcpyHostToDevice, s), cudaErrorInvalidValue);
    cr_expect_eq(cudaMemcpyAsync(d, host, 4, (enum cudaMemcpyKind)7, s), cudaErrorInvalidMemcpyDirection);
    struct cudaFuncAttributes f;
    int n;
    OK(cudaFuncGetAttributes(&f, (void *)tell));
    cr_expect_eq(f.maxThreadsPerBlock, 1024);
    OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&n, (void *)tell, 256, 0));
    cr_expect_eq(n, 8);
    OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&n, (void *)tell, 32, 40 * 1024));
    cr_expect_eq(n, 5, "228 KiB / 41 KiB");
    OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&n, (void *)tell, 32, 49 * 1024));
    cr_expect_eq(n, 0, "more than was allowed for the kernel");
    OK(cudaFree(d));
    OK(cudaStreamDestroy(s));
}

/* Reuse of a part of an allocation: cudasim_forget marks its old contents uninitialised. */
Test(devices, forgotten_memory)
{
    cudasim_quiet(1);
    char *d, c;
    OK(cudaMalloc((void **)&d, 64));
    OK(cudaMemset(d, 1, 64));
    cudasim_forget(d + 16, 16, NULL);
    OK(cudaMemcpy(&c, d + 15, 1, cudaMemcpyDeviceToHost));
    cr_expect_eq(c, 1);
    cr_expect_eq(cudasim_reports(), 0);
    OK(cudaMemcpy(&c, d + 16, 1, cudaMemcpyDeviceToHost));
    cr_expect_eq(c, (char)0xff);
    if (cudasim_checked()) {
        cr_assert_eq(cudasim_reports(), 1);
        cr_expect_eq(cudasim_report_kind(0), CUDASIM_UNINIT);
    }
    OK(cudaFree(d));
}

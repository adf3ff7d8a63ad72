/* Runtime API: return values, sticky errors, and the orders in which streams may run. */
#include <criterion/criterion.h>
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include <set>
#include <string>
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

Test(runtime, copies_and_memsets)
{
    std::vector<char> in(5000), out(5000);
    for (size_t i = 0; i < in.size(); i++) in[i] = (char)(i * 7);
    char *a, *b;
    OK(cudaMalloc((void **)&a, 5000));
    OK(cudaMalloc((void **)&b, 5000));
    cr_expect_eq((uintptr_t)a % 256, 0);
    OK(cudaMemcpy(a, in.data(), 5000, cudaMemcpyHostToDevice));
    OK(cudaMemcpy(b + 1, a, 4999, cudaMemcpyDeviceToDevice));
    OK(cudaMemset(b, 3, 1));
    OK(cudaMemcpy(out.data(), b, 5000, cudaMemcpyDefault));
    cr_expect_eq(out[0], 3);
    cr_expect_arr_eq(out.data() + 1, in.data(), 4999);
    cr_expect_eq(cudasim_bytes_held(), 10000);
    struct cudaPointerAttributes p;
    OK(cudaPointerGetAttributes(&p, a + 10));
    cr_expect_eq(p.type, cudaMemoryTypeDevice);
    OK(cudaPointerGetAttributes(&p, in.data()));
    cr_expect_eq(p.type, cudaMemoryTypeUnregistered);
    OK(cudaFree(a));
    OK(cudaFree(b));
    OK(cudaFree(NULL));
    cr_expect_eq(cudasim_reports(), 0);
}

Test(runtime, allocation_fails_on_demand)
{
    void *p, *q;
    cudasim_fail_alloc(2);
    OK(cudaMalloc(&p, 100));
    cr_expect_eq(cudaMalloc(&q, 100), cudaErrorMemoryAllocation);
    cr_expect_null(q);
    cr_expect_eq(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
    cr_expect_eq(cudaGetLastError(), cudaErrorMemoryAllocation);
    cr_expect_eq(cudaGetLastError(), cudaSuccess, "this one is not sticky");
    OK(cudaMalloc(&q, 100));
    cudasim_memory_limit(1 << 20);
    size_t free_bytes, total;
    OK(cudaMemGetInfo(&free_bytes, &total));
    cr_expect_eq(total, 1 << 20);
    cr_expect_eq(free_bytes, (1 << 20) - 200);
    void *r;
    cr_expect_eq(cudaMalloc(&r, 1 << 20), cudaErrorMemoryAllocation);
    OK(cudaFree(p));
    OK(cudaFree(q));
    OK(cudaMalloc(&r, 1 << 20));
    OK(cudaFree(r));
}

/* Allocations of more than the address space in total: memory is reused, live allocations are not. */
Test(runtime, memory_is_reused)
{
    cudasim_memory_limit((size_t)128 << 20);
    char *kept;
    OK(cudaMalloc((void **)&kept, 1000));
    OK(cudaMemset(kept, 42, 1000));
    for (int i = 0; i < 6; i++) {
        char *p;
        OK(cudaMalloc((void **)&p, (size_t)(60 + i) << 20));
        cr_assert(p + ((size_t)(60 + i) << 20) <= kept || p >= kept + 1000);
        OK(cudaFree(p));
    }
    char out[1000];
    OK(cudaMemcpy(out, kept, 1000, cudaMemcpyDeviceToHost));
    for (int i = 0; i < 1000; i++) cr_assert_eq(out[i], 42);
    OK(cudaFree(kept));
}

Test(runtime, launches_are_limited)
{
    cudasim_quiet(1);
    float *x;
    OK(cudaMalloc((void **)&x, 4096));
    cr_expect_eq(cudaLaunchKernel((void *)getenv, 1, 1, NULL, 0, NULL), cudaErrorInvalidDeviceFunction);
    k_gelu k = gelu_of(x, x, 1);
    OK(cudaMemset(x, 0, 4096));
    OK(k_gelu_fwd(&k, NULL)); /* registers the kernel */
    OK(cudaDeviceSynchronize());
    cr_expect_eq(k_gelu_fwd(&k, (cudaStream_t)x), cudaErrorInvalidResourceHandle);
    cr_expect_eq(cudaFuncSetAttribute((void *)getenv, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024),
                 cudaSuccess);
    cr_expect_eq(cudaFuncSetAttribute((void *)getenv, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024 + 1),
                 cudaErrorInvalidValue);
    OK(cudaFree(x));
}

Test(runtime, one_device)
{
    int n = 0, d = 5, v = 0;
    OK(cudaGetDeviceCount(&n));
    cr_expect_eq(n, 1);
    OK(cudaSetDevice(0));
    cr_expect_eq(cudaSetDevice(1), cudaErrorInvalidDevice);
    cr_expect_eq(cudaGetLastError(), cudaErrorInvalidDevice);
    OK(cudaGetDevice(&d));
    cr_expect_eq(d, 0);
    struct cudaDeviceProp p;
    OK(cudaGetDeviceProperties(&p, 0));
    cr_expect_eq(p.warpSize, 32);
    cr_expect_eq(p.sharedMemPerBlockOptin, 227 * 1024);
    OK(cudaDeviceGetAttribute(&v, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    cr_expect_eq(v, 227 * 1024);
    cr_expect_str_eq(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation");
    OK(cudaRuntimeGetVersion(&v));
    cr_expect_eq(v, CUDART_VERSION);
}

/* After a kernel fails every call returns its error until cudaDeviceReset. */
Test(runtime, errors_of_a_kernel_are_sticky)
{
    if (!cudasim_checked()) return;
    cudasim_quiet(1);
    float *x, host[4] = {0};
    OK(cudaMalloc((void **)&x, 64 * 4));
    OK(cudaMemset(x, 0, 64 * 4));
    k_gelu k = gelu_of(x, x, 65);
    OK(k_gelu_fwd(&k, NULL)); /* enqueued, not run yet */
    cr_expect_eq(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    cr_expect_eq(cudaGetLastError(), cudaErrorIllegalAddress);
    cr_expect_eq(cudaGetLastError(), cudaErrorIllegalAddress);
    cr_expect_eq(cudaMemcpy(host, x, 16, cudaMemcpyDeviceToHost), cudaErrorIllegalAddress);
    cr_expect_eq(cudaMalloc((void **)&x, 16), cudaErrorIllegalAddress);
    cr_expect_eq(cudaFree(x), cudaErrorIllegalAddress);
    OK(cudaDeviceReset());
    cr_expect_eq(cudaGetLastError(), cudaSuccess);
    cr_expect_eq(cudasim_bytes_held(), 0);
    OK(cudaMalloc((void **)&x, 16));
    OK(cudaFree(x));
}

static char order_of(char *a, cudaStream_t s[2])
{
    OK(cudaMemsetAsync(a, 1, 1, s[0]));
    OK(cudaMemsetAsync(a, 2, 1, s[1]));
    OK(cudaDeviceSynchronize());
    char c;
    OK(cudaMemcpy(&c, a, 1, cudaMemcpyDeviceToHost));
    return c;
}

/* Without an event both orders occur for some seeds; with one, or through the default stream, only one. */
Test(runtime, streams_run_in_all_legal_orders)
{
    char *a;
    OK(cudaMalloc((void **)&a, 8));
    cudasim_quiet(1);
    cudaStream_t s[2], blocking;
    cudaEvent_t e;
    for (int i = 0; i < 2; i++) OK(cudaStreamCreateWithFlags(&s[i], cudaStreamNonBlocking));
    OK(cudaStreamCreate(&blocking));
    OK(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    std::set<char> seen;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        cudasim_seed(seed);
        seen.insert(order_of(a, s));
    }
    cr_expect_eq(seen.size(), 2, "one order alone was seen");
    if (cudasim_checked()) cr_expect_geq(cudasim_reports(), 1, "two streams wrote one byte");
    cudasim_reports_clear();
    for (uint64_t seed = 0; seed <= 20; seed++) {
        cudasim_seed(seed);
        char c[3];
        OK(cudaMemsetAsync(a, 1, 1, s[0]));
        OK(cudaEventRecord(e, s[0]));
        OK(cudaStreamWaitEvent(s[1], e, 0));
        OK(cudaMemsetAsync(a, 2, 1, s[1]));
        OK(cudaMemsetAsync(a + 1, 1, 1, blocking));
        OK(cudaMemsetAsync(a + 1, 2, 1, NULL));     /* after the blocking stream */
        OK(cudaMemsetAsync(a + 1, 3, 1, blocking)); /* after the default stream */
        OK(cudaStreamSynchronize(blocking));
        OK(cudaStreamSynchronize(s[1]));
        OK(cudaMemset(a + 2, 9, 1));
        OK(cudaMemcpy(c, a, 3, cudaMemcpyDeviceToHost));
        cr_expect(c[0] == 2 && c[1] == 3 && c[2] == 9, "seed %d: %d %d %d", (int)seed, c[0], c[1], c[2]);
    }
    for (int i = 0; i < cudasim_reports(); i++) cr_expect(0, "%s", cudasim_report_text(i));
    OK(cudaEventDestroy(e));
    for (int i = 0; i < 2; i++) OK(cudaStreamDestroy(s[i]));
    cr_expect_eq(cudaStreamSynchronize(s[0]), cudaErrorInvalidResourceHandle);
    cr_expect_eq(cudaEventSynchronize(e), cudaErrorInvalidResourceHandle);
    OK(cudaStreamDestroy(blocking));
    OK(cudaFree(a));
}

/* Operations run when the host waits; a query runs one. */
Test(runtime, work_is_queued)
{
    cudasim_quiet(1);
    char *a, *pinned;
    cudaStream_t s;
    cudaEvent_t e[2];
    OK(cudaMalloc((void **)&a, 8));
    OK(cudaMallocHost((void **)&pinned, 8));
    OK(cudaStreamCreate(&s));
    for (int i = 0; i < 2; i++) OK(cudaEventCreate(&e[i]));
    memset(pinned, 5, 8);
    OK(cudaEventRecord(e[0], s));
    OK(cudaMemcpyAsync(a, pinned, 8, cudaMemcpyHostToDevice, s));
    OK(cudaEventRecord(e[1], s));
    cr_expect_eq(cudaStreamQuery(s), cudaErrorNotReady);
    float ms = -1;
    cr_expect_eq(cudaEventElapsedTime(&ms, e[0], e[1]), cudaErrorNotReady);
    memset(pinned, 6, 8); /* mistake: the copy has not read it yet */
    OK(cudaEventSynchronize(e[1]));
    OK(cudaEventElapsedTime(&ms, e[0], e[1]));
    cr_expect_eq(ms, 0);
    char c[8], pageable[8];
    OK(cudaMemcpy(c, a, 8, cudaMemcpyDeviceToHost));
    cr_expect_eq(c[0], 6);
    memset(pageable, 7, 8);
    OK(cudaMemcpyAsync(a, pageable, 8, cudaMemcpyHostToDevice, s));
    memset(pageable, 8, 8); /* allowed: pageable memory was read by the call */
    OK(cudaMemcpyAsync(c, a, 8, cudaMemcpyDeviceToHost, s));
    cr_expect_eq(c[0], 7, "a copy to pageable memory is done when the call returns");
    int turns = 0;
    OK(cudaMemsetAsync(a, 1, 8, s));
    while (cudaStreamQuery(s) == cudaErrorNotReady) cr_assert_lt(++turns, 10);
    for (int i = 0; i < 2; i++) OK(cudaEventDestroy(e[i]));
    OK(cudaStreamDestroy(s));
    OK(cudaFreeHost(pinned));
    cr_expect_eq(cudaFreeHost(pinned), cudaErrorInvalidValue);
    OK(cudaFree(a));
    cr_assert_eq(cudasim_reports(), 1);
    cr_expect_eq(cudasim_report_kind(0), CUDASIM_PINNED);
}

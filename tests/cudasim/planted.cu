#include "tests/cudasim/planted.h"

#include "kernels/common/device.cuh"

/* The report must name the line marked "here: NAME"; the test looks these lines up. */
constexpr int N = 64;
static float *array(int n, int value)
{
    float *p = NULL;
    if (cudaMalloc((void **)&p, (size_t)n * sizeof(float)) != cudaSuccess) return NULL;
    if (value >= 0) cudaMemset(p, value, (size_t)n * sizeof(float));
    cudaDeviceSynchronize(); /* cudaMemset is asynchronous */
    return p;
}
static cudaError_t end(float *a, float *b)
{
    const cudaError_t e = cudaDeviceSynchronize();
    if (e != cudaSuccess)
        cudaDeviceReset(); /* frees all memory and clears the sticky error */
    else
        cudaFree(a), cudaFree(b);
    return e;
}
#define RUN(kernel, grid, block)                                                                                       \
    static cudaError_t run_##kernel(void)                                                                              \
    {                                                                                                                  \
        float *a = array(N, 0), *b = array(N, 0);                                                                      \
        const cudaError_t e = dev_launch(kernel, grid, block, 0, NULL, a, b);                                          \
        return e == cudaSuccess ? end(a, b) : e;                                                                       \
    }

static __global__ void missing_barrier(const float *a, float *b)
{
    SHARED_ARRAY(float, s, [N]);
    const int t = (int)threadIdx.x;
    s[t] = a[t];
    b[t] = s[N - 1 - t]; /* here: missing_barrier */
}
RUN(missing_barrier, 1, N)

static __global__ void missing_barrier_in_loop(const float *a, float *b)
{
    SHARED_ARRAY(float, s, [N]);
    const int t = (int)threadIdx.x;
    float sum = 0;
    for (int i = 0; i < 2; i++) {
        s[t] = a[t] + (float)i; /* here: missing_barrier_in_loop */
        DEV_SYNC();
        sum += s[N - 1 - t]; /* here: missing_barrier_in_loop */
    }
    b[t] = sum;
}
RUN(missing_barrier_in_loop, 1, N)

static __global__ void missing_syncwarp(const float *a, float *b)
{
    SHARED_ARRAY(float, s, [32]);
    const int t = (int)threadIdx.x;
    s[t] = a[t];                                        /* here: missing_syncwarp */
    const float v = __shfl_xor_sync(DEV_FULL, a[t], 1); /* a shuffle does not order memory */
    b[t] = s[31 - t] + v;                               /* here: missing_syncwarp */
}
RUN(missing_syncwarp, 1, 32)

static __global__ void between_blocks(const float *a, float *b)
{
    b[threadIdx.x] = a[threadIdx.x] + (float)blockIdx.x; /* here: between_blocks */
}
RUN(between_blocks, 2, 32)

static __global__ void halves(const float *, float *b) /* one byte a thread: no race; only byte 62 is written twice */
{
    unsigned char *c = (unsigned char *)b;
    c[threadIdx.x < 62 ? threadIdx.x : 62] = 1; /* here: halves */
}
RUN(halves, 1, N)

static __global__ void atomic_and_plain(const float *a, float *b)
{
    if (threadIdx.x != 40)
        atomicAdd(b, 1.0f); /* here: atomic_and_plain */
    else
        b[0] = a[1]; /* here: atomic_and_plain */
}
RUN(atomic_and_plain, 1, N)

static __global__ void global_bounds(const float *a, float *b)
{
    b[threadIdx.x] = a[threadIdx.x + 1]; /* here: global_bounds */
}
RUN(global_bounds, 1, N)

static __global__ void wide_bounds(const float *a, float *b) /* missing bounds check for the last thread */
{
    dev_store16(b + 4 * threadIdx.x, dev_load16(a + 4 * threadIdx.x % N)); /* here: wide_bounds */
}
RUN(wide_bounds, 1, N / 4 + 1)

static __global__ void shared_bounds(const float *a, float *b)
{
    SHARED_ARRAY(float, s, [32]);
    SHARED_ARRAY(float, other, [32]);
    s[threadIdx.x + 1] = a[threadIdx.x]; /* here: shared_bounds */
    other[threadIdx.x] = b[threadIdx.x] = 0;
}
RUN(shared_bounds, 1, 32)

static __global__ void shared_uninit(const float *a, float *b)
{
    SHARED_ARRAY(float, s, [N]);
    if (threadIdx.x < N - 1) s[threadIdx.x] = a[threadIdx.x];
    DEV_SYNC();
    b[threadIdx.x] = s[threadIdx.x]; /* here: shared_uninit */
}
RUN(shared_uninit, 1, N)

static __global__ void global_uninit(const float *a, float *b)
{
    b[threadIdx.x] = a[threadIdx.x] + 1; /* here: global_uninit */
}
static cudaError_t run_global_uninit(void)
{
    float *a = array(N, -1), *b = array(N, 0);
    cudaMemset(a, 0, (N - 1) * sizeof(float));
    const cudaError_t e = dev_launch(global_uninit, 1, N, 0, NULL, a, b);
    return e == cudaSuccess ? end(a, b) : e;
}

static __global__ void after_free(const float *a, float *b)
{
    b[threadIdx.x] = a[threadIdx.x]; /* here: after_free */
}
static cudaError_t run_after_free(void)
{
    float *a = array(N, 0), *b = array(N, 0);
    cudaFree(a);
    const cudaError_t e = dev_launch(after_free, 1, N, 0, NULL, a, b);
    return e == cudaSuccess ? end(NULL, b) : e;
}

static __global__ void misaligned(const float *a, float *b)
{
    const float4 v = dev_load16(a + 1); /* here: misaligned */
    b[threadIdx.x] = v.x;
}
RUN(misaligned, 1, 1)

static __global__ void misaligned_plain(const float *a, float *b)
{
    *b = *(const float *)((const char *)a + 2); /* here: misaligned_plain */
}
RUN(misaligned_plain, 1, 1)

static __global__ void host_pointer(const float *a, float *b)
{
    b[threadIdx.x] = a[threadIdx.x]; /* here: host_pointer */
}
static cudaError_t run_host_pointer(void)
{
    static float host[N];
    float *b = array(N, 0);
    const cudaError_t e = dev_launch(host_pointer, 1, N, 0, NULL, host, b);
    return e == cudaSuccess ? end(NULL, b) : e;
}

static __global__ void null_pointer(const float *a, float *b)
{
    b[threadIdx.x] = a[threadIdx.x]; /* here: null_pointer */
}
static cudaError_t run_null_pointer(void)
{
    float *b = array(N, 0);
    const cudaError_t e = dev_launch(null_pointer, 1, N, 0, NULL, (const float *)NULL, b);
    return e == cudaSuccess ? end(NULL, b) : e;
}

static __global__ void others_local(const float *a, float *b)
{
    SHARED_ARRAY(float *, p, [1]);
    volatile float mine[4];
    for (int i = 0; i < 4; i++) mine[i] = a[i];
    if (threadIdx.x == 0) p[0] = (float *)mine;
    DEV_SYNC();
    if (threadIdx.x == 1) b[1] = *(volatile float *)p[0]; /* here: others_local */
    DEV_SYNC();
    if (threadIdx.x == 0) b[0] = mine[threadIdx.x];
}
RUN(others_local, 1, 32)

static __global__ void divergent(const float *a, float *b)
{
    if (threadIdx.x < 32) {
        DEV_SYNC(); /* here: divergent */
    } else {
        DEV_SYNC(); /* here: divergent */
    }
    b[threadIdx.x] = a[threadIdx.x];
}
RUN(divergent, 1, N)

static __global__ void missed(const float *a, float *b)
{
    if (threadIdx.x == 5) return;
    DEV_SYNC(); /* here: missed */
    b[threadIdx.x] = a[threadIdx.x];
}
RUN(missed, 1, N)

static __global__ void lanes_left(const float *a, float *b)
{
    if (threadIdx.x >= 20) return;
    b[threadIdx.x] = __shfl_xor_sync(DEV_FULL, a[threadIdx.x], 1); /* here: lanes_left */
}
RUN(lanes_left, 1, 32)

static __global__ void two_collectives(const float *a, float *b)
{
    float v;
    if (threadIdx.x < 16)
        v = __shfl_xor_sync(DEV_FULL, a[threadIdx.x], 1); /* here: two_collectives */
    else
        v = (float)__any_sync(DEV_FULL, a[threadIdx.x] > 0); /* here: two_collectives */
    b[threadIdx.x] = v;
}
RUN(two_collectives, 1, 32)

static __global__ void part_mask(const float *a, float *b)
{
    b[threadIdx.x] = __shfl_xor_sync(0xffffu, a[threadIdx.x], 1); /* here: part_mask */
}
RUN(part_mask, 1, 32)

static __global__ void not_waited(const float *a, float *b)
{
    SHARED_ARRAY(float, s, [128]);
    const int t = (int)threadIdx.x;
    dev_copy_async16(s + 4 * t, a + 4 * (t % 16), 16);
    dev_copy_commit();
    dev_copy_wait<1>(); /* one group may stay pending */
    b[t] = s[4 * t];    /* here: not_waited */
}
RUN(not_waited, 1, 32)

static __global__ void waited_no_barrier(const float *a, float *b)
{
    SHARED_ARRAY(float, s, [256]);
    const int t = (int)threadIdx.x;
    dev_copy_async16(s + 4 * t, a + 4 * (t % 16), 16);
    dev_copy_commit();
    dev_copy_wait<0>();
    b[t] = s[252 - 4 * t]; /* here: waited_no_barrier */
}
RUN(waited_no_barrier, 1, N)

static __global__ void too_much_shared(const float *, float *b)
{
    SHARED_ARRAY(float, s, [8192]);
    SHARED_ARRAY(float, r, [8192]);
    s[threadIdx.x] = r[threadIdx.x] = b[threadIdx.x] = 0;
}
RUN(too_much_shared, 1, 32)
static cudaError_t run_too_many_threads(void)
{
    float *a = array(N, 0), *b = array(N, 0);
    const cudaError_t e = dev_launch(global_bounds, 1, dim3(32, 33), 0, NULL, a, b);
    end(a, b);
    return e;
}

/* Streams: one kernel writes, the other reads the same array without an event between them. */
static __global__ void producer(float *b)
{
    b[threadIdx.x] = 1;
}
static __global__ void consumer(const float *a, float *b)
{
    b[threadIdx.x] = a[threadIdx.x];
}
static cudaError_t run_streams(bool wait)
{
    float *a = array(N, 0), *b = array(N, 0);
    cudaStream_t s[2];
    cudaEvent_t e;
    for (int i = 0; i < 2; i++) cudaStreamCreateWithFlags(&s[i], cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&e, cudaEventDisableTiming);
    dev_launch(producer, 1, N, 0, s[0], a);
    cudaEventRecord(e, s[0]);
    if (wait) cudaStreamWaitEvent(s[1], e, 0);
    dev_launch(consumer, 1, N, 0, s[1], a, b);
    const cudaError_t r = end(a, b);
    for (int i = 0; i < 2; i++) cudaStreamDestroy(s[i]);
    cudaEventDestroy(e);
    return r;
}
static cudaError_t run_missing_wait(void)
{
    return run_streams(false);
}
static cudaError_t run_copy_too_early(void)
{
    static float host[N];
    float *a = array(N, 0);
    cudaStream_t s;
    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    cudaDeviceSynchronize();
    dev_launch(producer, 1, N, 0, s, a);
    /* the default stream does not wait for non-blocking streams */
    cudaMemcpy(host, a, sizeof host, cudaMemcpyDeviceToHost);
    const cudaError_t e = end(a, NULL);
    cudaStreamDestroy(s);
    return e;
}
static cudaError_t run_uninit_copy(void)
{
    float host[N], *a = array(N, -1);
    cudaMemcpy(host, a, sizeof host, cudaMemcpyDeviceToHost);
    return end(a, NULL);
}
static cudaError_t run_copy_bounds(void)
{
    static float host[N + 1];
    float *a = array(N, 0);
    const cudaError_t e = cudaMemcpy(a, host, sizeof host, cudaMemcpyHostToDevice);
    end(a, NULL);
    return e;
}
static cudaError_t run_swapped_copy(void)
{
    float host[N], *a = array(N, 0);
    const cudaError_t e = cudaMemcpy(host, a, sizeof host, cudaMemcpyHostToDevice);
    end(a, NULL);
    return e;
}
static cudaError_t run_double_free(void)
{
    float *a = array(N, 0);
    cudaFree(a);
    return cudaFree(a);
}
/* The same with cudaStreamWaitEvent: no report. */
extern "C" cudaError_t planted_nothing(void)
{
    return run_streams(true);
}

#define AT(name) run_##name
extern "C" const struct planted planted[] = {
    {"missing barrier", AT(missing_barrier), CUDASIM_RACE_SHARED, cudaSuccess, "missing_barrier", "missing_barrier"},
    {"missing barrier in a loop", AT(missing_barrier_in_loop), CUDASIM_RACE_SHARED, cudaSuccess,
     "missing_barrier_in_loop", NULL},
    {"missing syncwarp", AT(missing_syncwarp), CUDASIM_RACE_SHARED, cudaSuccess, "missing_syncwarp", NULL},
    {"race between blocks", AT(between_blocks), CUDASIM_RACE_GLOBAL, cudaSuccess, "between_blocks", "another block"},
    {"one byte by two threads", AT(halves), CUDASIM_RACE_GLOBAL, cudaSuccess, "halves", NULL},
    {"atomic and plain", AT(atomic_and_plain), CUDASIM_RACE_GLOBAL, cudaSuccess, "atomic_and_plain", NULL},
    {"out of bounds", AT(global_bounds), CUDASIM_BOUNDS, cudaErrorIllegalAddress, "global_bounds",
     "byte 256 of an allocation of 256"},
    {"16 bytes out of bounds", AT(wide_bounds), CUDASIM_BOUNDS, cudaErrorIllegalAddress, "wide_bounds",
     "thread (16,0,0)"},
    {"shared out of bounds", AT(shared_bounds), CUDASIM_BOUNDS, cudaErrorIllegalAddress, "shared_bounds",
     "thread (31,0,0)"},
    {"shared uninitialised", AT(shared_uninit), CUDASIM_UNINIT, cudaSuccess, "shared_uninit", "thread (63,0,0)"},
    {"global uninitialised", AT(global_uninit), CUDASIM_UNINIT, cudaSuccess, "global_uninit", "thread (63,0,0)"},
    {"use after free", AT(after_free), CUDASIM_FREED, cudaErrorIllegalAddress, "after_free", NULL},
    {"misaligned vector", AT(misaligned), CUDASIM_ALIGN, cudaErrorMisalignedAddress, "misaligned", NULL},
    {"misaligned float", AT(misaligned_plain), CUDASIM_ALIGN, cudaErrorMisalignedAddress, "misaligned_plain", NULL},
    {"host pointer", AT(host_pointer), CUDASIM_HOST, cudaErrorIllegalAddress, "host_pointer", NULL},
    {"null pointer", AT(null_pointer), CUDASIM_BOUNDS, cudaErrorIllegalAddress, "null_pointer", "null"},
    {"another thread's local memory", AT(others_local), CUDASIM_LOCAL, cudaErrorIllegalAddress, "others_local", NULL},
    {"divergent barriers", AT(divergent), CUDASIM_BARRIER, cudaErrorLaunchFailure, "divergent", NULL},
    {"missed barrier", AT(missed), CUDASIM_BARRIER, cudaErrorLaunchFailure, "missed", "thread 5 has missed"},
    {"lanes left", AT(lanes_left), CUDASIM_COLLECTIVE, cudaErrorLaunchFailure, "lanes_left", "has left the kernel"},
    {"two collectives", AT(two_collectives), CUDASIM_COLLECTIVE, cudaErrorLaunchFailure, "two_collectives", "shuffle"},
    {"part of a mask", AT(part_mask), CUDASIM_COLLECTIVE, cudaErrorLaunchFailure, "part_mask", "0000ffff"},
    {"cp.async not waited for", AT(not_waited), CUDASIM_PENDING, cudaSuccess, "not_waited", NULL},
    {"cp.async without a barrier", AT(waited_no_barrier), CUDASIM_RACE_SHARED, cudaSuccess, "waited_no_barrier", NULL},
    {"too much shared memory", AT(too_much_shared), CUDASIM_LIMIT, cudaErrorLaunchOutOfResources, NULL, "65536"},
    {"too many threads", AT(too_many_threads), CUDASIM_LIMIT, cudaErrorInvalidConfiguration, NULL, "1056 threads"},
    {"missing event wait", AT(missing_wait), CUDASIM_RACE_GLOBAL, cudaSuccess, NULL,
     "not ordered by an event or stream"},
    {"copy too early", AT(copy_too_early), CUDASIM_RACE_GLOBAL, cudaSuccess, NULL, "producer"},
    {"uninitialised copied out", AT(uninit_copy), CUDASIM_UNINIT, cudaSuccess, NULL, "in cudaMemcpy"},
    {"copy out of bounds", AT(copy_bounds), CUDASIM_BOUNDS, cudaErrorInvalidValue, NULL, "260 bytes"},
    {"copy the wrong way", AT(swapped_copy), CUDASIM_HOST, cudaErrorInvalidValue, NULL, "host memory where device"},
    {"freed twice", AT(double_free), CUDASIM_FREED, cudaErrorInvalidValue, NULL, NULL},
};
extern "C" const int n_planted = sizeof planted / sizeof *planted;

/* CUDA's device language for the host compiler; included by kernels/common/device.cuh alone, in place of nvcc's
 * built-ins. */
#ifndef CUDASIM_SIM_DEVICE_H
#define CUDASIM_SIM_DEVICE_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <type_traits>
#include <utility>

/* Not instrumented in checked mode: the simulation's own loads and stores are not the kernel's. */
#define SIM_RAW __attribute__((no_sanitize("thread"), no_sanitize("alignment"), noinline, unused))
#define SIM_INLINE static inline __attribute__((always_inline))

struct sim_thread {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
    int lane;
};
struct sim_slot { /* data that one lane passes to the others */
    unsigned char bytes[64];
};
extern struct sim_thread *sim_now;
#define threadIdx (sim_now->thread)
#define blockIdx (sim_now->block)
#define blockDim (sim_now->block_dim)
#define gridDim (sim_now->grid_dim)
#undef __launch_bounds__
#define __launch_bounds__(...)
#define DEV_INLINE inline __attribute__((always_inline))

#define SHARED_ARRAY(type, name, ...)                                                                                  \
    static const char name##_site = 0;                                                                                 \
    typedef type name##_array __VA_ARGS__;                                                                             \
    name##_array &name = *(name##_array *)sim_shared_array(&name##_site, sizeof(name##_array))
#define SHARED_DYN(type, name) type *name = (type *)sim_shared_dynamic()
#define DEV_SYNC() sim_barrier(__COUNTER__, __FILE__, __LINE__)

/* --- runtime (sched.cpp, memory.cpp) --- */
void *sim_shared_array(const void *site, size_t bytes);
void *sim_shared_dynamic(void);
void sim_barrier(int site, const char *file, int line);
/* Exchange within a warp: each of the 32 lanes passes `n` bytes (at most 64) and gets all 32 slots, valid until the
 * lane's next exchange but one. Lanes that meet with a different `kind` of collective are reported. */
enum sim_kind { SIM_SYNCWARP = 1, SIM_SHFL, SIM_VOTE, SIM_REDUCE, SIM_LDMATRIX, SIM_MMA };
const struct sim_slot *sim_exchange(int kind, const void *mine, unsigned n, const void *pc);
void sim_touch(const void *p, size_t n, int kind, const void *pc); /* 0 read, 1 write, 2 atomic; alignment too */
void sim_mask(unsigned mask);
void sim_copy_async(void *dst, const void *src, unsigned bytes, unsigned full, const void *pc);
void sim_copy_commit(void);
void sim_copy_wait(unsigned groups);
void sim_count_mma(void);
void sim_kernel(const void *entry, const char *name, void (*call)(const void *, void **), const size_t *sizes, int n);

#define SIM_PC __builtin_return_address(0)

/* --- launches --- */
template <class... P> struct sim_caller { /* calls a kernel with the parameters at args[i] */
    template <size_t... I> static SIM_RAW void at(const void *entry, void **args, std::index_sequence<I...>)
    {
        ((void (*)(P...))entry)(*(P *)args[I]...);
    }
    static SIM_RAW void call(const void *entry, void **args)
    {
        at(entry, args, std::index_sequence_for<P...>{});
    }
};
template <class... P> struct sim_launcher {
    const char *name;
    void (*kernel)(P...);
    cudaError_t operator()(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, P... p) const
    {
        const size_t sizes[] = {sizeof(P)...};
        void *args[] = {(void *)&p...};
        sim_kernel((const void *)kernel, name, sim_caller<P...>::call, sizes, (int)sizeof...(P));
        return cudaLaunchKernel((const void *)kernel, grid, block, args, shared_bytes, stream);
    }
};
template <class... P> static inline sim_launcher<P...> dev_kernel(const char *name, void (*kernel)(P...))
{
    return {name, kernel};
}

/* --- warps --- */
template <class T> static SIM_RAW T sim_shfl(T v, int kind, int arg, unsigned width)
{
    static_assert(sizeof(T) <= 8, "a shuffle moves 4 or 8 bytes");
    const struct sim_slot *s = sim_exchange(SIM_SHFL, &v, sizeof v, SIM_PC);
    const int lane = sim_now->lane, first = lane & ~(int)(width - 1), last = first + (int)width - 1;
    int from = lane;
    if (kind == 0) from = first + (arg & (int)(width - 1));        /* idx */
    if (kind == 1) from = lane - arg >= first ? lane - arg : lane; /* up */
    if (kind == 2) from = lane + arg <= last ? lane + arg : lane;  /* down */
    if (kind == 3)
        from = (lane ^ arg) <= last ? lane ^ arg : lane; /* xor: earlier groups may be read, later ones not */
    T r;
    memcpy(&r, s[from].bytes, sizeof r);
    return r;
}
static SIM_RAW unsigned sim_ballot(int p)
{
    const struct sim_slot *s = sim_exchange(SIM_VOTE, &p, sizeof p, SIM_PC);
    unsigned r = 0;
    for (int i = 0; i < 32; i++) {
        int q;
        memcpy(&q, s[i].bytes, sizeof q);
        r |= (unsigned)(q != 0) << i;
    }
    return r;
}
template <class T> SIM_INLINE T __shfl_sync(unsigned mask, T v, int lane, int width = 32)
{
    sim_mask(mask);
    return sim_shfl(v, 0, lane, (unsigned)width);
}
template <class T> SIM_INLINE T __shfl_up_sync(unsigned mask, T v, unsigned n, int width = 32)
{
    sim_mask(mask);
    return sim_shfl(v, 1, (int)n, (unsigned)width);
}
template <class T> SIM_INLINE T __shfl_down_sync(unsigned mask, T v, unsigned n, int width = 32)
{
    sim_mask(mask);
    return sim_shfl(v, 2, (int)n, (unsigned)width);
}
template <class T> SIM_INLINE T __shfl_xor_sync(unsigned mask, T v, int n, int width = 32)
{
    sim_mask(mask);
    return sim_shfl(v, 3, n, (unsigned)width);
}
SIM_INLINE unsigned __ballot_sync(unsigned mask, int p)
{
    sim_mask(mask);
    return sim_ballot(p);
}
SIM_INLINE int __any_sync(unsigned mask, int p)
{
    sim_mask(mask);
    return sim_ballot(p) != 0;
}
SIM_INLINE int __all_sync(unsigned mask, int p)
{
    sim_mask(mask);
    return sim_ballot(p) == 0xffffffffu;
}
static SIM_RAW void sim_syncwarp(void)
{
    sim_exchange(SIM_SYNCWARP, 0, 0, SIM_PC);
}
SIM_INLINE void __syncwarp(unsigned mask = 0xffffffffu)
{
    sim_mask(mask);
    sim_syncwarp();
}
/* op 0 add, 1 min, 2 max, 3 and, 4 or, 5 xor */
template <class T> static SIM_RAW T sim_reduce(T v, int op)
{
    const struct sim_slot *s = sim_exchange(SIM_REDUCE, &v, sizeof v, SIM_PC);
    T r = 0, x;
    for (int i = 0; i < 32; i++) {
        memcpy(&x, s[i].bytes, sizeof x);
        if (i == 0) {
            r = x;
            continue;
        }
        switch (op) {
        case 0: r = (T)((unsigned)r + (unsigned)x); break;
        case 1: r = x < r ? x : r; break;
        case 2: r = x > r ? x : r; break;
        case 3: r = (T)(r & x); break;
        case 4: r = (T)(r | x); break;
        default: r = (T)(r ^ x); break;
        }
    }
    return r;
}
#define SIM_REDUCE(name, T, op)                                                                                        \
    SIM_INLINE T __reduce_##name##_sync(unsigned mask, T v)                                                            \
    {                                                                                                                  \
        sim_mask(mask);                                                                                                \
        return sim_reduce(v, op);                                                                                      \
    }
SIM_REDUCE(add, unsigned, 0)
SIM_REDUCE(add, int, 0)
SIM_REDUCE(min, unsigned, 1)
SIM_REDUCE(min, int, 1)
SIM_REDUCE(max, unsigned, 2)
SIM_REDUCE(max, int, 2)
SIM_REDUCE(and, unsigned, 3)
SIM_REDUCE(or, unsigned, 4)
SIM_REDUCE(xor, unsigned, 5)
#undef SIM_REDUCE

/* --- atomics; each returns the old value --- */
#define SIM_ATOMIC(name, T, expr)                                                                                      \
    static SIM_RAW T name(T *p, T v)                                                                                   \
    {                                                                                                                  \
        sim_touch(p, sizeof *p, 2, SIM_PC);                                                                            \
        const T old = *p;                                                                                              \
        *p = (expr);                                                                                                   \
        return old;                                                                                                    \
    }
#define SIM_ATOMIC_INTEGER(T)                                                                                          \
    SIM_ATOMIC(atomicAdd, T, (T)(old + v))                                                                             \
    SIM_ATOMIC(atomicMax, T, old > v ? old : v)                                                                        \
    SIM_ATOMIC(atomicMin, T, old < v ? old : v)                                                                        \
    SIM_ATOMIC(atomicAnd, T, old &v)                                                                                   \
    SIM_ATOMIC(atomicOr, T, old | v)                                                                                   \
    SIM_ATOMIC(atomicXor, T, old ^ v)                                                                                  \
    SIM_ATOMIC(atomicExch, T, v)                                                                                       \
    static SIM_RAW T atomicCAS(T *p, T compare, T v)                                                                   \
    {                                                                                                                  \
        sim_touch(p, sizeof *p, 2, SIM_PC);                                                                            \
        const T old = *p;                                                                                              \
        if (old == compare) *p = v;                                                                                    \
        return old;                                                                                                    \
    }
SIM_ATOMIC_INTEGER(unsigned)
SIM_ATOMIC_INTEGER(unsigned long long)
#undef SIM_ATOMIC_INTEGER
SIM_ATOMIC(atomicAdd, int, (int)((unsigned)old + (unsigned)v))
SIM_ATOMIC(atomicMax, int, old > v ? old : v)
SIM_ATOMIC(atomicMin, int, old < v ? old : v)
SIM_ATOMIC(atomicExch, int, v)
SIM_ATOMIC(atomicExch, float, v)
SIM_ATOMIC(atomicAdd, float, old + v)
SIM_ATOMIC(atomicAdd, double, old + v)
static SIM_RAW int atomicCAS(int *p, int compare, int v)
{
    sim_touch(p, sizeof *p, 2, SIM_PC);
    const int old = *p;
    if (old == compare) *p = v;
    return old;
}
#undef SIM_ATOMIC

/* --- vectors of 8 and 16 bytes, one access each --- */
template <class T> static SIM_RAW T sim_load(const void *p)
{
    sim_touch(p, sizeof(T), 0, SIM_PC);
    T v;
    memcpy(&v, p, sizeof v);
    return v;
}
template <class T> static SIM_RAW void sim_store(void *p, T v)
{
    sim_touch(p, sizeof(T), 1, SIM_PC);
    memcpy(p, &v, sizeof v);
}
SIM_INLINE float4 dev_load16(const float *p)
{
    return sim_load<float4>(p);
}
SIM_INLINE uint2 dev_load8(const void *p)
{
    return sim_load<uint2>(p);
}
SIM_INLINE void dev_store16(float *p, float4 v)
{
    sim_store(p, v);
}
SIM_INLINE void dev_store8(void *p, uint2 v)
{
    sim_store(p, v);
}

/* --- arithmetic that the C library lacks or names otherwise --- */
#define __expf(x) expf(x) /* glibc declares functions of these names: use macros */
#define __logf(x) logf(x)
SIM_INLINE float sim_flush(float x) /* .ftz */
{
    return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}
SIM_INLINE float dev_exp2(float x)
{
    return sim_flush(exp2f(sim_flush(x)));
}
SIM_INLINE float dev_rcp(float x)
{
    return sim_flush(1.0f / sim_flush(x));
}
SIM_INLINE float __fdividef(float a, float b)
{
    return a / b;
}
SIM_INLINE float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
SIM_INLINE int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
SIM_INLINE int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}
SIM_INLINE int __ffs(int x)
{
    return __builtin_ffs(x);
}
SIM_INLINE unsigned __float_as_uint(float x)
{
    unsigned u;
    memcpy(&u, &x, sizeof u);
    return u;
}
SIM_INLINE float __uint_as_float(unsigned u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
SIM_INLINE void __threadfence(void)
{
}
template <class T> SIM_INLINE T __ldg(const T *p)
{
    return *p;
}

#include "tests/cudasim/sim_matrix.h"

#endif

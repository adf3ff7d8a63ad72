/* The only file of kernels/ that depends on the compiler: nvcc, or the C++ compiler of the simulation (tests/cudasim).
 * Kernel files include this and their family's header, launch by dev_launch, declare shared memory by SHARED_ARRAY and
 * SHARED_DYN and synchronise by DEV_SYNC. They do not use __shared__, __syncthreads, <<<>>>, inline assembly, global
 * variables or printf. Warp collectives are called by all 32 lanes with a full mask; no lane may have exited. */
#ifndef MCS_KERNELS_DEVICE_CUH
#define MCS_KERNELS_DEVICE_CUH

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define DEV_INLINE __device__ __forceinline__

/* An array in shared memory: SHARED_ARRAY(float, tile, [16][65]); aligned to 16 bytes, not initialised. */
#define SHARED_ARRAY(type, name, ...) __shared__ __align__(16) type name __VA_ARGS__
/* The launch's dynamic shared memory as an array of `type`; once per kernel. */
#define SHARED_DYN(type, name)                                                                                         \
    extern __shared__ __align__(16) unsigned char dev_shared_dynamic[];                                                \
    type *name = (type *)dev_shared_dynamic
/* Barrier of the block. All threads must reach the same DEV_SYNC of the source. */
#define DEV_SYNC() __syncthreads()

template <class... P> struct dev_launcher {
    void (*kernel)(P...);
    cudaError_t operator()(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, P... p) const
    {
        void *args[] = {(void *)&p...};
        return cudaLaunchKernel((const void *)kernel, grid, block, args, shared_bytes, stream);
    }
};
template <class... P> static inline dev_launcher<P...> dev_kernel(const char *, void (*kernel)(P...))
{
    return {kernel};
}

DEV_INLINE float4 dev_load16(const float *p)
{
    return *(const float4 *)p;
}
DEV_INLINE uint2 dev_load8(const void *p)
{
    return *(const uint2 *)p;
}
DEV_INLINE void dev_store16(float *p, float4 v)
{
    *(float4 *)p = v;
}
DEV_INLINE void dev_store8(void *p, uint2 v)
{
    *(uint2 *)p = v;
}

DEV_INLINE unsigned dev_shared_address(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}
DEV_INLINE void dev_mma_bf16(float d[4], const unsigned a[4], const unsigned b[2])
{
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEV_INLINE void dev_ldmatrix_x4(unsigned r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(dev_shared_address(row))
                 : "memory");
}
DEV_INLINE void dev_ldmatrix_x4_trans(unsigned r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(dev_shared_address(row))
                 : "memory");
}
DEV_INLINE void dev_ldmatrix_x2(unsigned r[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(dev_shared_address(row))
                 : "memory");
}
DEV_INLINE void dev_ldmatrix_x2_trans(unsigned r[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(dev_shared_address(row))
                 : "memory");
}
DEV_INLINE void dev_copy_async16(void *dst, const void *src, unsigned bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dev_shared_address(dst)), "l"(src), "r"(bytes)
                 : "memory");
}
DEV_INLINE void dev_copy_async4(void *dst, const void *src, unsigned bytes)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(dev_shared_address(dst)), "l"(src), "r"(bytes)
                 : "memory");
}
DEV_INLINE void dev_copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N> DEV_INLINE void dev_copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
DEV_INLINE float dev_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
DEV_INLINE float dev_rcp(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#else
#include <tests/cudasim/sim_device.h> /* no arrow: compiled only in the simulation */
#endif

/* Both define the following.
 *
 * dev_load16, dev_load8, dev_store16, dev_store8:
 *     one access of 16 or 8 bytes, aligned to its size.
 * dev_mma_bf16(d, a, b):
 *     mma.sync.m16n8k16: D (16, 8) += A (16, 16) B (16, 8), registers as PTX lays them out.
 * dev_ldmatrix_x4, dev_ldmatrix_x2, and the same with _trans:
 *     ldmatrix: 8 x 8 matrices of 2-byte elements from shared memory. Lane 8 i + r passes the address of row r of
 *     matrix i.
 * dev_copy_async16(dst, src, bytes), dev_copy_async4:
 *     cp.async of 16 or 4 bytes: copies `bytes` (0 to 16, or 0 to 4) from global memory and fills the rest with zeros.
 * dev_copy_commit(), dev_copy_wait<N>():
 *     closes a group of copies; waits until at most the N newest groups of this thread are pending. After the wait the
 *     thread sees the data that it copied itself; after a DEV_SYNC that follows, the whole block sees them.
 * dev_exp2(x):
 *     2^x to 2 ulp; 0 below 2^-126.
 * dev_rcp(x):
 *     1/x to 1 ulp; operands and results below 2^-126 in magnitude are flushed to 0. */

/* Launch: dev_launch(kernel, grid, block, shared bytes, stream, arguments...) -> cudaError_t. A template name that
 * contains a comma goes in parentheses. Arguments are scalars, pointers and plain structs; they are copied. */
#define dev_launch(kernel, grid, block, shared_bytes, stream, ...)                                                     \
    dev_kernel(#kernel, kernel)(grid, block, shared_bytes, stream, __VA_ARGS__)

constexpr int DEV_WARP = 32;
#define DEV_FULL 0xffffffffu

/* Sum and maximum over a warp, returned to every lane; always the same order. */
template <class T> DEV_INLINE T dev_warp_sum(T v)
{
    for (int i = DEV_WARP / 2; i > 0; i /= 2) v += __shfl_xor_sync(DEV_FULL, v, i);
    return v;
}
template <class T> DEV_INLINE T dev_warp_max(T v)
{
    for (int i = DEV_WARP / 2; i > 0; i /= 2) {
        const T w = __shfl_xor_sync(DEV_FULL, v, i);
        v = v > w ? v : w;
    }
    return v;
}

/* Elements of storage type T (float or bf16) as float: one, or four at an address aligned to four elements. */
DEV_INLINE float dev_load(const float *p)
{
    return *p;
}
DEV_INLINE float dev_load(const __nv_bfloat16 *p)
{
    return __bfloat162float(*p);
}
DEV_INLINE void dev_store(float *p, float v)
{
    *p = v;
}
DEV_INLINE void dev_store(__nv_bfloat16 *p, float v)
{
    *p = __float2bfloat16_rn(v);
}
DEV_INLINE float4 dev_load4(const float *p)
{
    return dev_load16(p);
}
DEV_INLINE float4 dev_load4(const __nv_bfloat16 *p)
{
    const uint2 u = dev_load8(p);
    return make_float4(__uint_as_float(u.x << 16), __uint_as_float(u.x & 0xffff0000u), __uint_as_float(u.y << 16),
                       __uint_as_float(u.y & 0xffff0000u));
}
DEV_INLINE void dev_store4(float *p, float4 v)
{
    dev_store16(p, v);
}
DEV_INLINE unsigned dev_pack_bf16(float low, float high)
{
    return (unsigned)__bfloat16_as_ushort(__float2bfloat16_rn(low)) |
           (unsigned)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16;
}
DEV_INLINE void dev_store4(__nv_bfloat16 *p, float4 v)
{
    dev_store8(p, make_uint2(dev_pack_bf16(v.x, v.y), dev_pack_bf16(v.z, v.w)));
}

/* *p = beta *p + v. With beta 0 the old value is not read (it may be NaN). */
template <class T> DEV_INLINE void dev_blend(T *p, float beta, float v)
{
    dev_store(p, beta == 0 ? v : fmaf(beta, dev_load(p), v));
}
template <class T> DEV_INLINE void dev_blend4(T *p, float beta, float4 v)
{
    if (beta != 0) {
        const float4 o = dev_load4(p);
        v = make_float4(fmaf(beta, o.x, v.x), fmaf(beta, o.y, v.y), fmaf(beta, o.z, v.z), fmaf(beta, o.w, v.w));
    }
    dev_store4(p, v);
}

/* 1 where p is aligned to four elements of T, as dev_load4 and dev_store4 need (NULL is). Rows may then be read four
 * elements at a time if their length is a multiple of four. */
template <class T> static inline int dev_aligned4(const T *p)
{
    return ((size_t)p & (4 * sizeof(T) - 1)) == 0;
}

#endif

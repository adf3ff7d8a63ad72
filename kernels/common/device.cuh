/* The one place that knows whether nvcc compiles a kernel or the simulation does (tests/cudasim): no other file of this
 * folder asks. A kernel file includes this and its family's header, launches by dev_launch, declares shared memory by
 * SHARED_ARRAY and SHARED_DYN, waits by DEV_SYNC, and uses no __shared__, __syncthreads, <<<>>>, inline assembly,
 * global variables or printf. Collectives are for whole warps: no lane may have left, masks are full. */
#ifndef MCS_KERNELS_DEVICE_CUH
#define MCS_KERNELS_DEVICE_CUH

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define DEV_INLINE __device__ __forceinline__

/* An array in shared memory: SHARED_ARRAY(float, tile, [16][65]); aligned to 16 bytes, not initialised. */
#define SHARED_ARRAY(type, name, ...) __shared__ __align__(16) type name __VA_ARGS__
/* The launch's dynamic shared memory as an array of `type`; once a kernel. */
#define SHARED_DYN(type, name)                                                                                         \
    extern __shared__ __align__(16) unsigned char dev_shared_dynamic[];                                                \
    type *name = (type *)dev_shared_dynamic
/* All threads of the block meet here, at this very place of the source. */
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
#include <tests/cudasim/sim_device.h> /* no arrow: only the simulation's build compiles this branch */
#endif

/* What both of them offer:
 *   dev_load16, dev_load8, dev_store16, dev_store8   one access of 16 or 8 bytes to an address that is a multiple of it
 *   dev_mma_bf16(d, a, b)     D (16,8) += A (16,16) B (16,8), mma.sync.m16n8k16, registers as PTX lays them out
 *   dev_ldmatrix_x4, _x2, _trans   8 x 8 matrices of 2-byte elements, shared memory; lane 8i+r gives row r of matrix i
 *   dev_copy_async16(dst, src, bytes)   cp.async: 0 to 16 bytes of global memory, zeros behind, to 16 of shared memory
 *   dev_copy_async4           the same for 4
 *   dev_copy_commit, dev_copy_wait<N>   ends a group; waits until at most the N newest of this thread are open
 * (a copy's bytes are the issuing thread's after its wait, the block's after a DEV_SYNC behind that)
 *   dev_exp2(x)               2^x to 2 units in the last place, 0 below 2^-126
 *   dev_rcp(x)                1/x to one unit; x and results below 2^-126 in size count as 0 */

/* Launch: dev_launch(kernel, grid, block, shared bytes, stream, arguments...) -> cudaError_t. A template's name that
 * has a comma goes in parentheses. Arguments are scalars, pointers and plain structs; they are copied. */
#define dev_launch(kernel, grid, block, shared_bytes, stream, ...)                                                     \
    dev_kernel(#kernel, kernel)(grid, block, shared_bytes, stream, __VA_ARGS__)

constexpr int DEV_WARP = 32;
#define DEV_FULL 0xffffffffu

/* Sum and maximum over a warp, in every lane, by the same tree always. */
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

/* Elements of storage type T as float: one, or four at an address that is a multiple of four elements. */
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

/* beta 0: the new value alone, whatever lies there (NaN too); 1: added. Asked before the old value is read. */
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

/* 1 where p is a multiple of four elements of T: rows of p may then be read by fours if their length is one too. */
template <class T> static inline int dev_by_fours(const T *p)
{
    return ((size_t)p & (4 * sizeof(T) - 1)) == 0;
}

#endif

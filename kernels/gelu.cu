/* GELU, exact: y = x cdf(x), dx = beta dx + dy (cdf(x) + x pdf(x)), with the standard normal's cdf and pdf. Four
 * elements a thread; the last ones, or all where an address is no multiple of four elements, one by one. */
#include "kernels/device.cuh"
#include "kernels/kernels.h"

constexpr int THREADS = 256;

static DEV_INLINE float gelu(float x)
{
    return x * 0.5f * erfcf(-x * 0.70710678f); /* erfc: no cancellation in the left tail */
}
static DEV_INLINE float gelu_slope(float x)
{
    return fmaf(x * 0.39894228f, expf(-0.5f * x * x), 0.5f * erfcf(-x * 0.70710678f));
}

template <class T, int V> __global__ void __launch_bounds__(THREADS) gelu_fwd(const T *x, T *y, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (V == 4 && i + V <= n) {
        const float4 v = dev_load4(x + i);
        dev_store4(y + i, make_float4(gelu(v.x), gelu(v.y), gelu(v.z), gelu(v.w)));
        return;
    }
    for (int64_t j = i; j < n && j < i + V; j++) dev_store(y + j, gelu(dev_load(x + j)));
}

template <class T, int V>
__global__ void __launch_bounds__(THREADS) gelu_bwd(const T *x, const T *dy, T *dx, float beta, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (V == 4 && i + V <= n) {
        const float4 v = dev_load4(x + i), g = dev_load4(dy + i);
        dev_blend4(
            dx + i, beta,
            make_float4(g.x * gelu_slope(v.x), g.y * gelu_slope(v.y), g.z * gelu_slope(v.z), g.w * gelu_slope(v.w)));
        return;
    }
    for (int64_t j = i; j < n && j < i + V; j++)
        dev_blend(dx + j, beta, dev_load(dy + j) * gelu_slope(dev_load(x + j)));
}

template <class T> static cudaError_t run_fwd(const struct k_gelu *a, cudaStream_t s)
{
    const T *x = (const T *)a->x;
    T *y = (T *)a->y;
    const int v = dev_by_fours(x) && dev_by_fours(y) ? 4 : 1;
    const unsigned blocks = (unsigned)((a->n + THREADS * v - 1) / (THREADS * v));
    if (v == 4) return dev_launch((gelu_fwd<T, 4>), blocks, THREADS, 0, s, x, y, a->n);
    return dev_launch((gelu_fwd<T, 1>), blocks, THREADS, 0, s, x, y, a->n);
}

template <class T> static cudaError_t run_bwd(const struct k_gelu *a, cudaStream_t s)
{
    const T *x = (const T *)a->x, *dy = (const T *)a->dy;
    T *dx = (T *)a->dx;
    const int v = dev_by_fours(x) && dev_by_fours(dy) && dev_by_fours(dx) ? 4 : 1;
    const unsigned blocks = (unsigned)((a->n + THREADS * v - 1) / (THREADS * v));
    if (v == 4) return dev_launch((gelu_bwd<T, 4>), blocks, THREADS, 0, s, x, dy, dx, a->beta, a->n);
    return dev_launch((gelu_bwd<T, 1>), blocks, THREADS, 0, s, x, dy, dx, a->beta, a->n);
}

cudaError_t k_gelu_fwd(const struct k_gelu *a, cudaStream_t s)
{
    if (!a->n) return cudaSuccess;
    return a->dtype == K_BF16 ? run_fwd<__nv_bfloat16>(a, s) : run_fwd<float>(a, s);
}
cudaError_t k_gelu_bwd(const struct k_gelu *a, cudaStream_t s)
{
    if (!a->n || !a->dx) return cudaSuccess;
    return a->dtype == K_BF16 ? run_bwd<__nv_bfloat16>(a, s) : run_bwd<float>(a, s);
}

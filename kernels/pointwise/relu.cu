/* y = max(x, 0), dx = beta dx + dy where y > 0. One pack per thread. */
#include "kernels/common/kernels.h"
#include "kernels/common/pack.cuh"

constexpr int THREADS = 256;

template <class T, int V> __global__ void __launch_bounds__(THREADS) relu_fwd(const T *x, T *y, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= n) return;
    pack<V> p = pack_load<V>(x + i, n - i);
    for (int j = 0; j < V; j++) p.v[j] = p.v[j] > 0 ? p.v[j] : 0.0f;
    pack_blend<V>(y + i, 0, p, n - i);
}

template <class T, int V>
__global__ void __launch_bounds__(THREADS) relu_bwd(const T *y, const T *dy, T *dx, float beta, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= n) return;
    const pack<V> v = pack_load<V>(y + i, n - i);
    pack<V> p = pack_load<V>(dy + i, n - i);
    for (int j = 0; j < V; j++) p.v[j] = v.v[j] > 0 ? p.v[j] : 0.0f;
    pack_blend<V>(dx + i, beta, p, n - i);
}

static unsigned blocks_by(int64_t n, int v)
{
    return (unsigned)((n + THREADS * v - 1) / (THREADS * v));
}

template <class T> static cudaError_t run_fwd(const struct k_relu *a, cudaStream_t s)
{
    constexpr int V = wide<T>;
    const T *x = (const T *)a->x;
    T *y = (T *)a->y;
    if (pack_fits<V>(x) && pack_fits<V>(y))
        return dev_launch((relu_fwd<T, V>), blocks_by(a->n, V), THREADS, 0, s, x, y, a->n);
    return dev_launch((relu_fwd<T, 1>), blocks_by(a->n, 1), THREADS, 0, s, x, y, a->n);
}
template <class T> static cudaError_t run_bwd(const struct k_relu *a, cudaStream_t s)
{
    constexpr int V = wide<T>;
    const T *y = (const T *)a->y, *dy = (const T *)a->dy;
    T *dx = (T *)a->dx;
    if (pack_fits<V>(y) && pack_fits<V>(dy) && pack_fits<V>(dx))
        return dev_launch((relu_bwd<T, V>), blocks_by(a->n, V), THREADS, 0, s, y, dy, dx, a->beta, a->n);
    return dev_launch((relu_bwd<T, 1>), blocks_by(a->n, 1), THREADS, 0, s, y, dy, dx, a->beta, a->n);
}

cudaError_t k_relu_fwd(const struct k_relu *a, cudaStream_t s)
{
    if (!a->n) return cudaSuccess;
    return a->dtype == K_BF16 ? run_fwd<__nv_bfloat16>(a, s) : run_fwd<float>(a, s);
}
cudaError_t k_relu_bwd(const struct k_relu *a, cudaStream_t s)
{
    if (!a->n || !a->dx) return cudaSuccess;
    return a->dtype == K_BF16 ? run_bwd<__nv_bfloat16>(a, s) : run_bwd<float>(a, s);
}

/* y = a + b, b broadcast over the leading dimensions; one pack per thread. da is a copy of dy (k_cast to the same
 * type), db a column sum. */
#include "kernels/common/divide.cuh"
#include "kernels/common/kernels.h"
#include "kernels/common/pack.cuh"

constexpr int THREADS = 256;

template <class T, int V, int BROADCAST>
__global__ void __launch_bounds__(THREADS) add_fwd(const T *a, const T *b, T *y, int64_t n, divisor period)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    const int64_t at = (int64_t)i * V, left = n - at;
    if (left <= 0) return;
    int64_t b_at = at;
    if constexpr (BROADCAST) {
        uint32_t q = i;
        b_at = (int64_t)divide_off(q, period) * V;
    }
    pack<V> p = pack_load<V>(a + at, left);
    const pack<V> o = pack_load<V>(b + b_at, left);
    for (int j = 0; j < V; j++) p.v[j] += o.v[j];
    pack_blend<V>(y + at, 0, p, left);
}

template <class T, int V> static cudaError_t launch(const struct k_add *k, cudaStream_t s)
{
    const T *a = (const T *)k->a, *b = (const T *)k->b;
    T *y = (T *)k->y;
    const unsigned blocks = blocks_of((k->n + V - 1) / V, THREADS);
    if (!blocks) return cudaErrorInvalidValue;
    if (k->period == k->n) return dev_launch((add_fwd<T, V, 0>), blocks, THREADS, 0, s, a, b, y, k->n, divisor_of(1));
    return dev_launch((add_fwd<T, V, 1>), blocks, THREADS, 0, s, a, b, y, k->n, divisor_of(k->period / V));
}

template <class T> static cudaError_t run(const struct k_add *k, cudaStream_t s)
{
    constexpr int V = wide<T>;
    const int fits = pack_fits<V>((const T *)k->a) && pack_fits<V>((const T *)k->b) && pack_fits<V>((const T *)k->y);
    return fits && (k->period == k->n || k->period % V == 0) ? launch<T, V>(k, s) : launch<T, 1>(k, s);
}

size_t k_add_bwd_bytes(int64_t n, int64_t period)
{
    return n == period ? 0 : k_sum_rows_bytes(n / period, period);
}
cudaError_t k_add_fwd(const struct k_add *k, cudaStream_t s)
{
    if (!k->n) return cudaSuccess;
    return k->dtype == K_BF16 ? run<__nv_bfloat16>(k, s) : run<float>(k, s);
}
cudaError_t k_add_bwd(const struct k_add *k, cudaStream_t s)
{
    if (!k->n) return cudaSuccess;
    if (k->da) {
        const struct k_cast c = {k->dtype, k->dtype, k->n, k->dy, k->da, k->beta_a};
        const cudaError_t e = k_cast(&c, s);
        if (e != cudaSuccess) return e;
    }
    if (!k->db) return cudaSuccess;
    const struct k_sum_rows c = {k->dtype,  k->dtype, k->n / k->period, k->period, k->period, k->dy,
                                 k->beta_b, k->db,    k->workspace};
    return k_sum_rows(&c, s);
}

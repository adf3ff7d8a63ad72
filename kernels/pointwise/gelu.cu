/* GELU, exact: y = x cdf(x), dx = beta dx + dy (cdf(x) + x pdf(x)), with the standard normal's cdf and pdf. QuickGELU:
 * y = x s, dx = beta dx + dy s (1 + v (1 - s)), v = 1.702 x, s = sigmoid(v). One pack per thread.
 *
 * cdf(-t) = exp(-t^2/2) r(t) for t >= 0, where r falls from 1/2 as 1/t: r(t) = u Q(u - 1/2), u = 1 / (1 + p t), Q the
 * minimax polynomial in relative error for 0 <= t <= 14.5 (cdf is below 2^-126 from 13 on), so that the left tail keeps
 * its relative precision. Including 2^-22 of dev_exp2, 1 ulp of dev_rcp and all roundings, the relative error of y, and
 * of dx with respect to dy (cdf + |x| pdf), is at most float (degree 7, minimax with weight 1/(1 + t^2), 2.4e-8):  9.6
 * 2^-24 (1 + x^2) bfloat16 (degree 4, 3.3e-5):  556 2^-24, which is 0.009 ulp of a bfloat16 in addition to the rounding
 * of the result. */
#include "kernels/common/kernels.h"
#include "kernels/common/pack.cuh"

constexpr int THREADS = 256;

/* e = exp(-x^2/2), r = r(|x|) to the precision of T. */
template <class T> static DEV_INLINE void normal_tail(float x, float &e, float &r)
{
    const float t = fabsf(x), root = x * 0.8493218f; /* sqrt(log2(e) / 2) */
    e = dev_exp2(-root * root);
    if constexpr (sizeof(T) == 2) {
        const float u = dev_rcp(fmaf(0.375f, t, 1.0f)), v = u - 0.5f;
        r = fmaf(fmaf(-0.0903177187f, v, 0.0189229678f), v, 0.247984335f);
        r = u * fmaf(fmaf(r, v, 0.346191674f), v, 0.268189609f);
    } else {
        const float d = fmaf(0.4f, t, 1.0f), about = dev_rcp(d), u = fmaf(about, fmaf(-d, about, 1.0f), about);
        const float v = u - 0.5f;
        r = fmaf(fmaf(-0.0364488997f, v, 0.0579721257f), v, 0.0218850467f);
        r = fmaf(fmaf(fmaf(r, v, -0.104523934f), v, -0.0296509564f), v, 0.211176217f);
        r = u * fmaf(fmaf(r, v, 0.346954852f), v, 0.28266266f);
    }
}
/* sigmoid(1.702 x) and, as `rest`, sigmoid(-1.702 x), both without cancellation. Relative error 4 2^-24 of dev_exp2 and
 * 2 |v| 2^-24 of its argument, 1 ulp of dev_rcp, 2 roundings: (8 + 2 |v|) 2^-24. */
static DEV_INLINE float sigmoid_pair(float x, float &rest)
{
    const float z = dev_exp2(fabsf(x) * -2.45546696f); /* 1.702 log2(e) */
    const float large = dev_rcp(1.0f + z), small = z * large;
    rest = x < 0 ? large : small;
    return x < 0 ? small : large;
}
template <class T, bool QUICK> static DEV_INLINE float gelu(float x)
{
    if constexpr (QUICK) {
        float rest;
        return x * sigmoid_pair(x, rest);
    }
    float e, r;
    normal_tail<T>(x, e, r);
    return x * (x < 0 ? e * r : 1.0f - e * r);
}
template <class T, bool QUICK> static DEV_INLINE float gelu_slope(float x)
{
    if constexpr (QUICK) {
        float rest;
        const float s = sigmoid_pair(x, rest);
        return fmaf(1.702f * x * rest, s, s);
    }
    float e, r;
    normal_tail<T>(x, e, r);
    const float left = e * fmaf(-0.39894228f, fabsf(x), r);
    return x < 0 ? left : 1.0f - left;
}

template <class T, int V, bool QUICK> __global__ void __launch_bounds__(THREADS) gelu_fwd(const T *x, T *y, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= n) return;
    pack<V> p = pack_load<V>(x + i, n - i);
    for (int j = 0; j < V; j++) p.v[j] = gelu<T, QUICK>(p.v[j]);
    pack_blend<V>(y + i, 0, p, n - i);
}

template <class T, int V, bool QUICK>
__global__ void __launch_bounds__(THREADS) gelu_bwd(const T *x, const T *dy, T *dx, float beta, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= n) return;
    const pack<V> v = pack_load<V>(x + i, n - i);
    pack<V> p = pack_load<V>(dy + i, n - i);
    for (int j = 0; j < V; j++) p.v[j] *= gelu_slope<T, QUICK>(v.v[j]);
    pack_blend<V>(dx + i, beta, p, n - i);
}

static unsigned blocks_by(int64_t n, int v)
{
    return (unsigned)((n + THREADS * v - 1) / (THREADS * v));
}

template <class T, bool QUICK> static cudaError_t run_fwd(const struct k_gelu *a, cudaStream_t s)
{
    constexpr int V = wide<T>;
    const T *x = (const T *)a->x;
    T *y = (T *)a->y;
    if (pack_fits<V>(x) && pack_fits<V>(y))
        return dev_launch((gelu_fwd<T, V, QUICK>), blocks_by(a->n, V), THREADS, 0, s, x, y, a->n);
    return dev_launch((gelu_fwd<T, 1, QUICK>), blocks_by(a->n, 1), THREADS, 0, s, x, y, a->n);
}

template <class T, bool QUICK> static cudaError_t run_bwd(const struct k_gelu *a, cudaStream_t s)
{
    constexpr int V = wide<T>;
    const T *x = (const T *)a->x, *dy = (const T *)a->dy;
    T *dx = (T *)a->dx;
    if (pack_fits<V>(x) && pack_fits<V>(dy) && pack_fits<V>(dx))
        return dev_launch((gelu_bwd<T, V, QUICK>), blocks_by(a->n, V), THREADS, 0, s, x, dy, dx, a->beta, a->n);
    return dev_launch((gelu_bwd<T, 1, QUICK>), blocks_by(a->n, 1), THREADS, 0, s, x, dy, dx, a->beta, a->n);
}

cudaError_t k_gelu_fwd(const struct k_gelu *a, cudaStream_t s)
{
    if (!a->n) return cudaSuccess;
    if (a->quick) return a->dtype == K_BF16 ? run_fwd<__nv_bfloat16, true>(a, s) : run_fwd<float, true>(a, s);
    return a->dtype == K_BF16 ? run_fwd<__nv_bfloat16, false>(a, s) : run_fwd<float, false>(a, s);
}
cudaError_t k_gelu_bwd(const struct k_gelu *a, cudaStream_t s)
{
    if (!a->n || !a->dx) return cudaSuccess;
    if (a->quick) return a->dtype == K_BF16 ? run_bwd<__nv_bfloat16, true>(a, s) : run_bwd<float, true>(a, s);
    return a->dtype == K_BF16 ? run_bwd<__nv_bfloat16, false>(a, s) : run_bwd<float, false>(a, s);
}

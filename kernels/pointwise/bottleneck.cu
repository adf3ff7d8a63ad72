/* M2IB's information bottleneck (Wang, Rudner, Wilson 2023): y = s x + (1-s) noise, s = sigmoid(alpha), and for each
 * element the KL divergence of N(s x, (1-s)^2) from N(0,1) = -ln(1-s) - 1/2 + ((s x)^2 + (1-s)^2) / 2
 * = softplus(alpha) - s + (s^2 + (s x)^2) / 2, which loses no digits where s is small. One pass per direction: one
 * block per token; a thread handles all copies of an element, so the gate is computed once. */
#include "kernels/common/rows.cuh"
#include "kernels/common/sums.cuh"
#include "kernels/loss/losses.h"

struct gate {
    float s, q, softplus; /* sigmoid(alpha), 1 - s (computed without cancellation), softplus(alpha) */
};
static DEV_INLINE gate gate_of(float alpha)
{
    const float z = expf(-fabsf(alpha)), near1 = 1.0f / (1.0f + z), near0 = z * near1;
    return {alpha > 0 ? near1 : near0, alpha > 0 ? near0 : near1, (alpha > 0 ? alpha : 0.0f) + log1pf(z)};
}

/* Offset of the first copy of this block's token in noise and y; copies are t * c elements apart. */
static DEV_INLINE int64_t first_copy(int64_t copies, int64_t t, int c)
{
    const int64_t p = blockIdx.x / t;
    return (p * copies * t + blockIdx.x % t) * c;
}

/* x, alpha (p, t, c), noise, y (p copies, t, c), map (p, t) = sum of KL over channels. */
template <int V>
__global__ void __launch_bounds__(SUM_THREADS) bottleneck_fwd(const float *x, const float *alpha, const float *noise,
                                                              float *y, float *map, int64_t copies, int64_t t, int c)
{
    const int64_t at = (int64_t)blockIdx.x * c, o = first_copy(copies, t, c);
    double sum = 0;
    for (int i = (int)threadIdx.x * V; i < c; i += SUM_THREADS * V) {
        pack<V> sx = pack_load<V>(x + at + i), q = pack_load<V>(alpha + at + i);
        for (int j = 0; j < V; j++) {
            const gate g = gate_of(q.v[j]);
            sx.v[j] *= g.s;
            q.v[j] = g.q;
            sum += (double)(g.softplus - g.s + 0.5f * (g.s * g.s + sx.v[j] * sx.v[j]));
        }
        for (int64_t k = 0; k < copies; k++) {
            pack<V> e = pack_load<V>(noise + o + k * t * c + i);
            for (int j = 0; j < V; j++) e.v[j] = fmaf(q.v[j], e.v[j], sx.v[j]);
            pack_store<V>(y + o + k * t * c + i, e);
        }
    }
    sum = block_sum<SUM_THREADS>(sum);
    if (threadIdx.x == 0) map[blockIdx.x] = (float)sum;
}

/* kl (p) = mean over tokens and channels; map (p, t). One block per image. */
static __global__ void __launch_bounds__(SUM_THREADS) bottleneck_kl(const float *map, float *kl, int64_t t, int c)
{
    double s = 0;
    for (int64_t i = threadIdx.x; i < t; i += SUM_THREADS) s += (double)map[blockIdx.x * t + i];
    s = block_sum<SUM_THREADS>(s);
    if (threadIdx.x == 0) kl[blockIdx.x] = (float)(s / ((double)t * c));
}

/* dalpha = s (1-s) sum over copies of dy (x - noise) + dkl (s + x^2 s^2 (1-s) - s (1-s)^2) */
template <int V>
__global__ void __launch_bounds__(SUM_THREADS)
    bottleneck_bwd(const float *x, const float *alpha, const float *noise, const float *dy, const float *dkl,
                   float *dalpha, float beta, int64_t copies, int64_t t, int c)
{
    const int64_t at = (int64_t)blockIdx.x * c, o = first_copy(copies, t, c);
    const float dkl_element = dkl ? dkl[blockIdx.x / t] / ((float)t * (float)c) : 0.0f;
    for (int i = (int)threadIdx.x * V; i < c; i += SUM_THREADS * V) {
        const pack<V> px = pack_load<V>(x + at + i);
        pack<V> r = pack_load<V>(alpha + at + i);
        float sum[V] = {};
        for (int64_t k = 0; dy && k < copies; k++) {
            const pack<V> e = pack_load<V>(noise + o + k * t * c + i), d = pack_load<V>(dy + o + k * t * c + i);
            for (int j = 0; j < V; j++) sum[j] = fmaf(d.v[j], px.v[j] - e.v[j], sum[j]);
        }
        for (int j = 0; j < V; j++) {
            const gate g = gate_of(r.v[j]);
            const float v = px.v[j];
            r.v[j] = g.s * g.q * sum[j] + dkl_element * (g.s + g.s * g.q * (v * v * g.s - g.q));
        }
        pack_blend<V>(dalpha + at + i, beta, r);
    }
}

cudaError_t k_bottleneck_fwd(const struct k_bottleneck *a, cudaStream_t s)
{
    const int64_t rows = a->p * a->t;
    if (!rows || !a->c) return cudaSuccess;
    cudaError_t e;
    if (a->c % 4 == 0 && dev_aligned4(a->x) && dev_aligned4(a->alpha) && dev_aligned4(a->noise) && dev_aligned4(a->y))
        e = dev_launch((bottleneck_fwd<4>), (unsigned)rows, SUM_THREADS, 0, s, a->x, a->alpha, a->noise, a->y, a->map,
                       a->copies, a->t, a->c);
    else
        e = dev_launch((bottleneck_fwd<1>), (unsigned)rows, SUM_THREADS, 0, s, a->x, a->alpha, a->noise, a->y, a->map,
                       a->copies, a->t, a->c);
    if (e != cudaSuccess) return e;
    return dev_launch(bottleneck_kl, (unsigned)a->p, SUM_THREADS, 0, s, a->map, a->kl, a->t, a->c);
}

cudaError_t k_bottleneck_bwd(const struct k_bottleneck *a, cudaStream_t s)
{
    const int64_t rows = a->p * a->t;
    if (!rows || !a->c || !a->dalpha) return cudaSuccess;
    if (a->c % 4 == 0 && dev_aligned4(a->x) && dev_aligned4(a->alpha) && dev_aligned4(a->noise) &&
        dev_aligned4(a->dalpha) && (!a->dy || dev_aligned4(a->dy)))
        return dev_launch((bottleneck_bwd<4>), (unsigned)rows, SUM_THREADS, 0, s, a->x, a->alpha, a->noise, a->dy,
                          a->dkl, a->dalpha, a->beta, a->copies, a->t, a->c);
    return dev_launch((bottleneck_bwd<1>), (unsigned)rows, SUM_THREADS, 0, s, a->x, a->alpha, a->noise, a->dy, a->dkl,
                      a->dalpha, a->beta, a->copies, a->t, a->c);
}

/* Elementwise losses: squared error, and binary cross-entropy of logits; weighted mean over all elements. */
#include "kernels/common/sums.cuh"
#include "kernels/loss/losses.h"

constexpr int MIN_ELEMENTS = 2048; /* per block */

struct squared {
    static DEV_INLINE double loss(float x, float t, float w)
    {
        const double d = (double)x - t;
        return w * d * d;
    }
    static DEV_INLINE float slope(float x, float t)
    {
        return 2 * (x - t);
    }
};

/* softplus(x) - t x; for positive x computed as softplus(-x) + (1-t) x: no cancellation for targets 0 and 1 */
struct cross_entropy {
    static DEV_INLINE double loss(float x, float t, float w)
    {
        const float size = fabsf(x), u = x < 0 ? t : 1.0f - t;
        return (double)(w * (log1pf(expf(-size)) + u * size));
    }
    static DEV_INLINE float slope(float x, float t)
    {
        const float z = expf(-fabsf(x)), s = 1.0f / (1.0f + z);
        return (x < 0 ? z * s : s) - t;
    }
};

template <class F>
__global__ void __launch_bounds__(SUM_THREADS)
    point_loss_fwd(const float *x, const float *target, const float *weight, int64_t n, int64_t share, double *part)
{
    const int64_t first = blockIdx.x * share, last = first + share < n ? first + share : n;
    double s = 0;
    for (int64_t i = first + threadIdx.x; i < last; i += SUM_THREADS)
        s += F::loss(x[i], target[i], weight ? weight[i] : 1.0f);
    s = block_sum<SUM_THREADS>(s);
    if (threadIdx.x == 0) part[blockIdx.x] = s;
}

template <class F>
__global__ void __launch_bounds__(SUM_THREADS) point_loss_bwd(const float *x, const float *target, const float *weight,
                                                              int64_t n, const float *dloss, float *dx, float beta)
{
    const int64_t i = (int64_t)blockIdx.x * SUM_THREADS + threadIdx.x;
    if (i >= n) return;
    const float scale = *dloss / (float)n * (weight ? weight[i] : 1.0f);
    dev_blend(dx + i, beta, scale * F::slope(x[i], target[i]));
}

size_t k_point_loss_fwd_bytes(int64_t n)
{
    return (size_t)div_up(n, sum_share(n, MIN_ELEMENTS)) * sizeof(double);
}

template <class F> static cudaError_t run_fwd(const struct k_point_loss *a, cudaStream_t s)
{
    if (!a->n) return cudaSuccess;
    const int64_t share = sum_share(a->n, MIN_ELEMENTS), parts = div_up(a->n, share);
    double *part = (double *)a->workspace;
    const cudaError_t e = dev_launch((point_loss_fwd<F>), (unsigned)parts, SUM_THREADS, 0, s, a->x, a->target,
                                     a->weight, a->n, share, part);
    if (e != cudaSuccess) return e;
    return dev_launch(sum_parts, 1, SUM_THREADS, 0, s, part, parts, 1.0 / (double)a->n, (const float *)NULL, 0.0f,
                      a->loss);
}

template <class F> static cudaError_t run_bwd(const struct k_point_loss *a, cudaStream_t s)
{
    if (!a->n || !a->dx) return cudaSuccess;
    return dev_launch((point_loss_bwd<F>), (unsigned)div_up(a->n, SUM_THREADS), SUM_THREADS, 0, s, a->x, a->target,
                      a->weight, a->n, a->dloss, a->dx, a->beta);
}

cudaError_t k_mse_fwd(const struct k_point_loss *a, cudaStream_t s)
{
    return run_fwd<squared>(a, s);
}
cudaError_t k_mse_bwd(const struct k_point_loss *a, cudaStream_t s)
{
    return run_bwd<squared>(a, s);
}
cudaError_t k_bce_fwd(const struct k_point_loss *a, cudaStream_t s)
{
    return run_fwd<cross_entropy>(a, s);
}
cudaError_t k_bce_bwd(const struct k_point_loss *a, cudaStream_t s)
{
    return run_bwd<cross_entropy>(a, s);
}

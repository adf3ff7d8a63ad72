/* Cosine similarity of pairs of rows, one warp per pair. Sums are in double, so that squares of small and large values
 * neither underflow nor overflow. */
#include "kernels/common/rows.cuh"
#include "kernels/loss/losses.h"

constexpr float SMALLEST = 1e-6f; /* lower bound of |a| |b| */

/* a (rows, n), b (rows / each, n) -> y (rows), norms (rows, 2) = |a|, |b| */
template <int V>
__global__ void __launch_bounds__(DEV_WARP *WARPS_PER_BLOCK)
    cosine_fwd(const float *a, const float *b, float *y, float *norms, int64_t rows, int64_t each, int n)
{
    const int64_t r = warp_row();
    const int lane = warp_lane();
    if (r >= rows) return; /* uniform over the warp */
    a += r * n;
    b += r / each * n;
    double aa = 0, bb = 0, ab = 0;
    for (int i = lane * V; i < n; i += DEV_WARP * V) {
        const pack<V> p = pack_load<V>(a + i), q = pack_load<V>(b + i);
        for (int j = 0; j < V; j++) {
            aa += (double)p.v[j] * p.v[j];
            bb += (double)q.v[j] * q.v[j];
            ab += (double)p.v[j] * q.v[j];
        }
    }
    const double la = sqrt(dev_warp_sum(aa)), lb = sqrt(dev_warp_sum(bb));
    ab = dev_warp_sum(ab);
    if (lane > 0) return;
    y[r] = (float)(ab / fmax(la * lb, (double)SMALLEST));
    norms[2 * r] = (float)la;
    norms[2 * r + 1] = (float)lb;
}

/* da = dy (b / (|a||b|) - y a / |a|^2); where |a||b| is below SMALLEST, y is linear in a and the second term is
 * absent */
template <int V>
__global__ void __launch_bounds__(DEV_WARP *WARPS_PER_BLOCK)
    cosine_bwd(const float *a, const float *b, const float *y, const float *norms, const float *dy, float *da,
               float beta, int64_t rows, int64_t each, int n)
{
    const int64_t r = warp_row();
    if (r >= rows) return;
    const float la = norms[2 * r], product = la * norms[2 * r + 1];
    const float direct = dy[r] / fmaxf(product, SMALLEST), along = product > SMALLEST ? -dy[r] * y[r] / (la * la) : 0;
    for (int i = warp_lane() * V; i < n; i += DEV_WARP * V) {
        const pack<V> p = pack_load<V>(a + r * n + i);
        pack<V> q = pack_load<V>(b + r / each * n + i);
        for (int j = 0; j < V; j++) q.v[j] = fmaf(direct, q.v[j], along * p.v[j]);
        pack_blend<V>(da + r * n + i, beta, q);
    }
}

cudaError_t k_cosine_fwd(const struct k_cosine *a, cudaStream_t s)
{
    if (!a->rows || !a->n) return cudaSuccess;
    const dim3 blocks(row_blocks(a->rows)), threads(DEV_WARP * WARPS_PER_BLOCK);
    if (a->n % 4 == 0 && dev_aligned4(a->a) && dev_aligned4(a->b))
        return dev_launch((cosine_fwd<4>), blocks, threads, 0, s, a->a, a->b, a->y, a->norms, a->rows, a->each, a->n);
    return dev_launch((cosine_fwd<1>), blocks, threads, 0, s, a->a, a->b, a->y, a->norms, a->rows, a->each, a->n);
}

cudaError_t k_cosine_bwd(const struct k_cosine *a, cudaStream_t s)
{
    if (!a->rows || !a->n || !a->da) return cudaSuccess;
    const dim3 blocks(row_blocks(a->rows)), threads(DEV_WARP * WARPS_PER_BLOCK);
    if (a->n % 4 == 0 && dev_aligned4(a->a) && dev_aligned4(a->b) && dev_aligned4(a->da))
        return dev_launch((cosine_bwd<4>), blocks, threads, 0, s, a->a, a->b, a->y, a->norms, a->dy, a->da, a->beta,
                          a->rows, a->each, a->n);
    return dev_launch((cosine_bwd<1>), blocks, threads, 0, s, a->a, a->b, a->y, a->norms, a->dy, a->da, a->beta,
                      a->rows, a->each, a->n);
}

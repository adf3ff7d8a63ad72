/* Rows scaled to unit length, one warp per row. Squares are summed in double, so that small and large values neither
 * underflow nor overflow; there are few rows (embeddings). Early exits are uniform over a warp. */
#include "kernels/common/kernels.h"
#include "kernels/common/rows.cuh"

/* max(norm, 1e-12) */
static DEV_INLINE float clamp_norm(float norm)
{
    return norm > 1e-12f ? norm : 1e-12f;
}

/* y = x / max(norm, 1e-12), norm = |x| */
template <class T, int V>
__global__ void __launch_bounds__(DEV_WARP *WARPS_PER_BLOCK)
    l2norm_fwd(const T *x, T *y, float *norm, int64_t rows, int n)
{
    const int64_t r = warp_row();
    const int lane = warp_lane();
    if (r >= rows) return;
    double q = 0;
    for (int i = lane * V; i < n; i += DEV_WARP * V) {
        const pack<V> p = pack_load<V>(x + r * n + i);
        for (int j = 0; j < V; j++) q += (double)p.v[j] * p.v[j];
    }
    const float length = (float)sqrt(dev_warp_sum(q)), inv = 1.0f / clamp_norm(length);
    if (lane == 0) norm[r] = length;
    for (int i = lane * V; i < n; i += DEV_WARP * V) {
        pack<V> p = pack_load<V>(x + r * n + i);
        for (int j = 0; j < V; j++) p.v[j] *= inv;
        pack_store<V>(y + r * n + i, p);
    }
}

/* dx = beta dx + (dy - y (y . dy)) / |x|; where |x| <= 1e-12, y is linear in x and the second term is absent. x, y, dy,
 * dx (rows, n), norm (rows). */
template <class T, int V>
__global__ void __launch_bounds__(DEV_WARP *WARPS_PER_BLOCK)
    l2norm_bwd(const T *y, const float *norm, const T *dy, T *dx, float beta, int64_t rows, int n)
{
    const int64_t r = warp_row();
    const int lane = warp_lane();
    if (r >= rows) return;
    double dot = 0;
    for (int i = lane * V; i < n; i += DEV_WARP * V) {
        const pack<V> p = pack_load<V>(y + r * n + i), g = pack_load<V>(dy + r * n + i);
        for (int j = 0; j < V; j++) dot += (double)p.v[j] * g.v[j];
    }
    const float inv = 1.0f / clamp_norm(norm[r]), along = norm[r] > 1e-12f ? (float)dev_warp_sum(dot) : 0;
    for (int i = lane * V; i < n; i += DEV_WARP * V) {
        const pack<V> p = pack_load<V>(y + r * n + i);
        pack<V> g = pack_load<V>(dy + r * n + i);
        for (int j = 0; j < V; j++) g.v[j] = inv * (g.v[j] - along * p.v[j]);
        pack_blend<V>(dx + r * n + i, beta, g);
    }
}

template <class T> static cudaError_t run_fwd(const struct k_l2norm *a, cudaStream_t s)
{
    const T *x = (const T *)a->x;
    T *y = (T *)a->y;
    const dim3 blocks(row_blocks(a->rows)), threads(DEV_WARP * WARPS_PER_BLOCK);
    if (a->n % 4 == 0 && dev_aligned4(x) && dev_aligned4(y))
        return dev_launch((l2norm_fwd<T, 4>), blocks, threads, 0, s, x, y, a->norm, a->rows, a->n);
    return dev_launch((l2norm_fwd<T, 1>), blocks, threads, 0, s, x, y, a->norm, a->rows, a->n);
}

template <class T> static cudaError_t run_bwd(const struct k_l2norm *a, cudaStream_t s)
{
    const T *y = (const T *)a->y, *dy = (const T *)a->dy;
    T *dx = (T *)a->dx;
    const dim3 blocks(row_blocks(a->rows)), threads(DEV_WARP * WARPS_PER_BLOCK);
    if (a->n % 4 == 0 && dev_aligned4(y) && dev_aligned4(dy) && dev_aligned4(dx))
        return dev_launch((l2norm_bwd<T, 4>), blocks, threads, 0, s, y, a->norm, dy, dx, a->beta, a->rows, a->n);
    return dev_launch((l2norm_bwd<T, 1>), blocks, threads, 0, s, y, a->norm, dy, dx, a->beta, a->rows, a->n);
}

cudaError_t k_l2norm_fwd(const struct k_l2norm *a, cudaStream_t s)
{
    if (!a->rows || !a->n) return cudaSuccess;
    return a->dtype == K_BF16 ? run_fwd<__nv_bfloat16>(a, s) : run_fwd<float>(a, s);
}
cudaError_t k_l2norm_bwd(const struct k_l2norm *a, cudaStream_t s)
{
    if (!a->rows || !a->n || !a->dx) return cudaSuccess;
    return a->dtype == K_BF16 ? run_bwd<__nv_bfloat16>(a, s) : run_bwd<float>(a, s);
}

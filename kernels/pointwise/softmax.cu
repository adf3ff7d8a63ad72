/* Softmax over the last axis. A row is shared by as many lanes as it has elements, at most a warp, so that rows of a
 * few classes and rows of a thousand tokens alike keep all lanes busy, and adjacent lanes read adjacent elements. */
#include "kernels/common/kernels.h"
#include "kernels/common/pack.cuh"

constexpr int THREADS = 256;

/* Sum and maximum over the `lanes` adjacent lanes that share a row. */
static DEV_INLINE float group_sum(float v, int lanes)
{
    for (int i = lanes / 2; i > 0; i /= 2) v += __shfl_xor_sync(DEV_FULL, v, i);
    return v;
}
static DEV_INLINE float group_max(float v, int lanes)
{
    for (int i = lanes / 2; i > 0; i /= 2) {
        const float w = __shfl_xor_sync(DEV_FULL, v, i);
        v = v > w ? v : w;
    }
    return v;
}

/* y = exp(x - row_max) / row_sum; x, y (rows, n). Lanes past the last row stay active for the shuffles. */
template <class T>
__global__ void __launch_bounds__(THREADS) softmax_fwd(const T *x, T *y, int64_t rows, int n, int lanes)
{
    const int lane = (int)threadIdx.x & (lanes - 1);
    const int64_t r = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / lanes;
    const int m = r < rows ? n : 0;
    x += r * n;
    y += r * n;
    float row_max = -INFINITY, row_sum = 0;
    for (int i = lane; i < m; i += lanes) row_max = fmaxf(row_max, dev_load(x + i));
    row_max = group_max(row_max, lanes);
    for (int i = lane; i < m; i += lanes) row_sum += expf(dev_load(x + i) - row_max);
    const float inv = 1.0f / group_sum(row_sum, lanes);
    for (int i = lane; i < m; i += lanes) dev_store(y + i, expf(dev_load(x + i) - row_max) * inv);
}

/* dx = beta dx + y (dy - sum y dy) */
template <class T>
__global__ void __launch_bounds__(THREADS)
    softmax_bwd(const T *y, const T *dy, T *dx, float beta, int64_t rows, int n, int lanes)
{
    const int lane = (int)threadIdx.x & (lanes - 1);
    const int64_t r = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / lanes;
    const int m = r < rows ? n : 0;
    y += r * n;
    dy += r * n;
    dx += r * n;
    float s = 0;
    for (int i = lane; i < m; i += lanes) s = fmaf(dev_load(y + i), dev_load(dy + i), s);
    s = group_sum(s, lanes);
    for (int i = lane; i < m; i += lanes) dev_blend(dx + i, beta, dev_load(y + i) * (dev_load(dy + i) - s));
}

static int lanes_of(int n)
{
    int lanes = 1;
    while (lanes < DEV_WARP && lanes < n) lanes *= 2;
    return lanes;
}
static unsigned blocks_by(const struct k_softmax *a)
{
    const int rows = THREADS / lanes_of(a->n);
    return (unsigned)((a->rows + rows - 1) / rows);
}

template <class T> static cudaError_t run_fwd(const struct k_softmax *a, cudaStream_t s)
{
    return dev_launch((softmax_fwd<T>), blocks_by(a), THREADS, 0, s, (const T *)a->x, (T *)a->y, a->rows, a->n,
                      lanes_of(a->n));
}
template <class T> static cudaError_t run_bwd(const struct k_softmax *a, cudaStream_t s)
{
    return dev_launch((softmax_bwd<T>), blocks_by(a), THREADS, 0, s, (const T *)a->y, (const T *)a->dy, (T *)a->dx,
                      a->beta, a->rows, a->n, lanes_of(a->n));
}

cudaError_t k_softmax_fwd(const struct k_softmax *a, cudaStream_t s)
{
    if (!a->rows || !a->n) return cudaSuccess;
    return a->dtype == K_BF16 ? run_fwd<__nv_bfloat16>(a, s) : run_fwd<float>(a, s);
}
cudaError_t k_softmax_bwd(const struct k_softmax *a, cudaStream_t s)
{
    if (!a->rows || !a->n || !a->dx) return cudaSuccess;
    return a->dtype == K_BF16 ? run_bwd<__nv_bfloat16>(a, s) : run_bwd<float>(a, s);
}

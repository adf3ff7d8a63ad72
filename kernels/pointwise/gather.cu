/* Rows by index. The backward pass sorts the positions by the row they read, stably, without atomics: each position
 * counts those that precede it, n^2 comparisons (10^8 take about ten microseconds on a GPU). A block then sums all
 * positions of one row. */
#include "kernels/common/divide.cuh"
#include "kernels/common/kernels.h"
#include "kernels/common/pack.cuh"

constexpr int THREADS = 256, LANES = 32, GROUPS = 8;

/* y (n, width) = x[index]; index -1: zeros. An index outside the table gives NaN, so that the error shows in the loss:
 * a kernel cannot return one. */
template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    gather_fwd(const T *x, const int32_t *index, T *y, int64_t rows, uint32_t items, divisor packs)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= items) return;
    uint32_t k = i;
    const uint32_t c = divide_off(k, packs);
    const int64_t r = index[k];
    pack<V> p;
    for (int j = 0; j < V; j++) p.v[j] = r == -1 ? 0.0f : __uint_as_float(0x7fc00000u);
    if (r >= 0 && r < rows) p = pack_load<V>(x + (r * packs.d + c) * V);
    pack_store<V>(y + (int64_t)i * V, p);
}

/* order (n): positions sorted by (index, position); count (n): at the first entry of a row in that order the number of
 * its entries, else 0. */
static __global__ void __launch_bounds__(THREADS)
    gather_sort(const int32_t *index, int n, int32_t *order, int32_t *count)
{
    SHARED_ARRAY(int32_t, tile, [THREADS]);
    const int t = (int)threadIdx.x, i = (int)blockIdx.x * THREADS + t;
    const int32_t mine = i < n ? index[i] : 0;
    int below = 0, same = 0, earlier = 0;
    for (int from = 0; from < n; from += THREADS) {
        const int m = n - from < THREADS ? n - from : THREADS;
        DEV_SYNC();
        if (t < m) tile[t] = index[from + t];
        DEV_SYNC();
        for (int j = 0; j < m; j++) {
            below += tile[j] < mine;
            same += tile[j] == mine;
            earlier += tile[j] == mine && from + j < i;
        }
    }
    if (i >= n) return;
    order[below + earlier] = i;
    count[below + earlier] = earlier ? 0 : same;
}

/* Block (k, column chunk): if entry k of the order is the first of its row, dx of that row = beta dx + sum of dy over
 * the row's entries; each group of lanes takes every GROUPS-th entry. */
template <class T, int V>
__global__ void __launch_bounds__(LANES *GROUPS)
    gather_bwd(const T *dy, const int32_t *index, const int32_t *order, const int32_t *count, T *dx, float beta,
               int64_t rows, int64_t packs)
{
    SHARED_ARRAY(float, scratch, [GROUPS][V][LANES]);
    SHARED_ARRAY(int32_t, found, [3]); /* count, row, first position; read by one thread, since reads by all warps would
                                          be half the traffic */
    const int lane = (int)threadIdx.x, g = (int)threadIdx.y;
    order += blockIdx.x;
    if (lane == 0 && g == 0) {
        found[0] = count[blockIdx.x];
        found[2] = found[0] ? order[0] : 0;
        found[1] = found[0] ? index[found[2]] : -1;
    }
    DEV_SYNC();
    const int m = found[0];
    const int64_t row = found[1], c = (int64_t)blockIdx.y * LANES + lane;
    if (row < 0 || row >= rows) return; /* uniform over the block */
    pack<V> s = {};
    for (int i = g; c < packs && i < m; i += GROUPS) {
        const pack<V> p = pack_load<V>(dy + ((i ? order[i] : found[2]) * packs + c) * V);
        for (int j = 0; j < V; j++) s.v[j] += p.v[j];
    }
    for (int j = 0; j < V; j++) scratch[g][j][lane] = s.v[j];
    DEV_SYNC();
    if (g || c >= packs) return;
    for (int i = 1; i < GROUPS; i++)
        for (int j = 0; j < V; j++) s.v[j] += scratch[i][j][lane];
    pack_blend<V>(dx + (row * packs + c) * V, beta, s);
}

template <class T, int V> static cudaError_t launch_fwd(const struct k_gather *a, cudaStream_t s)
{
    const int64_t packs = a->width / V;
    const unsigned blocks = blocks_of(a->n * packs, THREADS);
    if (!blocks) return cudaErrorInvalidValue;
    return dev_launch((gather_fwd<T, V>), blocks, THREADS, 0, s, (const T *)a->x, a->index, (T *)a->y, a->rows,
                      (uint32_t)(a->n * packs), divisor_of(packs));
}
template <class T> static cudaError_t run_fwd(const struct k_gather *a, cudaStream_t s)
{
    constexpr int V = wide<T>;
    const int fits = a->width % V == 0 && pack_fits<V>((const T *)a->x) && pack_fits<V>((const T *)a->y);
    return fits ? launch_fwd<T, V>(a, s) : launch_fwd<T, 1>(a, s);
}

template <class T, int V> static cudaError_t launch_bwd(const struct k_gather *a, cudaStream_t s)
{
    const int64_t packs = a->width / V;
    const int n = (int)a->n;
    const dim3 grid((unsigned)n, (unsigned)((packs + LANES - 1) / LANES)), block(LANES, GROUPS);
    return dev_launch((gather_bwd<T, V>), grid, block, 0, s, (const T *)a->dy, a->index, a->workspace, a->workspace + n,
                      (T *)a->dx, a->beta, a->rows, packs);
}
template <class T> static cudaError_t run_bwd(const struct k_gather *a, cudaStream_t s)
{
    constexpr int V = wide<T>;
    const int fits = a->width % V == 0 && pack_fits<V>((const T *)a->dy) && pack_fits<V>((const T *)a->dx);
    return fits ? launch_bwd<T, V>(a, s) : launch_bwd<T, 1>(a, s);
}

size_t k_gather_bwd_bytes(int64_t n)
{
    return (size_t)(2 * n) * sizeof(int32_t);
}
cudaError_t k_gather_fwd(const struct k_gather *a, cudaStream_t s)
{
    if (!a->n || !a->width) return cudaSuccess;
    return a->dtype == K_BF16 ? run_fwd<__nv_bfloat16>(a, s) : run_fwd<float>(a, s);
}
cudaError_t k_gather_bwd(const struct k_gather *a, cudaStream_t s)
{
    const size_t bytes = (size_t)(a->rows * a->width) * (a->dtype == K_BF16 ? 2 : 4);
    if (!a->dx || !bytes) return cudaSuccess;
    cudaError_t e = cudaSuccess;
    if (a->beta == 0) e = cudaMemsetAsync(a->dx, 0, bytes, s);
    if (e != cudaSuccess || !a->n) return e;
    if (a->n > 0x7fffffff / THREADS) return cudaErrorInvalidValue;
    e = dev_launch(gather_sort, blocks_of(a->n, THREADS), THREADS, 0, s, a->index, (int)a->n, a->workspace,
                   a->workspace + a->n);
    if (e != cudaSuccess) return e;
    return a->dtype == K_BF16 ? run_bwd<__nv_bfloat16>(a, s) : run_bwd<float>(a, s);
}

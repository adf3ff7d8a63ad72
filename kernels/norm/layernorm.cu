/* Layer norm over the last axis: a warp a row. The variance is a second pass around the mean, and that pass also
 * measures what rounding left of the mean. Weight gradients: blocks sum columns over their part of the rows, a second
 * kernel adds the parts in order, so that the result depends on the shape alone. */
#include "kernels/common/kernels.h"
#include "kernels/common/rows.cuh"

constexpr int LANES = 32, GROUPS = 8, MIN_PART_ROWS = 64, MAX_PARTS = 128;

template <class T, int V>
__global__ void __launch_bounds__(DEV_WARP *ROWS_A_BLOCK)
    layernorm_fwd(const T *x, const float *w, const float *b, T *y, float *stats, float eps, int64_t rows, int n)
{
    const int64_t r = warp_row();
    const int lane = warp_lane();
    if (r >= rows) return; /* the whole warp */
    x += r * n;
    y += r * n;
    float s = 0, q = 0, d = 0;
    for (int i = lane * V; i < n; i += DEV_WARP * V) {
        const pack<V> p = pack_load<V>(x + i);
        for (int j = 0; j < V; j++) s += p.v[j];
    }
    float mean = dev_warp_sum(s) / (float)n;
    for (int i = lane * V; i < n; i += DEV_WARP * V) {
        const pack<V> p = pack_load<V>(x + i);
        for (int j = 0; j < V; j++) {
            const float c = p.v[j] - mean;
            d += c;
            q = fmaf(c, c, q);
        }
    }
    d = dev_warp_sum(d) / (float)n;
    mean += d;
    const float var = dev_warp_sum(q) / (float)n - d * d, rstd = 1.0f / sqrtf((var > 0 ? var : 0) + eps);
    for (int i = lane * V; i < n; i += DEV_WARP * V) {
        pack<V> p = pack_load<V>(x + i);
        const pack<V> pw = pack_load<V>(w + i), pb = pack_load<V>(b + i);
        for (int j = 0; j < V; j++) p.v[j] = fmaf((p.v[j] - mean) * rstd, pw.v[j], pb.v[j]);
        pack_store<V>(y + i, p);
    }
    if (lane == 0) {
        stats[2 * r] = mean;
        stats[2 * r + 1] = rstd;
    }
}

/* dx = rstd (g - mean(g) - h mean(g h)) with g = dy w, h = (x - mean) rstd */
template <class T, int V>
__global__ void __launch_bounds__(DEV_WARP *ROWS_A_BLOCK)
    layernorm_bwd_x(const T *x, const float *w, const float *stats, const T *dy, T *dx, float beta, int64_t rows, int n)
{
    const int64_t r = warp_row();
    const int lane = warp_lane();
    if (r >= rows) return;
    x += r * n;
    dy += r * n;
    dx += r * n;
    const float mean = stats[2 * r], rstd = stats[2 * r + 1];
    float s1 = 0, s2 = 0;
    for (int i = lane * V; i < n; i += DEV_WARP * V) {
        const pack<V> p = pack_load<V>(x + i), pd = pack_load<V>(dy + i), pw = pack_load<V>(w + i);
        for (int j = 0; j < V; j++) {
            const float g = pd.v[j] * pw.v[j];
            s1 += g;
            s2 = fmaf(g, (p.v[j] - mean) * rstd, s2);
        }
    }
    s1 = dev_warp_sum(s1) / (float)n;
    s2 = dev_warp_sum(s2) / (float)n;
    for (int i = lane * V; i < n; i += DEV_WARP * V) {
        pack<V> p = pack_load<V>(x + i);
        const pack<V> pd = pack_load<V>(dy + i), pw = pack_load<V>(w + i);
        for (int j = 0; j < V; j++) p.v[j] = rstd * (pd.v[j] * pw.v[j] - s1 - (p.v[j] - mean) * rstd * s2);
        pack_blend<V>(dx + i, beta, p);
    }
}

/* part (parts, 2, n): the sums over rows [blockIdx.y * per, ...) of dy h and of dy. Threads: 32 packs of columns, 8
 * rows. */
template <class T, int V>
__global__ void __launch_bounds__(LANES *GROUPS)
    layernorm_bwd_parts(const T *x, const float *stats, const T *dy, float *part, int64_t rows, int64_t per, int n)
{
    SHARED_ARRAY(float, sums, [2][GROUPS][V][LANES]);
    const int lane = (int)threadIdx.x, column = ((int)blockIdx.x * LANES + lane) * V, k = (int)threadIdx.y;
    const int64_t first = (int64_t)blockIdx.y * per, last = first + per < rows ? first + per : rows;
    pack<V> sw = {}, sb = {};
#pragma unroll 2
    for (int64_t r = first + k; column < n && r < last; r += GROUPS) {
        const uint2 u = dev_load8(stats + 2 * r);
        const float mean = __uint_as_float(u.x), rstd = __uint_as_float(u.y);
        const pack<V> p = pack_load<V>(x + r * n + column), g = pack_load<V>(dy + r * n + column);
        for (int j = 0; j < V; j++) {
            sw.v[j] = fmaf(g.v[j], (p.v[j] - mean) * rstd, sw.v[j]);
            sb.v[j] += g.v[j];
        }
    }
    for (int j = 0; j < V; j++) {
        sums[0][k][j][lane] = sw.v[j];
        sums[1][k][j][lane] = sb.v[j];
    }
    DEV_SYNC();
    if (k >= 2 || column >= n) return;
    pack<V> s = {};
    for (int i = 0; i < GROUPS; i++)
        for (int j = 0; j < V; j++) s.v[j] += sums[k][i][j][lane];
    pack_store<V>(part + ((int64_t)blockIdx.y * 2 + k) * n + column, s);
}

/* Columns as above, one a lane; groups take every 8th part. */
static __global__ void __launch_bounds__(LANES *GROUPS)
    layernorm_bwd_weights(const float *part, int parts, float *dw, float *db, float beta_w, float beta_b, int n)
{
    SHARED_ARRAY(float, sums, [GROUPS][LANES]);
    const int lane = (int)threadIdx.x, column = (int)blockIdx.x * LANES + lane, which = (int)blockIdx.y;
    float *to = which ? db : dw;
    if (!to) return; /* the whole block */
    float s = 0;
    for (int i = (int)threadIdx.y; column < n && i < parts; i += GROUPS)
        s += part[(int64_t)(2 * i + which) * n + column];
    sums[threadIdx.y][lane] = s;
    DEV_SYNC();
    if (threadIdx.y || column >= n) return;
    for (int i = 1; i < GROUPS; i++) s += sums[i][lane];
    dev_blend(to + column, which ? beta_b : beta_w, s);
}

static int64_t part_rows(int64_t rows)
{
    const int64_t per = (rows + MAX_PARTS - 1) / MAX_PARTS;
    return per < MIN_PART_ROWS ? MIN_PART_ROWS : per;
}

size_t k_layernorm_bwd_bytes(int64_t rows, int n)
{
    const int64_t per = part_rows(rows);
    return (size_t)((rows + per - 1) / per * 2 * n) * sizeof(float);
}

template <class T> static cudaError_t run_fwd(const struct k_layernorm *a, cudaStream_t s)
{
    const T *x = (const T *)a->x;
    T *y = (T *)a->y;
    const dim3 blocks(row_blocks(a->rows)), threads(DEV_WARP * ROWS_A_BLOCK);
    if (a->n % 4 == 0 && dev_by_fours(x) && dev_by_fours(y) && dev_by_fours(a->w) && dev_by_fours(a->b))
        return dev_launch((layernorm_fwd<T, 4>), blocks, threads, 0, s, x, a->w, a->b, y, a->stats, a->eps, a->rows,
                          a->n);
    return dev_launch((layernorm_fwd<T, 1>), blocks, threads, 0, s, x, a->w, a->b, y, a->stats, a->eps, a->rows, a->n);
}

template <class T> static cudaError_t run_bwd_x(const struct k_layernorm *a, cudaStream_t s)
{
    const T *x = (const T *)a->x, *dy = (const T *)a->dy;
    T *dx = (T *)a->dx;
    const dim3 blocks(row_blocks(a->rows)), threads(DEV_WARP * ROWS_A_BLOCK);
    if (a->n % 4 == 0 && dev_by_fours(x) && dev_by_fours(dy) && dev_by_fours(dx) && dev_by_fours(a->w))
        return dev_launch((layernorm_bwd_x<T, 4>), blocks, threads, 0, s, x, a->w, a->stats, dy, dx, a->beta_x, a->rows,
                          a->n);
    return dev_launch((layernorm_bwd_x<T, 1>), blocks, threads, 0, s, x, a->w, a->stats, dy, dx, a->beta_x, a->rows,
                      a->n);
}

template <class T> static cudaError_t run_bwd_weights(const struct k_layernorm *a, cudaStream_t s)
{
    const T *x = (const T *)a->x, *dy = (const T *)a->dy;
    const int64_t per = part_rows(a->rows);
    const unsigned parts = (unsigned)((a->rows + per - 1) / per);
    const int v = a->n % 4 == 0 && dev_by_fours(x) && dev_by_fours(dy) ? 4 : 1;
    const dim3 blocks((unsigned)(a->n + LANES * v - 1) / (unsigned)(LANES * v), parts), threads(LANES, GROUPS);
    const cudaError_t e = v == 4 ? dev_launch((layernorm_bwd_parts<T, 4>), blocks, threads, 0, s, x, a->stats, dy,
                                              a->workspace, a->rows, per, a->n)
                                 : dev_launch((layernorm_bwd_parts<T, 1>), blocks, threads, 0, s, x, a->stats, dy,
                                              a->workspace, a->rows, per, a->n);
    if (e != cudaSuccess) return e;
    return dev_launch(layernorm_bwd_weights, dim3((unsigned)(a->n + LANES - 1) / LANES, 2), threads, 0, s, a->workspace,
                      (int)parts, a->dw, a->db, a->beta_w, a->beta_b, a->n);
}

cudaError_t k_layernorm_fwd(const struct k_layernorm *a, cudaStream_t s)
{
    if (!a->rows || !a->n) return cudaSuccess;
    return a->dtype == K_BF16 ? run_fwd<__nv_bfloat16>(a, s) : run_fwd<float>(a, s);
}

cudaError_t k_layernorm_bwd(const struct k_layernorm *a, cudaStream_t s)
{
    if (!a->rows || !a->n) return cudaSuccess;
    const int half = a->dtype == K_BF16;
    if (a->dx) {
        const cudaError_t e = half ? run_bwd_x<__nv_bfloat16>(a, s) : run_bwd_x<float>(a, s);
        if (e != cudaSuccess) return e;
    }
    if (!a->dw && !a->db) return cudaSuccess;
    return half ? run_bwd_weights<__nv_bfloat16>(a, s) : run_bwd_weights<float>(a, s);
}

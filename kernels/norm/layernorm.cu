/* Layer norm over the last axis (C), one warp per row (N rows). The variance is computed in a second pass about the
 * mean, and that pass also corrects the rounding error of the mean. Weight gradients: blocks sum columns over a part of
 * the rows, and a second kernel adds the parts in order, so that the order of summation depends on the shape alone. */
#include "kernels/common/kernels.h"
#include "kernels/common/rows.cuh"

constexpr int LANES = 32, GROUPS = 8, MIN_PART_ROWS = 64, MAX_PARTS = 128;

/* out = (inp - mean) rstd weight + bias; inp, out (N, C), weight, bias (C), stats (N, 2) = mean, rstd */
template <class T, int V>
__global__ void __launch_bounds__(DEV_WARP *WARPS_PER_BLOCK)
    layernorm_fwd(const T *inp, const float *weight, const float *bias, T *out, float *stats, float eps, int64_t N,
                  int C)
{
    const int64_t row = warp_row();
    const int lane = warp_lane();
    if (row >= N) return; /* uniform over the warp */
    inp += row * C;
    out += row * C;
    float sum = 0, sum_sq = 0, residual = 0;
    /* mean */
    for (int i = lane * V; i < C; i += DEV_WARP * V) {
        const pack<V> x = pack_load<V>(inp + i);
        for (int j = 0; j < V; j++) sum += x.v[j];
    }
    float mean = dev_warp_sum(sum) / (float)C;
    /* variance about it, and the mean's rounding error */
    for (int i = lane * V; i < C; i += DEV_WARP * V) {
        const pack<V> x = pack_load<V>(inp + i);
        for (int j = 0; j < V; j++) {
            const float d = x.v[j] - mean;
            residual += d;
            sum_sq = fmaf(d, d, sum_sq);
        }
    }
    residual = dev_warp_sum(residual) / (float)C;
    mean += residual;
    const float var = dev_warp_sum(sum_sq) / (float)C - residual * residual,
                rstd = 1.0f / sqrtf((var > 0 ? var : 0) + eps);
    /* normalise, scale and shift */
    for (int i = lane * V; i < C; i += DEV_WARP * V) {
        pack<V> x = pack_load<V>(inp + i);
        const pack<V> w = pack_load<V>(weight + i), b = pack_load<V>(bias + i);
        for (int j = 0; j < V; j++) x.v[j] = fmaf((x.v[j] - mean) * rstd, w.v[j], b.v[j]);
        pack_store<V>(out + i, x);
    }
    if (lane == 0) {
        stats[2 * row] = mean;
        stats[2 * row + 1] = rstd;
    }
}

/* dinp = beta dinp + rstd (dnorm - mean(dnorm) - norm mean(dnorm norm)), dnorm = dout weight,
 * norm = (inp - mean) rstd */
template <class T, int V>
__global__ void __launch_bounds__(DEV_WARP *WARPS_PER_BLOCK)
    layernorm_bwd_x(const T *inp, const float *weight, const float *stats, const T *dout, T *dinp, float beta,
                    int64_t N, int C)
{
    const int64_t row = warp_row();
    const int lane = warp_lane();
    if (row >= N) return;
    inp += row * C;
    dout += row * C;
    dinp += row * C;
    const float mean = stats[2 * row], rstd = stats[2 * row + 1];
    float dnorm_mean = 0, dnorm_norm_mean = 0;
    for (int i = lane * V; i < C; i += DEV_WARP * V) {
        const pack<V> x = pack_load<V>(inp + i), dy = pack_load<V>(dout + i), w = pack_load<V>(weight + i);
        for (int j = 0; j < V; j++) {
            const float dnorm = dy.v[j] * w.v[j];
            dnorm_mean += dnorm;
            dnorm_norm_mean = fmaf(dnorm, (x.v[j] - mean) * rstd, dnorm_norm_mean);
        }
    }
    dnorm_mean = dev_warp_sum(dnorm_mean) / (float)C;
    dnorm_norm_mean = dev_warp_sum(dnorm_norm_mean) / (float)C;
    for (int i = lane * V; i < C; i += DEV_WARP * V) {
        pack<V> x = pack_load<V>(inp + i);
        const pack<V> dy = pack_load<V>(dout + i), w = pack_load<V>(weight + i);
        for (int j = 0; j < V; j++)
            x.v[j] = rstd * (dy.v[j] * w.v[j] - dnorm_mean - (x.v[j] - mean) * rstd * dnorm_norm_mean);
        pack_blend<V>(dinp + i, beta, x);
    }
}

/* part (parts, 2, C): sums over rows [blockIdx.y * rows_per_part, ...) of dout norm (for dweight) and of dout (for
 * dbias). Threads: 32 packs of columns, 8 rows. */
template <class T, int V>
__global__ void __launch_bounds__(LANES *GROUPS)
    layernorm_bwd_parts(const T *inp, const float *stats, const T *dout, float *part, int64_t N, int64_t rows_per_part,
                        int C)
{
    SHARED_ARRAY(float, sums, [2][GROUPS][V][LANES]);
    const int lane = (int)threadIdx.x, column = ((int)blockIdx.x * LANES + lane) * V, group = (int)threadIdx.y;
    const int64_t first = (int64_t)blockIdx.y * rows_per_part,
                  last = first + rows_per_part < N ? first + rows_per_part : N;
    pack<V> dw = {}, db = {};
#pragma unroll 2
    for (int64_t row = first + group; column < C && row < last; row += GROUPS) {
        const uint2 u = dev_load8(stats + 2 * row);
        const float mean = __uint_as_float(u.x), rstd = __uint_as_float(u.y);
        const pack<V> x = pack_load<V>(inp + row * C + column), dy = pack_load<V>(dout + row * C + column);
        for (int j = 0; j < V; j++) {
            dw.v[j] = fmaf(dy.v[j], (x.v[j] - mean) * rstd, dw.v[j]);
            db.v[j] += dy.v[j];
        }
    }
    for (int j = 0; j < V; j++) {
        sums[0][group][j][lane] = dw.v[j];
        sums[1][group][j][lane] = db.v[j];
    }
    DEV_SYNC();
    if (group >= 2 || column >= C) return; /* group 0 adds dweight's sums, group 1 dbias's */
    pack<V> s = {};
    for (int i = 0; i < GROUPS; i++)
        for (int j = 0; j < V; j++) s.v[j] += sums[group][i][j][lane];
    pack_store<V>(part + ((int64_t)blockIdx.y * 2 + group) * C + column, s);
}

/* Adds the parts: dweight (blockIdx.y 0) and dbias (1). One column per lane; groups take every 8th part. */
static __global__ void __launch_bounds__(LANES *GROUPS)
    layernorm_bwd_weights(const float *part, int parts, float *dweight, float *dbias, float beta_w, float beta_b, int C)
{
    SHARED_ARRAY(float, sums, [GROUPS][LANES]);
    const int lane = (int)threadIdx.x, column = (int)blockIdx.x * LANES + lane, is_bias = (int)blockIdx.y;
    float *to = is_bias ? dbias : dweight;
    if (!to) return; /* uniform over the block */
    float s = 0;
    for (int i = (int)threadIdx.y; column < C && i < parts; i += GROUPS)
        s += part[(int64_t)(2 * i + is_bias) * C + column];
    sums[threadIdx.y][lane] = s;
    DEV_SYNC();
    if (threadIdx.y || column >= C) return;
    for (int i = 1; i < GROUPS; i++) s += sums[i][lane];
    dev_blend(to + column, is_bias ? beta_b : beta_w, s);
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
    const dim3 blocks(row_blocks(a->rows)), threads(DEV_WARP * WARPS_PER_BLOCK);
    if (a->n % 4 == 0 && dev_aligned4(x) && dev_aligned4(y) && dev_aligned4(a->w) && dev_aligned4(a->b))
        return dev_launch((layernorm_fwd<T, 4>), blocks, threads, 0, s, x, a->w, a->b, y, a->stats, a->eps, a->rows,
                          a->n);
    return dev_launch((layernorm_fwd<T, 1>), blocks, threads, 0, s, x, a->w, a->b, y, a->stats, a->eps, a->rows, a->n);
}

template <class T> static cudaError_t run_bwd_x(const struct k_layernorm *a, cudaStream_t s)
{
    const T *x = (const T *)a->x, *dy = (const T *)a->dy;
    T *dx = (T *)a->dx;
    const dim3 blocks(row_blocks(a->rows)), threads(DEV_WARP * WARPS_PER_BLOCK);
    if (a->n % 4 == 0 && dev_aligned4(x) && dev_aligned4(dy) && dev_aligned4(dx) && dev_aligned4(a->w))
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
    const int v = a->n % 4 == 0 && dev_aligned4(x) && dev_aligned4(dy) ? 4 : 1;
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
    const int bf16 = a->dtype == K_BF16;
    if (a->dx) {
        const cudaError_t e = bf16 ? run_bwd_x<__nv_bfloat16>(a, s) : run_bwd_x<float>(a, s);
        if (e != cudaSuccess) return e;
    }
    if (!a->dw && !a->db) return cudaSuccess;
    return bf16 ? run_bwd_weights<__nv_bfloat16>(a, s) : run_bwd_weights<float>(a, s);
}

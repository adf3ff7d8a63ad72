/* Instance norm + leaky ReLU, channels last. Statistics: each block sums (x - shift) and its square over a part of a
 * sample's positions, where the shift is the part's first value, and stores the part's mean and sum of squared
 * deviations; the parts are merged in double, in order. Because of the shift, a mean far above the standard deviation
 * (CT) costs no digits. A convolution's epilogue may have stored such parts already. A second pass applies the norm.
 * Backward: partial sums of dz and dz (x - mean), their totals, then one pass for dx.
 *
 * Blocks are tx packs of channels by ty positions (columns.cuh); a thread keeps its channels' coefficients in
 * registers. In this file sp is the number of positions of a sample, and x, y, dy, dx are (N, sp, C). */
#include "kernels/common/columns.cuh"
#include "kernels/common/kernels.h"

constexpr int APPLY_ROWS = 8;                             /* positions per thread in the passes that write */
template <int V> constexpr int PREFETCH = V == 8 ? 2 : 4; /* positions loaded before the first is stored */
constexpr int MERGE_LANES = 32, MERGE_GROUPS = 8;
/* Parts merged by one launch, the maximum of column_parts. A convolution stores more; these are first merged in groups
 * by another launch. */
constexpr int MERGE_MAX = 256;

/* z = (x - mean) scale + b, scale = rstd w. The backward pass recomputes z by the same operations, so that its sign
 * agrees with the forward pass. */
template <int V> struct coefficients {
    pack<V> mean, scale, b;
};
/* One float per channel of the block: stored to shared memory by coalesced reads (one channel per thread), then read as
 * packs. Element j of pack i is at [j][i]; rows are padded by 32 / V floats to avoid bank conflicts on both sides. */
template <int V> struct per_channel {
    static constexpr int ROW = DEV_WARP + DEV_WARP / V;
    float v[V * ROW];
    DEV_INLINE void store(int channel, float f)
    {
        v[channel % V * ROW + channel / V] = f;
    }
    DEV_INLINE pack<V> load() const
    {
        pack<V> p;
        for (int j = 0; j < V; j++) p.v[j] = v[j * ROW + (int)threadIdx.x];
        return p;
    }
};
/* Channel whose coefficients this thread loads for the block: `local` is its index within the block, -1 for none; c is
 * its index in the array, clamped to the last channel. */
struct channel_load {
    int local;
    int64_t c;
};
static DEV_INLINE channel_load channel_load_of(int64_t channels, int v)
{
    const int local = (int)(threadIdx.y * blockDim.x + threadIdx.x), n = (int)blockDim.x * v;
    const int64_t c = (int64_t)blockIdx.x * n + local;
    return {local < n ? local : -1, c < channels ? c : channels - 1};
}
/* Called by the whole block (barrier inside). stats (C, 2) of the block's sample; scratch: 3 per_channel in shared
 * memory. */
template <int V>
static DEV_INLINE coefficients<V> coefficients_of(const float *stats, const float *w, const float *b, int64_t channels,
                                                  per_channel<V> *scratch)
{
    const channel_load k = channel_load_of(channels, V);
    if (k.local >= 0) {
        scratch[0].store(k.local, stats[2 * k.c]);
        scratch[1].store(k.local, stats[2 * k.c + 1] * w[k.c]);
        scratch[2].store(k.local, b[k.c]);
    }
    DEV_SYNC();
    return {scratch[0].load(), scratch[1].load(), scratch[2].load()};
}
/* Positions of part blockIdx.y of sample blockIdx.z, `per` in each part: [first, last), counted over all samples. The
 * thread's positions are from, from + blockDim.y, ...; c is its first channel. */
struct position_range {
    int64_t first, last, from, c;
};
static DEV_INLINE position_range position_range_of(int64_t sp, int64_t per, int v)
{
    const int64_t first = (int64_t)blockIdx.y * per, last = first + per < sp ? first + per : sp;
    const int64_t base = (int64_t)blockIdx.z * sp;
    return {base + first, base + last, base + first + threadIdx.y,
            ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * v};
}
/* Address of channel c of this block's part in parts (N, parts, C, 2). */
static DEV_INLINE float *part_at(float *parts, int64_t channels, int64_t c)
{
    return parts + (((int64_t)blockIdx.z * gridDim.y + blockIdx.y) * channels + c) * 2;
}

/* to[2 j] = s[j], to[2 j + 1] = s[V + j] */
template <int V> static DEV_INLINE void store_pairs(float *to, const float *s)
{
    if constexpr (V == 1)
        to[0] = s[0], to[1] = s[1];
    else
        for (int j = 0; j < V; j += 2) dev_store16(to + 2 * j, make_float4(s[j], s[V + j], s[j + 1], s[V + j + 1]));
}

/* parts (N, parts, C, 2): mean and sum of squared deviations of the part's positions */
template <class T, int V>
__global__ void __launch_bounds__(COLUMN_THREADS)
    instance_norm_parts(const T *x, float *parts, int64_t sp, int64_t per, int64_t channels)
{
    SHARED_ARRAY(float, scratch, [2 * V][COLUMN_THREADS]);
    const position_range k = position_range_of(sp, per, V);
    pack<V> shift = {};
    float s[2 * V] = {};
    if (k.c < channels) {
        shift = pack_load<V>(x + k.first * channels + k.c);
        for (int64_t r = k.from; r < k.last; r += blockDim.y) {
            const pack<V> p = pack_load<V>(x + r * channels + k.c);
            for (int j = 0; j < V; j++) {
                const float d = p.v[j] - shift.v[j];
                s[j] += d;
                s[V + j] = fmaf(d, d, s[V + j]);
            }
        }
    }
    column_tree<2 * V>(scratch, s);
    if (threadIdx.y || k.c >= channels) return;
    const float m = (float)(k.last - k.first);
    for (int j = 0; j < V; j++) {
        const float d = s[j] / m;
        s[V + j] = fmaxf(fmaf(-d, s[j], s[V + j]), 0.0f);
        s[j] = shift.v[j] + d;
    }
    store_pairs<V>(part_at(parts, channels, k.c), s);
}

/* Sums over the parts [first, last) of m, in double and in order; threads are 32 channels of sample blockIdx.y by 8
 * groups of parts. parts (N, m, C, 2). A part is a pair of sums (s1, s2), or with `moments` the mean and the sum of
 * squared deviations of `per` positions (fewer in the last part), which are first converted to sums. The threads with
 * threadIdx.y == 0 get the result. */
static DEV_INLINE double2 merge_parts(const float *parts, int first, int last, int m, int64_t c, int64_t channels,
                                      int moments, int64_t sp, int64_t per,
                                      double (*scratch)[MERGE_GROUPS][MERGE_LANES])
{
    const int lane = (int)threadIdx.x, g = (int)threadIdx.y;
    double s1 = 0, s2 = 0;
    for (int i = first + g; c < channels && i < last; i += MERGE_GROUPS) {
        const float *p = parts + (((int64_t)blockIdx.y * m + i) * channels + c) * 2;
        const double a = (double)p[0], b = (double)p[1];
        const double count = (double)(i == m - 1 ? sp - per * (m - 1) : per);
        s1 += moments ? count * a : a;
        s2 += moments ? b + count * a * a : b;
    }
    scratch[0][g][lane] = s1;
    scratch[1][g][lane] = s2;
    DEV_SYNC();
    s1 = s2 = 0;
    if (g == 0)
        for (int i = 0; i < MERGE_GROUPS; i++) s1 += scratch[0][i][lane], s2 += scratch[1][i][lane];
    return make_double2(s1, s2);
}

/* Merges groups of parts: to (N, gridDim.z, C, 2) = the moments of each group; with is_all (one group of all parts),
 * mean and 1 / sqrt(variance + eps). */
static __global__ void __launch_bounds__(MERGE_LANES *MERGE_GROUPS)
    instance_norm_stats(const float *parts, int m, int group, int is_all, float *to, float eps, int64_t sp, int64_t per,
                        int64_t channels)
{
    SHARED_ARRAY(double, scratch, [2][MERGE_GROUPS][MERGE_LANES]);
    const int64_t c = (int64_t)blockIdx.x * MERGE_LANES + threadIdx.x;
    const int first = (int)blockIdx.z * group, last = first + group < m ? first + group : m;
    const double2 s = merge_parts(parts, first, last, m, c, channels, 1, sp, per, scratch);
    if (threadIdx.y || c >= channels) return;
    const double rows = (double)(last == m ? sp - per * first : per * group);
    const double mean = s.x / rows, d = s.y - mean * s.x, squares = d > 0 ? d : 0.0;
    to += (((int64_t)blockIdx.y * gridDim.z + blockIdx.z) * channels + c) * 2;
    to[0] = (float)mean;
    to[1] = (float)(is_all ? 1.0 / sqrt(squares / rows + (double)eps) : squares);
}

/* y = leaky_relu(z) */
template <class T, int V>
__global__ void __launch_bounds__(COLUMN_THREADS)
    instance_norm_apply(const T *x, const float *stats, const float *w, const float *b, T *y, float slope, int64_t sp,
                        int64_t per, int64_t channels)
{
    SHARED_ARRAY(per_channel<V>, scratch, [3]);
    const position_range k = position_range_of(sp, per, V);
    const coefficients<V> f = coefficients_of<V>(stats + (int64_t)blockIdx.z * channels * 2, w, b, channels, scratch);
    if (k.c >= channels) return;
    const int64_t step = (int64_t)blockDim.y;
    for (int64_t r = k.from; r < k.last; r += PREFETCH<V> * step) {
        pack<V> p[PREFETCH<V>];
        for (int i = 0; i < PREFETCH<V>; i++)
            if (r + i * step < k.last) p[i] = pack_load<V>(x + (r + i * step) * channels + k.c);
        for (int i = 0; i < PREFETCH<V>; i++) {
            if (r + i * step >= k.last) break;
            for (int j = 0; j < V; j++) {
                const float z = fmaf(p[i].v[j] - f.mean.v[j], f.scale.v[j], f.b.v[j]);
                p[i].v[j] = z > 0 ? z : slope * z;
            }
            pack_store<V>(y + (r + i * step) * channels + k.c, p[i]);
        }
    }
}

/* parts (N, parts, C, 2): sums of dz and of dz (x - mean), dz = dy leaky_relu'(z) */
template <class T, int V>
__global__ void __launch_bounds__(COLUMN_THREADS)
    instance_norm_bwd_parts(const T *x, const T *dy, const float *stats, const float *w, const float *b, float *parts,
                            float slope, int64_t sp, int64_t per, int64_t channels)
{
    SHARED_ARRAY(float, scratch, [2 * V][COLUMN_THREADS]);
    SHARED_ARRAY(per_channel<V>, coefs, [3]);
    const position_range k = position_range_of(sp, per, V);
    const coefficients<V> f = coefficients_of<V>(stats + (int64_t)blockIdx.z * channels * 2, w, b, channels, coefs);
    float s[2 * V] = {};
    if (k.c < channels)
        for (int64_t r = k.from; r < k.last; r += blockDim.y) {
            const pack<V> p = pack_load<V>(x + r * channels + k.c), g = pack_load<V>(dy + r * channels + k.c);
            for (int j = 0; j < V; j++) {
                const float d = p.v[j] - f.mean.v[j];
                const float dz = fmaf(d, f.scale.v[j], f.b.v[j]) > 0 ? g.v[j] : slope * g.v[j];
                s[j] += dz;
                s[V + j] = fmaf(dz, d, s[V + j]);
            }
        }
    column_tree<2 * V>(scratch, s);
    if (threadIdx.y || k.c >= channels) return;
    store_pairs<V>(part_at(parts, channels, k.c), s);
}

/* totals (N, C, 2): sum of dz, sum of dz norm, norm = (x - mean) rstd */
static __global__ void __launch_bounds__(MERGE_LANES *MERGE_GROUPS)
    instance_norm_bwd_totals(const float *parts, int m, const float *stats, float *totals, int64_t channels)
{
    SHARED_ARRAY(double, scratch, [2][MERGE_GROUPS][MERGE_LANES]);
    const int64_t c = (int64_t)blockIdx.x * MERGE_LANES + threadIdx.x;
    const double2 s = merge_parts(parts, 0, m, m, c, channels, 0, 0, 0, scratch);
    if (threadIdx.y || c >= channels) return;
    const int64_t at = ((int64_t)blockIdx.y * channels + c) * 2;
    totals[at] = (float)s.x;
    totals[at + 1] = (float)(s.y * (double)stats[at + 1]);
}

/* dw (C) = sum over samples of totals[1], db (C) of totals[0]. */
static __global__ void __launch_bounds__(128)
    instance_norm_bwd_weights(const float *totals, float *dw, float *db, float beta_w, float beta_b, int n,
                              int64_t channels)
{
    const int64_t c = (int64_t)blockIdx.x * 128 + threadIdx.x;
    if (c >= channels) return;
    double s1 = 0, s2 = 0;
    for (int i = 0; i < n; i++) {
        s1 += (double)totals[(i * channels + c) * 2];
        s2 += (double)totals[(i * channels + c) * 2 + 1];
    }
    if (dw) dev_blend(dw + c, beta_w, (float)s2);
    if (db) dev_blend(db + c, beta_b, (float)s1);
}

/* dx = beta dx + rstd w (dz - mean(dz) - norm mean(dz norm)) */
template <class T, int V>
__global__ void __launch_bounds__(COLUMN_THREADS)
    instance_norm_bwd_x(const T *x, const T *dy, const float *stats, const float *totals, const float *w,
                        const float *b, T *dx, float beta, float slope, int64_t sp, int64_t per, int64_t channels)
{
    SHARED_ARRAY(per_channel<V>, scratch, [5]);
    const position_range k = position_range_of(sp, per, V);
    const int64_t at = (int64_t)blockIdx.z * channels * 2;
    const channel_load g = channel_load_of(channels, V);
    if (g.local >= 0) {
        scratch[3].store(g.local, totals[at + 2 * g.c] / (float)sp);
        scratch[4].store(g.local, totals[at + 2 * g.c + 1] / (float)sp * stats[at + 2 * g.c + 1]);
    }
    const coefficients<V> f = coefficients_of<V>(stats + at, w, b, channels, scratch);
    const pack<V> dz_mean = scratch[3].load(), dz_norm_mean = scratch[4].load(); /* the second times rstd */
    if (k.c >= channels) return;
    const int64_t step = (int64_t)blockDim.y;
    for (int64_t r = k.from; r < k.last; r += PREFETCH<V> * step) {
        pack<V> p[PREFETCH<V>], q[PREFETCH<V>];
        for (int i = 0; i < PREFETCH<V>; i++)
            if (r + i * step < k.last) {
                p[i] = pack_load<V>(x + (r + i * step) * channels + k.c);
                q[i] = pack_load<V>(dy + (r + i * step) * channels + k.c);
            }
        for (int i = 0; i < PREFETCH<V>; i++) {
            if (r + i * step >= k.last) break;
            for (int j = 0; j < V; j++) {
                const float d = p[i].v[j] - f.mean.v[j];
                const float dz = fmaf(d, f.scale.v[j], f.b.v[j]) > 0 ? q[i].v[j] : slope * q[i].v[j];
                p[i].v[j] = f.scale.v[j] * fmaf(-d, dz_norm_mean.v[j], dz - dz_mean.v[j]);
            }
            pack_blend<V>(dx + (r + i * step) * channels + k.c, beta, p[i]);
        }
    }
}

/* Grids of the passes over parts, and of the passes that write, whose parts are smaller. */
struct launch_config {
    dim3 parts, apply, block;
    int64_t per, apply_per; /* positions per part of each */
    int m;                  /* parts per sample */
};
template <int V> static launch_config launch_config_of(const struct k_instance_norm *a)
{
    const column_tile t = column_tile_of<V>(a->c / V);
    int64_t apply = (int64_t)t.ty * APPLY_ROWS;
    while ((a->sp + apply - 1) / apply > 65535) apply *= 2; /* limit of gridDim.y */
    launch_config p;
    p.per = column_part_rows(a->sp);
    p.m = (int)column_parts(a->sp);
    p.apply_per = apply;
    p.parts = dim3(t.chunks, (unsigned)p.m, (unsigned)a->n);
    p.apply = dim3(t.chunks, (unsigned)((a->sp + apply - 1) / apply), (unsigned)a->n);
    p.block = dim3((unsigned)t.tx, (unsigned)t.ty);
    return p;
}
static dim3 merge_grid(const struct k_instance_norm *a, int groups)
{
    return dim3((unsigned)((a->c + MERGE_LANES - 1) / MERGE_LANES), (unsigned)a->n, (unsigned)groups);
}
static int parts_of(const struct k_instance_norm *a, int64_t per)
{
    return (int)((a->sp + per - 1) / per);
}
static cudaError_t merge(const struct k_instance_norm *a, const float *parts, int64_t per, int group, float *to,
                         cudaStream_t s)
{
    const int m = parts_of(a, per), groups = (m + group - 1) / group;
    return dev_launch(instance_norm_stats, merge_grid(a, groups), dim3(MERGE_LANES, MERGE_GROUPS), 0, s, parts, m,
                      group, groups == 1, to, a->eps, a->sp, per, a->c);
}

template <class T, int V> static cudaError_t launch_fwd(const struct k_instance_norm *a, cudaStream_t s)
{
    const launch_config p = launch_config_of<V>(a);
    const T *x = (const T *)a->x;
    const float *parts = a->moments;
    int64_t per = a->part_rows;
    cudaError_t e = cudaSuccess;
    if (!parts) {
        e = dev_launch((instance_norm_parts<T, V>), p.parts, p.block, 0, s, x, a->workspace, a->sp, p.per, a->c);
        parts = a->workspace, per = p.per;
    }
    if (e == cudaSuccess && parts_of(a, per) > MERGE_MAX) {
        const int group = (int)((p.per + per - 1) / per);
        e = merge(a, parts, per, group, a->workspace, s);
        parts = a->workspace, per *= group;
    }
    if (e == cudaSuccess) e = merge(a, parts, per, parts_of(a, per), a->stats, s);
    if (e != cudaSuccess) return e;
    return dev_launch((instance_norm_apply<T, V>), p.apply, p.block, 0, s, x, a->stats, a->w, a->b, (T *)a->y, a->slope,
                      a->sp, p.apply_per, a->c);
}

template <class T, int V> static cudaError_t launch_bwd(const struct k_instance_norm *a, cudaStream_t s)
{
    const launch_config p = launch_config_of<V>(a);
    const T *x = (const T *)a->x, *dy = (const T *)a->dy;
    float *totals = a->workspace, *parts = totals + a->n * a->c * 2;
    cudaError_t e = dev_launch((instance_norm_bwd_parts<T, V>), p.parts, p.block, 0, s, x, dy, a->stats, a->w, a->b,
                               parts, a->slope, a->sp, p.per, a->c);
    if (e != cudaSuccess) return e;
    e = dev_launch(instance_norm_bwd_totals, merge_grid(a, 1), dim3(MERGE_LANES, MERGE_GROUPS), 0, s, parts, p.m,
                   a->stats, totals, a->c);
    if (e != cudaSuccess) return e;
    if (a->dw || a->db)
        e = dev_launch(instance_norm_bwd_weights, (unsigned)((a->c + 127) / 128), 128, 0, s, totals, a->dw, a->db,
                       a->beta_w, a->beta_b, (int)a->n, a->c);
    if (e != cudaSuccess || !a->dx) return e;
    return dev_launch((instance_norm_bwd_x<T, V>), p.apply, p.block, 0, s, x, dy, a->stats, totals, a->w, a->b,
                      (T *)a->dx, a->beta_x, a->slope, a->sp, p.apply_per, a->c);
}

template <class T> static cudaError_t run(const struct k_instance_norm *a, int backward, cudaStream_t s)
{
    constexpr int V = wide<T>;
    const T *y = (const T *)(backward ? a->dy : a->y), *dx = (const T *)(backward ? a->dx : NULL);
    const int fits = a->c % V == 0 && pack_fits<V>((const T *)a->x) && pack_fits<V>(y) && pack_fits<V>(dx);
    if (backward) return fits ? launch_bwd<T, V>(a, s) : launch_bwd<T, 1>(a, s);
    return fits ? launch_fwd<T, V>(a, s) : launch_fwd<T, 1>(a, s);
}

size_t k_instance_norm_bytes(int64_t n, int64_t sp, int64_t c, int backward)
{
    return (size_t)((column_parts(sp) + (backward ? 1 : 0)) * n * c * 2) * sizeof(float);
}
cudaError_t k_instance_norm_fwd(const struct k_instance_norm *a, cudaStream_t s)
{
    if (!a->n || !a->sp || !a->c) return cudaSuccess;
    if (a->n > 65535) return cudaErrorInvalidValue;
    return a->dtype == K_BF16 ? run<__nv_bfloat16>(a, 0, s) : run<float>(a, 0, s);
}
cudaError_t k_instance_norm_bwd(const struct k_instance_norm *a, cudaStream_t s)
{
    if (!a->n || !a->sp || !a->c || (!a->dx && !a->dw && !a->db)) return cudaSuccess;
    if (a->n > 65535) return cudaErrorInvalidValue;
    return a->dtype == K_BF16 ? run<__nv_bfloat16>(a, 1, s) : run<float>(a, 1, s);
}

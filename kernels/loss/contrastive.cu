/* The contrastive losses (formulas: struct contrastive_attr, engine/tape/op.h). The matrix L of scaled similarities is
 * never stored: 64 x 64 tiles of it are computed in shared memory and reduced there by a running log-sum-exp per row;
 * the backward pass recomputes them.
 *
 * Direction 0 is image -> text, 1 is text -> image. For each direction and row i, over j != i: stats[0] = ln sum
 * exp((1+b) L_ij), stats[1] = ln sum exp(b L_ij); in the released form stats[0] = ln(1 + sum exp(L_ij)),
 * stats[1] = 0. */
#include "kernels/loss/contrastive_tile.cuh"
#include "kernels/loss/losses.h"

constexpr int MAX_SPLITS = 16;

template <class T> struct problem {
    const T *image, *text; /* (batch, d) */
    int64_t batch, row0, rows;
    int d, released;
    float b_image, b_text, inv_tau;
    const float *log_scale;
    double a, log_negatives; /* ln(B-1) */
    /* Rows and b of a direction: x(dir) are the anchors, x(!dir) the candidates. */
    DEV_INLINE const T *x(int dir) const
    {
        return dir ? text : image;
    }
    DEV_INLINE float b(int dir) const
    {
        return dir ? b_text : b_image;
    }
};
template <class T> static DEV_INLINE float scale_of(const problem<T> &p)
{
    return p.log_scale ? (float)exp((double)*p.log_scale) : p.inv_tau;
}
/* The two sums of a direction are over exp(m1 L) and exp(m0 L), m1 = 1 + b (released: 1), m0 = b. */
template <class T> static DEV_INLINE float m1_of(const problem<T> &p, int dir)
{
    return p.released ? 1.0f : 1.0f + p.b(dir);
}

/* ln(e^x + e^y) */
static DEV_INLINE double logaddexp(double x, double y)
{
    const double larger = x > y ? x : y;
    return larger + log1p(exp((x > y ? y : x) - larger));
}
/* ln( a e^L_ii + (B-1) S1/S0 ), log1 = ln S1, log0 = ln S0 */
template <class T> static DEV_INLINE double log_denominator(const problem<T> &p, double diag, double log1, double log0)
{
    const double negative = p.log_negatives + log1 - log0;
    return p.a > 0 ? logaddexp(log(p.a) + diag, negative) : negative;
}

/* Partial result of one row over one column split. */
struct row_partial {
    lse s1, s0;           /* log-sum-exp of m1 L_ij and of m0 L_ij over j != i */
    double sum_off, diag; /* sum over j != i of L_ij; L_ii or 0 */
};

/* part (2, rows, splits). Block: (64 rows, column split of `tiles` tiles, direction). */
template <class T, bool V>
__global__ void __launch_bounds__(THREADS, 2) contrastive_rows(problem<T> p, int tiles, row_partial *part)
{
    SHARED_ARRAY(T, scratch, [staging<T>::SCRATCH]);
    SHARED_ARRAY(float, s, [TILE * SIM_PITCH]);
    const int dir = (int)blockIdx.z, r = (int)threadIdx.x / 4;
    const int64_t local = (int64_t)blockIdx.x * TILE + r, row = p.row0 + local, end = p.row0 + p.rows;
    const int64_t first = (int64_t)blockIdx.y * tiles * TILE, split_end = first + (int64_t)tiles * TILE;
    const int64_t last = split_end < p.batch ? split_end : p.batch;
    const float scale = scale_of(p), m1 = m1_of(p, dir), m0 = p.b(dir);
    row_partial acc = {{-INFINITY, 0}, {-INFINITY, 0}, 0, 0};
    for (int64_t j0 = first; j0 < last; j0 += TILE) {
        float v[TILE / 4];
        unsigned used = 0;
        similarities<T, V>(scratch, p.x(dir), p.row0 + (int64_t)blockIdx.x * TILE, end, p.x(!dir), j0, p.batch, p.d,
                           scale, s);
#pragma unroll
        for (int m = 0; m < TILE / 4; m++) {
            const int64_t j = j0 + column(m);
            v[m] = s[r * SIM_PITCH + column(m)];
            if (j == row) acc.diag = (double)v[m];
            if (j < p.batch && j != row) used |= 1u << m;
        }
        lse_update(acc.s1, v, used, m1);
        if (!p.released) lse_update(acc.s0, v, used, m0);
#pragma unroll
        for (int m = 0; m < TILE / 4; m++)
            if (p.released && (used >> m & 1)) acc.sum_off += (double)v[m];
    }
    acc.s1 = lse_quad_merge(acc.s1);
    acc.s0 = lse_quad_merge(acc.s0);
    acc.sum_off = quad_sum(acc.sum_off);
    acc.diag = quad_sum(acc.diag); /* three of the four are 0 */
    if (threadIdx.x % 4 == 0 && local < p.rows) part[(dir * p.rows + local) * gridDim.y + blockIdx.y] = acc;
}

/* Merges the splits of a row and direction, one thread each: stats (2, batch, 2) and its term of the loss, loss (2,
 * rows). */
template <class T>
__global__ void __launch_bounds__(THREADS)
    contrastive_finish(problem<T> p, const row_partial *part, int splits, float *stats, double *loss)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= 2 * p.rows) return;
    const int dir = (int)(i / p.rows);
    const double count = (double)p.batch;
    row_partial acc = part[i * splits];
    for (int k = 1; k < splits; k++) {
        const row_partial o = part[i * splits + k];
        acc.s1 = lse_merge(acc.s1, o.s1);
        acc.s0 = lse_merge(acc.s0, o.s0);
        acc.sum_off += o.sum_off;
        acc.diag += o.diag;
    }
    double log1 = acc.s1.row_max + log(acc.s1.row_sum), log0 = 0;
    if (p.released) {
        log1 = logaddexp(log1, 0);
        loss[i] = (((1 + (double)p.b(dir)) * acc.sum_off - acc.diag) / count + p.log_negatives - log1) / count;
    } else {
        log0 = acc.s0.row_max + log(acc.s0.row_sum);
        loss[i] = (log_denominator(p, acc.diag, log1, log0) - acc.diag) / count;
    }
    stats += 2 * (dir * p.batch + p.row0 + i % p.rows);
    stats[0] = (float)log1;
    stats[1] = (float)log0;
}

/* The derivative of one direction's loss with respect to L_ij, j != i, is uniform + c1 exp(m1 L_ij - l1) + c0 exp(m0
 * L_ij - l0). Per row i: (c1, l1, c0, l0). */
typedef float4 row_coef;
static DEV_INLINE float dloss_dsim(row_coef e, float m1, float m0, float l)
{
    return e.x * expf(m1 * l - e.y) + e.z * expf(m0 * l - e.w);
}

/* coefs (2, batch); diag (batch): derivative with respect to L_ii, sum of both directions. One warp per row. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    contrastive_coefs(problem<T> p, const float *stats, row_coef *coefs, float *diag)
{
    const int64_t i = (int64_t)blockIdx.x * (THREADS / DEV_WARP) + threadIdx.x / DEV_WARP;
    const int lane = (int)threadIdx.x % DEV_WARP;
    if (i >= p.batch) return; /* uniform over the warp */
    float dot = 0;
    for (int k = lane; p.a > 0 && k < p.d; k += DEV_WARP)
        dot = fmaf(dev_load(p.x(0) + i * p.d + k), dev_load(p.x(1) + i * p.d + k), dot);
    const double sim = (double)(scale_of(p) * dev_warp_sum(dot)), count = (double)p.batch;
    if (lane > 0) return;
    double on_diag = 0;
    for (int dir = 0; dir < 2; dir++) {
        const float l1 = stats[2 * (dir * p.batch + i)], l0 = stats[2 * (dir * p.batch + i) + 1];
        const double b = (double)p.b(dir);
        double positive = 0, negative = 1;
        if (!p.released && p.a > 0) {
            const double log_denom = log_denominator(p, sim, (double)l1, (double)l0);
            positive = exp(log(p.a) + sim - log_denom);
            negative = exp(p.log_negatives + l1 - l0 - log_denom);
        }
        on_diag += p.released ? -1 / (count * count) : (positive - 1) / count;
        const float c1 = p.released ? (float)(-1 / count) : (float)(negative * (1 + b) / count),
                    c0 = p.released ? 0.0f : (float)(-negative * b / count);
        dev_store16((float *)(coefs + dir * p.batch + i), make_float4(c1, l1, c0, l0));
    }
    diag[i] = (float)on_diag;
}

template <class T> struct gradients {
    T *image, *text; /* (rows, d); NULL: not computed */
    float beta_image, beta_text;
    const float *dloss;
    double *dscale; /* (rows): sum over j of g_ij L_ij of each image row; NULL: not computed */
};

/* Block: (64 rows of image or text, SLAB columns of its gradient, direction). g = dloss/dL is made tile by tile from
 * the recomputed similarities, and dx += g x(!dir). */
template <class T, bool V>
__global__ void __launch_bounds__(THREADS, 2)
    contrastive_bwd(problem<T> p, const row_coef *coefs, const float *diag, gradients<T> to)
{
    constexpr int SCRATCH = staging<T>::SCRATCH, DEPTH = staging<T>::DEPTH;
    constexpr bool BF16 = sizeof(T) == 2;
    SHARED_ARRAY(T, scratch, [SCRATCH]);
    SHARED_ARRAY(float, s, [TILE * SIM_PITCH]);
    SHARED_ARRAY(bf16, g_bf16, [BF16 ? TILE * SIM_PITCH : 8]); /* g for the tensor cores; in float it replaces s */
    const int dir = (int)blockIdx.z, r = (int)threadIdx.x / 4, d0 = (int)blockIdx.y * SLAB;
    const int64_t at = (int64_t)blockIdx.x * TILE, row = p.row0 + at + r, end = p.row0 + p.rows;
    const bool make_dscale = dir == 0 && to.dscale && blockIdx.y == 0;
    T *dx = dir ? to.text : to.image;
    if (!dx && !make_dscale) return; /* uniform over the block */
    const float scale = scale_of(p), m1 = m1_of(p, dir), m0 = p.b(dir), k1 = m1_of(p, !dir), k0 = p.b(!dir);
    const float count = (float)p.batch, uniform = p.released ? (2 + m0 + k0) / (count * count) : 0.0f;
    const row_coef coef =
        row < end ? dev_load16((const float *)(coefs + dir * p.batch + row)) : make_float4(0, 0, 0, 0);
    const row_coef *coefs_j = coefs + (!dir) * p.batch;
    const float dloss_dii = row < end ? diag[row] : 0.0f;
    typename slab_of<T>::type sum = {};
    double dscale = 0;
    for (int64_t j0 = 0; j0 < p.batch; j0 += TILE) {
        similarities<T, V>(scratch, p.x(dir), p.row0 + at, end, p.x(!dir), j0, p.batch, p.d, scale, s);
#pragma unroll 4
        for (int m = 0; m < TILE / 4; m++) {
            const int c = column(m);
            const int64_t j = j0 + c;
            const float l = s[r * SIM_PITCH + c];
            float g = 0;
            if (j < p.batch && row < end) {
                g = uniform + dloss_dsim(coef, m1, m0, l) +
                    dloss_dsim(dev_load16((const float *)(coefs_j + j)), k1, k0, l);
                if (j == row) g = dloss_dii;
            }
            if (make_dscale) dscale += (double)g * l;
            if constexpr (BF16)
                dev_store(g_bf16 + r * SIM_PITCH + c, g);
            else
                s[r * SIM_PITCH + c] = g;
        }
        for (int k = 0; dx && k < TILE; k += DEPTH) {
            if (k) DEV_SYNC(); /* the rows before are no longer read */
            load_slab<T, V>(scratch, p.x(!dir), j0 + k, p.batch, d0, p.d);
            dev_copy_commit();
            dev_copy_wait<0>();
            DEV_SYNC();
            if constexpr (BF16)
                sum.add(g_bf16 + k, scratch);
            else
                sum.add(s + k, scratch);
        }
        DEV_SYNC(); /* the next tile overwrites s and scratch */
    }
    if (make_dscale) {
        dscale = quad_sum(dscale);
        if (threadIdx.x % 4 == 0 && row < end) to.dscale[at + r] = dscale;
    }
    if (dx)
        sum.template store<V>(dx + at * p.d + d0, p.rows - at, p.d - d0, p.d, *to.dloss * scale,
                              dir ? to.beta_text : to.beta_image);
}

/* Column splits, a function of the shape alone: enough blocks for two per SM of an H200. */
struct splits {
    int n, tiles; /* number of splits; column tiles in each */
};
static splits splits_of(int64_t batch, int64_t rows)
{
    const int64_t all = div_up(batch, TILE), blocks = 2 * div_up(rows, TILE), want = div_up(264, blocks);
    const int64_t limit = want < MAX_SPLITS ? want : MAX_SPLITS, tiles = div_up(all, limit < all ? limit : all);
    return {(int)div_up(all, tiles), (int)tiles};
}

template <class T> static problem<T> problem_of(const struct k_contrastive *a)
{
    problem<T> p = {};
    p.image = (const T *)a->image;
    p.text = (const T *)a->text;
    p.batch = a->batch;
    p.row0 = a->row0;
    p.rows = a->rows;
    p.d = a->d;
    p.released = a->released;
    p.b_image = a->b_image;
    p.b_text = a->b_text;
    p.inv_tau = a->inv_tau;
    p.log_scale = a->log_scale;
    p.a = (double)a->a;
    p.log_negatives = log((double)((a->released > 1 ? a->released : a->batch) - 1));
    return p;
}
/* 1 where all rows are 16-byte aligned. */
static int aligned16(const struct k_contrastive *a)
{
    const size_t all = (size_t)a->image | (size_t)a->text | (size_t)a->dimage | (size_t)a->dtext;
    return (all & 15) == 0 && a->d % (a->dtype == K_BF16 ? 8 : 4) == 0;
}

size_t k_contrastive_fwd_bytes(int64_t batch, int64_t rows)
{
    return rows ? (size_t)(2 * rows) * ((size_t)splits_of(batch, rows).n * sizeof(row_partial) + sizeof(double)) : 0;
}
size_t k_contrastive_bwd_bytes(int64_t batch, int64_t rows)
{
    return (size_t)batch * (2 * sizeof(row_coef) + sizeof(float)) + 8 + (size_t)rows * sizeof(double);
}

template <class T> static cudaError_t run_fwd(const struct k_contrastive *a, cudaStream_t s)
{
    const problem<T> p = problem_of<T>(a);
    const splits z = splits_of(a->batch, a->rows);
    row_partial *part = (row_partial *)a->workspace;
    double *loss = (double *)(part + 2 * a->rows * z.n);
    const dim3 grid((unsigned)div_up(a->rows, TILE), (unsigned)z.n, 2);
    cudaError_t e = aligned16(a) ? dev_launch((contrastive_rows<T, true>), grid, THREADS, 0, s, p, z.tiles, part)
                                 : dev_launch((contrastive_rows<T, false>), grid, THREADS, 0, s, p, z.tiles, part);
    if (e != cudaSuccess) return e;
    e = dev_launch((contrastive_finish<T>), (unsigned)div_up(2 * a->rows, THREADS), THREADS, 0, s, p, part, z.n,
                   a->stats, loss);
    if (e != cudaSuccess) return e;
    return dev_launch(sum_parts, 1, SUM_THREADS, 0, s, loss, 2 * a->rows, 1.0, (const float *)NULL, 0.0f, a->loss);
}

template <class T> static cudaError_t run_bwd(const struct k_contrastive *a, cudaStream_t s)
{
    const problem<T> p = problem_of<T>(a);
    row_coef *coefs = (row_coef *)a->workspace;
    double *dscale = (double *)(coefs + 2 * a->batch);
    float *diag = (float *)(dscale + a->rows);
    gradients<T> to = {};
    to.image = (T *)a->dimage;
    to.text = (T *)a->dtext;
    to.beta_image = a->beta_image;
    to.beta_text = a->beta_text;
    to.dloss = a->dloss;
    to.dscale = a->dlog_scale ? dscale : NULL;
    cudaError_t e = dev_launch((contrastive_coefs<T>), (unsigned)div_up(a->batch, THREADS / DEV_WARP), THREADS, 0, s, p,
                               a->stats, coefs, diag);
    if (e != cudaSuccess) return e;
    const dim3 grid((unsigned)div_up(a->rows, TILE), (unsigned)div_up(a->d, SLAB), 2);
    e = aligned16(a) ? dev_launch((contrastive_bwd<T, true>), grid, THREADS, 0, s, p, coefs, diag, to)
                     : dev_launch((contrastive_bwd<T, false>), grid, THREADS, 0, s, p, coefs, diag, to);
    if (e != cudaSuccess || !a->dlog_scale) return e;
    return dev_launch(sum_parts, 1, SUM_THREADS, 0, s, dscale, a->rows, 1.0, a->dloss, a->beta_scale, a->dlog_scale);
}

cudaError_t k_contrastive_fwd(const struct k_contrastive *a, cudaStream_t s)
{
    if (!a->rows || !a->d) return cudaSuccess;
    return a->dtype == K_BF16 ? run_fwd<bf16>(a, s) : run_fwd<float>(a, s);
}
cudaError_t k_contrastive_bwd(const struct k_contrastive *a, cudaStream_t s)
{
    if (!a->rows || !a->d || (!a->dimage && !a->dtext && !a->dlog_scale)) return cudaSuccess;
    return a->dtype == K_BF16 ? run_bwd<bf16>(a, s) : run_bwd<float>(a, s);
}

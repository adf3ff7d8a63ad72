/* nnU-Net's loss: mean cross-entropy + soft Dice of the softmax, background excluded. A tile of voxels is staged in
 * shared memory with an odd row pitch (no bank conflicts): loaded coalesced by the block, then one thread per voxel for
 * the softmax, then one thread per class and subset of voxels for the sums. */
#include "kernels/common/sums.cuh"
#include "kernels/loss/losses.h"

constexpr int THREADS = SUM_THREADS, WARPS = THREADS / DEV_WARP,
              TILE_FLOATS = 32 * (K_DICE_CLASSES + 1); /* at least 32 voxels */
constexpr int MIN_VOXELS = 4096;                       /* voxels per block, at least */

/* Row pitch and number of voxels of a tile. */
static DEV_INLINE int tile_row(int c)
{
    return c | 1;
}
static DEV_INLINE int tile_voxels(int c)
{
    const int fit = TILE_FLOATS / tile_row(c);
    return fit < THREADS ? fit : THREADS;
}

/* Iterator over every THREADS-th logit of a tile: its index in shared memory, without a division per step. */
struct tile_iterator {
    int c, row, voxel, k;
    DEV_INLINE explicit tile_iterator(int classes)
        : c(classes), row(tile_row(classes)), voxel((int)threadIdx.x / classes), k((int)threadIdx.x % classes)
    {
    }
    DEV_INLINE int at() const
    {
        return voxel * row + k;
    }
    DEV_INLINE void next(int voxels, int classes) /* THREADS / c, THREADS % c */
    {
        voxel += voxels;
        k += classes;
        if (k < c) return;
        k -= c;
        voxel++;
    }
};

/* tile (voxels, tile_row(c)) = x (voxels, c) */
static DEV_INLINE void tile_load(const float *x, int voxels, int c, float *tile)
{
    tile_iterator w(c);
    for (int i = (int)threadIdx.x; i < voxels * c; i += THREADS, w.next(THREADS / c, THREADS % c)) tile[w.at()] = x[i];
}

/* Softmax of a row in place; returns ln sum exp(x - row_max), and row_max in *max_out. */
static DEV_INLINE float softmax_row(float *x, int c, float *max_out)
{
    float row_max = x[0], row_sum = 0;
    for (int k = 1; k < c; k++) row_max = fmaxf(row_max, x[k]);
    for (int k = 0; k < c; k++) {
        x[k] = expf(x[k] - row_max);
        row_sum += x[k];
    }
    for (int k = 0; k < c; k++) x[k] /= row_sum;
    *max_out = row_max;
    return logf(row_sum);
}

/* part (n, blocks, 3c + 1): sums over the block's voxels of p g, p and g, as (c, 3), then of the cross-entropy; p:
 * softmax, g: one-hot target. x (n, voxels, c), target (n, voxels). In the sums, thread t has class t % classes;
 * classes: a power of two
 * >= c. */
static __global__ void __launch_bounds__(THREADS) dice_ce_parts(const float *x, const int32_t *target, int64_t voxels,
                                                                int64_t share, int c, int classes, double *part)
{
    SHARED_ARRAY(float, tile, [TILE_FLOATS]);
    SHARED_ARRAY(int32_t, label, [THREADS]);
    SHARED_ARRAY(double, sums, [3][THREADS]);
    const int t = (int)threadIdx.x, k = t % classes, row = tile_row(c), max_voxels = tile_voxels(c);
    const int64_t first = blockIdx.x * share, last = first + share < voxels ? first + share : voxels;
    double pg = 0, p = 0, g = 0, ce = 0;
    x += blockIdx.y * voxels * c;
    target += blockIdx.y * voxels;
    for (int64_t v0 = first; v0 < last; v0 += max_voxels) {
        const int m = (int)(last - v0 < max_voxels ? last - v0 : max_voxels);
        DEV_SYNC(); /* the previous tile is no longer read */
        tile_load(x + v0 * c, m, c, tile);
        DEV_SYNC();
        if (t < m) {
            float *logits = tile + t * row, row_max;
            const int to = target[v0 + t];
            const float logit = to >= 0 && to < c ? logits[to] : 0, log_sum = softmax_row(logits, c, &row_max);
            if (to >= 0) ce += to < c ? (double)((row_max - logit) + log_sum) : (double)NAN;
            label[t] = to;
        }
        DEV_SYNC();
        for (int v = t / classes; k < c && v < m; v += THREADS / classes) {
            const int to = label[v];
            const double q = (double)tile[v * row + k];
            if (to < 0) continue;
            p += q;
            pg += to == k ? q : 0.0;
            g += to == k ? 1.0 : 0.0;
        }
    }
    sums[0][t] = pg;
    sums[1][t] = p;
    sums[2][t] = g;
    for (int half = THREADS / 2; half >= classes; half /= 2) { /* threads of one class are `classes` apart */
        DEV_SYNC();
        if (t < half)
            for (int j = 0; j < 3; j++) sums[j][t] += sums[j][t + half];
    }
    part += ((int64_t)blockIdx.y * gridDim.x + blockIdx.x) * (3 * c + 1);
    if (t < c) /* each thread reads sums that it wrote itself */
        for (int j = 0; j < 3; j++) part[3 * t + j] = sums[j][t];
    ce = block_sum<SUM_THREADS>(ce);
    if (t == 0) part[3 * c] = ce;
}

/* Adds the parts, one warp per sum of a sample: sums (n, 3c), ce (n). */
static __global__ void __launch_bounds__(THREADS)
    dice_ce_sums(const double *part, int64_t parts, int c, float *sums, double *ce)
{
    const int j = (int)blockIdx.x * WARPS + (int)threadIdx.x / DEV_WARP, lane = (int)threadIdx.x % DEV_WARP;
    const int width = 3 * c + 1;
    const int64_t n = blockIdx.y;
    if (j >= width) return; /* uniform over the warp */
    double s = 0;
    for (int64_t i = lane; i < parts; i += DEV_WARP) s += part[(n * parts + i) * width + j];
    s = dev_warp_sum(s);
    if (lane > 0) return;
    if (j < 3 * c)
        sums[n * 3 * c + j] = (float)s;
    else
        ce[n] = s;
}

/* Numerator and denominator of the Dice of a class, of one sample or (batch_dice) of the batch. */
struct ratio {
    double num, den;
};
static DEV_INLINE ratio dice_ratio(const float *sums, int64_t n, int c, int batch_dice, float smooth, int64_t sample,
                                   int k)
{
    double pg = 0, p_plus_g = 0;
    for (int64_t i = batch_dice ? 0 : sample; i < (batch_dice ? n : sample + 1); i++) {
        const float *q = sums + (i * c + k) * 3;
        pg += (double)q[0];
        p_plus_g += (double)q[1] + q[2];
    }
    return {2 * pg + smooth, p_plus_g + smooth};
}

/* Number of voxels with a valid target: the sum of all g. Called by the whole block. */
static DEV_INLINE double valid_voxels(const float *sums, int64_t n, int c)
{
    double s = 0;
    for (int64_t i = threadIdx.x; i < n * c; i += THREADS) s += (double)sums[3 * i + 2];
    return block_sum<SUM_THREADS>(s);
}

static __global__ void __launch_bounds__(THREADS)
    dice_ce_loss(const float *sums, const double *ce, int64_t n, int c, int batch_dice, float smooth, float weight_ce,
                 float weight_dice, float *loss)
{
    const int64_t groups = batch_dice ? 1 : n;
    double dice = 0, cross = 0;
    for (int64_t i = threadIdx.x; i < groups * (c - 1); i += THREADS) {
        const ratio r = dice_ratio(sums, n, c, batch_dice, smooth, i / (c - 1), (int)(i % (c - 1)) + 1);
        dice += r.num / fmax(r.den, 1e-8);
    }
    for (int64_t i = threadIdx.x; i < n; i += THREADS) cross += ce[i];
    dice = block_sum<SUM_THREADS>(dice);
    cross = block_sum<SUM_THREADS>(cross);
    const double valid = valid_voxels(sums, n, c);
    /* A target out of range is in no class; its NaN must survive (0 * cross) where there is no valid voxel. */
    if (threadIdx.x == 0)
        *loss = (float)((valid > 0 ? weight_ce * cross / valid : 0 * cross) -
                        weight_dice * dice / (double)(groups * (c - 1)));
}

/* slopes (1 + 2 n c): weight of the cross-entropy per voxel; then, per sample and class, dDice/dp for a non-target
 * voxel, and the correction to add for the target class. */
static __global__ void __launch_bounds__(THREADS)
    dice_ce_slopes(const float *sums, int64_t n, int c, int batch_dice, float smooth, float weight_ce,
                   float weight_dice, const float *dloss, float *slopes)
{
    const double valid = valid_voxels(sums, n, c), g = *dloss;
    const double share = g * weight_dice / ((double)(batch_dice ? 1 : n) * (c - 1));
    for (int64_t i = threadIdx.x; i < n * c; i += THREADS) {
        const int k = (int)(i % c);
        const ratio r = dice_ratio(sums, n, c, batch_dice, smooth, i / c, k);
        slopes[1 + 2 * i] = k && r.den > 1e-8 ? (float)(share * r.num / (r.den * r.den)) : 0;
        slopes[2 + 2 * i] = k ? (float)(-share * 2 / fmax(r.den, 1e-8)) : 0;
    }
    if (threadIdx.x == 0) slopes[0] = valid > 0 ? (float)(g * weight_ce / valid) : 0;
}

/* dx (n, voxels, c) = ce (p - g) + p (q - sum q p), q = dDice/dp; zero where the target is negative. */
static __global__ void __launch_bounds__(THREADS)
    dice_ce_bwd(const float *x, const int32_t *target, const float *slopes, int64_t voxels, int c, float *dx,
                float beta)
{
    SHARED_ARRAY(float, tile, [TILE_FLOATS]);
    SHARED_ARRAY(float, slope, [2 * K_DICE_CLASSES]);
    const int t = (int)threadIdx.x, max_voxels = tile_voxels(c), row = tile_row(c);
    const int64_t v0 = (int64_t)blockIdx.x * max_voxels, o = blockIdx.y * voxels + v0;
    const int m = (int)(voxels - v0 < max_voxels ? voxels - v0 : max_voxels);
    const float ce = slopes[0];
    for (int i = t; i < 2 * c; i += THREADS) slope[i] = slopes[1 + (int64_t)blockIdx.y * 2 * c + i];
    tile_load(x + o * c, m, c, tile);
    DEV_SYNC();
    if (t < m) {
        float *p = tile + t * row, row_max, dot = 0;
        const int to = target[o + t];
        softmax_row(p, c, &row_max);
        for (int k = 0; k < c; k++) dot = fmaf(p[k], slope[2 * k] + (to == k ? slope[2 * k + 1] : 0), dot);
        for (int k = 0; k < c; k++) {
            const float q = slope[2 * k] + (to == k ? slope[2 * k + 1] : 0), pk = p[k];
            p[k] = to < 0 ? 0 : to < c ? ce * (pk - (to == k ? 1.0f : 0.0f)) + pk * (q - dot) : NAN;
        }
    }
    DEV_SYNC();
    tile_iterator w(c);
    for (int i = t; i < m * c; i += THREADS, w.next(THREADS / c, THREADS % c))
        dev_blend(dx + o * c + i, beta, tile[w.at()]);
}

/* tile_voxels() for the host. */
static int64_t tile_voxels_host(int c)
{
    const int64_t fit = TILE_FLOATS / (c | 1);
    return fit < THREADS ? fit : THREADS;
}

size_t k_dice_ce_fwd_bytes(int64_t n, int64_t voxels, int c)
{
    return (size_t)(n * (div_up(voxels, sum_share(voxels, MIN_VOXELS)) * (3 * c + 1) + 1)) * sizeof(double);
}
size_t k_dice_ce_bwd_bytes(int64_t n, int c)
{
    return (size_t)(1 + 2 * n * c) * sizeof(float);
}

cudaError_t k_dice_ce_fwd(const struct k_dice_ce *a, cudaStream_t s)
{
    if (!a->n || !a->voxels) return cudaSuccess;
    if (a->c < 2 || a->c > K_DICE_CLASSES) return cudaErrorInvalidValue;
    const int64_t share = sum_share(a->voxels, MIN_VOXELS), parts = div_up(a->voxels, share);
    double *part = (double *)a->workspace, *ce = part + a->n * parts * (3 * a->c + 1);
    int classes = 2;
    while (classes < a->c) classes *= 2;
    cudaError_t e = dev_launch(dice_ce_parts, dim3((unsigned)parts, (unsigned)a->n), THREADS, 0, s, a->logits,
                               a->target, a->voxels, share, a->c, classes, part);
    if (e != cudaSuccess) return e;
    e = dev_launch(dice_ce_sums, dim3((unsigned)div_up(3 * a->c + 1, WARPS), (unsigned)a->n), THREADS, 0, s, part,
                   parts, a->c, a->sums, ce);
    if (e != cudaSuccess) return e;
    return dev_launch(dice_ce_loss, 1, THREADS, 0, s, a->sums, ce, a->n, a->c, a->batch_dice, a->smooth, a->weight_ce,
                      a->weight_dice, a->loss);
}

cudaError_t k_dice_ce_bwd(const struct k_dice_ce *a, cudaStream_t s)
{
    if (!a->n || !a->voxels || !a->dlogits) return cudaSuccess;
    if (a->c < 2 || a->c > K_DICE_CLASSES) return cudaErrorInvalidValue;
    float *slopes = (float *)a->workspace;
    const cudaError_t e = dev_launch(dice_ce_slopes, 1, THREADS, 0, s, a->sums, a->n, a->c, a->batch_dice, a->smooth,
                                     a->weight_ce, a->weight_dice, a->dloss, slopes);
    if (e != cudaSuccess) return e;
    return dev_launch(dice_ce_bwd, dim3((unsigned)div_up(a->voxels, tile_voxels_host(a->c)), (unsigned)a->n), THREADS,
                      0, s, a->logits, a->target, slopes, a->voxels, a->c, a->dlogits, a->beta);
}

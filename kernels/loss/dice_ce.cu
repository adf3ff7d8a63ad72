/* nnU-Net's loss: mean cross-entropy + soft Dice of the softmax without the background. A tile of voxels goes through
 * shared memory, where rows have an odd length: read along memory by the block, a voxel a thread for the softmax, a
 * class and a part of the voxels a thread for the sums. */
#include "kernels/common/sums.cuh"
#include "kernels/loss/losses.h"

constexpr int THREADS = SUM_THREADS, WARPS = THREADS / DEV_WARP,
              ROOM = 32 * (K_DICE_CLASSES + 1); /* floats of a tile; at least 32 voxels */
constexpr int LEAST = 4096;                     /* voxels a block sums up */

/* Voxels of a tile, and from one voxel's logits to the next one's. */
static DEV_INLINE int tile_row(int c)
{
    return c | 1;
}
static DEV_INLINE int tile_voxels(int c)
{
    const int fit = ROOM / tile_row(c);
    return fit < THREADS ? fit : THREADS;
}

/* A thread's way through a tile, every THREADS-th logit of it: where it lies, without a division a step. */
struct walk {
    int c, row, voxel, k;
    DEV_INLINE explicit walk(int classes)
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

static DEV_INLINE void tile_load(const float *x, int voxels, int c, float *tile)
{
    walk w(c);
    for (int i = (int)threadIdx.x; i < voxels * c; i += THREADS, w.next(THREADS / c, THREADS % c)) tile[w.at()] = x[i];
}

/* The softmax of a row in place; returns ln sum exp less the largest logit, which goes to *top. */
static DEV_INLINE float softmax_row(float *x, int c, float *top)
{
    float most = x[0], sum = 0;
    for (int k = 1; k < c; k++) most = fmaxf(most, x[k]);
    for (int k = 0; k < c; k++) {
        x[k] = expf(x[k] - most);
        sum += x[k];
    }
    for (int k = 0; k < c; k++) x[k] /= sum;
    *top = most;
    return logf(sum);
}

/* part (n, blocks, 3c + 1): (c, 3) = pg, p, g of the block's voxels, then their cross-entropy. Threads of the sums: the
 * first `classes` (a power of two, at least c) have class threadIdx % classes. */
static __global__ void __launch_bounds__(THREADS) dice_ce_parts(const float *x, const int32_t *target, int64_t voxels,
                                                                int64_t share, int c, int classes, double *part)
{
    SHARED_ARRAY(float, tile, [ROOM]);
    SHARED_ARRAY(int32_t, label, [THREADS]);
    SHARED_ARRAY(double, sums, [3][THREADS]);
    const int t = (int)threadIdx.x, k = t % classes, row = tile_row(c), most = tile_voxels(c);
    const int64_t first = blockIdx.x * share, last = first + share < voxels ? first + share : voxels;
    double pg = 0, p = 0, g = 0, ce = 0;
    x += blockIdx.y * voxels * c;
    target += blockIdx.y * voxels;
    for (int64_t v0 = first; v0 < last; v0 += most) {
        const int m = (int)(last - v0 < most ? last - v0 : most);
        DEV_SYNC(); /* the tile before has been added up */
        tile_load(x + v0 * c, m, c, tile);
        DEV_SYNC();
        if (t < m) {
            float *mine = tile + t * row, top;
            const int to = target[v0 + t];
            const float own = to >= 0 && to < c ? mine[to] : 0, lse = softmax_row(mine, c, &top);
            if (to >= 0) ce += to < c ? (double)((top - own) + lse) : (double)NAN;
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
    for (int half = THREADS / 2; half >= classes; half /= 2) { /* parts of one class are `classes` apart */
        DEV_SYNC();
        if (t < half)
            for (int j = 0; j < 3; j++) sums[j][t] += sums[j][t + half];
    }
    part += ((int64_t)blockIdx.y * gridDim.x + blockIdx.x) * (3 * c + 1);
    if (t < c) /* each from its own last sum */
        for (int j = 0; j < 3; j++) part[3 * t + j] = sums[j][t];
    ce = block_sum<SUM_THREADS>(ce);
    if (t == 0) part[3 * c] = ce;
}

/* A warp a sum of a sample: sums (n, 3c), ce (n). */
static __global__ void __launch_bounds__(THREADS)
    dice_ce_sums(const double *part, int64_t parts, int c, float *sums, double *ce)
{
    const int j = (int)blockIdx.x * WARPS + (int)threadIdx.x / DEV_WARP, lane = (int)threadIdx.x % DEV_WARP;
    const int width = 3 * c + 1;
    const int64_t n = blockIdx.y;
    if (j >= width) return; /* the whole warp */
    double s = 0;
    for (int64_t i = lane; i < parts; i += DEV_WARP) s += part[(n * parts + i) * width + j];
    s = dev_warp_sum(s);
    if (lane > 0) return;
    if (j < 3 * c)
        sums[n * 3 * c + j] = (float)s;
    else
        ce[n] = s;
}

/* Numerator and denominator of a class of a sample, or of the batch. */
struct ratio {
    double num, den;
};
static DEV_INLINE ratio dice_ratio(const float *sums, int64_t n, int c, int batch_dice, float smooth, int64_t sample,
                                   int k)
{
    double pg = 0, both = 0;
    for (int64_t i = batch_dice ? 0 : sample; i < (batch_dice ? n : sample + 1); i++) {
        const float *q = sums + (i * c + k) * 3;
        pg += (double)q[0];
        both += (double)q[1] + q[2];
    }
    return {2 * pg + smooth, both + smooth};
}

/* Voxels that count: the sum of all g. Every thread of the block calls. */
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
    /* a target out of range counts in no class: its NaN must not be lost when there is no other voxel */
    if (threadIdx.x == 0)
        *loss = (float)((valid > 0 ? weight_ce * cross / valid : 0 * cross) -
                        weight_dice * dice / (double)(groups * (c - 1)));
}

/* slopes (1 + 2 n c): the cross-entropy's weight per voxel; per sample and class dDice/dp where the target is another
 * class, and the correction to add for the target class. */
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

/* dx = ce (p - g) + p (q - sum q p), q the slope of the Dice term; zero where the target is negative */
static __global__ void __launch_bounds__(THREADS)
    dice_ce_bwd(const float *x, const int32_t *target, const float *slopes, int64_t voxels, int c, float *dx,
                float beta)
{
    SHARED_ARRAY(float, tile, [ROOM]);
    SHARED_ARRAY(float, slope, [2 * K_DICE_CLASSES]);
    const int t = (int)threadIdx.x, most = tile_voxels(c), row = tile_row(c);
    const int64_t v0 = (int64_t)blockIdx.x * most, o = blockIdx.y * voxels + v0;
    const int m = (int)(voxels - v0 < most ? voxels - v0 : most);
    const float ce = slopes[0];
    for (int i = t; i < 2 * c; i += THREADS) slope[i] = slopes[1 + (int64_t)blockIdx.y * 2 * c + i];
    tile_load(x + o * c, m, c, tile);
    DEV_SYNC();
    if (t < m) {
        float *mine = tile + t * row, top, dot = 0;
        const int to = target[o + t];
        softmax_row(mine, c, &top);
        for (int k = 0; k < c; k++) dot = fmaf(mine[k], slope[2 * k] + (to == k ? slope[2 * k + 1] : 0), dot);
        for (int k = 0; k < c; k++) {
            const float p = mine[k], q = slope[2 * k] + (to == k ? slope[2 * k + 1] : 0);
            mine[k] = to < 0 ? 0 : to < c ? ce * (p - (to == k ? 1.0f : 0.0f)) + p * (q - dot) : NAN;
        }
    }
    DEV_SYNC();
    walk w(c);
    for (int i = t; i < m * c; i += THREADS, w.next(THREADS / c, THREADS % c))
        dev_blend(dx + o * c + i, beta, tile[w.at()]);
}

/* As in the kernels. */
static int64_t voxels_a_tile(int c)
{
    const int64_t fit = ROOM / (c | 1);
    return fit < THREADS ? fit : THREADS;
}

size_t k_dice_ce_fwd_bytes(int64_t n, int64_t voxels, int c)
{
    return (size_t)(n * (div_up(voxels, sum_share(voxels, LEAST)) * (3 * c + 1) + 1)) * sizeof(double);
}
size_t k_dice_ce_bwd_bytes(int64_t n, int c)
{
    return (size_t)(1 + 2 * n * c) * sizeof(float);
}

cudaError_t k_dice_ce_fwd(const struct k_dice_ce *a, cudaStream_t s)
{
    if (!a->n || !a->voxels) return cudaSuccess;
    if (a->c < 2 || a->c > K_DICE_CLASSES) return cudaErrorInvalidValue;
    const int64_t share = sum_share(a->voxels, LEAST), parts = div_up(a->voxels, share);
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
    return dev_launch(dice_ce_bwd, dim3((unsigned)div_up(a->voxels, voxels_a_tile(a->c)), (unsigned)a->n), THREADS, 0,
                      s, a->logits, a->target, slopes, a->voxels, a->c, a->dlogits, a->beta);
}

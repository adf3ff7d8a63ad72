/* SAM's mask losses: focal (Lin et al. 2017), Dice and cross-entropy of logits, and the IoU that is the target of the
 * IoU head. With u = x for target 1 and -x for target 0: CE = softplus(-u),
 * 1 - p_t = sigmoid(-u) = exp(-softplus(u)). */
#include "kernels/common/sums.cuh"
#include "kernels/loss/losses.h"

constexpr int MIN_PIXELS = 2048; /* per block */
constexpr int SUMS = 7;          /* p g, p, g, intersection, predicted pixels, focal, ce */
static_assert(SUMS <= SUM_THREADS / DEV_WARP, "one warp per sum");

struct pixel {
    float sign;         /* 1: target 1, -1: target 0 */
    float p, pt, miss;  /* sigmoid of x, of u, of -u */
    float ce, hardness; /* softplus(-u), (1 - p_t)^gamma */
};

static DEV_INLINE pixel pixel_terms(float x, float target, float gamma)
{
    pixel r;
    r.sign = target > 0.5f ? 1.0f : -1.0f;
    const float u = r.sign * x, z = expf(-fabsf(x)), l = log1pf(z), near1 = 1.0f / (1.0f + z), near0 = z * near1;
    r.p = x > 0 ? near1 : near0;
    r.pt = u > 0 ? near1 : near0;
    r.miss = u > 0 ? near0 : near1;
    r.ce = l + (u < 0 ? -u : 0.0f);
    r.hardness = expf(-gamma * (l + (u > 0 ? u : 0.0f)));
    return r;
}
/* alpha_t of the focal loss; alpha < 0: no balancing. */
static DEV_INLINE float balance(float alpha, float sign)
{
    return alpha < 0 ? 1.0f : sign > 0 ? alpha : 1.0f - alpha;
}

/* part (b, blocks, SUMS): the sums over the block's pixels. x, target (b, n). */
static __global__ void __launch_bounds__(SUM_THREADS)
    mask_loss_parts(const float *x, const float *target, int64_t n, int64_t share, float gamma, float alpha,
                    double *part)
{
    const int64_t first = blockIdx.x * share, last = first + share < n ? first + share : n;
    double sum[SUMS] = {};
    x += blockIdx.y * n;
    target += blockIdx.y * n;
    for (int64_t i = first + threadIdx.x; i < last; i += SUM_THREADS) {
        const pixel v = pixel_terms(x[i], target[i], gamma);
        const bool g = v.sign > 0, over = x[i] > 0;
        sum[0] += g ? (double)v.p : 0.0;
        sum[1] += (double)v.p;
        sum[2] += g ? 1.0 : 0.0;
        sum[3] += g && over ? 1.0 : 0.0;
        sum[4] += over ? 1.0 : 0.0;
        sum[5] += (double)(balance(alpha, v.sign) * v.ce * v.hardness);
        sum[6] += (double)v.ce;
    }
    part += ((int64_t)blockIdx.y * gridDim.x + blockIdx.x) * SUMS;
#pragma unroll
    for (int j = 0; j < SUMS; j++) {
        const double all = block_sum<SUM_THREADS>(sum[j]);
        if (threadIdx.x == 0) part[j] = all;
    }
}

/* Adds the parts of a mask, one block per mask, one warp per sum: iou (b), sums (b, 4), and loss (b), weighted. */
static __global__ void __launch_bounds__(SUM_THREADS)
    mask_loss_masks(const double *part, int64_t parts, int64_t n, float focal, float dice, float bce,
                    const float *weight, float *iou, float *sums, double *loss)
{
    SHARED_ARRAY(double, q, [SUMS]);
    const int b = (int)blockIdx.x, j = (int)threadIdx.x / DEV_WARP, lane = (int)threadIdx.x % DEV_WARP;
    double s = 0;
    for (int64_t i = lane; j < SUMS && i < parts; i += DEV_WARP) s += part[(b * parts + i) * SUMS + j];
    s = dev_warp_sum(s);
    if (j < SUMS && lane == 0) q[j] = s;
    DEV_SYNC();
    if (threadIdx.x > 0) return;
    const double united = q[4] + q[2] - q[3], count = (double)n;
    iou[b] = united > 0 ? (float)(q[3] / united) : 1.0f;
    for (int i = 0; i < 4; i++) sums[4 * b + i] = (float)q[i];
    loss[b] = (double)weight[b] *
              (focal * q[5] / count + dice * (1 - (2 * q[0] + 1) / (q[1] + q[2] + 1)) + bce * q[6] / count);
}

/* dx (b, n); sums (b, 4): p g, p, g of the mask. One thread per pixel. */
static __global__ void __launch_bounds__(SUM_THREADS)
    mask_loss_bwd(const float *x, const float *target, const float *weight, const float *sums, const float *dloss,
                  int64_t n, float focal, float dice, float bce, float gamma, float alpha, float *dx, float beta)
{
    const int64_t i = (int64_t)blockIdx.x * SUM_THREADS + threadIdx.x, at = blockIdx.y * n + i;
    if (i >= n) return;
    sums += 4 * blockIdx.y;
    const double w = (double)weight[blockIdx.y] * *dloss, size = (double)sums[1] + sums[2] + 1;
    /* dDice/dp for target 0 (off) and target 1 (on) */
    const double off = w * dice * (2 * (double)sums[0] + 1) / (size * size), on = off - w * dice * 2 / size;
    const float f = (float)(w * focal / (double)n), c = (float)(w * bce / (double)n);
    const pixel v = pixel_terms(x[at], target[at], gamma);
    const float du = -v.miss * c - f * balance(alpha, v.sign) * v.hardness * (v.miss + gamma * v.pt * v.ce);
    dev_blend(dx + at, beta, v.sign * du + (float)(v.sign > 0 ? on : off) * v.pt * v.miss);
}

size_t k_mask_loss_fwd_bytes(int64_t b, int64_t n)
{
    return (size_t)(b * (div_up(n, sum_share(n, MIN_PIXELS)) * SUMS + 1)) * sizeof(double);
}

cudaError_t k_mask_loss_fwd(const struct k_mask_loss *a, cudaStream_t s)
{
    if (!a->b || !a->n) return cudaSuccess;
    const int64_t share = sum_share(a->n, MIN_PIXELS), parts = div_up(a->n, share);
    double *part = (double *)a->workspace, *loss = part + a->b * parts * SUMS;
    cudaError_t e = dev_launch(mask_loss_parts, dim3((unsigned)parts, (unsigned)a->b), SUM_THREADS, 0, s, a->logits,
                               a->target, a->n, share, a->gamma, a->alpha, part);
    if (e != cudaSuccess) return e;
    e = dev_launch(mask_loss_masks, (unsigned)a->b, SUM_THREADS, 0, s, part, parts, a->n, a->focal, a->dice, a->bce,
                   a->weight, a->iou, a->sums, loss);
    if (e != cudaSuccess) return e;
    return dev_launch(sum_parts, 1, SUM_THREADS, 0, s, loss, a->b, 1.0, (const float *)NULL, 0.0f, a->loss);
}

cudaError_t k_mask_loss_bwd(const struct k_mask_loss *a, cudaStream_t s)
{
    if (!a->b || !a->n || !a->dlogits) return cudaSuccess;
    return dev_launch(mask_loss_bwd, dim3((unsigned)div_up(a->n, SUM_THREADS), (unsigned)a->b), SUM_THREADS, 0, s,
                      a->logits, a->target, a->weight, a->sums, a->dloss, a->n, a->focal, a->dice, a->bce, a->gamma,
                      a->alpha, a->dlogits, a->beta);
}

/* Attention guidance: a loss on the attention of the first token. One query per head, so one block per
 * sample and head. */
#include "kernels/attention/attention.h"
#include "kernels/common/device.cuh"

constexpr int THREADS = 128, WARPS = THREADS / DEV_WARP;
constexpr float FLOOR = 1e-6f;

/* Sum or maximum over the block, returned to every thread, in a fixed order. scratch: WARPS floats of shared memory. */
template <bool MAX> static DEV_INLINE float block_reduce(float v, float *scratch)
{
    const int warp = (int)threadIdx.x / DEV_WARP;
    v = MAX ? dev_warp_max(v) : dev_warp_sum(v);
    DEV_SYNC(); /* scratch may still be read */
    if (threadIdx.x % DEV_WARP == 0) scratch[warp] = v;
    DEV_SYNC();
    v = scratch[0];
    for (int i = 1; i < WARPS; i++) v = MAX ? fmaxf(v, scratch[i]) : v + scratch[i];
    return v;
}

/* Attention on covered tokens: sum over t of att[t] cover[t]. */
static DEV_INLINE float covered(const float *att, const float *cover, int tokens, float *scratch)
{
    float s = 0;
    for (int t = (int)threadIdx.x; t < tokens; t += THREADS) s = fmaf(att[t], cover[t], s);
    return block_reduce<false>(s, scratch);
}

/* attention (batch, heads_used, tokens) = softmax(q_0 . k_t / sqrt(d)); part (batch, heads_used) = -log(FLOOR + covered
 * attention). */
template <class T> __global__ void __launch_bounds__(THREADS) attn_guide_fwd(const struct k_attn_guide a, float *part)
{
    SHARED_ARRAY(float, scratch, [WARPS]);
    const int b = (int)blockIdx.y, h = (int)blockIdx.x, lane = (int)threadIdx.x % DEV_WARP, d = a.head_dim;
    const int64_t width = (int64_t)a.heads * d, stride = 3 * width;
    const T *const q = (const T *)a.qkv + b * a.tokens * stride + h * d, *const k = q + width;
    float *const att = a.attention + ((int64_t)b * a.heads_used + h) * a.tokens;
    const float scale = 1.0f / sqrtf((float)d);
    float row_max = -INFINITY, row_sum = 0;
    for (int t = (int)threadIdx.x / DEV_WARP; t < a.tokens; t += WARPS) { /* one warp per token */
        float s = 0;
        for (int i = lane; i < d; i += DEV_WARP) s = fmaf(dev_load(q + i), dev_load(k + t * stride + i), s);
        s = dev_warp_sum(s) * scale;
        if (lane == 0) att[t] = s;
    }
    DEV_SYNC();
    for (int t = (int)threadIdx.x; t < a.tokens; t += THREADS) row_max = fmaxf(row_max, att[t]);
    row_max = block_reduce<true>(row_max, scratch);
    for (int t = (int)threadIdx.x; t < a.tokens; t += THREADS) {
        att[t] = expf(att[t] - row_max);
        row_sum += att[t];
    }
    row_sum = block_reduce<false>(row_sum, scratch);
    for (int t = (int)threadIdx.x; t < a.tokens; t += THREADS) att[t] /= row_sum;
    const float hit = covered(att, a.coverage + (int64_t)b * a.tokens, a.tokens, scratch);
    if (threadIdx.x == 0) part[b * a.heads_used + h] = -logf(FLOOR + hit);
}

/* loss = sum over the batch of weight times the mean over heads of part. */
static __global__ void __launch_bounds__(DEV_WARP) attn_guide_loss(const struct k_attn_guide a, const float *part)
{
    float s = 0;
    for (int b = (int)threadIdx.x; b < a.batch; b += DEV_WARP) {
        float heads = 0;
        for (int h = 0; h < a.heads_used; h++) heads += part[b * a.heads_used + h];
        s += a.weight[b] * heads / (float)a.heads_used;
    }
    s = dev_warp_sum(s);
    if (threadIdx.x == 0) *a.loss = s;
}

/* ds (batch, heads_used, tokens) = dloss / d(q_0 . k_t); dq (batch, heads_used, head_dim) = sum over t of ds[t] k_t. */
template <class T>
__global__ void __launch_bounds__(THREADS) attn_guide_scores(const struct k_attn_guide a, float *ds, float *dq)
{
    SHARED_ARRAY(float, scratch, [WARPS]);
    const int b = (int)blockIdx.y, h = (int)blockIdx.x, d = a.head_dim;
    const int64_t width = (int64_t)a.heads * d, stride = 3 * width, at = (int64_t)b * a.heads_used + h;
    const T *const k = (const T *)a.qkv + b * a.tokens * stride + width + h * d;
    const float *const att = a.attention + at * a.tokens, *const cover = a.coverage + (int64_t)b * a.tokens;
    const float hit = covered(att, cover, a.tokens, scratch);
    const float g = -*a.dloss * a.weight[b] / (float)a.heads_used / (FLOOR + hit) / sqrtf((float)d);
    ds += at * a.tokens;
    for (int t = (int)threadIdx.x; t < a.tokens; t += THREADS) ds[t] = g * att[t] * (cover[t] - hit);
    DEV_SYNC();
    for (int i = (int)threadIdx.x; i < d; i += THREADS) {
        float s = 0;
        for (int t = 0; t < a.tokens; t++) s = fmaf(ds[t], dev_load(k + t * stride + i), s);
        dq[at * d + i] = s;
    }
}

/* dqkv (batch, tokens, 3 heads head_dim), one row per block: dq of token 0, dk_t = ds[t] q_0, zeros elsewhere. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    attn_guide_rows(const struct k_attn_guide a, const float *ds, const float *dq)
{
    const int t = (int)blockIdx.x, b = (int)blockIdx.y, d = a.head_dim, width = a.heads * d;
    const T *const q = (const T *)a.qkv + (int64_t)b * a.tokens * 3 * width;
    T *const to = (T *)a.dqkv + ((int64_t)b * a.tokens + t) * 3 * width;
    for (int c = (int)threadIdx.x; c < 3 * width; c += THREADS) {
        const int part = c / width, i = c - part * width, h = i / d;
        const int64_t at = (int64_t)b * a.heads_used + h;
        float v = 0;
        if (h < a.heads_used && part == 0 && t == 0) v = dq[at * d + i - h * d];
        if (h < a.heads_used && part == 1) v = ds[at * a.tokens + t] * dev_load(q + i);
        dev_blend(to + c, a.beta, v);
    }
}

size_t k_attn_guide_bytes(const struct k_attn_guide *a)
{
    return (size_t)a->batch * (size_t)a->heads_used * (size_t)(a->tokens + a->head_dim) * sizeof(float);
}

cudaError_t k_attn_guide_fwd(const struct k_attn_guide *a, cudaStream_t s)
{
    float *const part = (float *)a->workspace;
    if (a->batch && a->tokens && a->heads_used) {
        const dim3 blocks((unsigned)a->heads_used, (unsigned)a->batch);
        const cudaError_t e = a->dtype == K_BF16
                                  ? dev_launch((attn_guide_fwd<__nv_bfloat16>), blocks, THREADS, 0, s, *a, part)
                                  : dev_launch((attn_guide_fwd<float>), blocks, THREADS, 0, s, *a, part);
        if (e != cudaSuccess) return e;
    }
    return dev_launch(attn_guide_loss, 1, DEV_WARP, 0, s, *a, part);
}

template <class T> static cudaError_t run_bwd(const struct k_attn_guide *a, cudaStream_t s)
{
    float *const ds = (float *)a->workspace, *const dq = ds + (int64_t)a->batch * a->heads_used * a->tokens;
    cudaError_t e = cudaSuccess;
    if (a->heads_used)
        e = dev_launch((attn_guide_scores<T>), dim3((unsigned)a->heads_used, (unsigned)a->batch), THREADS, 0, s, *a, ds,
                       dq);
    if (e != cudaSuccess) return e;
    return dev_launch((attn_guide_rows<T>), dim3((unsigned)a->tokens, (unsigned)a->batch), THREADS, 0, s, *a, ds, dq);
}

cudaError_t k_attn_guide_bwd(const struct k_attn_guide *a, cudaStream_t s)
{
    if (!a->batch || !a->tokens || !a->dqkv) return cudaSuccess;
    return a->dtype == K_BF16 ? run_bwd<__nv_bfloat16>(a, s) : run_bwd<float>(a, s);
}

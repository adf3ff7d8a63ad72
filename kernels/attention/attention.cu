/* Attention: entry points, and the parts that both precisions use: workspace layout, delta of the backward pass, the
 * ordered sum of the partial gradients of the relative position tables. */
#include "kernels/attention/attention.cuh"
#include "kernels/common/pack.cuh"

constexpr int MAX_PARTS = 128, LANES = 8; /* lanes per (row, head) in attention_delta */

/* lse2 = lse log2(e) and delta = dy . y - dlse, both (heads, q_rows). y, dy (q_rows, heads, hd); lse, dlse (q_rows,
 * heads). Eight lanes per row and head. */
template <class T, int V>
__global__ void __launch_bounds__(128) attention_delta(const T *y, const T *dy, const float *lse, const float *dlse,
                                                       float *lse2, float *delta, int rows, int heads, int hd)
{
    const int64_t n = (int64_t)rows * heads, i = (int64_t)blockIdx.x * (128 / LANES) + threadIdx.x / LANES;
    const int lane = (int)threadIdx.x % LANES;
    float s = 0;
    if (i < n)
#pragma unroll 1
        for (int c = lane * V; c < hd; c += LANES * V) {
            const pack<V> a = pack_load<V>(y + i * hd + c), b = pack_load<V>(dy + i * hd + c);
            for (int j = 0; j < V; j++) s = fmaf(a.v[j], b.v[j], s);
        }
    for (int d = LANES / 2; d > 0; d /= 2) s += __shfl_xor_sync(DEV_FULL, s, d);
    if (i >= n || lane) return;
    const int64_t row = i / heads, head = i - row * heads;
    lse2[head * rows + row] = lse[i] * ATT_LOG2E;
    delta[head * rows + row] = dlse ? s - dlse[i] : s;
}

/* d (n) = beta d + sum over p of parts (n_parts, stride), in the order of p. */
static __global__ void __launch_bounds__(128)
    attention_sum_parts(const float *parts, int n_parts, int64_t stride, float *d, float beta, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * 128 + threadIdx.x;
    if (i >= n) return;
    float s = 0;
    for (int p = 0; p < n_parts; p++) s += parts[p * stride + i];
    dev_blend(d + i, beta, s);
}

template <class T> static cudaError_t run_delta(const att_params &x, cudaStream_t s)
{
    const struct k_attention &a = x.a;
    const T *y = (const T *)a.y, *dy = (const T *)a.dy;
    const dim3 blocks((unsigned)(((int64_t)a.q_rows * a.heads + 128 / LANES - 1) / (128 / LANES)));
    if (a.head_dim % wide<T> == 0 && pack_fits<wide<T>>(y) && pack_fits<wide<T>>(dy))
        return dev_launch((attention_delta<T, wide<T>>), blocks, 128, 0, s, y, dy, a.lse, a.dlse, x.lse2, x.delta,
                          a.q_rows, a.heads, a.head_dim);
    return dev_launch((attention_delta<T, 1>), blocks, 128, 0, s, y, dy, a.lse, a.dlse, x.lse2, x.delta, a.q_rows,
                      a.heads, a.head_dim);
}

/* Assigns the workspace (x->bias_h to x->delta) and returns its bytes. */
static size_t layout(const struct k_attention *a, int backward, att_params *x)
{
    float *at = (float *)a->workspace, *const start = at;
    x->q_pad = (a->q_len + 7) / 8 * 8;
    if (a->rel_h) {
        const int64_t bh = (int64_t)a->n_seq * a->heads, h = bh * a->grid_h * x->q_pad, w = bh * a->grid_w * x->q_pad;
        x->bias_h = at, at += h;
        x->bias_w = at, at += w;
        if (backward) {
            x->dbias_h = at, at += h;
            x->dbias_w = at, at += w;
            const int64_t tiles = bh * ((a->q_len + 63) / 64);
            x->n_parts = (int)(tiles < MAX_PARTS ? tiles : MAX_PARTS);
            x->parts = at, at += (int64_t)x->n_parts * (2 * a->grid_h + 2 * a->grid_w - 2) * a->head_dim;
        }
    }
    if (backward) {
        x->lse2 = at, at += (int64_t)a->heads * a->q_rows;
        x->delta = at, at += (int64_t)a->heads * a->q_rows;
    }
    return (size_t)(at - start) * sizeof(float);
}

size_t k_attention_fwd_bytes(const struct k_attention *a)
{
    att_params x = {};
    return layout(a, 0, &x);
}
size_t k_attention_bwd_bytes(const struct k_attention *a)
{
    att_params x = {};
    return layout(a, 1, &x);
}

/* 1 where p is NULL or rows of ld elements (elem bytes each) start at multiples of 16 bytes. */
static int rows_aligned16(const void *p, int64_t ld, int elem)
{
    return !p || (((size_t)p & 15) == 0 && ld * elem % 16 == 0);
}

static att_params make_params(const struct k_attention *a, int backward)
{
    att_params x = {};
    const int elem = a->dtype == K_BF16 ? 2 : 4;
    const int64_t width = (int64_t)a->heads * a->head_dim;
    x.a = *a;
    x.scale = a->scale != 0 ? a->scale : 1.0f / sqrtf((float)a->head_dim);
    x.scale2 = x.scale * ATT_LOG2E;
    if (a->dropout_p > 0) {
        x.keep_scale = 1.0f / (1.0f - a->dropout_p);
        x.drop_below = (unsigned)ceil((double)a->dropout_p * 4294967296.0);
    }
    layout(a, backward, &x);
    x.aligned16 = a->head_dim * elem % 16 == 0 && rows_aligned16(a->q, a->q_ld, elem) &&
                  rows_aligned16(a->k, a->k_ld, elem) && rows_aligned16(a->v, a->v_ld, elem);
    x.aligned16_y = a->head_dim * elem % 16 == 0 && rows_aligned16(a->y, width, elem);
    if (backward) {
        x.aligned16 = x.aligned16 && rows_aligned16(a->dq, a->q_ld, elem) && rows_aligned16(a->dk, a->k_ld, elem) &&
                      rows_aligned16(a->dv, a->v_ld, elem);
        x.aligned16_y = x.aligned16_y && rows_aligned16(a->dy, width, elem);
    }
    return x;
}

cudaError_t k_attention_fwd(const struct k_attention *a, cudaStream_t s)
{
    if (!a->q_rows || !a->heads) return cudaSuccess;
    if (a->head_dim < 1 || a->head_dim > 128) return cudaErrorInvalidValue;
    const att_params x = make_params(a, 0);
    if (a->rel_h) {
        const cudaError_t e = att_rel_bias(x, s);
        if (e != cudaSuccess) return e;
    }
    return a->dtype == K_BF16 ? att_bf16_fwd(x, s) : att_f32_fwd(x, s);
}

/* Gradients of rel_h and rel_w from q and dbias. */
static cudaError_t rel_table_grads(const att_params &x, cudaStream_t s)
{
    const struct k_attention &a = x.a;
    const int64_t n_h = (int64_t)(2 * a.grid_h - 1) * a.head_dim, n_w = (int64_t)(2 * a.grid_w - 1) * a.head_dim;
    cudaError_t e = att_rel_grad(x, s);
    if (e == cudaSuccess && a.drel_h)
        e = dev_launch(attention_sum_parts, (unsigned)((n_h + 127) / 128), 128, 0, s, x.parts, x.n_parts, n_h + n_w,
                       a.drel_h, a.beta_rel_h, n_h);
    if (e == cudaSuccess && a.drel_w)
        e = dev_launch(attention_sum_parts, (unsigned)((n_w + 127) / 128), 128, 0, s, x.parts + n_h, x.n_parts,
                       n_h + n_w, a.drel_w, a.beta_rel_w, n_w);
    return e;
}

static cudaError_t bf16_bwd(const att_params &x, cudaStream_t s)
{
    const struct k_attention &a = x.a;
    cudaError_t e = cudaSuccess;
    if (a.q_rows && (a.dq || a.drel_h || a.drel_w)) e = att_bf16_dq(x, s);
    if (e == cudaSuccess && a.k_rows && (a.dk || a.dv)) e = att_bf16_dkv(x, s);
    return e;
}

cudaError_t k_attention_bwd(const struct k_attention *a, cudaStream_t s)
{
    const int rel_grads = a->rel_h && (a->drel_h || a->drel_w);
    if (!a->heads || !a->n_seq || (!a->dq && !a->dk && !a->dv && !rel_grads)) return cudaSuccess;
    if (a->head_dim < 1 || a->head_dim > 128) return cudaErrorInvalidValue;
    const att_params x = make_params(a, 1);
    const int bf16 = a->dtype == K_BF16;
    cudaError_t e = cudaSuccess;
    if (a->q_rows) e = bf16 ? run_delta<__nv_bfloat16>(x, s) : run_delta<float>(x, s);
    if (e == cudaSuccess && a->rel_h) e = att_rel_bias(x, s);
    if (e == cudaSuccess) e = bf16 ? bf16_bwd(x, s) : att_f32_bwd(x, s);
    if (e == cudaSuccess && rel_grads) e = rel_table_grads(x, s);
    return e;
}

/* Bilinear resizing with half-pixel centres, channels last. Output o is at input coordinate ((2o + 1) in - out) / (2
 * out): kept as an integer over 2 out, so that the neighbours are exact and the weight is rounded only twice. The
 * backward pass gathers: each input pixel visits the outputs that may have read it. One pack of a pixel's channels per
 * thread. */
#include "kernels/common/divide.cuh"
#include "kernels/common/kernels.h"
#include "kernels/common/pack.cuh"

constexpr int THREADS = 256;

struct axis {
    int in, out;
    divisor twice_out, twice_in;
    float step; /* 1 / (2 out) */
};
struct tap {
    int lo, hi;
    float w; /* weight of hi; lo has 1 - w */
};

static DEV_INLINE tap tap_of(const axis &a, int o)
{
    const int at = (2 * o + 1) * a.in - a.out;
    if (at <= 0) return {0, 0, 0};
    uint32_t q = (uint32_t)at;
    const uint32_t r = divide_off(q, a.twice_out);
    if ((int)q >= a.in - 1) return {a.in - 1, a.in - 1, 0};
    return {(int)q, (int)q + 1, (float)r * a.step};
}

template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    resize_fwd(const T *x, T *y, uint32_t items, axis ay, axis ax, divisor packs, divisor w, divisor h)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= items) return;
    uint32_t q = i;
    const uint32_t c = divide_off(q, packs);
    const tap tx = tap_of(ax, (int)divide_off(q, w)), ty = tap_of(ay, (int)divide_off(q, h));
    const uint32_t up = (q * ay.in + ty.lo) * ax.in, down = (q * ay.in + ty.hi) * ax.in;
    const pack<V> a = pack_load<V>(x + (int64_t)((up + tx.lo) * packs.d + c) * V);
    const pack<V> b = pack_load<V>(x + (int64_t)((up + tx.hi) * packs.d + c) * V);
    const pack<V> d = pack_load<V>(x + (int64_t)((down + tx.lo) * packs.d + c) * V);
    const pack<V> e = pack_load<V>(x + (int64_t)((down + tx.hi) * packs.d + c) * V);
    pack<V> p;
    for (int j = 0; j < V; j++) {
        const float top = fmaf(tx.w, b.v[j], (1 - tx.w) * a.v[j]), low = fmaf(tx.w, e.v[j], (1 - tx.w) * d.v[j]);
        p.v[j] = fmaf(ty.w, low, (1 - ty.w) * top);
    }
    pack_store<V>(y + (int64_t)i * V, p);
}

/* First and last output that may lie within one pixel of input i, clipped to [0, out). */
static DEV_INLINE int2 reach_of(const axis &a, int i)
{
    const int from = a.out * (2 * i - 1) - a.in, to = a.out * (2 * i + 3) - a.in;
    const int first = from <= 0 ? 0 : (int)divide((uint32_t)from, a.twice_in);
    const int last = to <= 0 ? 0 : (int)divide((uint32_t)to, a.twice_in) + 1;
    return make_int2(first, last < a.out - 1 ? last : a.out - 1);
}
static DEV_INLINE float weight_of(const tap &t, int i)
{
    return (t.lo == i ? 1 - t.w : 0.0f) + (t.hi == i && t.hi != t.lo ? t.w : 0.0f);
}

template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    resize_bwd(const T *dy, T *dx, float beta, uint32_t items, axis ay, axis ax, divisor packs, divisor w, divisor h)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= items) return;
    uint32_t q = i;
    const uint32_t c = divide_off(q, packs);
    const int px = (int)divide_off(q, w), py = (int)divide_off(q, h);
    const int2 rx = reach_of(ax, px), ry = reach_of(ay, py);
    pack<V> s = {};
    for (int oy = ry.x; oy <= ry.y; oy++) {
        const float wy = weight_of(tap_of(ay, oy), py);
        if (wy == 0) continue;
        for (int ox = rx.x; ox <= rx.y; ox++) {
            const float wxy = wy * weight_of(tap_of(ax, ox), px);
            if (wxy == 0) continue;
            const uint32_t at = ((q * ay.out + oy) * ax.out + ox) * packs.d + c;
            const pack<V> p = pack_load<V>(dy + (int64_t)at * V);
            for (int j = 0; j < V; j++) s.v[j] = fmaf(wxy, p.v[j], s.v[j]);
        }
    }
    pack_blend<V>(dx + (int64_t)i * V, beta, s);
}

static axis axis_of(int64_t in, int64_t out)
{
    return {(int)in, (int)out, divisor_of(2 * out), divisor_of(2 * in), 1.0f / (float)(2 * out)};
}

template <class T, int V> static cudaError_t launch(const struct k_resize *a, int backward, cudaStream_t s)
{
    const axis ay = axis_of(a->in_h, a->out_h), ax = axis_of(a->in_w, a->out_w);
    const int64_t packs = a->c / V, w = backward ? a->in_w : a->out_w, h = backward ? a->in_h : a->out_h;
    const int64_t items = a->n * h * w * packs;
    const int64_t others = a->n * (backward ? a->out_h * a->out_w : a->in_h * a->in_w) * packs;
    const unsigned blocks = blocks_of(items, THREADS);
    if (!blocks || others > 0x7fffffff) return cudaErrorInvalidValue;
    if (backward)
        return dev_launch((resize_bwd<T, V>), blocks, THREADS, 0, s, (const T *)a->dy, (T *)a->dx, a->beta,
                          (uint32_t)items, ay, ax, divisor_of(packs), divisor_of(w), divisor_of(h));
    return dev_launch((resize_fwd<T, V>), blocks, THREADS, 0, s, (const T *)a->x, (T *)a->y, (uint32_t)items, ay, ax,
                      divisor_of(packs), divisor_of(w), divisor_of(h));
}
template <class T> static cudaError_t run(const struct k_resize *a, int backward, cudaStream_t s)
{
    constexpr int V = wide<T>;
    const T *x = (const T *)(backward ? a->dy : a->x), *y = (const T *)(backward ? a->dx : a->y);
    return a->c % V == 0 && pack_fits<V>(x) && pack_fits<V>(y) ? launch<T, V>(a, backward, s)
                                                               : launch<T, 1>(a, backward, s);
}

static cudaError_t resize(const struct k_resize *a, int backward, cudaStream_t s)
{
    if (!a->n || !a->c) return cudaSuccess;
    /* products like (2 out + 3) in must fit into an int */
    if (a->in_h * a->out_h >= 1 << 29 || a->in_w * a->out_w >= 1 << 29) return cudaErrorInvalidValue;
    return a->dtype == K_BF16 ? run<__nv_bfloat16>(a, backward, s) : run<float>(a, backward, s);
}
cudaError_t k_resize_fwd(const struct k_resize *a, cudaStream_t s)
{
    return resize(a, 0, s);
}
cudaError_t k_resize_bwd(const struct k_resize *a, cudaStream_t s)
{
    return a->dx ? resize(a, 1, s) : cudaSuccess;
}

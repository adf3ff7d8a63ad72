/* Bilinear resizing of maps, saliency maps and SAM's masks: one thread per output pixel. Coordinates are float, as in
 * torch. */
#include "kernels/common/chunks.cuh"
#include "kernels/image/images.h"
#include "kernels/image/nearest.cuh"

constexpr int THREADS = 256;

/* Source of an output pixel along one axis: half-pixel centres, coordinates clamped to >= 0. */
struct lerp_tap {
    int first, second;
    float weight; /* of `second` */
};
static DEV_INLINE lerp_tap lerp_tap_at(int i, float scale, int n_in)
{
    lerp_tap b;
    float at = scale * ((float)i + 0.5f) - 0.5f;
    if (at < 0) at = 0;
    b.first = (int)at < n_in ? (int)at : n_in - 1;
    b.second = b.first + 1 < n_in ? b.first + 1 : b.first;
    b.weight = at - (float)b.first;
    return b;
}

/* Bilinear interpolation of four values. */
static DEV_INLINE float bilerp(lerp_tap y, lerp_tap x, float v00, float v01, float v10, float v11)
{
    return (1 - y.weight) * ((1 - x.weight) * v00 + x.weight * v01) +
           y.weight * ((1 - x.weight) * v10 + x.weight * v11);
}
/* The same of src (rows, width). */
template <class T> static DEV_INLINE float bilerp_at(const T *src, int width, lerp_tap y, lerp_tap x)
{
    const T *upper = src + (int64_t)y.first * width, *lower = src + (int64_t)y.second * width;
    return bilerp(y, x, dev_load(upper + x.first), dev_load(upper + x.second), dev_load(lower + x.first),
                  dev_load(lower + x.second));
}

template <class T> __global__ void __launch_bounds__(THREADS) map_resize(struct k_map_resize a)
{
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= a.height * a.width) return;
    const lerp_tap y = lerp_tap_at(i / a.width, (float)a.src_height / (float)a.height, a.src_height);
    const lerp_tap x = lerp_tap_at(i % a.width, (float)a.src_width / (float)a.width, a.src_width);
    a.dst[(int64_t)blockIdx.y * a.height * a.width + i] =
        bilerp_at((const T *)a.src + blockIdx.y * a.stride, a.src_width, y, x);
}

cudaError_t k_map_resize_run(const struct k_map_resize *a, cudaStream_t s)
{
    const int pixels = a->height * a->width;
    if (!a->n || !pixels) return cudaSuccess;
    struct k_map_resize b = *a;
    if (!b.stride) b.stride = (int64_t)a->src_height * a->src_width;
    const dim3 grid(blocks_of(pixels, THREADS), (unsigned)a->n);
    return a->dtype == K_BF16 ? dev_launch(map_resize<__nv_bfloat16>, grid, THREADS, 0, s, b)
                              : dev_launch(map_resize<float>, grid, THREADS, 0, s, b);
}

/* ---- saliency ---- */

/* Minimum and maximum of a map; the minimum is negated, so that both are reduced by a maximum. */
struct map_range {
    float negative_low, high;
};

static DEV_INLINE void reduce_map_range(struct map_range r, struct map_range *to)
{
    r.negative_low = block_max<CHUNK_THREADS>(r.negative_low);
    r.high = block_max<CHUNK_THREADS>(r.high);
    if (threadIdx.x == 0) *to = r;
}

/* part (n, chunks): the range of each chunk. Grid (chunks, n). */
static __global__ void __launch_bounds__(CHUNK_THREADS)
    map_range_parts(const float *maps, int pixels, struct map_range *part)
{
    const int64_t first = (int64_t)blockIdx.x * CHUNK, last = first + CHUNK < pixels ? first + CHUNK : pixels;
    struct map_range r = {-INFINITY, -INFINITY};
    for (int64_t i = first + threadIdx.x; i < last; i += CHUNK_THREADS) {
        const float v = maps[(int64_t)blockIdx.y * pixels + i];
        r.negative_low = fmaxf(r.negative_low, -v);
        r.high = fmaxf(r.high, v);
    }
    reduce_map_range(r, part + (int64_t)blockIdx.y * gridDim.x + blockIdx.x);
}

/* range (n): the range of each map. Grid (n). */
static __global__ void __launch_bounds__(CHUNK_THREADS)
    map_range_whole(const struct map_range *part, int chunks, struct map_range *range)
{
    struct map_range r = {-INFINITY, -INFINITY};
    for (int i = (int)threadIdx.x; i < chunks; i += CHUNK_THREADS) {
        const struct map_range p = part[(int64_t)blockIdx.x * chunks + i];
        r.negative_low = fmaxf(r.negative_low, p.negative_low);
        r.high = fmaxf(r.high, p.high);
    }
    reduce_map_range(r, range + blockIdx.x);
}

/* v by the range to 0..1; 0 in a constant map. */
static DEV_INLINE float scaled(float v, struct map_range r)
{
    const float low = -r.negative_low;
    return r.high > low ? (v - low) / (r.high - low) : 0;
}

static __global__ void __launch_bounds__(THREADS) map_scale(const struct map_range *range, int pixels, float *maps)
{
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= pixels) return;
    float *v = maps + (int64_t)blockIdx.y * pixels + i;
    *v = scaled(*v, range[blockIdx.y]);
}

/* full (n, side, side) -> maps (n, height, width) as in the released code of MedCLIP-SAMv2: scaled to 0..1, quantised
 * to 8 bits, nearest neighbour. */
static __global__ void __launch_bounds__(THREADS)
    map_stretch(const struct map_range *range, const float *full, int side, int height, int width, float *maps)
{
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= height * width) return;
    const int sx = nearest_index(i % width, side, width), sy = nearest_index(i / width, side, height);
    const float v = full[((int64_t)blockIdx.y * side + sy) * side + sx];
    maps[(int64_t)blockIdx.y * height * width + i] = rintf(scaled(v, range[blockIdx.y]) * 255) / 255;
}

size_t k_saliency_map_bytes(const struct k_saliency_map *a)
{
    const int64_t view = (int64_t)a->view_side * a->view_side, pixels = view ? view : (int64_t)a->height * a->width;
    return (size_t)a->n * ((1 + chunks_of(pixels)) * sizeof(struct map_range) + (size_t)view * sizeof(float));
}

cudaError_t k_saliency_map_run(const struct k_saliency_map *a, cudaStream_t s)
{
    const int view = a->view_side, out = a->height * a->width, pixels = view ? view * view : out;
    const unsigned chunks = chunks_of(pixels), n = (unsigned)a->n;
    struct map_range *range = (struct map_range *)a->workspace, *part = range + n;
    float *full = view ? (float *)(part + (int64_t)n * chunks) : a->maps;
    if (!n || !out) return cudaSuccess;
    const struct k_map_resize r = {
        a->dtype, a->n, a->side, a->side, view ? view : a->height, view ? view : a->width, a->stride, a->tokens, full};
    cudaError_t e = k_map_resize_run(&r, s);
    if (e == cudaSuccess)
        e = dev_launch(map_range_parts, dim3(chunks, n), CHUNK_THREADS, 0, s, (const float *)full, pixels, part);
    if (e == cudaSuccess)
        e = dev_launch(map_range_whole, n, CHUNK_THREADS, 0, s, (const struct map_range *)part, (int)chunks, range);
    if (e != cudaSuccess) return e;
    const dim3 grid(blocks_of(out, THREADS), n);
    if (!view) return dev_launch(map_scale, grid, THREADS, 0, s, (const struct map_range *)range, pixels, a->maps);
    return dev_launch(map_stretch, grid, THREADS, 0, s, (const struct map_range *)range, (const float *)full, view,
                      a->height, a->width, a->maps);
}

static __global__ void __launch_bounds__(THREADS) map_bytes(const float *map, int64_t n, uint8_t *dst)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const float v = rintf(map[i] * 255.0f);
    dst[i] = v >= 255.0f ? 255 : v > 0.0f ? (uint8_t)v : 0; /* NaN becomes 0 */
}

cudaError_t k_map_bytes(const float *map, int64_t n, uint8_t *dst, cudaStream_t s)
{
    if (!n) return cudaSuccess;
    return dev_launch(map_bytes, blocks_of(n, THREADS), THREADS, 0, s, map, n, dst);
}

/* ---- SAM's masks ---- */

/* Logit of a pixel by two bilinear interpolations: its four neighbours in the frame (rows y, columns x) are each
 * interpolated from low (side, side) at rows ys and columns xs. */
template <class T>
static DEV_INLINE float logit_at(const T *low, int side, lerp_tap y, lerp_tap x, const lerp_tap ys[2],
                                 const lerp_tap xs[2])
{
    return bilerp(y, x, bilerp_at(low, side, ys[0], xs[0]), bilerp_at(low, side, ys[0], xs[1]),
                  bilerp_at(low, side, ys[1], xs[0]), bilerp_at(low, side, ys[1], xs[1]));
}

/* The three counts of k_mask_upscale (for the stability score) are packed into one word, so that one block_sum adds
 * them: each is at most THREADS = 256, which fits 10 bits. */
constexpr int COUNT_BITS = 10;
constexpr unsigned COUNT_MASK = (1u << COUNT_BITS) - 1;

template <class T> __global__ void __launch_bounds__(THREADS) mask_upscale(struct k_mask_upscale a)
{
    const int pixels = a.height * a.width, i = (int)(blockIdx.x * THREADS + threadIdx.x);
    const bool inside = i < pixels;
    const float scale = (float)a.side / (float)a.frame;
    const lerp_tap y = lerp_tap_at(i / a.width, (float)a.in_height / (float)a.height, a.in_height);
    const lerp_tap x = lerp_tap_at(i % a.width, (float)a.in_width / (float)a.width, a.in_width);
    const lerp_tap ys[2] = {lerp_tap_at(y.first, scale, a.side), lerp_tap_at(y.second, scale, a.side)};
    const lerp_tap xs[2] = {lerp_tap_at(x.first, scale, a.side), lerp_tap_at(x.second, scale, a.side)};
    float votes = 0;
    for (int m = 0; m < a.n; m++) {
        const int plane = a.plane ? a.plane[m] : m;
        unsigned counts = 0;
        if (inside) {
            const float v = logit_at((const T *)a.low_res + (int64_t)plane * a.side * a.side, a.side, y, x, ys, xs);
            const int64_t to = (int64_t)m * pixels + i;
            if (a.logits) a.logits[to] = v;
            if (a.masks) a.masks[to] = v > a.threshold ? a.on : 0;
            if (v > a.threshold) votes += a.weight;
            counts = (unsigned)(v > a.threshold) | (unsigned)(v > a.threshold + a.offset) << COUNT_BITS |
                     (unsigned)(v > a.threshold - a.offset) << (2 * COUNT_BITS);
        }
        if (!a.counts) continue;
        counts = block_sum<THREADS>(counts);
        if (threadIdx.x < 3)
            atomicAdd(&a.counts[3 * m + (int)threadIdx.x], counts >> (COUNT_BITS * threadIdx.x) & COUNT_MASK);
    }
    if (inside && a.united) a.united[i] = votes > 0.5f ? a.on : 0;
}

cudaError_t k_mask_upscale_run(const struct k_mask_upscale *a, cudaStream_t s)
{
    const unsigned blocks = blocks_of((int64_t)a->height * a->width, THREADS);
    if (!blocks || !a->n) return cudaSuccess;
    if (a->counts) {
        const cudaError_t e = cudaMemsetAsync(a->counts, 0, (size_t)a->n * 3 * sizeof *a->counts, s);
        if (e != cudaSuccess) return e;
    }
    return a->dtype == K_BF16 ? dev_launch(mask_upscale<__nv_bfloat16>, blocks, THREADS, 0, s, *a)
                              : dev_launch(mask_upscale<float>, blocks, THREADS, 0, s, *a);
}

/* plane[i]: the mask with the highest predicted IoU of prompt i, as described at k_mask_choose. */
template <class T> __global__ void __launch_bounds__(THREADS) mask_choose(struct k_mask_choose a)
{
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= a.n) return;
    const T *iou = (const T *)a.iou + (int64_t)i * a.stride + a.first;
    int best = 0;
    for (int k = 1; k < a.choices; k++)
        if (dev_load(iou + k) > dev_load(iou + best)) best = k;
    a.plane[i] = i * a.planes + a.first + best;
}

cudaError_t k_mask_choose_run(const struct k_mask_choose *a, cudaStream_t s)
{
    if (!a->n) return cudaSuccess;
    const unsigned blocks = blocks_of(a->n, THREADS);
    return a->dtype == K_BF16 ? dev_launch(mask_choose<__nv_bfloat16>, blocks, THREADS, 0, s, *a)
                              : dev_launch(mask_choose<float>, blocks, THREADS, 0, s, *a);
}

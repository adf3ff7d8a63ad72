/* Pillow's resampling of 8-bit images, byte for byte: weights are computed in double and rounded to 22 bits; sums are
 * integers. */
#include "kernels/common/chunks.cuh"
#include "kernels/image/images.h"

constexpr int THREADS = 256, FRACTION_BITS = 22;

/* Filter taps of an axis, in the workspace: source pixels first[i] .. first[i] + n[i] - 1 and their weights for output
 * i. */
struct taps {
    int n_in, n_out, n_max;
    int *first, *n;   /* (n_out) */
    int32_t *weights; /* (n_out, n_max) */
};

static DEV_INLINE double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}
/* Keys' cubic convolution with a = -0.5. */
static DEV_INLINE double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    return x < 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}
static DEV_INLINE double weight_at(int filter, double x)
{
    return filter == K_BICUBIC ? cubic(x) : triangle(x);
}

static __global__ void __launch_bounds__(THREADS) resample_taps(struct taps t, int filter)
{
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= t.n_out) return;
    const double scale = (double)t.n_in / t.n_out, stretch = scale < 1 ? 1 : scale;
    const double support = (filter == K_BICUBIC ? 2 : 1) * stretch, centre = (i + 0.5) * scale;
    int lo = (int)(centre - support + 0.5), hi = (int)(centre + support + 0.5);
    if (lo < 0) lo = 0;
    if (hi > t.n_in) hi = t.n_in;
    double sum = 0;
    for (int k = 0; k < hi - lo; k++) sum += weight_at(filter, (lo + k - centre + 0.5) * (1 / stretch));
    for (int k = 0; k < hi - lo; k++) {
        const double w = weight_at(filter, (lo + k - centre + 0.5) * (1 / stretch));
        const double exact = (sum != 0 ? w / sum : w) * (1 << FRACTION_BITS);
        t.weights[(int64_t)i * t.n_max + k] = (int32_t)(exact < 0 ? exact - 0.5 : exact + 0.5);
    }
    t.first[i] = lo;
    t.n[i] = hi - lo;
}

/* Resamples along one axis. Adjacent pixels of the axis are `stride` bytes apart; `inner`: bytes of the
 * axes inside it. */
static __global__ void __launch_bounds__(THREADS)
    resample_axis(const uint8_t *src, struct taps t, divisor inner, divisor n_out, uint32_t n, uint8_t *dst)
{
    const uint32_t at = blockIdx.x * THREADS + threadIdx.x;
    if (at >= n) return;
    uint32_t line = at;
    const uint32_t in = divide_off(line, inner), i = divide_off(line, n_out), stride = inner.d;
    const uint8_t *p = src + ((int64_t)line * t.n_in + t.first[i]) * stride + in;
    const int32_t *w = t.weights + (int64_t)i * t.n_max;
    int32_t sum = 1 << (FRACTION_BITS - 1);
    for (int k = 0; k < t.n[i]; k++) sum += p[(int64_t)k * stride] * w[k];
    sum >>= FRACTION_BITS;
    dst[at] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* Pillow accumulates the source position by repeated addition; the same rounding errors are reproduced, one thread per
 * axis. */
static __global__ void __launch_bounds__(DEV_WARP) nearest_places(struct taps x, struct taps y)
{
    if (threadIdx.x > 1) return;
    const struct taps t = threadIdx.x ? y : x;
    const double scale = (double)t.n_in / t.n_out;
    double at = scale * 0.5;
    for (int i = 0; i < t.n_out; i++, at += scale) t.first[i] = (int)at < t.n_in ? (int)at : t.n_in - 1;
}

static __global__ void __launch_bounds__(THREADS)
    nearest_pick(const uint8_t *src, struct taps x, struct taps y, int channels, int64_t n, uint8_t *dst)
{
    const int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= n) return;
    const int64_t pixel = at / channels;
    const int sx = x.first[pixel % x.n_out], sy = y.first[pixel / x.n_out];
    dst[at] = src[((int64_t)sy * x.n_in + sx) * channels + at % channels];
}

static int taps_most(int n_in, int n_out, enum k_filter filter)
{
    const double scale = (double)n_in / n_out, support = (filter == K_BICUBIC ? 2 : 1) * (scale < 1 ? 1 : scale);
    return filter == K_NEAREST ? 0 : (int)ceil(support) * 2 + 1;
}
/* Number of ints of an axis in the workspace. */
static int64_t taps_size(int n_in, int n_out, enum k_filter filter)
{
    return (int64_t)n_out * (2 + taps_most(n_in, n_out, filter));
}
static struct taps taps_at(int n_in, int n_out, enum k_filter filter, int *at)
{
    return {n_in, n_out, taps_most(n_in, n_out, filter), at, at + n_out, at + 2 * (int64_t)n_out};
}

size_t k_image_resize_bytes(const struct k_image_resize *a)
{
    return (size_t)(taps_size(a->src_width, a->width, a->filter) + taps_size(a->src_height, a->height, a->filter)) *
               sizeof(int) +
           (size_t)a->src_height * (size_t)a->width * (size_t)a->channels;
}

static cudaError_t run_axis(const struct taps *t, int filter, const uint8_t *src, int64_t inner, int64_t lines,
                            uint8_t *dst, cudaStream_t s)
{
    const int64_t n = lines * t->n_out * inner;
    const cudaError_t e = dev_launch(resample_taps, blocks_of(t->n_out, THREADS), THREADS, 0, s, *t, filter);
    if (e != cudaSuccess) return e;
    return dev_launch(resample_axis, blocks_of(n, THREADS), THREADS, 0, s, src, *t, divisor_of(inner),
                      divisor_of(t->n_out), (uint32_t)n, dst);
}

cudaError_t k_image_resize_run(const struct k_image_resize *a, cudaStream_t s)
{
    const int64_t n = (int64_t)a->height * a->width * a->channels;
    if (!n || !a->src_height || !a->src_width) return cudaSuccess;
    if (a->height == a->src_height && a->width == a->src_width)
        return cudaMemcpyAsync(a->dst, a->src, (size_t)n, cudaMemcpyDeviceToDevice, s);
    int *at = (int *)a->workspace, *after = at + taps_size(a->src_width, a->width, a->filter);
    const struct taps x = taps_at(a->src_width, a->width, a->filter, at),
                      y = taps_at(a->src_height, a->height, a->filter, after);
    after += taps_size(a->src_height, a->height, a->filter);
    if (a->filter == K_NEAREST) {
        const cudaError_t e = dev_launch(nearest_places, 1, DEV_WARP, 0, s, x, y);
        if (e != cudaSuccess) return e;
        return dev_launch(nearest_pick, blocks_of(n, THREADS), THREADS, 0, s, a->src, x, y, a->channels, n, a->dst);
    }
    const uint8_t *now = a->src;
    uint8_t *between = a->height == a->src_height ? a->dst : (uint8_t *)after;
    if (a->width != a->src_width) {
        const cudaError_t e = run_axis(&x, a->filter, now, a->channels, a->src_height, between, s);
        if (e != cudaSuccess) return e;
        now = between;
    }
    if (a->height == a->src_height) return cudaSuccess;
    return run_axis(&y, a->filter, now, (int64_t)a->width * a->channels, 1, a->dst, s);
}

template <class T> __global__ void __launch_bounds__(THREADS) image_frame(struct k_image_frame a, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const int k = (int)(i % 3), x = (int)(i / 3 % a.width) + a.x0, y = (int)(i / 3 / a.width) + a.y0;
    const float mean = k == 0 ? a.mean[0] : k == 1 ? a.mean[1] : a.mean[2];
    const float deviation = k == 0 ? a.deviation[0] : k == 1 ? a.deviation[1] : a.deviation[2];
    float v = 0;
    if (x < a.src_width && y < a.src_height) {
        const uint8_t p = a.src[((int64_t)y * a.src_width + x) * a.channels + (a.channels == 3 ? k : 0)];
        v = ((float)p / a.unit - mean) / deviation;
    }
    dev_store((T *)a.dst + i, v);
}

cudaError_t k_image_frame_run(const struct k_image_frame *a, cudaStream_t s)
{
    const int64_t n = (int64_t)a->height * a->width * 3;
    if (!n) return cudaSuccess;
    return a->dtype == K_BF16 ? dev_launch(image_frame<__nv_bfloat16>, blocks_of(n, THREADS), THREADS, 0, s, *a, n)
                              : dev_launch(image_frame<float>, blocks_of(n, THREADS), THREADS, 0, s, *a, n);
}

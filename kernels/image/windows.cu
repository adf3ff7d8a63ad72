/* Sliding windows: cut, pasted with weights, averaged; one thread per element. Where windows of a batch overlap, the
 * thread of the first window that covers an element adds all of them in the order of the list: no two threads write the
 * same element, and the order of summation is fixed. */
#include "kernels/common/chunks.cuh"
#include "kernels/image/inference.h"

constexpr int THREADS = 256;

/* Divisors that split an element index into (z, y, x, k). */
struct window_axes {
    divisor channels, width, height;
};
struct place {
    int k, x, y, z;
};

/* Coordinates of element e of a window (z, y, x, k). */
static DEV_INLINE place place_of(const struct window_axes &d, uint32_t e)
{
    place p;
    p.k = (int)divide_off(e, d.channels);
    p.x = (int)divide_off(e, d.width);
    p.y = (int)divide_off(e, d.height);
    p.z = (int)e;
    return p;
}

static DEV_INLINE int64_t image_at(const struct k_windows &a, int image, int z, int y, int x, int k)
{
    return ((((int64_t)image * a.depth + z) * a.height + y) * a.width + x) * a.channels + k;
}

/* Voxel of a window whose mirror image is (z, y, x). */
static DEV_INLINE int mirrored_at(const struct k_windows &a, int flip, int z, int y, int x)
{
    if (flip & FLIP_SLICES) z = a.window_depth - 1 - z;
    if (flip & FLIP_ROWS) y = a.window_height - 1 - y;
    if (flip & FLIP_COLUMNS) x = a.window_width - 1 - x;
    return (z * a.window_height + y) * a.window_width + x;
}

template <class T>
__global__ void __launch_bounds__(THREADS) windows_cut(struct k_windows a, struct window_axes d, unsigned n)
{
    const unsigned e = blockIdx.x * THREADS + threadIdx.x;
    const struct sliding_window w = a.list[blockIdx.y];
    if (e >= n || w.image < 0) return;
    const place p = place_of(d, e);
    const int z = w.flip & FLIP_SLICES ? a.window_depth - 1 - p.z : p.z;
    const int y = w.flip & FLIP_ROWS ? a.window_height - 1 - p.y : p.y;
    const int x = w.flip & FLIP_COLUMNS ? a.window_width - 1 - p.x : p.x;
    dev_store((T *)a.values + (int64_t)blockIdx.y * n + e,
              a.images[image_at(a, w.image, w.z + z, w.y + y, w.x + x, p.k)]);
}

template <class T>
__global__ void __launch_bounds__(THREADS) windows_paste(struct k_windows a, struct window_axes d, unsigned n)
{
    const unsigned e = blockIdx.x * THREADS + threadIdx.x;
    const int me = (int)blockIdx.y;
    const struct sliding_window w = a.list[me];
    if (e >= n || w.image < 0) return;
    const place p = place_of(d, e);
    const int z = w.z + p.z, y = w.y + p.y, x = w.x + p.x;
    float *to = a.images + image_at(a, w.image, z, y, x, p.k);
    float sum = 0;
    for (int j = 0; j < a.count; j++) {
        const struct sliding_window v = a.list[j];
        const int lz = z - v.z, ly = y - v.y, lx = x - v.x;
        if (v.image != w.image || (unsigned)lz >= (unsigned)a.window_depth ||
            (unsigned)ly >= (unsigned)a.window_height || (unsigned)lx >= (unsigned)a.window_width)
            continue;
        if (j < me) return; /* the thread of window j adds all of them */
        if (j == me) sum = *to;
        const int from = mirrored_at(a, v.flip, lz, ly, lx);
        sum += a.weight[(lz * a.window_height + ly) * a.window_width + lx] *
               dev_load((const T *)a.values + (int64_t)j * n + (int64_t)from * a.channels + p.k);
    }
    *to = sum;
}

static struct window_axes axes_of(const struct k_windows *a)
{
    return {divisor_of(a->channels), divisor_of(a->window_width), divisor_of(a->window_height)};
}
static unsigned values_of(const struct k_windows *a)
{
    return (unsigned)((int64_t)a->window_depth * a->window_height * a->window_width * a->channels);
}

cudaError_t k_windows_cut(const struct k_windows *a, cudaStream_t s)
{
    const unsigned n = values_of(a);
    if (!n || !a->count) return cudaSuccess;
    const dim3 grid(blocks_of(n, THREADS), (unsigned)a->count);
    return a->dtype == K_BF16 ? dev_launch(windows_cut<__nv_bfloat16>, grid, THREADS, 0, s, *a, axes_of(a), n)
                              : dev_launch(windows_cut<float>, grid, THREADS, 0, s, *a, axes_of(a), n);
}

cudaError_t k_windows_paste(const struct k_windows *a, cudaStream_t s)
{
    const unsigned n = values_of(a);
    if (!n || !a->count) return cudaSuccess;
    const dim3 grid(blocks_of(n, THREADS), (unsigned)a->count);
    return a->dtype == K_BF16 ? dev_launch(windows_paste<__nv_bfloat16>, grid, THREADS, 0, s, *a, axes_of(a), n)
                              : dev_launch(windows_paste<float>, grid, THREADS, 0, s, *a, axes_of(a), n);
}

/* One thread per element (z, y, x, k) of image blockIdx.y. */
static __global__ void __launch_bounds__(THREADS)
    windows_mean(struct k_windows_mean a, struct window_axes d, uint32_t n)
{
    const uint32_t e = blockIdx.x * THREADS + threadIdx.x;
    if (e >= n) return;
    const place p = place_of(d, e);
    const int64_t area = (int64_t)a.padded[0] * a.padded[1] * a.padded[2];
    const int64_t from =
        ((int64_t)(p.z + a.before[0]) * a.padded[1] + p.y + a.before[1]) * a.padded[2] + p.x + a.before[2];
    const float scale = 1.0f / (a.weights[from] * a.flips);
    const float v = a.sums[(blockIdx.y * area + from) * a.channels + p.k] * scale;
    a.logits[(int64_t)blockIdx.y * n + e] = v;
    if (!(v - v == 0)) atomicOr(a.bad, 1u);
}

cudaError_t k_windows_mean_run(const struct k_windows_mean *a, cudaStream_t s)
{
    const int64_t n = (int64_t)a->depth * a->height * a->width * a->channels;
    if (!n || !a->n) return cudaSuccess;
    const struct window_axes d = {divisor_of(a->channels), divisor_of(a->width), divisor_of(a->height)};
    return dev_launch(windows_mean, dim3(blocks_of(n, THREADS), (unsigned)a->n), THREADS, 0, s, *a, d, (uint32_t)n);
}

/* Sliding windows: cut, pasted with weights, averaged. A thread an element. Where windows of a batch overlap, the first
 * window that covers an element owns it and adds all of them in order, so that no two threads write one place and the
 * order of sums is the list's. */
#include "kernels/chunks.cuh"
#include "kernels/stages.h"

constexpr int THREADS = 256;

struct place {
    int k, x, y, z;
};

/* Element e of a window (z, y, x, k), as it lies in memory. */
static DEV_INLINE place place_of(const struct k_windows &a, unsigned e)
{
    place p;
    p.k = (int)(e % (unsigned)a.channels);
    e /= (unsigned)a.channels;
    p.x = (int)(e % (unsigned)a.window_width);
    e /= (unsigned)a.window_width;
    p.y = (int)(e % (unsigned)a.window_height);
    p.z = (int)(e / (unsigned)a.window_height);
    return p;
}

static DEV_INLINE int64_t image_at(const struct k_windows &a, int image, int z, int y, int x, int k)
{
    return ((((int64_t)image * a.depth + z) * a.height + y) * a.width + x) * a.channels + k;
}

/* The voxel of a window seen through its mirroring. */
static DEV_INLINE int mirrored_at(const struct k_windows &a, int flip, int z, int y, int x)
{
    if (flip & K_FLIP_SLICES) z = a.window_depth - 1 - z;
    if (flip & K_FLIP_ROWS) y = a.window_height - 1 - y;
    if (flip & K_FLIP_COLUMNS) x = a.window_width - 1 - x;
    return (z * a.window_height + y) * a.window_width + x;
}

template <class T> __global__ void __launch_bounds__(THREADS) windows_cut(struct k_windows a, unsigned n)
{
    const unsigned e = blockIdx.x * THREADS + threadIdx.x;
    const struct k_window w = a.list[blockIdx.y];
    if (e >= n || w.image < 0) return;
    const place p = place_of(a, e);
    const int z = w.flip & K_FLIP_SLICES ? a.window_depth - 1 - p.z : p.z;
    const int y = w.flip & K_FLIP_ROWS ? a.window_height - 1 - p.y : p.y;
    const int x = w.flip & K_FLIP_COLUMNS ? a.window_width - 1 - p.x : p.x;
    dev_store((T *)a.values + (int64_t)blockIdx.y * n + e,
              a.images[image_at(a, w.image, w.z + z, w.y + y, w.x + x, p.k)]);
}

template <class T> __global__ void __launch_bounds__(THREADS) windows_paste(struct k_windows a, unsigned n)
{
    const unsigned e = blockIdx.x * THREADS + threadIdx.x;
    const int me = (int)blockIdx.y;
    const struct k_window w = a.list[me];
    if (e >= n || w.image < 0) return;
    const place p = place_of(a, e);
    const int z = w.z + p.z, y = w.y + p.y, x = w.x + p.x;
    float *to = a.images + image_at(a, w.image, z, y, x, p.k);
    float sum = 0;
    for (int j = 0; j < a.count; j++) {
        const struct k_window v = a.list[j];
        const int lz = z - v.z, ly = y - v.y, lx = x - v.x;
        if (v.image != w.image || (unsigned)lz >= (unsigned)a.window_depth ||
            (unsigned)ly >= (unsigned)a.window_height || (unsigned)lx >= (unsigned)a.window_width)
            continue;
        if (j < me) return; /* that window's thread does it */
        if (j == me) sum = *to;
        const int from = mirrored_at(a, v.flip, lz, ly, lx);
        sum += a.weight[(lz * a.window_height + ly) * a.window_width + lx] *
               dev_load((const T *)a.values + (int64_t)j * n + (int64_t)from * a.channels + p.k);
    }
    *to = sum;
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
    return a->dtype == K_BF16 ? dev_launch(windows_cut<__nv_bfloat16>, grid, THREADS, 0, s, *a, n)
                              : dev_launch(windows_cut<float>, grid, THREADS, 0, s, *a, n);
}

cudaError_t k_windows_paste(const struct k_windows *a, cudaStream_t s)
{
    const unsigned n = values_of(a);
    if (!n || !a->count) return cudaSuccess;
    const dim3 grid(blocks_of(n, THREADS), (unsigned)a->count);
    return a->dtype == K_BF16 ? dev_launch(windows_paste<__nv_bfloat16>, grid, THREADS, 0, s, *a, n)
                              : dev_launch(windows_paste<float>, grid, THREADS, 0, s, *a, n);
}

static __global__ void __launch_bounds__(THREADS) windows_mean(struct k_windows_mean a, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; /* (image, z, y, x, k) */
    if (i >= n) return;
    const int k = (int)(i % a.channels);
    const int64_t voxel = i / a.channels;
    const int x = (int)(voxel % a.width), y = (int)(voxel / a.width % a.height);
    const int64_t slice = voxel / a.width / a.height;
    const int z = (int)(slice % a.depth), image = (int)(slice / a.depth);
    const int64_t from = ((int64_t)(z + a.before[0]) * a.padded[1] + y + a.before[1]) * a.padded[2] + x + a.before[2];
    const int64_t area = (int64_t)a.padded[0] * a.padded[1] * a.padded[2];
    const float scale = 1.0f / (a.weights[from] * a.flips);
    const float v = a.sums[(image * area + from) * a.channels + k] * scale;
    a.logits[i] = v;
    if (!(v - v == 0)) atomicOr(a.bad, 1u);
}

cudaError_t k_windows_mean_run(const struct k_windows_mean *a, cudaStream_t s)
{
    const int64_t n = (int64_t)a->n * a->depth * a->height * a->width * a->channels;
    if (!n) return cudaSuccess;
    return dev_launch(windows_mean, blocks_of(n, THREADS), THREADS, 0, s, *a, n);
}

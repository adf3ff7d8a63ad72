/* Window partition: image (B,h,w,C) <-> windows (B*nh*nw,win,win,C). Both kernels gather: a thread computes one pack of
 * channels of a destination pixel, so each direction is the gradient of the other. */
#include "kernels/common/divide.cuh"
#include "kernels/common/kernels.h"
#include "kernels/common/pack.cuh"

constexpr int THREADS = 256;

struct layout {
    int h, w, win;
    divisor packs, edge, across, down; /* packs per pixel, win, windows per image row (nw) and per image column (nh) */
    divisor width, height;
};

/* windows = beta windows + image; 0 outside the image */
template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    partition_split(const T *image, T *windows, float beta, uint32_t items, layout l)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= items) return;
    uint32_t q = i;
    const uint32_t c = divide_off(q, l.packs), in_x = divide_off(q, l.edge), in_y = divide_off(q, l.edge);
    const uint32_t wx = divide_off(q, l.across), wy = divide_off(q, l.down);
    const int64_t x = (int64_t)wx * l.win + in_x, y = (int64_t)wy * l.win + in_y;
    pack<V> p = {};
    if (x < l.w && y < l.h) p = pack_load<V>(image + ((((int64_t)q * l.h + y) * l.w + x) * l.packs.d + c) * V);
    pack_blend<V>(windows + (int64_t)i * V, beta, p);
}

/* image = beta image + windows */
template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    partition_join(const T *windows, T *image, float beta, uint32_t items, layout l)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= items) return;
    uint32_t q = i;
    const uint32_t c = divide_off(q, l.packs);
    uint32_t wx = divide_off(q, l.width), wy = divide_off(q, l.height);
    const uint32_t in_x = divide_off(wx, l.edge), in_y = divide_off(wy, l.edge);
    const int64_t window = ((int64_t)q * l.down.d + wy) * l.across.d + wx;
    const int64_t at = ((window * l.win + in_y) * l.win + in_x) * l.packs.d + c;
    pack_blend<V>(image + (int64_t)i * V, beta, pack_load<V>(windows + at * V));
}

template <class T, int V> static cudaError_t launch(const struct k_partition *a, int split, cudaStream_t s)
{
    const int64_t nh = (a->h + a->win - 1) / a->win, nw = (a->w + a->win - 1) / a->win, packs = a->c / V;
    const int64_t items = split ? a->images * nh * nw * a->win * a->win * packs : a->images * a->h * a->w * packs;
    const layout l = {(int)a->h,      (int)a->w,      (int)a->win,      divisor_of(packs), divisor_of(a->win),
                      divisor_of(nw), divisor_of(nh), divisor_of(a->w), divisor_of(a->h)};
    const unsigned blocks = blocks_of(items, THREADS);
    const T *x = (const T *)a->x;
    T *y = (T *)a->y;
    if (!blocks) return cudaErrorInvalidValue;
    if (split) return dev_launch((partition_split<T, V>), blocks, THREADS, 0, s, x, y, a->beta, (uint32_t)items, l);
    return dev_launch((partition_join<T, V>), blocks, THREADS, 0, s, x, y, a->beta, (uint32_t)items, l);
}

template <class T> static cudaError_t run(const struct k_partition *a, int split, cudaStream_t s)
{
    constexpr int V = wide<T>;
    const int fits = a->c % V == 0 && pack_fits<V>((const T *)a->x) && pack_fits<V>((const T *)a->y);
    return fits ? launch<T, V>(a, split, s) : launch<T, 1>(a, split, s);
}

static cudaError_t move(const struct k_partition *a, int split, cudaStream_t s)
{
    if (!a->images || !a->h || !a->w || !a->c) return cudaSuccess;
    return a->dtype == K_BF16 ? run<__nv_bfloat16>(a, split, s) : run<float>(a, split, s);
}
cudaError_t k_partition_split(const struct k_partition *a, cudaStream_t s)
{
    return move(a, 1, s);
}
cudaError_t k_partition_join(const struct k_partition *a, cudaStream_t s)
{
    return move(a, 0, s);
}

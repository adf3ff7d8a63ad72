/* Concatenates up to four inputs along the columns; a repeated input has a single row, broadcast to all rows. One
 * kernel for all inputs, forward and backward, one pack of y per thread; the gradient of a repeated input is a column
 * sum. */
#include "kernels/common/divide.cuh"
#include "kernels/common/kernels.h"
#include "kernels/common/pack.cuh"

constexpr int THREADS = 256;

/* Sizes in packs. end[k]: the column of y after input k; unused inputs have the end of the last one. */
struct parts {
    uint32_t end[4], width[4];
    int repeated[4], wanted[4];
    float beta[4];
    divisor row;
};
struct part {
    uint32_t column, width;
    int k, repeated, wanted;
    float beta;
};

/* The input of a column. Arrays are not indexed dynamically, because that would place them in local memory. */
static DEV_INLINE part part_of(const parts &l, uint32_t column)
{
    part p = {column, l.width[0], 0, l.repeated[0], l.wanted[0], l.beta[0]};
    for (int k = 1; k < 4; k++)
        if (column >= l.end[k - 1]) p = {column - l.end[k - 1], l.width[k], k, l.repeated[k], l.wanted[k], l.beta[k]};
    return p;
}
template <class P> static DEV_INLINE P pick(int k, P a, P b, P c, P d)
{
    return k == 0 ? a : k == 1 ? b : k == 2 ? c : d;
}

template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    concat_fwd(const T *a, const T *b, const T *c, const T *d, T *y, uint32_t items, parts l)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= items) return;
    uint32_t row = i;
    const part p = part_of(l, divide_off(row, l.row));
    const T *x = pick(p.k, a, b, c, d) + ((p.repeated ? 0 : (int64_t)row * p.width) + p.column) * V;
    pack_store<V>(y + (int64_t)i * V, pack_load<V>(x));
}

template <class T, int V>
__global__ void __launch_bounds__(THREADS) concat_bwd(const T *dy, T *a, T *b, T *c, T *d, uint32_t items, parts l)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= items) return;
    uint32_t row = i;
    const part p = part_of(l, divide_off(row, l.row));
    if (!p.wanted) return;
    pack_blend<V>(pick(p.k, a, b, c, d) + ((int64_t)row * p.width + p.column) * V, p.beta,
                  pack_load<V>(dy + (int64_t)i * V));
}

/* wanted: gradients that concat_bwd writes; those of repeated inputs are column sums. */
static parts parts_of(const struct k_concat *a, int v, int backward)
{
    parts l = {};
    int64_t end = 0;
    for (int k = 0; k < 4; k++) {
        const int given = k < a->inputs;
        end += given ? a->width[k] / v : 0;
        l.end[k] = (uint32_t)end;
        l.width[k] = given ? (uint32_t)(a->width[k] / v) : 0;
        l.repeated[k] = given && a->repeated[k];
        l.wanted[k] = backward && given && a->dx[k] && !a->repeated[k];
        l.beta[k] = given ? a->beta[k] : 0;
    }
    l.row = divisor_of(end);
    return l;
}
static int64_t width_of(const struct k_concat *a)
{
    int64_t n = 0;
    for (int k = 0; k < a->inputs; k++) n += a->width[k];
    return n;
}

template <class T, int V> static cudaError_t launch(const struct k_concat *a, int backward, cudaStream_t s)
{
    const parts l = parts_of(a, V, backward);
    const int64_t items = a->rows * (int64_t)l.row.d;
    const unsigned blocks = blocks_of(items, THREADS);
    if (!blocks) return cudaErrorInvalidValue;
    if (backward)
        return dev_launch((concat_bwd<T, V>), blocks, THREADS, 0, s, (const T *)a->dy, (T *)a->dx[0], (T *)a->dx[1],
                          (T *)a->dx[2], (T *)a->dx[3], (uint32_t)items, l);
    return dev_launch((concat_fwd<T, V>), blocks, THREADS, 0, s, (const T *)a->x[0], (const T *)a->x[1],
                      (const T *)a->x[2], (const T *)a->x[3], (T *)a->y, (uint32_t)items, l);
}
template <class T> static cudaError_t run(const struct k_concat *a, int backward, cudaStream_t s)
{
    constexpr int V = wide<T>;
    int fits = pack_fits<V>(backward ? (const T *)a->dy : (const T *)a->y);
    for (int k = 0; k < a->inputs; k++)
        fits = fits && a->width[k] % V == 0 && pack_fits<V>(backward ? (const T *)a->dx[k] : (const T *)a->x[k]);
    return fits ? launch<T, V>(a, backward, s) : launch<T, 1>(a, backward, s);
}

size_t k_concat_bwd_bytes(const struct k_concat *a)
{
    size_t max_bytes = 0;
    for (int k = 0; k < a->inputs; k++) {
        const size_t bytes = a->repeated[k] ? k_sum_rows_bytes(a->rows, a->width[k]) : 0;
        max_bytes = bytes > max_bytes ? bytes : max_bytes;
    }
    return max_bytes;
}
cudaError_t k_concat_fwd(const struct k_concat *a, cudaStream_t s)
{
    if (!a->rows || !width_of(a)) return cudaSuccess;
    return a->dtype == K_BF16 ? run<__nv_bfloat16>(a, 0, s) : run<float>(a, 0, s);
}
cudaError_t k_concat_bwd(const struct k_concat *a, cudaStream_t s)
{
    const int64_t width = width_of(a);
    const size_t elem = a->dtype == K_BF16 ? 2 : 4;
    int64_t at = 0;
    int copies = 0;
    if (!a->rows || !width) return cudaSuccess;
    for (int k = 0; k < a->inputs; at += a->width[k++]) {
        if (!a->dx[k]) continue;
        if (!a->repeated[k]) {
            copies = 1;
            continue;
        }
        const struct k_sum_rows c = {a->dtype,    a->dtype, a->rows,
                                     a->width[k], width,    (const char *)a->dy + (size_t)at * elem,
                                     a->beta[k],  a->dx[k], a->workspace};
        const cudaError_t e = k_sum_rows(&c, s);
        if (e != cudaSuccess) return e;
    }
    if (!copies) return cudaSuccess;
    return a->dtype == K_BF16 ? run<__nv_bfloat16>(a, 1, s) : run<float>(a, 1, s);
}

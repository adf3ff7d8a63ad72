/* y = beta y + x / (1 - p) where the random number of (row's sample, channel) is >= p, else beta y. The backward pass
 * is the same call on gradients: the mask is recomputed. Four channels per thread, as many as one draw gives. */
#include <math.h>

#include "kernels/common/divide.cuh"
#include "kernels/common/pack.cuh"
#include "kernels/common/philox.cuh"

constexpr int THREADS = 256;

/* The number is (word >> 8) 2^-24, so that ">= p" is a comparison of words with `least`. up: 1 / (1 - p). FITS: rows
 * are aligned to four elements. */
template <class T, int FITS>
__global__ void __launch_bounds__(THREADS)
    dropout_rows(struct k_dropout a, uint32_t least, float up, int64_t items, divisor fours)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= items) return;
    uint32_t r = i;
    const uint32_t block = divide_off(r, fours);
    const uint32_t sample = a.sample ? (uint32_t)a.sample[r] : r;
    const uint4 o = philox(make_uint4(block, sample, a.run->step, PHILOX_UNIFORM), philox_key_of(a.run->seed, a.site));
    const float f[4] = {o.x >= least ? up : 0, o.y >= least ? up : 0, o.z >= least ? up : 0, o.w >= least ? up : 0};
    const int64_t at = (int64_t)r * a.n + 4 * (int64_t)block;
    const T *x = (const T *)a.x + at;
    T *y = (T *)a.y + at;
    if constexpr (FITS) {
        pack<4> p = pack_load<4>(x);
        for (int j = 0; j < 4; j++) p.v[j] = f[j] > 0 ? f[j] * p.v[j] : 0.0f;
        pack_blend<4>(y, a.beta, p);
    } else {
        const int64_t left = a.n - 4 * (int64_t)block;
        for (int j = 0; j < 4; j++)
            if (j < left) dev_blend(y + j, a.beta, f[j] > 0 ? f[j] * dev_load(x + j) : 0.0f);
    }
}

template <class T> static cudaError_t run(const struct k_dropout *a, cudaStream_t s)
{
    const int64_t fours = (a->n + 3) / 4, items = a->rows * fours;
    const unsigned blocks = blocks_of(items, THREADS);
    if (!blocks || !(a->p >= 0 && a->p < 1)) return cudaErrorInvalidValue;
    const uint32_t least = (uint32_t)ceil((double)a->p * 16777216.0) << 8;
    const float up = 1.0f / (1.0f - a->p);
    if (a->n % 4 == 0 && pack_fits<4>((const T *)a->x) && pack_fits<4>((const T *)a->y))
        return dev_launch((dropout_rows<T, 1>), blocks, THREADS, 0, s, *a, least, up, items, divisor_of(fours));
    return dev_launch((dropout_rows<T, 0>), blocks, THREADS, 0, s, *a, least, up, items, divisor_of(fours));
}

cudaError_t k_dropout(const struct k_dropout *a, cudaStream_t s)
{
    if (!a->rows || !a->n) return cudaSuccess;
    return a->dtype == K_BF16 ? run<__nv_bfloat16>(a, s) : run<float>(a, s);
}

/* y = beta y + x / (1 - p) where the number of (row's sample, channel) is at least p, else beta y. The backward pass is
 * the same call on gradients: the mask is drawn again. Four channels a thread, as many as a draw gives. */
#include "kernels/divide.cuh"
#include "kernels/pack.cuh"
#include "kernels/philox.cuh"

constexpr int THREADS = 256;

/* FITS: rows begin on multiples of four elements. */
template <class T, int FITS>
__global__ void __launch_bounds__(THREADS) dropout_rows(struct k_dropout a, int64_t items, divisor fours)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= items) return;
    uint32_t r = i;
    const uint32_t block = divide_off(r, fours);
    const uint32_t sample = a.sample ? (uint32_t)a.sample[r] : r;
    const float4 u = philox_uniform4(philox_key_of(a.run->seed, a.site), block, sample, a.run->step);
    const float up = 1.0f / (1.0f - a.p), draw[4] = {u.x, u.y, u.z, u.w};
    const int64_t at = (int64_t)r * a.n + 4 * (int64_t)block, left = FITS ? 4 : a.n - 4 * (int64_t)block;
    const T *x = (const T *)a.x + at;
    T *y = (T *)a.y + at;
    if constexpr (FITS) {
        pack<4> p = pack_load<4>(x);
        for (int j = 0; j < 4; j++) p.v[j] = draw[j] >= a.p ? up * p.v[j] : 0.0f;
        pack_blend<4>(y, a.beta, p);
    } else {
        for (int j = 0; j < 4; j++)
            if (j < left) dev_blend(y + j, a.beta, draw[j] >= a.p ? up * dev_load(x + j) : 0.0f);
    }
}

template <class T> static cudaError_t run(const struct k_dropout *a, cudaStream_t s)
{
    const int64_t fours = (a->n + 3) / 4, items = a->rows * fours;
    const unsigned blocks = blocks_of(items, THREADS);
    if (!blocks) return cudaErrorInvalidValue;
    if (a->n % 4 == 0 && pack_fits<4>((const T *)a->x) && pack_fits<4>((const T *)a->y))
        return dev_launch((dropout_rows<T, 1>), blocks, THREADS, 0, s, *a, items, divisor_of(fours));
    return dev_launch((dropout_rows<T, 0>), blocks, THREADS, 0, s, *a, items, divisor_of(fours));
}

cudaError_t k_dropout(const struct k_dropout *a, cudaStream_t s)
{
    if (!a->rows || !a->n) return cudaSuccess;
    return a->dtype == K_BF16 ? run<__nv_bfloat16>(a, s) : run<float>(a, s);
}

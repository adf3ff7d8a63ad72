/* Rows of random numbers, four elements per thread. */
#include "kernels/common/divide.cuh"
#include "kernels/common/pack.cuh"
#include "kernels/common/philox.cuh"

constexpr int THREADS = 256;

template <int NORMAL, int V>
__global__ void __launch_bounds__(THREADS) rng_fill(struct k_rng a, uint32_t items, divisor fours, divisor copies)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= items) return;
    uint32_t r = i;
    const uint32_t block = divide_off(r, fours);
    float *y = a.y + (int64_t)r * a.n + 4 * (int64_t)block;
    const uint32_t copy = divide_off(r, copies);
    const uint32_t sample = a.sample ? (uint32_t)a.sample[r] : a.first + r;
    const philox_key k = philox_key_of(a.run->seed, a.site + copy);
    const float4 f =
        NORMAL ? philox_normal4(k, block, sample, a.run->step) : philox_uniform4(k, block, sample, a.run->step);
    const int64_t left = a.n - 4 * (int64_t)block;
    if (V == 4 && left >= 4) {
        dev_store4(y, f);
        return;
    }
    y[0] = f.x;
    if (left > 1) y[1] = f.y;
    if (left > 2) y[2] = f.z;
    if (left > 3) y[3] = f.w;
}

template <int NORMAL> static cudaError_t run(const struct k_rng *a, cudaStream_t s)
{
    if (!a->rows || !a->n) return cudaSuccess;
    const int64_t fours = (a->n + 3) / 4, items = a->rows * fours;
    const unsigned blocks = blocks_of(items, THREADS);
    if (!blocks) return cudaErrorInvalidValue;
    const divisor copies = divisor_of(a->copies ? a->copies : 1);
    if (pack_fits<4>(a->y) && (a->n % 4 == 0 || a->rows == 1))
        return dev_launch((rng_fill<NORMAL, 4>), blocks, THREADS, 0, s, *a, (uint32_t)items, divisor_of(fours), copies);
    return dev_launch((rng_fill<NORMAL, 1>), blocks, THREADS, 0, s, *a, (uint32_t)items, divisor_of(fours), copies);
}

cudaError_t k_rng_uniform(const struct k_rng *a, cudaStream_t s)
{
    return run<0>(a, s);
}
cudaError_t k_rng_normal(const struct k_rng *a, cudaStream_t s)
{
    return run<1>(a, s);
}

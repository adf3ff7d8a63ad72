/* Rows of random numbers, four elements a thread. */
#include "kernels/pack.cuh"
#include "kernels/philox.cuh"

constexpr int THREADS = 256;

template <int NORMAL, int V> __global__ void __launch_bounds__(THREADS) rng_fill(struct k_rng a, int64_t fours)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.rows * fours) return;
    const int64_t r = i / fours, block = i - r * fours;
    const uint32_t sample = a.sample ? (uint32_t)a.sample[r] : a.first + (uint32_t)r;
    const philox_key k = philox_key_of(a.run->seed, a.site);
    const float4 f = NORMAL ? philox_normal4(k, (uint32_t)block, sample, a.run->step)
                            : philox_uniform4(k, (uint32_t)block, sample, a.run->step);
    const int64_t left = a.n - 4 * block;
    float *y = a.y + r * a.n + 4 * block;
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
    const int64_t fours = (a->n + 3) / 4;
    const unsigned blocks = (unsigned)((a->rows * fours + THREADS - 1) / THREADS);
    if (pack_fits<4>(a->y) && (a->n % 4 == 0 || a->rows == 1))
        return dev_launch((rng_fill<NORMAL, 4>), blocks, THREADS, 0, s, *a, fours);
    return dev_launch((rng_fill<NORMAL, 1>), blocks, THREADS, 0, s, *a, fours);
}

cudaError_t k_rng_uniform(const struct k_rng *a, cudaStream_t s)
{
    return run<0>(a, s);
}
cudaError_t k_rng_normal(const struct k_rng *a, cudaStream_t s)
{
    return run<1>(a, s);
}

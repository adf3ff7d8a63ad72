/* y = beta y + x from one storage type to another. Four elements per thread, eight for bf16 to bf16. */
#include "kernels/common/kernels.h"
#include "kernels/common/pack.cuh"

constexpr int THREADS = 256;

template <class T, class U, int V>
__global__ void __launch_bounds__(THREADS) cast_each(const T *x, U *y, float beta, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= n) return;
    pack_blend<V>(y + i, beta, pack_load<V>(x + i, n - i), n - i);
}

template <class T, class U> static cudaError_t run(const struct k_cast *a, cudaStream_t s)
{
    constexpr int V = sizeof(T) == 2 && sizeof(U) == 2 ? 8 : 4;
    const T *x = (const T *)a->x;
    U *y = (U *)a->y;
    const int fits = pack_fits<V>(x) && pack_fits<V>(y);
    const int64_t per_block = THREADS * (fits ? V : 1);
    const unsigned blocks = (unsigned)((a->n + per_block - 1) / per_block);
    if (fits) return dev_launch((cast_each<T, U, V>), blocks, THREADS, 0, s, x, y, a->beta, a->n);
    return dev_launch((cast_each<T, U, 1>), blocks, THREADS, 0, s, x, y, a->beta, a->n);
}

cudaError_t k_cast(const struct k_cast *a, cudaStream_t s)
{
    if (!a->n) return cudaSuccess;
    if (a->from == K_BF16)
        return a->to == K_BF16 ? run<__nv_bfloat16, __nv_bfloat16>(a, s) : run<__nv_bfloat16, float>(a, s);
    return a->to == K_BF16 ? run<float, __nv_bfloat16>(a, s) : run<float, float>(a, s);
}

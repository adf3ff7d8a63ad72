/* SAM's positional encoding: sine and cosine of 2 pi (2 p - 1) g. The angle, in turns, is reduced in double, since it
 * may be tens of turns. One (point, frequency) per thread; a few thousand per image. */
#include "kernels/common/divide.cuh"
#include "kernels/common/kernels.h"
#include "kernels/common/sincos.cuh"

constexpr int THREADS = 256;

/* coords (n, 2), labels (n) or NULL, g (2, f), y (n, 2 f): sines, then cosines. */
static __global__ void __launch_bounds__(THREADS)
    fourier_pe_fwd(const float *coords, const int32_t *labels, const float *g, float *y, uint32_t items, divisor f)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= items) return;
    uint32_t p = i;
    const uint32_t k = divide_off(p, f);
    const double at_x = 2.0 * (double)coords[2 * p] - 1.0, at_y = 2.0 * (double)coords[2 * p + 1] - 1.0;
    const double turns = at_x * (double)g[k] + at_y * (double)g[f.d + k], rest = turns - floor(turns);
    const double q = floor(4.0 * rest + 0.5);
    const float2 sc = sincos_quarters((float)((rest - 0.25 * q) * 6.283185307179586), (int)q);
    const int none = labels && labels[p] == -1;
    y += (int64_t)p * 2 * f.d + k;
    y[0] = none ? 0.0f : sc.x;
    y[f.d] = none ? 0.0f : sc.y;
}

cudaError_t k_fourier_pe_fwd(const struct k_fourier_pe *a, cudaStream_t s)
{
    if (!a->n || !a->f) return cudaSuccess;
    const unsigned blocks = blocks_of(a->n * a->f, THREADS);
    if (!blocks) return cudaErrorInvalidValue;
    return dev_launch(fourier_pe_fwd, blocks, THREADS, 0, s, a->coords, a->labels, a->g, a->y, (uint32_t)(a->n * a->f),
                      divisor_of(a->f));
}

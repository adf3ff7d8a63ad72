/* Exact Euclidean distance transform, one axis at a time: each cell takes the minimum of f(p) + (spacing (q - p))^2
 * over its line, searching outwards until the square alone is not below the minimum found. Cells near a site stop
 * early. */
#include "kernels/common/chunks.cuh"
#include "kernels/image/masks.h"

constexpr int THREADS = 256;

/* Initial squared distance: 0 at a site, else infinity; then the previous axis's result. */
static DEV_INLINE double squared_at(const uint8_t *f, int64_t i)
{
    return f[i] ? 0.0 : (double)INFINITY;
}
static DEV_INLINE double squared_at(const double *f, int64_t i)
{
    return f[i];
}

/* Squared distances along one axis of `length` cells, `stride` apart; the last axis takes the square root. square:
 * spacing^2. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    distance_axis(const T *f, double *to, uint32_t n, divisor stride_of, divisor length_of, double square, int last)
{
    const uint32_t at = blockIdx.x * THREADS + threadIdx.x;
    if (at >= n) return;
    uint32_t line = divide(at, stride_of);
    const int q = (int)divide_off(line, length_of), length = (int)length_of.d;
    const int64_t i = at, stride = stride_of.d;
    double best = squared_at(f, i);
    for (int d = 1; d < length; d++) {
        const double step = square * d * d;
        if (step >= best) break;
        if (q - d >= 0) best = fmin(best, step + squared_at(f, i - d * stride));
        if (q + d < length) best = fmin(best, step + squared_at(f, i + d * stride));
    }
    to[i] = last ? sqrt(best) : best;
}

size_t k_distance_bytes(int nx, int ny, int nz)
{
    return (size_t)nx * (size_t)ny * (size_t)nz * sizeof(double);
}

cudaError_t k_distance_run(const struct k_distance *a, cudaStream_t s)
{
    const int length[3] = {a->nx, a->ny, a->nz};
    const int64_t n = (int64_t)a->nx * a->ny * a->nz;
    const int passes = 1 + (a->ny > 1) + (a->nz > 1);
    double *buffer[2] = {a->distance, (double *)a->workspace};
    int64_t stride = 1;
    if (!n) return cudaSuccess;
    for (int axis = 0, pass = 0; axis < 3; stride *= length[axis++]) {
        if (axis && length[axis] == 1) continue;
        double *to = buffer[(passes - 1 - pass) % 2]; /* buffers alternate; the last pass writes a->distance */
        const double *from = buffer[(passes - pass) % 2];
        const double square = a->spacing[axis] * a->spacing[axis];
        const int last = ++pass == passes;
        const divisor along = divisor_of(stride), over = divisor_of(length[axis]);
        const unsigned blocks = blocks_of(n, THREADS);
        const cudaError_t e = axis ? dev_launch(distance_axis<double>, blocks, THREADS, 0, s, from, to, (uint32_t)n,
                                                along, over, square, last)
                                   : dev_launch(distance_axis<uint8_t>, blocks, THREADS, 0, s, a->sites, to,
                                                (uint32_t)n, along, over, square, last);
        if (e != cudaSuccess) return e;
    }
    return cudaSuccess;
}

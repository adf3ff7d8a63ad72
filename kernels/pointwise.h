/* Operations by element and moves of rows: see kernels.h for what holds for all of them. */
#ifndef MCS_KERNELS_POINTWISE_H
#define MCS_KERNELS_POINTWISE_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* gelu: x, y, dy, dx (n); exact, by the error function. */
struct k_gelu {
    enum k_dtype dtype;
    int64_t n;
    const void *x, *dy;
    void *y, *dx;
    float beta;
};
cudaError_t k_gelu_fwd(const struct k_gelu *a, cudaStream_t s);
cudaError_t k_gelu_bwd(const struct k_gelu *a, cudaStream_t s);

/* cast: y = beta y + x, from one type to another, or to the same; x, y (n). */
struct k_cast {
    enum k_dtype from, to;
    int64_t n;
    const void *x;
    void *y;
    float beta;
};
cudaError_t k_cast(const struct k_cast *a, cudaStream_t s);

/* rng: y (rows, n) float: row r holds the numbers of mcs_rng_fill_uniform or mcs_rng_fill_normal (engine/rng.h) for
 * {run->seed, site, sample of the row, run->step}; sample (rows) NULL: first + r. Uniform numbers are the CPU's to the
 * bit, normal ones within 2^-21 of their radius, sqrt(-2 ln u) < 6. */
struct k_rng {
    const struct k_run *run;
    uint32_t site, first;
    const int32_t *sample;
    int64_t rows, n;
    float *y;
};
cudaError_t k_rng_uniform(const struct k_rng *a, cudaStream_t s);
cudaError_t k_rng_normal(const struct k_rng *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif

/* Elementwise ops and ops that move rows. General conventions: kernels.h. */
#ifndef MCS_KERNELS_POINTWISE_H
#define MCS_KERNELS_POINTWISE_H

#include "kernels/common/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* gelu: x, y, dy, dx (n); exact, by the error function; quick: x sigmoid(1.702 x). */
struct k_gelu {
    enum k_dtype dtype;
    int quick;
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

/* rng: y (rows, n) float: row r holds the numbers of mcs_rng_fill_uniform or mcs_rng_fill_normal (engine/base/rng.h)
 * for {run->seed, site, sample of the row, run->step}; sample (rows) NULL: first + r. copies > 1: so many consecutive
 * rows per sample, from sites site, site + 1, ...; sample is then (rows / copies); 0 means 1. Uniform numbers equal the
 * CPU's bit for bit; normal ones differ by at most 2^-21 of their radius, sqrt(-2 ln u) < 6. */
struct k_rng {
    const struct k_run *run;
    uint32_t site, first;
    const int32_t *sample;
    int64_t rows, n;
    float *y;
    int copies;
};
cudaError_t k_rng_uniform(const struct k_rng *a, cudaStream_t s);
cudaError_t k_rng_normal(const struct k_rng *a, cudaStream_t s);

/* sum_rows: y (n) = beta y + sums over the rows of x (rows, n), whose rows are `stride` elements apart, from one
 * type to another; with no rows the sum is 0. workspace: k_sum_rows_bytes, 16-byte aligned. */
struct k_sum_rows {
    enum k_dtype from, to;
    int64_t rows, n, stride;
    const void *x;
    float beta;
    void *y;
    float *workspace;
};
size_t k_sum_rows_bytes(int64_t rows, int64_t n);
cudaError_t k_sum_rows(const struct k_sum_rows *a, cudaStream_t s);

/* add: y = a + b; a, y, dy, da (n), b, db (period), b repeated n / period times. workspace: k_add_bwd_bytes, for db. */
struct k_add {
    enum k_dtype dtype;
    int64_t n, period;
    const void *a, *b, *dy;
    void *y, *da, *db;
    float beta_a, beta_b;
    float *workspace;
};
size_t k_add_bwd_bytes(int64_t n, int64_t period);
cudaError_t k_add_fwd(const struct k_add *a, cudaStream_t s);
cudaError_t k_add_bwd(const struct k_add *a, cudaStream_t s);

/* relu: x, y, dy, dx (n); the backward reads y. */
struct k_relu {
    enum k_dtype dtype;
    int64_t n;
    const void *x, *dy;
    void *y, *dx;
    float beta;
};
cudaError_t k_relu_fwd(const struct k_relu *a, cudaStream_t s);
cudaError_t k_relu_bwd(const struct k_relu *a, cudaStream_t s);

/* dropout: y = beta y + x / (1 - p) where kept; x, y (rows, n). Forward, and backward with gradients for x and y. The
 * number of channel c in a row is element c of mcs_rng_fill_uniform for {run->seed, site, sample of the row (the row
 * number where sample is NULL), run->step}; kept where it is >= p. */
struct k_dropout {
    enum k_dtype dtype;
    int64_t rows, n;
    float p;
    uint32_t site;
    const struct k_run *run;
    const int32_t *sample;
    const void *x;
    void *y;
    float beta;
};
cudaError_t k_dropout(const struct k_dropout *a, cudaStream_t s);

/* partition: an image (images, h, w, c) and its windows (images * nh * nw, win, win, c), nh = ceil(h / win). split:
 * image x to windows y, zeros outside; join: windows x to image y. Each is the other's gradient. y = beta y + ... */
struct k_partition {
    enum k_dtype dtype;
    int64_t images, h, w, c, win;
    const void *x;
    void *y;
    float beta;
};
cudaError_t k_partition_split(const struct k_partition *a, cudaStream_t s);
cudaError_t k_partition_join(const struct k_partition *a, cudaStream_t s);

/* gather: x, dx (rows, width), index (n), y, dy (n, width): row i of y is row index[i] of x, zeros for -1, NaN for any
 * other index out of range. workspace: k_gather_bwd_bytes. */
struct k_gather {
    enum k_dtype dtype;
    int64_t rows, width, n;
    const void *x, *dy;
    const int32_t *index;
    void *y, *dx;
    int32_t *workspace;
    float beta;
};
size_t k_gather_bwd_bytes(int64_t n);
cudaError_t k_gather_fwd(const struct k_gather *a, cudaStream_t s);
cudaError_t k_gather_bwd(const struct k_gather *a, cudaStream_t s);

/* concat: y, dy (rows, sum of widths); input k, of `inputs` <= 4: x[k], dx[k] (rows, width[k]), or (1, width[k]) where
 * repeated. workspace: k_concat_bwd_bytes, for repeated inputs. */
struct k_concat {
    enum k_dtype dtype;
    int inputs;
    int64_t rows, width[4];
    int repeated[4];
    const void *x[4], *dy;
    void *y, *dx[4];
    float beta[4], *workspace;
};
size_t k_concat_bwd_bytes(const struct k_concat *a);
cudaError_t k_concat_fwd(const struct k_concat *a, cudaStream_t s);
cudaError_t k_concat_bwd(const struct k_concat *a, cudaStream_t s);

/* resize: bilinear, half-pixel centres: x, dx (n, in_h, in_w, c), y, dy (n, out_h, out_w, c). */
struct k_resize {
    enum k_dtype dtype;
    int64_t n, in_h, in_w, out_h, out_w, c;
    const void *x, *dy;
    void *y, *dx;
    float beta;
};
cudaError_t k_resize_fwd(const struct k_resize *a, cudaStream_t s);
cudaError_t k_resize_bwd(const struct k_resize *a, cudaStream_t s);

/* softmax over the last axis: x, y, dy, dx (rows, n); the backward reads y. */
struct k_softmax {
    enum k_dtype dtype;
    int64_t rows;
    int n;
    const void *x, *dy;
    void *y, *dx;
    float beta;
};
cudaError_t k_softmax_fwd(const struct k_softmax *a, cudaStream_t s);
cudaError_t k_softmax_bwd(const struct k_softmax *a, cudaStream_t s);

/* fourier_pe: coords (n, 2), labels (n) or NULL, g (2, f) -> y (n, 2 f), all float: sines, then cosines, of
 * 2 pi (2 coords - 1) g; zeros for a point with label -1. */
struct k_fourier_pe {
    int64_t n, f;
    const float *coords, *g;
    const int32_t *labels;
    float *y;
};
cudaError_t k_fourier_pe_fwd(const struct k_fourier_pe *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif

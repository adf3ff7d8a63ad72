/* Comparison of two gradients of one batch that were computed in different ways. */
#ifndef MCS_SUPPORT_GRADIENT_H
#define MCS_SUPPORT_GRADIENT_H

#include <math.h>
#include <stdint.h>

/* The largest difference of the gradients a and b, in units of the estimated rounding error: they agree where it is at
 * most 1. n: a multiple of 16. Both gradients are sums of the same terms in
 * different order: matrix products may be blocked differently for other batch sizes, and sums over the batch are split
 * by rank. A gradient is the result of fewer than `depth` operations, forward and backward, each a sum of about `width`
 * terms, whose rounding is a random walk of sqrt(width) u times the terms' size; the errors of the operations are added
 * with one sign. The terms' size is estimated by the largest gradient of the tensor, or, if the terms cancel (the
 * gradient of a bias before a norm is only rounding), by `cancel` times the largest gradient of all. */
static inline double gradient_error(const float *a, const float *b, int64_t n)
{
    const double u = ldexp(1, -24), depth = 64, width = 288, cancel = 0.1;
    double most = 0, off = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(a[i]) || !isfinite(b[i])) return INFINITY; /* fmax ignores NaN */
        most = fmax(most, fabs((double)a[i]));
    }
    for (int64_t i = 0; i < n; i += 16) { /* a tensor is one or more blocks of 16, each with its scale */
        double size = cancel * most;
        for (int64_t k = i; k < i + 16; k++) size = fmax(size, fabs((double)a[k]));
        for (int64_t k = i; k < i + 16; k++)
            off = fmax(off, fabs((double)a[k] - b[k]) / (depth * sqrt(width) * u * size));
    }
    return off;
}

#endif

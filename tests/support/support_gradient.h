/* Comparison of two gradients of one batch that were computed in different ways. */
#ifndef MCS_SUPPORT_GRADIENT_H
#define MCS_SUPPORT_GRADIENT_H

#include <math.h>
#include <stdint.h>

/* The largest difference in units of what rounding may make of it. Both gradients are sums of the same terms, rounded
 * along other ways: products of other batch sizes may be blocked otherwise, sums over the batch are split by rank. A
 * gradient has passed fewer than DEPTH steps, forward and backward, each a sum of about WIDTH terms, whose rounding is
 * a random walk of sqrt(WIDTH) U of the terms' size; the steps' errors are added up as if all had one sign. The terms'
 * size is the largest gradient of the tensor, or, where the terms cancel (a bias before a norm has none but rounding),
 * CANCEL of the largest of all. */
static inline double worst(const float *a, const float *b, int64_t n)
{
    const double u = ldexp(1, -24), depth = 64, width = 288, cancel = 0.1;
    double most = 0, off = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(a[i]) || !isfinite(b[i])) return INFINITY; /* fmax would pass over a NaN */
        most = fmax(most, fabs((double)a[i]));
    }
    for (int64_t i = 0; i < n; i += 16) { /* a tensor is at least one such piece: a finer scale than its own */
        double size = cancel * most;
        for (int64_t k = i; k < i + 16; k++) size = fmax(size, fabs((double)a[k]));
        for (int64_t k = i; k < i + 16; k++)
            off = fmax(off, fabs((double)a[k] - b[k]) / (depth * sqrt(width) * u * size));
    }
    return off;
}

#endif

/* Summary statistics: mean with interval, rank correlation, area under the ROC curve. All sums run in a fixed order in
 * double. */
#ifndef MCS_STATISTICS_H
#define MCS_STATISTICS_H

#include "engine/base/status.h"

#include <stdint.h>

/* Mean of the finite values and its 95 % interval by Student's t (mean -+ t(0.975, n - 1) s / sqrt n). Values that are
 * not finite are left out and counted. n 0: all NaN; n 1: sd, lo and hi are NaN. */
struct mean_interval {
    int64_t n, n_left_out;
    double mean, sd, lo, hi;
};
struct mean_interval mcs_mean_interval(const double *values, int64_t n);
/* t with P(T <= t) = p for `df` > 0 degrees of freedom, 0 < p < 1. */
double mcs_student_quantile(double p, double df);
/* Two-sided p of the paired t-test over pairs where both are finite (*n_pairs, may be NULL). NaN below two pairs; where
 * all differences are the same, 1 if they are 0 and else 0. */
double mcs_paired_t_test(const double *a, const double *b, int64_t n, int64_t *n_pairs);

/* Spearman's rank correlation, ties at their mean rank, infinities ranked first and last; pairs with a NaN are left
 * out. NaN below two pairs or where one side is constant. E_NOMEM. */
enum mcs_status mcs_spearman(const double *x, const double *y, int64_t n, double *rho);

/* Area under the ROC curve of `scores` for labels not 0: the share of (positive, negative) pairs in which the positive
 * scores higher, ties one half. NaN where one kind is missing. Scores must not be NaN (E_DATA). n < 2^31. E_NOMEM. */
enum mcs_status mcs_auroc(const float *scores, const uint8_t *labels, int64_t n, double *auroc);

#endif

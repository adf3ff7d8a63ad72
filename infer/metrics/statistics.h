/* Summary statistics: mean with interval, rank correlation, area under the ROC curve. All sums are in double and in a
 * fixed order. */
#ifndef MCS_STATISTICS_H
#define MCS_STATISTICS_H

#include "engine/base/status.h"

#include <stdint.h>

/* Mean of the finite values and its 95 % interval by Student's t (mean -+ t(0.975, n - 1) sd / sqrt(n)). Values that
 * are not finite are left out and counted. n 0: all NaN; n 1: sd, lo and hi are NaN. */
struct mean_interval {
    int64_t n, n_left_out;
    double mean, sd, lo, hi;
};
struct mean_interval mcs_mean_interval(const double *values, int64_t n);
/* t with P(T <= t) = p for `df` > 0 degrees of freedom, 0 < p < 1. */
double mcs_student_quantile(double p, double df);
/* Two-sided p of the paired t-test over pairs in which both values are finite (*n_pairs, may be NULL). NaN below two
 * pairs; if all differences are equal, 1 if they are 0, else 0. */
double mcs_paired_t_test(const double *a, const double *b, int64_t n, int64_t *n_pairs);

/* Spearman's rank correlation; ties get their mean rank, infinities are ranked first and last, pairs with a NaN are
 * left out. NaN below two pairs or if x or y is constant. E_NOMEM. */
enum mcs_status mcs_spearman(const double *x, const double *y, int64_t n, double *rho);

/* Area under the ROC curve of `scores`, nonzero labels being positive: the share of (positive, negative) pairs in which
 * the positive scores higher, ties count one half. NaN if there are no positives or no negatives. Scores must not be
 * NaN (E_DATA). n < 2^31. E_NOMEM. */
enum mcs_status mcs_auroc(const float *scores, const uint8_t *labels, int64_t n, double *auroc);

#endif

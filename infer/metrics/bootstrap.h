/* Intervals by the percentile bootstrap (Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13):
 * cases are drawn with replacement, the statistic is computed of each draw, and the interval lies between the 2.5 and
 * 97.5 percentiles of the draws. An interval of a mean lies within the range of the values, so one of Dice scores never
 * leaves 0..1.
 *
 * Draw b of n cases takes the same cases for every statistic (a function of seed, b and n), so figures of the same
 * cases have comparable intervals. The cost is draws * n random numbers; 10,000 cases take less than a second. */
#ifndef MCS_BOOTSTRAP_H
#define MCS_BOOTSTRAP_H

#include "engine/base/status.h"

#include <stdint.h>

enum { MCS_BOOTSTRAP_DRAWS = 2000 };

/* n: cases used; n_left_out: cases that are not finite. One case: value without lo and hi (NaN); none: all NaN. */
struct bootstrap_interval {
    int64_t n, n_left_out;
    double value, lo, hi; /* the statistic of all cases; its 95 % interval */
};

/* Mean of the finite values. n < 2^31. E_SHAPE, E_NOMEM. */
enum mcs_status mcs_bootstrap_mean(const double *values, int64_t n, uint64_t seed, struct bootstrap_interval *interval);
/* Mean of a[i] - b[i] over the cases where both are finite: a paired comparison, in which both come from the same
 * drawn cases. */
enum mcs_status mcs_bootstrap_difference(const double *a, const double *b, int64_t n, uint64_t seed,
                                         struct bootstrap_interval *interval);
/* Area under the ROC curve of finite scores: the share of (positive, negative) pairs in which the positive scores
 * higher, ties count one half. Positives and negatives are drawn separately, so that no draw lacks one of them. Lo and
 * hi are NaN below two positives or two negatives, all is NaN without one of them. */
enum mcs_status mcs_bootstrap_auroc(const double *positive, int64_t n_positive, const double *negative,
                                    int64_t n_negative, uint64_t seed, struct bootstrap_interval *interval);

#endif

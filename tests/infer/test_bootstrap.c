/* Bootstrap intervals against the exact distribution of all resamples of few cases, and against closed forms. */
#include "infer/metrics/bootstrap.h"

#include "engine/base/rng.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Percentile p of the means of all n^n resamples: the least mean whose cumulative share exceeds p. *gap: the distance
 * of p to the nearest step of the cumulative share, which decides how surely 2,000 draws find the same value. */
static double exact_percentile(const double *v, int n, double p, double *gap)
{
    static double mean[3125];
    int all = 1, i;
    for (i = 0; i < n; i++) all *= n;
    for (i = 0; i < all; i++) {
        double sum = 0;
        for (int k = 0, rest = i; k < n; k++, rest /= n) sum += v[rest % n];
        mean[i] = sum / n;
    }
    qsort(mean, (size_t)all, sizeof *mean, by_value);
    const double found = mean[(int)(p * all)];
    int first = (int)(p * all), last = first;
    while (first > 0 && mean[first - 1] > found - 1e-9) first--;
    while (last < all && mean[last] < found + 1e-9) last++;
    *gap = fmin(p - (double)first / all, (double)last / all - p);
    return found;
}

/* The means of five values take few distinct values. The cumulative share at 0.025 and 0.975 is `gap` from its next
 * step; a share of 2,000 draws has a standard deviation of 0.0035, so the drawn percentile is the same where the gap is
 * more than three of them. */
Test(bootstrap, mean_against_all_resamples)
{
    static const double v[5] = {0, 0, 0, 1, 1};
    double gap_lo, gap_hi;
    const double lo = exact_percentile(v, 5, 0.025, &gap_lo), hi = exact_percentile(v, 5, 0.975, &gap_hi);
    cr_assert(gap_lo > 3 * 0.0035 && gap_hi > 3 * 0.0035, "gaps %g and %g", gap_lo, gap_hi);
    for (uint64_t seed = 0; seed < 5; seed++) {
        struct bootstrap_interval r;
        cr_assert_eq(mcs_bootstrap_mean(v, 5, seed, &r), MCS_OK);
        cr_expect(r.n == 5 && r.n_left_out == 0);
        cr_expect_float_eq(r.value, 0.4, DBL_EPSILON);
        cr_expect_float_eq(r.lo, lo, 4 * DBL_EPSILON, "seed %d: %g, want %g", (int)seed, r.lo, lo);
        cr_expect_float_eq(r.hi, hi, 4 * DBL_EPSILON, "seed %d: %g, want %g", (int)seed, r.hi, hi);
    }
}

/* Of many values, the interval is nearly the normal one: mean -+ 1.96 sd / sqrt(n), sd with divisor n. The limits are
 * percentiles of 2,000 draws, whose own standard deviation is sqrt(p (1 - p) / 2000) / density = 0.06 of the standard
 * error; 4 of them are the tolerance. 5 and 95 would be 0.31 away. */
Test(bootstrap, many_values_have_the_normal_interval)
{
    enum { N = 400 };
    static double v[N];
    double mean = 0, sq = 0;
    for (int i = 0; i < N; i++) {
        v[i] = mcs_rng_normal((struct mcs_rng){.seed = 3, .site = 7}, (uint32_t)i);
        mean += v[i] / N;
    }
    for (int i = 0; i < N; i++) sq += (v[i] - mean) * (v[i] - mean) / N;
    const double error = sqrt(sq / N);
    struct bootstrap_interval r;
    cr_assert_eq(mcs_bootstrap_mean(v, N, 1, &r), MCS_OK);
    cr_expect_float_eq(r.lo, mean - 1.96 * error, 0.25 * error);
    cr_expect_float_eq(r.hi, mean + 1.96 * error, 0.25 * error);
}

/* Scores near the upper end: Student's interval would pass 1. Seeds change the limits, the same seed repeats them. */
Test(bootstrap, stays_within_the_values)
{
    static const double v[] = {1, 1, 0.98, 1, 0.1, 1, 1, 1}, same[] = {0.1, 0.1, 0.1};
    struct bootstrap_interval r, again, other;
    cr_assert_eq(mcs_bootstrap_mean(v, 8, 1, &r), MCS_OK);
    cr_expect(r.lo >= 0.1 && r.lo < r.value && r.value < r.hi && r.hi <= 1);
    cr_assert_eq(mcs_bootstrap_mean(v, 8, 1, &again), MCS_OK);
    cr_expect(r.lo == again.lo && r.hi == again.hi);
    static double many[101];
    for (int i = 0; i < 101; i++) many[i] = mcs_rng_uniform((struct mcs_rng){.seed = 1}, (uint32_t)i);
    cr_assert_eq(mcs_bootstrap_mean(many, 101, 1, &again), MCS_OK);
    cr_assert_eq(mcs_bootstrap_mean(many, 101, 2, &other), MCS_OK);
    cr_expect(again.lo != other.lo, "another seed draws other cases");
    cr_assert_eq(mcs_bootstrap_mean(same, 3, 1, &r), MCS_OK);
    cr_expect(r.value == 0.1 && r.lo == 0.1 && r.hi == 0.1, "%.17g %.17g %.17g", r.value, r.lo, r.hi);
}

Test(bootstrap, values_that_are_not_finite_are_left_out)
{
    static const double v[] = {NAN, 0.5, INFINITY, 0.7, -INFINITY}, w[] = {0.5, 0.7};
    struct bootstrap_interval r, clean;
    cr_assert_eq(mcs_bootstrap_mean(v, 5, 4, &r), MCS_OK);
    cr_assert_eq(mcs_bootstrap_mean(w, 2, 4, &clean), MCS_OK);
    cr_expect(r.n == 2 && r.n_left_out == 3 && r.value == clean.value && r.lo == clean.lo && r.hi == clean.hi);
    cr_assert_eq(mcs_bootstrap_mean(v, 2, 4, &r), MCS_OK);
    cr_expect(r.n == 1 && r.n_left_out == 1 && r.value == 0.5 && isnan(r.lo) && isnan(r.hi));
    cr_assert_eq(mcs_bootstrap_mean(v, 1, 4, &r), MCS_OK);
    cr_expect(r.n == 0 && r.n_left_out == 1 && isnan(r.value) && isnan(r.lo) && isnan(r.hi));
    cr_assert_eq(mcs_bootstrap_mean(v, 0, 4, &r), MCS_OK);
    cr_expect(r.n == 0 && r.n_left_out == 0 && isnan(r.value));
    cr_expect_eq(mcs_bootstrap_mean(v, (int64_t)1 << 31, 4, &r), MCS_E_SHAPE);
    mcs_error_clear();
}

/* Paired: a constant advantage has no spread, however much the images differ. */
Test(bootstrap, difference_is_paired)
{
    static const double a[] = {0.25, 0.5, 1, 0.75, NAN, 0.5}, b[] = {0, 0.25, 0.75, 0.5, 0.5, NAN};
    struct bootstrap_interval r, d;
    cr_assert_eq(mcs_bootstrap_difference(a, b, 6, 1, &r), MCS_OK);
    cr_expect(r.n == 4 && r.n_left_out == 2 && r.value == 0.25 && r.lo == 0.25 && r.hi == 0.25);
    static const double c[] = {0.5, 0, 0.25, 1}, minus[] = {-0.25, 0.5, 0.75, -0.25};
    cr_assert_eq(mcs_bootstrap_difference(a, c, 4, 1, &r), MCS_OK);
    cr_assert_eq(mcs_bootstrap_mean(minus, 4, 1, &d), MCS_OK);
    cr_expect(r.value == d.value && r.lo == d.lo && r.hi == d.hi);
}

/* Two positives and two negatives: 4 x 4 draws. With scores {1, 3} against {0, 2} the area of a draw is the mean over
 * its pairs; of the 16 draws, (1,1) against (2,2) has 0: a share of 1/16 > 0.025. The highest is 1, by far more. */
Test(bootstrap, auroc_against_all_resamples)
{
    static const double p[] = {3, 1}, q[] = {2, 0}, tie[] = {1, 1, 1};
    struct bootstrap_interval r;
    cr_assert_eq(mcs_bootstrap_auroc(p, 2, q, 2, 1, &r), MCS_OK);
    cr_expect(r.n == 4 && r.value == 0.75 && r.lo == 0 && r.hi == 1, "%g [%g, %g]", r.value, r.lo, r.hi);
    cr_assert_eq(mcs_bootstrap_auroc(tie, 3, tie, 3, 1, &r), MCS_OK);
    cr_expect(r.value == 0.5 && r.lo == 0.5 && r.hi == 0.5);
    cr_assert_eq(mcs_bootstrap_auroc(q, 2, (const double[]){5, 6}, 2, 1, &r), MCS_OK);
    cr_expect(r.value == 0 && r.lo == 0 && r.hi == 0);
    cr_assert_eq(mcs_bootstrap_auroc(p, 1, q, 2, 1, &r), MCS_OK);
    cr_expect(r.value == 1 && isnan(r.lo) && isnan(r.hi));
    cr_assert_eq(mcs_bootstrap_auroc(p, 2, q, 0, 1, &r), MCS_OK);
    cr_expect(r.n == 2 && isnan(r.value) && isnan(r.lo));
    cr_expect_eq(mcs_bootstrap_auroc(p, 2, (const double[]){NAN}, 1, 1, &r), MCS_E_DATA);
    mcs_error_clear();
}

/* 60 positives of N(1,1) and 40 negatives of N(0,1) against plain counting of pairs, and DeLong's standard error. */
Test(bootstrap, auroc_of_many_scores)
{
    enum { P = 60, Q = 40 };
    double p[P], q[Q], vp[P] = {0}, vq[Q] = {0}, auroc = 0, sp = 0, sq = 0;
    for (int i = 0; i < P; i++) p[i] = 1 + mcs_rng_normal((struct mcs_rng){.seed = 5, .site = 1}, (uint32_t)i);
    for (int i = 0; i < Q; i++) q[i] = mcs_rng_normal((struct mcs_rng){.seed = 5, .site = 2}, (uint32_t)i);
    for (int i = 0; i < P; i++)
        for (int k = 0; k < Q; k++) {
            const double won = p[i] > q[k];
            vp[i] += won / Q;
            vq[k] += won / P;
            auroc += won / (P * Q);
        }
    for (int i = 0; i < P; i++) sp += (vp[i] - auroc) * (vp[i] - auroc) / (P - 1);
    for (int k = 0; k < Q; k++) sq += (vq[k] - auroc) * (vq[k] - auroc) / (Q - 1);
    const double error = sqrt(sp / P + sq / Q);
    struct bootstrap_interval r;
    cr_assert_eq(mcs_bootstrap_auroc(p, P, q, Q, 1, &r), MCS_OK);
    cr_expect_float_eq(r.value, auroc, 1e-12); /* P Q terms of 1 / (P Q), each rounded */
    /* as above 0.25 of the standard error for the draws, and as much for skewness near the upper end */
    cr_expect_float_eq(r.lo, auroc - 1.96 * error, 0.5 * error);
    cr_expect_float_eq(r.hi, auroc + 1.96 * error, 0.5 * error);
}

/* Means with intervals, the t distribution, rank correlation and AUROC: against closed forms and counted pairs. */
#include "infer/metrics/statistics.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdint.h>

/* P(T <= t) in closed form for 1, 2, 3, 4 and 5 degrees of freedom. */
static double cumulative(double t, int df)
{
    const double u = t / sqrt(df), v = 1 + t * t / df;
    switch (df) {
    case 1: return 0.5 + atan(t) / M_PI;
    case 2: return 0.5 + t / (2 * sqrt(2) * sqrt(v));
    case 3: return 0.5 + (u / v + atan(u)) / M_PI;
    case 4: return 0.5 + 3.0 / 8 * t / sqrt(v) * (1 - t * t / v / 12);
    default: return 0.5 + (u / v * (1 + 2 / (3 * v)) + atan(u)) / M_PI;
    }
}

/* The closed form at the quantile gives p. The incomplete beta function has an error of some tens of roundings, and its
 * argument df / (df + t^2) is rounded: an error of eps in it changes t by eps df / t. */
Test(statistics_exact, quantiles_against_closed_forms)
{
    static const double ps[] = {0.5001, 0.51, 0.6, 0.75, 0.9, 0.95, 0.975, 0.999, 0.99999, 0.2, 0.01};
    for (int df = 1; df <= 5; df++)
        for (size_t i = 0; i < sizeof ps / sizeof *ps; i++) {
            const double t = mcs_student_quantile(ps[i], df);
            cr_expect_float_eq(cumulative(t, df), ps[i], DBL_EPSILON * (200 + df / fabs(t)),
                               "p %g, df %d: t %.17g gives %.17g", ps[i], df, t, cumulative(t, df));
        }
    cr_expect_eq(mcs_student_quantile(0.5, 3), 0.0);
    cr_expect_float_eq(mcs_student_quantile(0.975, 1e6), 1.9599664, 5e-6, "nearly the normal distribution");
    const double far = 0.9999999999; /* a far tail: t is nearly 1 / (pi (1 - p)) */
    cr_expect_float_eq(M_PI * (1 - far) * mcs_student_quantile(far, 1), 1.0, 1e-12);
}

Test(statistics_exact, mean_with_its_interval)
{
    const double v[] = {1, 2, NAN, 4, 9, -INFINITY};
    struct mean_interval m = mcs_mean_interval(v, 6);
    cr_expect(m.n == 4 && m.n_left_out == 2 && m.mean == 4);
    cr_expect_float_eq(m.sd, sqrt(38.0 / 3), 1e-14); /* squares 9, 4, 0, 25 */
    cr_expect_float_eq(m.hi, 4 + 3.182446305284263 * sqrt(38.0 / 12), 1e-12);
    cr_expect_float_eq(m.lo, 4 - 3.182446305284263 * sqrt(38.0 / 12), 1e-12);
    m = mcs_mean_interval(v, 2);
    cr_expect(m.n == 2 && m.n_left_out == 0 && m.mean == 1.5);
    cr_expect_float_eq(m.sd, sqrt(0.5), 1e-15);
    cr_expect_float_eq(m.hi - m.mean, 12.706204736174705 * 0.5, 1e-11);
    m = mcs_mean_interval(v + 3, 1);
    cr_expect(m.n == 1 && m.mean == 4 && isnan(m.sd) && isnan(m.lo) && isnan(m.hi));
    m = mcs_mean_interval(v + 2, 1);
    cr_expect(m.n == 0 && m.n_left_out == 1 && isnan(m.mean) && isnan(m.sd) && isnan(m.lo) && isnan(m.hi));
}

Test(statistics_exact, paired_t_test)
{
    /* differences 3, 1, 5 of the finite pairs: mean 3, s^2 4, t = 3 / sqrt(4/3), df 2 */
    const double a[] = {4, NAN, 2, 7, 1, INFINITY}, b[] = {1, 1, 1, 2, NAN, 0};
    int64_t n = -1;
    double p = mcs_paired_t_test(a, b, 6, &n);
    cr_expect_eq(n, 3);
    cr_expect_float_eq(p, 2 * (1 - cumulative(3 / sqrt(4.0 / 3), 2)), 1e-13, "%.17g", p);
    cr_expect_float_eq(mcs_paired_t_test(b, a, 6, NULL), p, 1e-15, "the sign does not matter");
    const double three[] = {3, 4, 5}, two[] = {2, 3, 4};
    cr_expect_eq(mcs_paired_t_test(three, two, 3, NULL), 0.0, "all differ by the same");
    cr_expect_eq(mcs_paired_t_test(three, three, 3, NULL), 1.0);
    cr_expect(isnan(mcs_paired_t_test(a, b, 2, &n)));
    cr_expect_eq(n, 1);
    cr_expect(!isnan(mcs_paired_t_test(three, two, 2, &n)));
    cr_expect_eq(n, 2);
}

static double spearman(const double *x, const double *y, int64_t n)
{
    double rho = -9;
    cr_assert_eq(mcs_spearman(x, y, n, &rho), MCS_OK);
    return rho;
}

/* The rank of a value: 1 + number of smaller values + half the number of other equal values. */
static double plain_spearman(const double *x, const double *y, int n)
{
    double sx = 0, sy = 0, sxx = 0, syy = 0, sxy = 0;
    int m = 0;
    for (int i = 0; i < n; i++) {
        if (isnan(x[i]) || isnan(y[i])) continue;
        double rx = 1, ry = 1;
        for (int j = 0; j < n; j++) {
            if (j == i || isnan(x[j]) || isnan(y[j])) continue;
            rx += x[j] < x[i] ? 1 : x[j] == x[i] ? 0.5 : 0;
            ry += y[j] < y[i] ? 1 : y[j] == y[i] ? 0.5 : 0;
        }
        sx += rx, sy += ry, sxx += rx * rx, syy += ry * ry, sxy += rx * ry;
        m++;
    }
    return (sxy - sx * sy / m) / sqrt((sxx - sx * sx / m) * (syy - sy * sy / m));
}

Test(statistics_exact, rank_correlation)
{
    const double x[] = {3, 1, 4, 1, 5, NAN, 9, 2, 6, 5, 3, INFINITY}, y[] = {2, 7, 1, 8, 2, 8, NAN, 8, 1, 8, 2, 8};
    for (int n = 3; n <= 12; n++) {
        const double want = plain_spearman(x, y, n);
        cr_expect_float_eq(spearman(x, y, n), want, 1e-13, "%d: %g", n, want);
        cr_expect_float_eq(spearman(y, x, n), want, 1e-13);
    }
    const double one[] = {1, 1, 1}, rising[] = {1, 2, 3}, gap[] = {NAN, 1, NAN};
    cr_expect(isnan(spearman(one, rising, 3)), "the first is constant");
    cr_expect(isnan(spearman(rising, one, 3)), "the second is constant");
    cr_expect(isnan(spearman(one, one, 3)));
    cr_expect(isnan(spearman(rising, gap, 3)), "one pair is left");
    cr_expect(isnan(spearman(rising, rising, 1)) && isnan(spearman(rising, rising, 0)));
    cr_expect_float_eq(spearman(rising, rising, 2), 1.0, 1e-15);
}

static double auroc(const float *scores, const uint8_t *labels, int64_t n)
{
    double a = -9;
    cr_assert_eq(mcs_auroc(scores, labels, n, &a), MCS_OK);
    return a;
}

/* Scores that differ in each digit of the radix sort, of both signs, with infinities and both zeros. */
Test(statistics_exact, auroc_of_every_size_of_score)
{
    static const float s[] = {0.0f,
                              -0.0f,
                              1.0f,
                              1.0f + FLT_EPSILON,
                              1.0f - FLT_EPSILON / 2,
                              -1.0f,
                              -1.0f - FLT_EPSILON,
                              INFINITY,
                              -INFINITY,
                              FLT_MAX,
                              -FLT_MAX,
                              FLT_MIN,
                              -FLT_MIN,
                              1e-45f,
                              -1e-45f,
                              0x1p-10f,
                              0x1.001p0f,
                              0x1.01p3f,
                              -0x1.8p11f,
                              0x1.004p-5f,
                              2.0f,
                              1024.0f,
                              1025.0f,
                              -2.0f,
                              3.0f,
                              0x1p64f,
                              -0x1p64f,
                              0x1p-64f};
    enum { N = sizeof s / sizeof *s };
    for (unsigned pattern = 1; pattern < 4000; pattern = pattern * 3 + 1) {
        uint8_t labels[N];
        double won = 0, pairs = 0;
        for (int i = 0; i < N; i++) labels[i] = (pattern * 2654435761u >> (i % 29)) & 1 ? (uint8_t)(i + 1) : 0;
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                if (labels[i] && !labels[j]) pairs++, won += s[i] > s[j] ? 1 : s[i] == s[j] ? 0.5 : 0;
        cr_assert(pairs > 0);
        cr_expect_eq(auroc(s, labels, N), won / pairs, "pattern %u", pattern);
    }
}

Test(statistics_exact, auroc_of_one_kind_and_bad_scores)
{
    const float s[] = {1, 2, NAN}, t[] = {NAN, 1};
    const uint8_t none[] = {0, 0, 0}, all[] = {1, 2, 3}, both[] = {0, 7, 1};
    double a;
    cr_expect(isnan(auroc(s, none, 2)) && isnan(auroc(s, all, 2)) && isnan(auroc(s, both, 0)));
    cr_expect_eq(auroc(s, both, 2), 1.0);
    cr_expect_eq(mcs_auroc(s, both, 3, &a), MCS_E_DATA);
    cr_expect(isnan(a));
    mcs_error_clear();
    cr_expect_eq(mcs_auroc(t, both, 2, &a), MCS_E_DATA);
    mcs_error_clear();
    cr_expect_eq(mcs_auroc(s, both, INT32_MAX, &a), MCS_E_SHAPE);
    mcs_error_clear();
}

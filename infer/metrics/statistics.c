#include "infer/metrics/statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Student's t ---- */

/* Continued fraction of the incomplete beta function (modified Lentz), converging for x < (a + 1) / (a + b + 2). */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1.0, d = 1.0 - (a + b) * x / (a + 1.0);
    d = 1.0 / (fabs(d) < tiny ? tiny : d);
    double f = d;
    for (int m = 1; m < 500; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d = 1.0 + even * d;
        c = 1.0 + even / c;
        d = 1.0 / (fabs(d) < tiny ? tiny : d);
        if (fabs(c) < tiny) c = tiny;
        f *= c * d;
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1.0 + odd * d;
        c = 1.0 + odd / c;
        d = 1.0 / (fabs(d) < tiny ? tiny : d);
        if (fabs(c) < tiny) c = tiny;
        f *= c * d;
        if (fabs(c * d - 1.0) < 1e-15) break;
    }
    return f;
}

/* Regularised incomplete beta function I_x(a, b). */
static double beta_regularised(double a, double b, double x)
{
    if (x <= 0.0) return 0.0;
    if (x >= 1.0) return 1.0;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1.0) / (a + b + 2.0)) return front * beta_fraction(a, b, x) / a;
    return 1.0 - front * beta_fraction(b, a, 1.0 - x) / b;
}

/* P(|T| > t). */
static double student_two_sided(double t, double df)
{
    return beta_regularised(0.5 * df, 0.5, df / (df + t * t));
}

double mcs_student_quantile(double p, double df)
{
    if (p == 0.5) return 0.0;
    if (p < 0.5) return -mcs_student_quantile(1.0 - p, df);
    double lo = 0.0, hi = 1.0;
    while (student_two_sided(hi, df) > 2.0 * (1.0 - p) && hi < 1e300) hi *= 2.0;
    for (int i = 0; i < 200 && hi - lo > 1e-14 * hi; i++) {
        double mid = 0.5 * (lo + hi);
        if (student_two_sided(mid, df) > 2.0 * (1.0 - p))
            lo = mid;
        else
            hi = mid;
    }
    return 0.5 * (lo + hi);
}

struct mean_interval mcs_mean_interval(const double *values, int64_t n)
{
    struct mean_interval m = {.mean = NAN, .sd = NAN, .lo = NAN, .hi = NAN};
    double sum = 0.0, sq = 0.0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(values[i])) {
            m.n_left_out++;
            continue;
        }
        m.n++;
        sum += values[i];
    }
    if (!m.n) return m;
    m.mean = sum / (double)m.n;
    if (m.n < 2) return m;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(values[i])) sq += (values[i] - m.mean) * (values[i] - m.mean);
    m.sd = sqrt(sq / (double)(m.n - 1));
    double half = mcs_student_quantile(0.975, (double)(m.n - 1)) * m.sd / sqrt((double)m.n);
    m.lo = m.mean - half;
    m.hi = m.mean + half;
    return m;
}

double mcs_paired_t_test(const double *a, const double *b, int64_t n, int64_t *n_pairs)
{
    double sum = 0.0, sq = 0.0;
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(a[i]) && isfinite(b[i])) {
            sum += a[i] - b[i];
            k++;
        }
    if (n_pairs) *n_pairs = k;
    if (k < 2) return NAN;
    double mean = sum / (double)k;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(a[i]) && isfinite(b[i])) sq += (a[i] - b[i] - mean) * (a[i] - b[i] - mean);
    double se = sqrt(sq / (double)(k - 1) / (double)k);
    if (se == 0.0) return mean == 0.0;
    return student_two_sided(fabs(mean) / se, (double)(k - 1));
}

/* ---- ranks ---- */

struct ranked {
    double value;
    int64_t index;
};

static int by_value(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static void mean_ranks(struct ranked *r, int64_t n, double *rank)
{
    qsort(r, (size_t)n, sizeof *r, by_value);
    for (int64_t i = 0; i < n;) {
        int64_t j = i;
        while (j < n && r[j].value == r[i].value) j++;
        for (int64_t k = i; k < j; k++) rank[r[k].index] = 0.5 * (double)(i + 1 + j);
        i = j;
    }
}

enum mcs_status mcs_spearman(const double *x, const double *y, int64_t n, double *rho)
{
    *rho = NAN;
    enum mcs_status st = MCS_OK;
    struct ranked *rx = malloc(((size_t)n + 1) * sizeof *rx), *ry = malloc(((size_t)n + 1) * sizeof *ry);
    double *kx = malloc(((size_t)n + 1) * sizeof *kx), *ky = malloc(((size_t)n + 1) * sizeof *ky);
    MCS_REQUIRE_GOTO(rx && ry && kx && ky, MCS_E_NOMEM, st, done, "no memory for %lld ranks", (long long)n);
    int64_t m = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(x[i]) || isnan(y[i])) continue;
        rx[m] = (struct ranked){x[i], m};
        ry[m] = (struct ranked){y[i], m};
        m++;
    }
    mean_ranks(rx, m, kx);
    mean_ranks(ry, m, ky);
    double mean = 0.5 * (double)(m + 1), sxy = 0.0, sxx = 0.0, syy = 0.0;
    for (int64_t i = 0; i < m; i++) {
        sxy += (kx[i] - mean) * (ky[i] - mean);
        sxx += (kx[i] - mean) * (kx[i] - mean);
        syy += (ky[i] - mean) * (ky[i] - mean);
    }
    if (sxx > 0.0 && syy > 0.0) *rho = sxy / sqrt(sxx * syy);
done:
    free(rx);
    free(ry);
    free(kx);
    free(ky);
    return st;
}

/* ---- area under the curve ---- */

/* A float as an unsigned integer with the same ordering; -0 equals 0. */
static uint32_t order_bits(float v)
{
    uint32_t u;
    if (v == 0.0f) v = 0.0f;
    memcpy(&u, &v, sizeof u);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* Radix sort of n keys by bits 1..32 in three passes of 11 bits; the sorted keys end up in `spare`. Bit 0 is the
 * label. */
static void sort_keys(uint64_t *keys, uint64_t *spare, int64_t n)
{
    for (int pass = 0; pass < 3; pass++) {
        int64_t start[2049] = {0};
        int shift = 1 + 11 * pass;
        for (int64_t i = 0; i < n; i++) start[((keys[i] >> shift) & 2047) + 1]++;
        for (int b = 0; b < 2048; b++) start[b + 1] += start[b];
        for (int64_t i = 0; i < n; i++) spare[start[(keys[i] >> shift) & 2047]++] = keys[i];
        uint64_t *t = keys;
        keys = spare;
        spare = t;
    }
}

enum mcs_status mcs_auroc(const float *scores, const uint8_t *labels, int64_t n, double *auroc)
{
    *auroc = NAN;
    MCS_REQUIRE(n < INT32_MAX, MCS_E_SHAPE, "%lld scores: want fewer than 2^31", (long long)n);
    enum mcs_status st = MCS_OK;
    uint64_t *keys = malloc(((size_t)n + 1) * sizeof *keys), *sorted = malloc(((size_t)n + 1) * sizeof *sorted);
    MCS_REQUIRE_GOTO(keys && sorted, MCS_E_NOMEM, st, done, "no memory to sort %lld scores", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        MCS_REQUIRE_GOTO(!isnan(scores[i]), MCS_E_DATA, st, done, "score %lld is NaN", (long long)i);
        keys[i] = (uint64_t)order_bits(scores[i]) << 1 | (labels[i] != 0);
    }
    sort_keys(keys, sorted, n);
    /* won: twice the number of (positive, negative) pairs in which the positive scores higher, plus the number of ties;
     * exact, below 2^62. */
    int64_t won = 0, n_neg = 0, n_pos = 0;
    for (int64_t i = 0; i < n;) {
        int64_t pos = 0, neg = 0, j = i;
        for (; j < n && sorted[j] >> 1 == sorted[i] >> 1; j++) {
            pos += sorted[j] & 1;
            neg += !(sorted[j] & 1);
        }
        won += pos * (2 * n_neg + neg);
        n_neg += neg;
        n_pos += pos;
        i = j;
    }
    if (n_pos && n_neg) *auroc = 0.5 * (double)won / ((double)n_pos * (double)n_neg);
done:
    free(keys);
    free(sorted);
    return st;
}

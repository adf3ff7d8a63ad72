#include "infer/metrics/bootstrap.h"

#include "engine/base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DRAWS = MCS_BOOTSTRAP_DRAWS };

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Percentile p (0..1) of DRAWS sorted values, linear between neighbours. */
static double percentile(const double *sorted, double p)
{
    const double at = p * (DRAWS - 1);
    const int i = (int)at;
    return i + 1 < DRAWS ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[i];
}

/* least, greatest: limits of the statistic, which a mean may leave by its rounding. */
static void set_interval(double *draws, double least, double greatest, struct bootstrap_interval *r)
{
    qsort(draws, DRAWS, sizeof *draws, by_value);
    r->lo = fmin(fmax(percentile(draws, 0.025), least), greatest);
    r->hi = fmin(fmax(percentile(draws, 0.975), least), greatest);
}

/* Random numbers of draw b. */
static struct mcs_rng rng_of(const char *site, uint64_t seed, int b)
{
    return (struct mcs_rng){.seed = seed, .site = mcs_rng_site(site), .step = (uint32_t)b};
}

static struct bootstrap_interval none(void)
{
    return (struct bootstrap_interval){.value = NAN, .lo = NAN, .hi = NAN};
}

/* The interval of the mean of n finite values. draws (DRAWS): scratch. */
static void mean_of_finite(const double *values, int64_t n, uint64_t seed, double *draws, struct bootstrap_interval *r)
{
    double sum = 0, least = INFINITY, greatest = -INFINITY;
    r->n = n;
    for (int64_t i = 0; i < n; i++) {
        sum += values[i];
        least = fmin(least, values[i]);
        greatest = fmax(greatest, values[i]);
    }
    if (n) r->value = fmin(fmax(sum / (double)n, least), greatest);
    if (n < 2) return;
    for (int b = 0; b < DRAWS; b++) {
        const struct mcs_rng rng = rng_of("bootstrap", seed, b);
        sum = 0;
        for (int64_t i = 0; i < n; i++) sum += values[mcs_rng_below(rng, (uint32_t)i, (uint32_t)n)];
        draws[b] = sum / (double)n;
    }
    set_interval(draws, least, greatest, r);
}

enum mcs_status mcs_bootstrap_difference(const double *a, const double *b, int64_t n, uint64_t seed,
                                         struct bootstrap_interval *interval)
{
    *interval = none();
    MCS_REQUIRE(n >= 0 && n < INT32_MAX, MCS_E_SHAPE, "bootstrap of %lld cases: want fewer than 2^31", (long long)n);
    double *finite = malloc((size_t)(n + DRAWS) * sizeof *finite);
    MCS_REQUIRE(finite, MCS_E_NOMEM, "no memory for the bootstrap of %lld cases", (long long)n);
    int64_t used = 0;
    for (int64_t i = 0; i < n; i++) {
        const double v = b ? a[i] - b[i] : a[i];
        if (isfinite(v)) finite[used++] = v;
    }
    mean_of_finite(finite, used, seed, finite + n, interval);
    interval->n_left_out = n - used;
    free(finite);
    return MCS_OK;
}

enum mcs_status mcs_bootstrap_mean(const double *values, int64_t n, uint64_t seed, struct bootstrap_interval *interval)
{
    return mcs_bootstrap_difference(values, NULL, n, seed, interval);
}

/* ---- area under the curve ---- */

/* A distinct score, and how many cases of a draw have it. */
struct scored {
    double score;
    int64_t positive, negative;
};

/* Area under the curve of n distinct scores in ascending order. */
static double area(const struct scored *s, int64_t n)
{
    double won = 0, below = 0, positive = 0;
    for (int64_t i = 0; i < n; i++) {
        won += (double)s[i].positive * (below + 0.5 * (double)s[i].negative);
        below += (double)s[i].negative;
        positive += (double)s[i].positive;
    }
    return won / (positive * below);
}

static int64_t place_of(const struct scored *s, int64_t n, double score)
{
    int64_t lo = 0, hi = n - 1;
    while (lo < hi) {
        const int64_t mid = (lo + hi) / 2;
        if (s[mid].score < score)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The distinct scores, their number, and each case's place among them: place (n_positive + n_negative). */
static int64_t sort_scores(const double *positive, int64_t n_positive, const double *negative, int64_t n_negative,
                           struct scored *s, int64_t *place)
{
    const int64_t n = n_positive + n_negative;
    int64_t distinct = 0;
    for (int64_t i = 0; i < n; i++)
        s[i] = (struct scored){i < n_positive ? positive[i] : negative[i - n_positive], 0, 0};
    qsort(s, (size_t)n, sizeof *s, by_value); /* the score is the first member */
    for (int64_t i = 0; i < n; i++)
        if (!i || s[i].score != s[distinct - 1].score) s[distinct++] = s[i];
    for (int64_t i = 0; i < n; i++)
        place[i] = place_of(s, distinct, i < n_positive ? positive[i] : negative[i - n_positive]);
    return distinct;
}

enum mcs_status mcs_bootstrap_auroc(const double *positive, int64_t n_positive, const double *negative,
                                    int64_t n_negative, uint64_t seed, struct bootstrap_interval *interval)
{
    const int64_t n = n_positive + n_negative;
    enum mcs_status st = MCS_OK;
    *interval = none();
    MCS_REQUIRE(n < INT32_MAX, MCS_E_SHAPE, "bootstrap of %lld scores: want fewer than 2^31", (long long)n);
    for (int64_t i = 0; i < n; i++)
        MCS_REQUIRE(isfinite(i < n_positive ? positive[i] : negative[i - n_positive]), MCS_E_DATA,
                    "bootstrap: score %lld is not finite", (long long)i);
    interval->n = n;
    if (!n_positive || !n_negative) return MCS_OK;
    struct scored *s = calloc((size_t)n, sizeof *s);
    int64_t *place = calloc((size_t)n, sizeof *place);
    double *draws = calloc(DRAWS, sizeof *draws);
    MCS_REQUIRE_GOTO(s && place && draws, MCS_E_NOMEM, st, done, "no memory for the bootstrap of %lld scores",
                     (long long)n);
    const int64_t distinct = sort_scores(positive, n_positive, negative, n_negative, s, place);
    for (int64_t i = 0; i < n; i++) (i < n_positive ? &s[place[i]].positive : &s[place[i]].negative)[0]++;
    interval->value = area(s, distinct);
    if (n_positive < 2 || n_negative < 2) goto done;
    for (int b = 0; b < DRAWS; b++) {
        const struct mcs_rng p = rng_of("bootstrap", seed, b), q = rng_of("bootstrap.negative", seed, b);
        for (int64_t i = 0; i < distinct; i++) s[i].positive = s[i].negative = 0;
        for (int64_t i = 0; i < n_positive; i++)
            s[place[mcs_rng_below(p, (uint32_t)i, (uint32_t)n_positive)]].positive++;
        for (int64_t i = 0; i < n_negative; i++)
            s[place[n_positive + mcs_rng_below(q, (uint32_t)i, (uint32_t)n_negative)]].negative++;
        draws[b] = area(s, distinct);
    }
    set_interval(draws, 0, 1, interval);
done:
    free(s);
    free(place);
    free(draws);
    return st;
}

#include "tests/support/support_figures.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

double figure_dice(const uint8_t *a, const uint8_t *b, int64_t n)
{
    int64_t both = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) both += a[i] && b[i], sum += (a[i] != 0) + (b[i] != 0);
    return sum ? 2.0 * (double)both / (double)sum : NAN;
}

double figure_iou(const uint8_t *a, const uint8_t *b, int64_t n)
{
    int64_t both = 0, either = 0;
    for (int64_t i = 0; i < n; i++) both += a[i] && b[i], either += a[i] || b[i];
    return either ? (double)both / (double)either : NAN;
}

/* ---- normalised surface distance ---- */

struct contour {
    int n;
    double *x, *y, *length;
};

static int at(const uint8_t *m, int w, int h, int x, int y)
{
    return x >= 0 && y >= 0 && x < w && y < h && m[y * w + x] != 0;
}

/* Length of the marching-squares contour through a corner: half a diagonal if one pixel differs from the other three, a
 * diagonal for two opposite pixels, a side for two adjacent pixels. */
static struct contour contour_of(const uint8_t *m, int w, int h)
{
    const size_t most = (size_t)(w + 1) * (size_t)(h + 1);
    struct contour c = {0, malloc(most * sizeof(double)), malloc(most * sizeof(double)), malloc(most * sizeof(double))};
    cr_assert(c.x && c.y && c.length);
    for (int y = 0; y <= h; y++)
        for (int x = 0; x <= w; x++) {
            const int nw = at(m, w, h, x - 1, y - 1), ne = at(m, w, h, x, y - 1), sw = at(m, w, h, x - 1, y),
                      se = at(m, w, h, x, y), n = nw + ne + sw + se;
            if (n == 0 || n == 4) continue;
            c.x[c.n] = x, c.y[c.n] = y;
            c.length[c.n++] = n != 2 ? sqrt(0.5) : nw == se ? sqrt(2) : 1;
        }
    return c;
}

static void contour_free(struct contour *c)
{
    free(c->x);
    free(c->y);
    free(c->length);
}

static double length_within(const struct contour *a, const struct contour *b, double tolerance)
{
    double sum = 0;
    for (int i = 0; i < a->n; i++)
        for (int j = 0; j < b->n; j++)
            if (hypot(a->x[i] - b->x[j], a->y[i] - b->y[j]) <= tolerance + 1e-12) {
                sum += a->length[i];
                break;
            }
    return sum;
}

double figure_nsd(const uint8_t *a, const uint8_t *b, int width, int height, double tolerance)
{
    struct contour p = contour_of(a, width, height), q = contour_of(b, width, height);
    double all = 0;
    for (int i = 0; i < p.n; i++) all += p.length[i];
    for (int i = 0; i < q.n; i++) all += q.length[i];
    const double nsd = (length_within(&p, &q, tolerance) + length_within(&q, &p, tolerance)) / all;
    contour_free(&p);
    contour_free(&q);
    return nsd;
}

/* ---- statistics ---- */

void figure_mean(const double *values, int n, double *mean, double *half_width)
{
    /* 97.5 % quantiles of Student's t for 1 to 9 degrees of freedom, as printed in any table. */
    static const double t[] = {12.706205, 4.302653, 3.182446, 2.776445, 2.570582,
                               2.446912,  2.364624, 2.306004, 2.262157};
    double sum = 0, square = 0;
    int m = 0;
    for (int i = 0; i < n; i++)
        if (isfinite(values[i])) sum += values[i], m++;
    cr_assert(m >= 1 && m <= 10);
    *mean = sum / m;
    for (int i = 0; i < n; i++)
        if (isfinite(values[i])) square += (values[i] - *mean) * (values[i] - *mean);
    *half_width = m == 1 ? NAN : t[m - 2] * sqrt(square / (m - 1)) / sqrt(m);
}

struct scored {
    float score;
    uint8_t positive;
};

static int by_score(const void *a, const void *b)
{
    const float x = ((const struct scored *)a)->score, y = ((const struct scored *)b)->score;
    return (x > y) - (x < y);
}

double figure_auroc(const float *score, const uint8_t *positive, int64_t n)
{
    struct scored *s = malloc((size_t)n * sizeof *s);
    double won = 0, below = 0, positives = 0;
    cr_assert(s);
    for (int64_t i = 0; i < n; i++) s[i] = (struct scored){score[i], positive[i] != 0};
    qsort(s, (size_t)n, sizeof *s, by_score);
    for (int64_t i = 0, end; i < n; i = end) { /* groups of equal scores */
        double p = 0, q = 0;
        for (end = i; end < n && s[end].score == s[i].score; end++) s[end].positive ? p++ : q++;
        won += p * (below + q / 2);
        below += q;
        positives += p;
    }
    free(s);
    return won / (positives * below);
}

/* Rank: 1 + number of smaller values + half the number of other equal values. */
static double rank_of(const double *x, int n, int i)
{
    double r = 1;
    for (int k = 0; k < n; k++) r += x[k] < x[i] ? 1 : k != i && x[k] == x[i] ? 0.5 : 0;
    return r;
}

double figure_spearman(const double *x, const double *y, int n)
{
    double xy = 0, xx = 0, yy = 0;
    for (int i = 0; i < n; i++) {
        const double a = rank_of(x, n, i) - (n + 1) / 2.0, b = rank_of(y, n, i) - (n + 1) / 2.0;
        xy += a * b, xx += a * a, yy += b * b;
    }
    return xy / sqrt(xx * yy);
}

void figure_outside_band(const uint8_t *mask, int width, int height, double band, uint8_t *outside)
{
    const int reach = (int)band;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            int near = 0;
            for (int v = y - reach; v <= y + reach; v++)
                for (int u = x - reach; u <= x + reach; u++)
                    near |= u >= 0 && v >= 0 && u < width && v < height && hypot(u - x, v - y) <= band &&
                            !mask[v * width + u] != !mask[y * width + x];
            outside[y * width + x] = !near;
        }
}

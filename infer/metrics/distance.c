#include "infer/metrics/distance.h"

#include <math.h>
#include <stdlib.h>

/* Scratch for one line: heights of the parabolas, and for each segment of the envelope its apex and start. */
struct line {
    double *f, *begin;
    int *apex;
};

/* One line, in place, of n cells `stride` apart: f(q) -> min over p of f(p) + (spacing (q - p))^2. Parabolas of
 * infinite height are skipped, which avoids inf - inf; a line of infinities is not changed. */
static void envelope(double *v, int64_t n, int64_t stride, double spacing, struct line s)
{
    double sq = spacing * spacing;
    int top = -1;
    for (int64_t q = 0; q < n; q++) {
        double fq = s.f[q] = v[q * stride];
        if (isinf(fq)) continue;
        double from = -INFINITY;
        while (top >= 0) {
            int p = s.apex[top];
            from = ((fq - s.f[p]) / sq + (double)q * q - (double)p * p) / (2.0 * (double)(q - p));
            if (from > s.begin[top]) break;
            top--;
        }
        if (top < 0) from = -INFINITY;
        s.apex[++top] = (int)q;
        s.begin[top] = from;
    }
    if (top < 0) return;
    int k = 0;
    for (int64_t q = 0; q < n; q++) {
        while (k < top && s.begin[k + 1] < (double)q) k++;
        double d = (double)(q - s.apex[k]);
        v[q * stride] = sq * d * d + s.f[s.apex[k]];
    }
}

enum mcs_status mcs_distance_transform(const uint8_t *sites, int nx, int ny, int nz, const double spacing[3],
                                       double *distance)
{
    MCS_REQUIRE(nx > 0 && ny > 0 && nz > 0, MCS_E_SHAPE, "distance transform of %d x %d x %d cells", nx, ny, nz);
    int64_t n = (int64_t)nx * ny * nz;
    int longest = nx > ny ? (nx > nz ? nx : nz) : (ny > nz ? ny : nz);
    struct line s = {0};
    s.f = malloc((size_t)longest * sizeof *s.f);
    s.begin = malloc((size_t)longest * sizeof *s.begin);
    s.apex = malloc((size_t)longest * sizeof *s.apex);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(s.f && s.begin && s.apex, MCS_E_NOMEM, st, done, "no memory for a line of %d cells", longest);
    for (int64_t i = 0; i < n; i++) distance[i] = sites[i] ? 0.0 : INFINITY;
    for (int64_t row = 0; row < (int64_t)ny * nz; row++) envelope(distance + row * nx, nx, 1, spacing[0], s);
    if (ny > 1) {
        for (int z = 0; z < nz; z++)
            for (int x = 0; x < nx; x++) envelope(distance + (int64_t)z * ny * nx + x, ny, nx, spacing[1], s);
    }
    if (nz > 1) {
        for (int64_t i = 0; i < (int64_t)ny * nx; i++) envelope(distance + i, nz, (int64_t)ny * nx, spacing[2], s);
    }
    for (int64_t i = 0; i < n; i++) distance[i] = sqrt(distance[i]);
done:
    free(s.f);
    free(s.begin);
    free(s.apex);
    return st;
}

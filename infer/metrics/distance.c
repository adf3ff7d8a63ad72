#include "infer/metrics/distance.h"

#include <math.h>
#include <stdlib.h>

/* Parabolas of infinite height are skipped, which avoids inf - inf. */
int mcs_distance_line(int n, double spacing, struct distance_line *s)
{
    const double sq = spacing * spacing;
    int last = -1;
    for (int q = 0; q < n; q++) {
        const double fq = s->height[q];
        if (isinf(fq)) continue;
        double from = -INFINITY;
        while (last >= 0) {
            const int p = s->apex[last];
            from = ((fq - s->height[p]) / sq + (double)q * q - (double)p * p) / (2.0 * (double)(q - p));
            if (from > s->begin[last]) break;
            last--;
        }
        if (last < 0) from = -INFINITY;
        s->apex[++last] = q;
        s->begin[last] = from;
    }
    if (last < 0) return 0;
    for (int q = 0, k = 0; q < n; q++) {
        while (k < last && s->begin[k + 1] < (double)q) k++;
        s->nearest[q] = s->apex[k];
    }
    return 1;
}

enum mcs_status mcs_distance_line_alloc(struct distance_line *s, int n)
{
    *s = (struct distance_line){0};
    s->height = malloc((size_t)n * (2 * sizeof(double) + 2 * sizeof(int)));
    MCS_REQUIRE(s->height, MCS_E_NOMEM, "no memory for a line of %d cells", n);
    s->begin = s->height + n;
    s->apex = (int *)(s->begin + n);
    s->nearest = s->apex + n;
    return MCS_OK;
}

void mcs_distance_line_free(struct distance_line *s)
{
    free(s->height);
    *s = (struct distance_line){0};
}

/* One line, in place, of n cells `stride` apart: f(q) -> min over p of f(p) + (spacing (q - p))^2. */
static void along(double *v, int n, int64_t stride, double spacing, struct distance_line *s)
{
    for (int q = 0; q < n; q++) s->height[q] = v[q * stride];
    if (!mcs_distance_line(n, spacing, s)) return;
    for (int q = 0; q < n; q++) {
        const double d = (double)(q - s->nearest[q]);
        v[q * stride] = spacing * spacing * d * d + s->height[s->nearest[q]];
    }
}

enum mcs_status mcs_distance_transform(const uint8_t *sites, int nx, int ny, int nz, const double spacing[3],
                                       double *distance)
{
    MCS_REQUIRE(nx > 0 && ny > 0 && nz > 0, MCS_E_SHAPE, "distance transform of %d x %d x %d cells", nx, ny, nz);
    int64_t n = (int64_t)nx * ny * nz;
    int longest = nx > ny ? (nx > nz ? nx : nz) : (ny > nz ? ny : nz);
    struct distance_line s;
    MCS_TRY(mcs_distance_line_alloc(&s, longest));
    for (int64_t i = 0; i < n; i++) distance[i] = sites[i] ? 0.0 : INFINITY;
    for (int64_t row = 0; row < (int64_t)ny * nz; row++) along(distance + row * nx, nx, 1, spacing[0], &s);
    if (ny > 1) {
        for (int z = 0; z < nz; z++)
            for (int x = 0; x < nx; x++) along(distance + (int64_t)z * ny * nx + x, ny, nx, spacing[1], &s);
    }
    if (nz > 1) {
        for (int64_t i = 0; i < (int64_t)ny * nx; i++) along(distance + i, nz, (int64_t)ny * nx, spacing[2], &s);
    }
    for (int64_t i = 0; i < n; i++) distance[i] = sqrt(distance[i]);
    mcs_distance_line_free(&s);
    return MCS_OK;
}

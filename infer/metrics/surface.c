/* Surface elements of two masks and their distances to each other.
 *
 * Distances to the nearest element of a surface are found axis by axis, exactly: for each corner the nearest element in
 * its row (two scans); in a volume then the nearest in its slice (the lower envelope of parabolas, distance.h); along
 * the last axis only for the corners that are asked for, from the near to the far until no nearer one is possible. Kept
 * is where the nearest element lies, not how far, so that distances are exact in double. */
#include "infer/metrics/metrics.h"

#include "engine/base/memory.h"
#include "infer/metrics/distance.h"
#include "infer/metrics/surface_size.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = 0xffff, MAX_SIDE = 65534 };

/* The corners of both masks' voxels: (cz, cy, cx), one more than voxels along each axis; a plane has one layer. Groups
 * are what threads share: layers of a volume, rows of a plane. */
struct corner_grid {
    const uint8_t *mask; /* (nz, ny, nx), not 0 */
    int nx, ny, nz, plane, cx, cy, cz, n_groups;
    double spacing[3];
    double size[256];
    uint8_t is_surface[256];
};

/* Codes (surface_size.h) of the corners (0.., y, z). code: (2 cx), the first half is the result. */
static void row_codes(const struct corner_grid *g, int y, int z, uint8_t *code)
{
    uint8_t *restrict after = code + g->cx, *restrict to = code; /* after: bits of the voxels after each corner */
    memset(after, 0, (size_t)g->cx);
    for (int k = 0; k < (g->plane ? 2 : 4); k++) {
        const int row_y = y - 1 + (k & 1), row_z = g->plane ? 0 : z - 1 + (k >> 1);
        if (row_y < 0 || row_y >= g->ny || row_z < 0 || row_z >= g->nz) continue;
        const uint8_t *restrict row = g->mask + ((int64_t)row_z * g->ny + row_y) * g->nx;
        const uint8_t bit = (uint8_t)(1 << k);
        for (int x = 0; x < g->nx; x++) after[x] |= row[x] ? bit : 0;
    }
    to[0] = after[0];
    for (int x = 1; x < g->cx; x++) to[x] = (uint8_t)(after[x] | after[x - 1] << 4);
}

/* ---- where the nearest element is ---- */

/* Places of the nearest element. Plane: dx (cy, cx) in the corner's row. Volume: {dx, dy} (cz, cy, cx, 2) in its slice;
 * NONE: there is none. */
struct places {
    uint16_t *v;
    uint8_t *any; /* (groups) 1: the row or layer has elements */
};
struct scratch {
    uint8_t *code; /* (2 cx) */
    uint16_t *dx;  /* (cy, cx), of a volume */
    struct distance_line line;
};

static int row_places(const struct corner_grid *g, const uint8_t *code, uint16_t *dx)
{
    int any = 0, last = NONE;
    for (int x = 0; x < g->cx; x++) {
        last = g->is_surface[code[x]] ? 0 : last == NONE ? NONE : last + 1;
        any |= last == 0;
        dx[x] = (uint16_t)last;
    }
    if (!any) return 0;
    last = NONE;
    for (int x = g->cx - 1; x >= 0; x--) {
        last = dx[x] == 0 ? 0 : last == NONE ? NONE : last + 1;
        if (last < dx[x]) dx[x] = (uint16_t)last;
    }
    return 1;
}

static int layer_places(const struct corner_grid *g, int z, const struct scratch *s, uint16_t *v)
{
    int any = 0;
    for (int y = 0; y < g->cy; y++) {
        row_codes(g, y, z, s->code);
        any |= row_places(g, s->code, s->dx + (int64_t)y * g->cx);
    }
    if (!any) return 0;
    struct distance_line line = s->line;
    for (int x = 0; x < g->cx; x++) {
        for (int y = 0; y < g->cy; y++) {
            const double d = g->spacing[0] * s->dx[(int64_t)y * g->cx + x];
            line.height[y] = s->dx[(int64_t)y * g->cx + x] == NONE ? INFINITY : d * d;
        }
        const int found = mcs_distance_line(g->cy, g->spacing[1], &line);
        for (int y = 0; y < g->cy; y++) {
            uint16_t *to = v + 2 * ((int64_t)y * g->cx + x);
            const int from = found ? line.nearest[y] : y;
            to[0] = found ? s->dx[(int64_t)from * g->cx + x] : NONE;
            to[1] = (uint16_t)abs(y - from);
        }
    }
    return 1;
}

static void scratch_free(struct scratch *s, int n)
{
    for (int i = 0; i < n; i++) {
        free(s[i].code);
        free(s[i].dx);
        mcs_distance_line_free(&s[i].line);
    }
    free(s);
}

static enum mcs_status scratch_new(const struct corner_grid *g, int n, struct scratch **made)
{
    enum mcs_status st = MCS_OK;
    struct scratch *s = calloc((size_t)n, sizeof *s);
    MCS_REQUIRE(s, MCS_E_NOMEM, "no memory for surface distances");
    for (int i = 0; i < n; i++) {
        s[i].code = malloc(2 * (size_t)g->cx);
        s[i].dx = malloc(g->plane ? 1 : (size_t)g->cx * (size_t)g->cy * sizeof *s[i].dx);
        MCS_REQUIRE_GOTO(s[i].code && s[i].dx, MCS_E_NOMEM, st, failed, "no memory for surface distances");
        if (!g->plane) MCS_TRY_GOTO(mcs_distance_line_alloc(&s[i].line, g->cy), st, failed);
    }
    *made = s;
    return MCS_OK;
failed:
    scratch_free(s, n);
    return st;
}

static void places_free(struct places *p)
{
    free(p->v);
    free(p->any);
}

static enum mcs_status places_find(const struct corner_grid *g, struct scratch *s, struct places *p)
{
    const int64_t corners = (int64_t)g->cx * g->cy * g->cz, bytes = corners * (g->plane ? 2 : 4);
    MCS_TRY(mcs_memory_check(bytes, "surface distances of %d x %d x %d voxels", g->nx, g->ny, g->nz));
    *p = (struct places){malloc((size_t)bytes), calloc((size_t)g->n_groups, 1)};
    if (!p->v || !p->any) {
        places_free(p);
        return MCS_FAIL(MCS_E_NOMEM, "no memory for surface distances of %d x %d x %d voxels", g->nx, g->ny, g->nz);
    }
#pragma omp parallel for schedule(dynamic, 4)
    for (int k = 0; k < g->n_groups; k++) {
        const struct scratch *own = &s[omp_get_thread_num()];
        if (g->plane) {
            row_codes(g, k, 0, own->code);
            p->any[k] = (uint8_t)row_places(g, own->code, p->v + (int64_t)k * g->cx);
        } else
            p->any[k] = (uint8_t)layer_places(g, k, own, p->v + 2 * (int64_t)k * g->cx * g->cy);
    }
    return MCS_OK;
}

/* Distance from corner (x, y, z) to the nearest element, INFINITY if it is farther than `limit` or there is none. */
static double nearest(const struct corner_grid *g, const struct places *p, int x, int y, int z, double limit)
{
    const int at = g->plane ? y : z, n = g->plane ? g->cy : g->cz;
    const double step = g->spacing[g->plane ? 1 : 2];
    double best = INFINITY;
    for (int k = 0; k < n; k++) {
        const double along = step * k;
        if (along * along >= best || along > limit) break;
        for (int side = 0; side < 1 + (k > 0); side++) {
            const int q = side ? at + k : at - k;
            if (q < 0 || q >= n || !p->any[q]) continue;
            const int64_t i = g->plane ? (int64_t)q * g->cx + x : ((int64_t)q * g->cy + y) * g->cx + x;
            const uint16_t dx = g->plane ? p->v[i] : p->v[2 * i], dy = g->plane ? 0 : p->v[2 * i + 1];
            if (dx == NONE) continue;
            const double a = g->spacing[0] * dx, b = g->spacing[1] * dy;
            best = fmin(best, a * a + b * b + along * along);
        }
    }
    return sqrt(best) > limit ? INFINITY : sqrt(best);
}

/* ---- elements ---- */

static int by_distance(const void *a, const void *b)
{
    const struct surface_element *x = a, *y = b;
    if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size);
}

/* Of one group: its elements' number (to NULL), or the elements themselves with distances to `other`. */
static int64_t group_elements(const struct corner_grid *g, int group, const struct places *other, uint8_t *code,
                              struct surface_element *to)
{
    const int y0 = g->plane ? group : 0, y1 = g->plane ? group + 1 : g->cy, z = g->plane ? 0 : group;
    int64_t n = 0;
    for (int y = y0; y < y1; y++) {
        row_codes(g, y, z, code);
        for (int x = 0; x < g->cx; x++) {
            if (!g->is_surface[code[x]]) continue;
            if (to) to[n] = (struct surface_element){nearest(g, other, x, y, z, INFINITY), g->size[code[x]]};
            n++;
        }
    }
    return n;
}

static enum mcs_status collect(const struct corner_grid *g, const struct places *other, struct scratch *scratch,
                               struct surface *s)
{
    int64_t *first = calloc((size_t)g->n_groups + 1, sizeof *first);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(first, MCS_E_NOMEM, "no memory for surface elements");
#pragma omp parallel for schedule(dynamic, 4)
    for (int k = 0; k < g->n_groups; k++)
        first[k + 1] = group_elements(g, k, other, scratch[omp_get_thread_num()].code, NULL);
    for (int k = 0; k < g->n_groups; k++) first[k + 1] += first[k];
    s->n = first[g->n_groups];
    MCS_TRY_GOTO(mcs_memory_check(s->n * (int64_t)sizeof *s->elements, "%lld surface elements", (long long)s->n), st,
                 done);
    s->elements = malloc(((size_t)s->n + 1) * sizeof *s->elements);
    MCS_REQUIRE_GOTO(s->elements, MCS_E_NOMEM, st, done, "no memory for %lld surface elements", (long long)s->n);
#pragma omp parallel for schedule(dynamic, 4)
    for (int k = 0; k < g->n_groups; k++)
        group_elements(g, k, other, scratch[omp_get_thread_num()].code, s->elements + first[k]);
    qsort(s->elements, (size_t)s->n, sizeof *s->elements, by_distance);
    for (int64_t k = 0; k < s->n; k++) s->total += s->elements[k].size;
done:
    free(first);
    return st;
}

static void set_grid(struct corner_grid *g, const uint8_t *mask, const int n[3], const double spacing[3], int plane)
{
    g->mask = mask;
    g->nx = n[0], g->ny = n[1], g->nz = n[2];
    g->plane = plane;
    g->cx = n[0] + 1, g->cy = n[1] + 1, g->cz = plane ? 1 : n[2] + 1;
    g->n_groups = plane ? g->cy : g->cz;
    memcpy(g->spacing, spacing, sizeof g->spacing);
    for (int code = 0; code < 256; code++) g->is_surface[code] = g->size[code] > 0;
}

static enum mcs_status check(const int n[3], const double spacing[3])
{
    for (int i = 0; i < 3; i++) {
        MCS_REQUIRE(n[i] > 0 && n[i] <= MAX_SIDE, MCS_E_SHAPE, "surface of a mask of %d x %d x %d", n[0], n[1], n[2]);
        MCS_REQUIRE(spacing[i] > 0.0 && isfinite(spacing[i]), MCS_E_USAGE, "spacing %g x %g x %g: want positive sizes",
                    spacing[0], spacing[1], spacing[2]);
    }
    return MCS_OK;
}

/* g: its sizes are set. */
static enum mcs_status measure(struct corner_grid *g, const uint8_t *pred, const uint8_t *ref, const int n[3],
                               const double spacing[3], int plane, struct surface_pair *s)
{
    enum mcs_status st = MCS_OK;
    struct corner_grid other = *g;
    struct scratch *scratch = NULL;
    const int n_threads = omp_get_max_threads();
    *s = (struct surface_pair){0};
    set_grid(g, pred, n, spacing, plane);
    set_grid(&other, ref, n, spacing, plane);
    MCS_TRY(scratch_new(g, n_threads, &scratch));
    for (int side = 0; side < 2 && st == MCS_OK; side++) {
        struct places p = {0};
        st = places_find(side ? g : &other, scratch, &p);
        if (st == MCS_OK) st = collect(side ? &other : g, &p, scratch, side ? &s->ref : &s->pred);
        places_free(&p);
    }
    scratch_free(scratch, n_threads);
    if (st != MCS_OK) {
        mcs_surface_free(s);
        return mcs_trace(st, __FILE__, __LINE__);
    }
    return MCS_OK;
}

enum mcs_status mcs_surface_measure(const uint8_t *pred, const uint8_t *ref, int width, int height,
                                    const double spacing[2], enum mcs_surface_kind kind, struct surface_pair *s)
{
    struct corner_grid g = {0};
    const int n[3] = {width, height, 1};
    const double mm[3] = {spacing[0], spacing[1], 1.0};
    *s = (struct surface_pair){0};
    MCS_TRY(check(n, mm));
    MCS_REQUIRE(kind == MCS_SURFACE_2D || (spacing[0] == 1.0 && spacing[1] == 1.0), MCS_E_USAGE,
                "the one-slice surface is defined for a spacing of 1 x 1, not %g x %g", spacing[0], spacing[1]);
    if (kind == MCS_SURFACE_2D)
        mcs_surface_lengths(spacing, g.size);
    else /* the layers of corners above and below are alike, so the nearest element is in the same layer */
        mcs_surface_slice_areas(g.size);
    return measure(&g, pred, ref, n, mm, 1, s);
}

enum mcs_status mcs_surface_measure_volume(const uint8_t *pred, const uint8_t *ref, const int n[3],
                                           const double spacing[3], struct surface_pair *s)
{
    struct corner_grid g = {0};
    *s = (struct surface_pair){0};
    MCS_TRY(check(n, spacing));
    mcs_surface_areas(spacing, g.size);
    return measure(&g, pred, ref, n, spacing, 0, s);
}

/* ---- the one-slice NSD, without a list of its elements, which all inner pixels are ---- */

/* Sizes of a row's elements: all, and those within `tolerance` of the other surface. */
static void row_within(const struct corner_grid *g, const struct places *other, int y, double tolerance, uint8_t *code,
                       double sums[2])
{
    row_codes(g, y, 0, code);
    sums[0] = sums[1] = 0;
    for (int x = 0; x < g->cx; x++) {
        if (!g->is_surface[code[x]]) continue;
        sums[0] += g->size[code[x]];
        if (isfinite(nearest(g, other, x, y, 0, tolerance))) sums[1] += g->size[code[x]];
    }
}

enum mcs_status mcs_surface_slice_nsd(const uint8_t *pred, const uint8_t *ref, int width, int height, double tolerance,
                                      double *nsd)
{
    static const double unit[3] = {1, 1, 1};
    const int n[3] = {width, height, 1}, n_threads = omp_get_max_threads();
    struct corner_grid g[2];
    struct scratch *scratch = NULL;
    double all = 0, within = 0;
    enum mcs_status st = MCS_OK;
    *nsd = NAN;
    MCS_TRY(check(n, unit));
    for (int side = 0; side < 2; side++) {
        mcs_surface_slice_areas(g[side].size);
        set_grid(&g[side], side ? ref : pred, n, unit, 1);
    }
    double *sums = malloc((size_t)g[0].cy * 2 * sizeof *sums);
    MCS_REQUIRE_GOTO(sums, MCS_E_NOMEM, st, done, "no memory for %d rows", height);
    MCS_TRY_GOTO(scratch_new(&g[0], n_threads, &scratch), st, done);
    for (int side = 0; side < 2; side++) {
        struct places p = {0};
        MCS_TRY_GOTO(places_find(&g[1 - side], scratch, &p), st, done);
#pragma omp parallel for schedule(dynamic, 4)
        for (int y = 0; y < g[side].cy; y++)
            row_within(&g[side], &p, y, tolerance, scratch[omp_get_thread_num()].code, sums + 2 * (int64_t)y);
        places_free(&p);
        for (int y = 0; y < g[side].cy; y++) all += sums[2 * (int64_t)y], within += sums[2 * (int64_t)y + 1];
    }
    if (all > 0) *nsd = within / all;
done:
    if (scratch) scratch_free(scratch, n_threads);
    free(sums);
    return st;
}

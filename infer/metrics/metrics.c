#include "infer/metrics/metrics.h"

#include "infer/metrics/distance.h"

#include <math.h>
#include <stdlib.h>

struct mask_counts mcs_metrics_count(const uint8_t *pred, const uint8_t *ref, int64_t n)
{
    int64_t tp = 0, n_pred = 0, n_ref = 0;
    for (int64_t i = 0; i < n; i++) {
        int p = pred[i] != 0, r = ref[i] != 0;
        tp += p & r;
        n_pred += p;
        n_ref += r;
    }
    return (struct mask_counts){tp, n_pred - tp, n_ref - tp, n - n_pred - n_ref + tp, n_pred, n_ref};
}

double mcs_metrics_dice(const struct mask_counts *c)
{
    int64_t sum = 2 * c->tp + c->fp + c->fn;
    return sum ? 2.0 * (double)c->tp / (double)sum : NAN;
}

double mcs_metrics_iou(const struct mask_counts *c)
{
    int64_t sum = c->tp + c->fp + c->fn;
    return sum ? (double)c->tp / (double)sum : NAN;
}

/* ---- surface elements ---- */

/* Size of the surface element for each code of the 2 x 2 pixels around a corner: 8 upper left, 4 upper right, 2 lower
 * left, 1 lower right. */
static void make_sizes(enum mcs_surface_kind kind, const double spacing[2], double size[16])
{
    double sx = spacing[0], sy = spacing[1], diagonal = 0.5 * sqrt(sx * sx + sy * sy);
    /* Marching cubes on one slice: of a corner's eight voxels four are these pixels and four are background. Surface by
     * the number of set pixels. One: a triangle through three edge midpoints. Two adjacent: an inclined rectangle. Two
     * diagonal: two triangles. Three: half a square and a trapezoid. Four: a square. The corner layers above and below
     * the slice are identical, so one layer is computed with twice the size. */
    double triangle = sqrt(3.0) / 8.0;
    for (int code = 0; code < 16; code++) {
        int n = __builtin_popcount((unsigned)code);
        int across = code == 9 || code == 6,
            upright = code == 10 || code == 5; /* two pixels on a diagonal; in one column */
        if (kind == MCS_SURFACE_SLICE)
            size[code] = n == 0   ? 0.0
                         : n == 1 ? 2.0 * triangle
                         : n == 3 ? 1.0 + 6.0 * triangle
                         : n == 4 ? 2.0
                         : across ? 4.0 * triangle
                                  : sqrt(2.0);
        else
            size[code] = n == 0 || n == 4 ? 0.0 : n != 2 ? diagonal : across ? 2.0 * diagonal : upright ? sy : sx;
    }
}

/* Codes of the (width + 1) x (height + 1) corners; corner (x, y) has pixel (x, y) at its lower right. */
static void make_codes(const uint8_t *mask, int width, int height, uint8_t *code)
{
    for (int y = 0; y <= height; y++)
        for (int x = 0; x <= width; x++) {
            const uint8_t *up = mask + (int64_t)(y - 1) * width + x, *low = up + width;
            int inside_x = x < width, inside_y = y < height;
            code[(int64_t)y * (width + 1) + x] =
                (uint8_t)((x && y && up[-1] ? 8 : 0) | (inside_x && y && up[0] ? 4 : 0) |
                          (x && inside_y && low[-1] ? 2 : 0) | (inside_x && inside_y && low[0] ? 1 : 0));
        }
}

static int by_distance(const void *a, const void *b)
{
    const struct surface_element *x = a, *y = b;
    if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size);
}

static enum mcs_status collect(const uint8_t *code, const double *distance, int64_t n, const double size[16],
                               struct surface *s)
{
    s->n = 0;
    s->total = 0.0;
    for (int64_t i = 0; i < n; i++) s->n += size[code[i]] > 0.0;
    s->elements = malloc(((size_t)s->n + 1) * sizeof *s->elements);
    MCS_REQUIRE(s->elements, MCS_E_NOMEM, "no memory for %d surface elements", s->n);
    int k = 0;
    for (int64_t i = 0; i < n; i++)
        if (size[code[i]] > 0.0) s->elements[k++] = (struct surface_element){distance[i], size[code[i]]};
    qsort(s->elements, (size_t)s->n, sizeof *s->elements, by_distance);
    for (k = 0; k < s->n; k++) s->total += s->elements[k].size;
    return MCS_OK;
}

enum mcs_status mcs_surface_measure(const uint8_t *pred, const uint8_t *ref, int width, int height,
                                    const double spacing[2], enum mcs_surface_kind kind, struct surface_pair *s)
{
    *s = (struct surface_pair){0};
    MCS_REQUIRE(width > 0 && height > 0, MCS_E_SHAPE, "surface of a %d x %d mask", width, height);
    MCS_REQUIRE(spacing[0] > 0.0 && spacing[1] > 0.0, MCS_E_USAGE, "spacing %g x %g: want positive sizes", spacing[0],
                spacing[1]);
    MCS_REQUIRE(kind == MCS_SURFACE_2D || (spacing[0] == 1.0 && spacing[1] == 1.0), MCS_E_USAGE,
                "the one-slice surface is defined for a spacing of 1 x 1, not %g x %g", spacing[0], spacing[1]);
    int64_t n = (int64_t)(width + 1) * (height + 1);
    double size[16], grid_spacing[3] = {spacing[0], spacing[1], 1.0};
    make_sizes(kind, spacing, size);
    enum mcs_status st = MCS_OK;
    uint8_t *code_pred = malloc((size_t)n), *code_ref = malloc((size_t)n), *sites = malloc((size_t)n);
    double *distance = malloc((size_t)n * sizeof *distance);
    MCS_REQUIRE_GOTO(code_pred && code_ref && sites && distance, MCS_E_NOMEM, st, done,
                     "no memory for the surfaces of a %d x %d mask", width, height);
    make_codes(pred, width, height, code_pred);
    make_codes(ref, width, height, code_ref);
    /* The corner layers above and below a single slice are identical, so the nearest site is in the same layer. */
    for (int64_t i = 0; i < n; i++) sites[i] = size[code_ref[i]] > 0.0;
    MCS_TRY_GOTO(mcs_distance_transform(sites, width + 1, height + 1, 1, grid_spacing, distance), st, done);
    MCS_TRY_GOTO(collect(code_pred, distance, n, size, &s->pred), st, done);
    for (int64_t i = 0; i < n; i++) sites[i] = size[code_pred[i]] > 0.0;
    MCS_TRY_GOTO(mcs_distance_transform(sites, width + 1, height + 1, 1, grid_spacing, distance), st, done);
    MCS_TRY_GOTO(collect(code_ref, distance, n, size, &s->ref), st, done);
done:
    free(code_pred);
    free(code_ref);
    free(sites);
    free(distance);
    if (st != MCS_OK) mcs_surface_free(s);
    return st;
}

void mcs_surface_free(struct surface_pair *s)
{
    free(s->pred.elements);
    free(s->ref.elements);
    *s = (struct surface_pair){0};
}

/* ---- scores ---- */

static double within(const struct surface *s, double tolerance)
{
    double sum = 0.0;
    for (int i = 0; i < s->n && s->elements[i].distance <= tolerance; i++) sum += s->elements[i].size;
    return sum;
}

double mcs_surface_nsd(const struct surface_pair *s, double tolerance)
{
    if (!s->pred.n && !s->ref.n) return NAN;
    return (within(&s->pred, tolerance) + within(&s->ref, tolerance)) / (s->pred.total + s->ref.total);
}

static double percentile(const struct surface *s, double percent)
{
    if (!s->n) return INFINITY;
    double running = 0.0;
    for (int i = 0; i < s->n; i++) {
        running += s->elements[i].size;
        if (running / s->total >= percent / 100.0) return s->elements[i].distance;
    }
    return s->elements[s->n - 1].distance;
}

double mcs_surface_hausdorff(const struct surface_pair *s, double percent)
{
    if (!s->pred.n && !s->ref.n) return NAN;
    return fmax(percentile(&s->pred, percent), percentile(&s->ref, percent));
}

static double weighted_sum(const struct surface *s)
{
    double sum = 0.0;
    for (int i = 0; i < s->n; i++) sum += s->elements[i].distance * s->elements[i].size;
    return sum;
}

double mcs_surface_assd(const struct surface_pair *s)
{
    if (!s->pred.n && !s->ref.n) return NAN;
    return (weighted_sum(&s->pred) + weighted_sum(&s->ref)) / (s->pred.total + s->ref.total);
}

void mcs_surface_average(const struct surface_pair *s, double *ref_to_pred, double *pred_to_ref)
{
    *ref_to_pred = s->ref.n ? weighted_sum(&s->ref) / s->ref.total : NAN;
    *pred_to_ref = s->pred.n ? weighted_sum(&s->pred) / s->pred.total : NAN;
}

enum mcs_status mcs_metrics_measure(const uint8_t *pred, const uint8_t *ref, int width, int height,
                                    const double spacing[2], double tolerance, struct mask_metrics *m)
{
    static const double unit[2] = {1.0, 1.0};
    struct surface_pair s;
    MCS_TRY(mcs_surface_measure(pred, ref, width, height, spacing, MCS_SURFACE_2D, &s));
    m->counts = mcs_metrics_count(pred, ref, (int64_t)width * height);
    m->dice = mcs_metrics_dice(&m->counts);
    m->iou = mcs_metrics_iou(&m->counts);
    m->nsd = mcs_surface_nsd(&s, tolerance);
    m->hd95 = mcs_surface_hausdorff(&s, 95.0);
    m->assd = mcs_surface_assd(&s);
    mcs_surface_free(&s);
    MCS_TRY(mcs_surface_measure(pred, ref, width, height, unit, MCS_SURFACE_SLICE, &s));
    m->nsd_slice = mcs_surface_nsd(&s, tolerance);
    mcs_surface_free(&s);
    return MCS_OK;
}

/* evaluate with anisotropic pixels: every surface metric of 2-D NIfTI masks against brute force over the contours'
 * corners. Swapped axes of the spacing or of the image change the results and fail. */
#include "data/image/volume.h"
#include "engine/base/rng.h"
#include "infer/metrics/evaluate.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX = 24, MAX_CORNERS = (MAX + 1) * (MAX + 1) };
#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

struct corner {
    double x, y, length, distance; /* mm */
};
struct contour {
    int n;
    double total;
    struct corner c[MAX_CORNERS];
};

static int pixel(const uint8_t *mask, int w, int h, int x, int y)
{
    return x >= 0 && y >= 0 && x < w && y < h && mask[y * w + x];
}

/* Every corner whose 2 x 2 pixels are not all equal, with the length of the marching-squares line through it: half a
 * diagonal if one pixel differs from the other three, a pixel's edge for two adjacent, a diagonal for two opposite. */
static void trace(const uint8_t *mask, int w, int h, double sx, double sy, struct contour *s)
{
    const double diagonal = sqrt(sx * sx + sy * sy);
    s->n = 0, s->total = 0;
    for (int y = 0; y <= h; y++)
        for (int x = 0; x <= w; x++) {
            const int a = pixel(mask, w, h, x - 1, y - 1), b = pixel(mask, w, h, x, y - 1),
                      c = pixel(mask, w, h, x - 1, y), d = pixel(mask, w, h, x, y), n = a + b + c + d;
            if (n == 0 || n == 4) continue;
            const double length = n != 2 ? diagonal / 2 : a == d ? diagonal : a == b ? sx : sy;
            s->c[s->n++] = (struct corner){x * sx, y * sy, length, 0};
            s->total += length;
        }
}

static int nearer(const void *a, const void *b)
{
    const double x = ((const struct corner *)a)->distance, y = ((const struct corner *)b)->distance;
    return (x > y) - (x < y);
}

static void measure_to(struct contour *s, const struct contour *other)
{
    for (int i = 0; i < s->n; i++) {
        s->c[i].distance = INFINITY;
        for (int k = 0; k < other->n; k++)
            s->c[i].distance = fmin(s->c[i].distance, hypot(s->c[i].x - other->c[k].x, s->c[i].y - other->c[k].y));
    }
}

/* The 95th percentile of the distance, weighted by length; sorts s. */
static double percentile_95(struct contour *s)
{
    double run = 0;
    qsort(s->c, (size_t)s->n, sizeof *s->c, nearer);
    for (int i = 0; i < s->n; i++) {
        run += s->c[i].length;
        if (run / s->total >= 0.95) return s->c[i].distance;
    }
    return NAN;
}

static struct mask_metrics brute_force(const uint8_t *pred, const uint8_t *ref, int w, int h, double sx, double sy,
                                       double tolerance)
{
    static struct contour p, r;
    struct mask_metrics m = {0};
    double near = 0, sum = 0;
    trace(pred, w, h, sx, sy, &p);
    trace(ref, w, h, sx, sy, &r);
    measure_to(&p, &r);
    measure_to(&r, &p);
    const struct contour *both[] = {&p, &r};
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < both[s]->n; i++) {
            const struct corner *c = &both[s]->c[i];
            if (c->distance <= tolerance) near += c->length;
            sum += c->length * c->distance;
        }
    m.nsd = near / (p.total + r.total);
    m.assd = sum / (p.total + r.total);
    m.hd95 = fmax(percentile_95(&p), percentile_95(&r));
    return m;
}

/* A blob: a disc with a ragged border, shifted by the seed. */
static void blob(uint8_t *mask, int w, int h, uint64_t seed)
{
    const struct mcs_rng r = {.seed = seed, .site = mcs_rng_site("tests.spacing")};
    const double cx = w * mcs_rng_range(r, 0, 0.3, 0.7), cy = h * mcs_rng_range(r, 1, 0.3, 0.7),
                 a = mcs_rng_range(r, 2, 2, 0.45 * w), b = mcs_rng_range(r, 3, 2, 0.45 * h);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const double d = hypot((x - cx) / a, (y - cy) / b);
            mask[y * w + x] = d + 0.3 * mcs_rng_uniform(r, (uint32_t)(10 + y * w + x)) < 1;
        }
    mask[(int)cy * w + (int)cx] = 1;
}

static struct mask_metrics evaluated(const char *folder, const uint8_t *pred, const uint8_t *ref, int w, int h,
                                     double sx, double sy, double tolerance)
{
    const struct volume like = {.nx = w, .ny = h, .nz = 1, .spacing = {(float)sx, (float)sy, 3}};
    struct evaluate_options o = mcs_evaluate_defaults(MCS_PAPER);
    struct evaluation e;
    o.tolerance = tolerance;
    OK(mcs_volume_write_u8(tiny_path(folder, "pred/a.nii.gz"), pred, &like));
    OK(mcs_volume_write_u8(tiny_path(folder, "ref/a.nii.gz"), ref, &like));
    OK(mcs_evaluate(tiny_path(folder, "pred"), tiny_path(folder, "ref"), &o, &e));
    cr_assert_eq(e.n, 1);
    const struct mask_metrics m = e.cases[0].m[0];
    mcs_evaluation_free(&e);
    return m;
}

static void check(const char *what, uint64_t seed, double got, double want)
{
    cr_expect_float_eq(got, want, 1e-9 * (1 + want), "%s of pair %d: %.12g, by brute force %.12g", what, (int)seed, got,
                       want);
}

/* Spacings that float32 holds exactly, so that only the last bits of sums in float64 differ. */
Test(spacing, metrics_of_anisotropic_masks_equal_brute_force)
{
    static const double spacing[][2] = {{2, 0.5}, {0.5, 2}, {0.75, 1.25}, {1, 1}};
    const char *folder = tiny_folder("spacing");
    int n_different = 0;
    cr_assert_eq(tiny_shell("mkdir %s/pred %s/ref", folder, folder), 0);
    for (uint64_t seed = 0; seed < 24; seed++) {
        const double sx = spacing[seed % 4][0], sy = spacing[seed % 4][1], tolerance = 0.5 + 0.25 * (double)(seed % 5);
        const int w = 12 + (int)(seed % 7), h = 21 - (int)(seed % 5);
        uint8_t pred[MAX * MAX], ref[MAX * MAX], turned[2][MAX * MAX];
        blob(pred, w, h, 2 * seed);
        blob(ref, w, h, 2 * seed + 1);
        const struct mask_metrics want = brute_force(pred, ref, w, h, sx, sy, tolerance),
                                  swapped = brute_force(pred, ref, w, h, sy, sx, tolerance),
                                  got = evaluated(folder, pred, ref, w, h, sx, sy, tolerance);
        check("HD95", seed, got.hd95, want.hd95);
        check("NSD", seed, got.nsd, want.nsd);
        check("ASSD", seed, got.assd, want.assd);
        n_different += want.hd95 != swapped.hd95 && want.nsd != swapped.nsd && want.assd != swapped.assd;

        /* rows and columns exchanged, and the spacing with them: the same masks */
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                turned[0][x * h + y] = pred[y * w + x];
                turned[1][x * h + y] = ref[y * w + x];
            }
        const struct mask_metrics t = evaluated(folder, turned[0], turned[1], h, w, sy, sx, tolerance);
        check("HD95, turned", seed, t.hd95, want.hd95);
        check("NSD, turned", seed, t.nsd, want.nsd);
        check("ASSD, turned", seed, t.assd, want.assd);
        cr_expect_float_eq(t.nsd_slice, got.nsd_slice, 1e-12);
        cr_expect(t.dice == got.dice && t.iou == got.iou);
    }
    cr_expect(n_different >= 10, "only %d pairs tell the axes apart", n_different);
    tiny_remove(folder);
}

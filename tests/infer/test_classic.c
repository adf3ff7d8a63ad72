/* Otsu, components, distances and metrics against golden/classic.safetensors: scikit-image, scipy and surface-distance.
 */
#include "data/io/file.h"
#include "engine/image/components.h"
#include "engine/image/threshold.h"
#include "infer/metrics/distance.h"
#include "infer/metrics/metrics.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The file's header and bytes, read by a few lines here to be independent of data/io/safetensors.c. */
static char *bytes;
static int64_t n_bytes, n_header;
static json_t *header;

static void open_golden(void)
{
    cr_assert_eq(mcs_file_read(MCS_SOURCE_DIR "/tests/golden/classic.safetensors", 1 << 24, &bytes, &n_bytes), MCS_OK);
    memcpy(&n_header, bytes, 8);
    header = json_loadb(bytes + 8, (size_t)n_header, 0, NULL);
    cr_assert(header);
}

static void close_golden(void)
{
    json_decref(header);
    free(bytes);
}
TestSuite(classic, .init = open_golden, .fini = close_golden);

/* The data of "a.b.c" and, if dims is not NULL, its dimensions; NULL if there is none. A copy, since offsets are not
 * aligned; freed by the end of the test's process. */
static void *tensor(const char *a, const char *b, const char *c, int dims[3])
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s.%s", a, b, c);
    json_t *t = json_object_get(header, name), *offsets = json_object_get(t, "data_offsets"),
           *shape = json_object_get(t, "shape");
    if (!t) return NULL;
    int64_t from = json_integer_value(json_array_get(offsets, 0)), to = json_integer_value(json_array_get(offsets, 1));
    for (size_t d = 0; dims && d < json_array_size(shape); d++)
        dims[d] = (int)json_integer_value(json_array_get(shape, d));
    static char *held[64];
    static int next;
    free(held[next %= 64]);
    held[next] = malloc((size_t)(to - from) + 1);
    return memcpy(held[next++], bytes + 8 + n_header + from, (size_t)(to - from));
}

Test(classic, otsu)
{
    const char *maps[] = {"smooth", "rough", "uniform", "lesion", "two", "constant"};
    for (int k = 0; k < 6; k++) {
        int d[3];
        float *map = tensor("otsu", maps[k], "map", d), *want = tensor("otsu", maps[k], "threshold", NULL), t;
        uint8_t *mask = tensor("otsu", maps[k], "mask", NULL), got[2048];
        enum mcs_mask_state state;
        cr_assert(map && want && mask && d[0] * d[1] <= 2048);
        cr_assert_eq(mcs_threshold_otsu(map, d[0] * d[1], got, &t, &state), MCS_OK);
        /* three roundings to float: two edges and the golden value */
        cr_expect_float_eq(t, *want, 3 * 6e-8, "%s: %g, want %g", maps[k], t, *want);
        cr_expect_arr_eq(got, mask, (size_t)(d[0] * d[1]), "%s", maps[k]);
        cr_expect_eq(state, k == 5 ? MCS_MASK_CONSTANT : MCS_MASK_OK);
    }
}

Test(classic, components)
{
    const char *masks[] = {"blobs", "dense", "sparse", "checker", "spiral", "empty", "full"};
    for (int k = 0; k < 7; k++) {
        int d[3];
        uint8_t *mask = tensor("label", masks[k], "mask", d);
        float *weights = tensor("label", masks[k], "weights", NULL),
              *mean = tensor("label", masks[k], "confidence", NULL);
        int32_t *labels = tensor("label", masks[k], "labels", NULL), *count = tensor("label", masks[k], "count", NULL),
                *area = tensor("label", masks[k], "area", NULL), *box = tensor("label", masks[k], "box", NULL),
                got[2048];
        struct component_list list;
        cr_assert(mask && labels && count && d[0] * d[1] <= 2048);
        cr_assert_eq(mcs_components_find(mask, weights, d[1], d[0], got, &list), MCS_OK);
        cr_expect_arr_eq(got, labels, (size_t)(d[0] * d[1]) * sizeof *got, "%s", masks[k]);
        cr_assert_eq(list.n, *count);
        for (int i = 0; i < list.n; i++) {
            const struct component *c = list.items + i;
            cr_expect_eq(c->area, area[i]);
            cr_expect(c->x0 == box[4 * i] && c->y0 == box[4 * i + 1] && c->x1 == box[4 * i + 2] &&
                      c->y1 == box[4 * i + 3]);
            /* the reference may sum in float: one ulp per pixel */
            cr_expect_float_eq(c->confidence, mean[i], 6e-8 * area[i] + 6e-8);
        }
        mcs_components_free(&list);
    }
}

Test(classic, distances)
{
    const char *names[] = {"blobs", "wide", "dense", "volume"};
    for (int k = 0; k < 4; k++) {
        int d[3] = {0}, volume = k == 3;
        uint8_t *mask = tensor("edt", names[k], "mask", d), sites[2048];
        float *s = tensor("edt", names[k], "spacing", NULL), *want = tensor("edt", names[k], "distance", NULL);
        int nx = volume ? d[2] : d[1], ny = volume ? d[1] : d[0], nz = volume ? d[0] : 1, n = nx * ny * nz;
        const double spacing[3] = {s[volume ? 2 : 1], s[volume ? 1 : 0], volume ? s[0] : 1.0};
        double got[2048];
        cr_assert(n <= 2048);
        for (int i = 0; i < n; i++) sites[i] = !mask[i];
        cr_assert_eq(mcs_distance_transform(sites, nx, ny, nz, spacing, got), MCS_OK);
        for (int i = 0; i < n; i++) cr_expect_float_eq(got[i], want[i], 6e-8 * (1 + want[i]));
    }
}

/* Equal, both NaN or both infinite; tol relative. */
static int same(double got, float want, double tol)
{
    if (isnan(want) || isinf(want)) return isnan(want) ? isnan(got) : isinf(got);
    return fabs(got - want) <= tol * (1.0 + fabs(want));
}

Test(classic, metrics)
{
    const char *pairs[] = {"same",   "shifted", "grown",         "shrunk",       "border",  "blobs",      "stray",
                           "pixels", "apart",   "no_prediction", "no_reference", "neither", "wide_pixels"};
    for (int k = 0; k < 13; k++) {
        int d[3], neither = k == 11, wide = k == 12;
        const char *n = pairs[k];
        uint8_t *pred = tensor("metric", n, "prediction", d), *ref = tensor("metric", n, "reference", NULL);
        float *s = tensor("metric", n, "spacing", NULL), *area = tensor("metric", n, "area", NULL),
              *mean = tensor("metric", n, "mean_distance", NULL);
        const double spacing[2] = {s[1], s[0]};
        const struct {
            const char *name;
            double value;
            int skip; /* the reference has another rule for empty masks (metrics.h) */
        } * row;
        struct mask_metrics m;
        struct surface_pair p;
        double to_pred, to_ref;
        cr_assert_eq(mcs_metrics_measure(pred, ref, d[1], d[0], spacing, 2.0, &m), MCS_OK);
        cr_assert_eq(mcs_surface_measure(pred, ref, d[1], d[0], spacing, MCS_SURFACE_2D, &p), MCS_OK);
        mcs_surface_average(&p, &to_pred, &to_ref);
        /* float values in the file, and some hundred terms in another order: the file's rounding dominates; with
         * spacings of float precision, 0.8f is not 0.8 */
        const double tol = 2e-7;
        typeof(*row) rows[] = {{"dsc", m.dice, 0},
                               {"nsd", m.nsd, 0},
                               {"nsd_slice", m.nsd_slice, wide},
                               {"hd95", m.hd95, neither},
                               {"hd", mcs_surface_hausdorff(&p, 100.0), neither},
                               {"assd", m.assd, p.pred.n == 0 || p.ref.n == 0}};
        for (int i = 0; i < 6; i++) {
            if (rows[i].skip) continue;
            float *want = tensor("metric", n, rows[i].name, NULL);
            cr_assert(want);
            cr_expect(same(rows[i].value, *want, tol), "%s %s: %.9g, want %.9g", n, rows[i].name, rows[i].value, *want);
        }
        cr_expect(same(p.ref.total, area[0], tol) && same(p.pred.total, area[1], tol), "%s area", n);
        cr_expect(same(to_pred, mean[0], tol) && same(to_ref, mean[1], tol), "%s mean %g %g, want %g %g", n, to_pred,
                  to_ref, mean[0], mean[1]);
        mcs_surface_free(&p);
    }
}

/* Surface distances of volumes and planes, and the detection of lesions, against golden/surfaces.json:
 * surface-distance, scipy's components, and the definitions of overlap restated in numpy. */
#include "infer/metrics/lesions.h"
#include "infer/metrics/metrics.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *mask_of(json_t *c, const char *side)
{
    const char *text = json_string_value(json_object_get(c, side));
    const size_t n = strlen(text);
    uint8_t *mask = malloc(n);
    for (size_t i = 0; i < n; i++) mask[i] = text[i] == '1';
    return mask;
}

static void expect(json_t *c, const char *metric, double got)
{
    json_t *want = json_object_get(json_object_get(c, "want"), metric);
    const double v = json_is_number(want) ? json_number_value(want) : NAN;
    cr_assert(want, "%s", metric);
    /* at most 2,000 terms of like sign in another order, and a table of areas with the same formulas: 2000 x 2.2e-16 */
    cr_expect((isnan(v) && isnan(got)) || fabs(v - got) <= 5e-13 * (1 + fabs(v)), "%s: %s %.15g, want %.15g",
              json_string_value(json_object_get(c, "name")), metric, got, v);
}

static void check(json_t *c, double tolerance, double min_iou)
{
    json_t *size = json_object_get(c, "size"), *mm = json_object_get(c, "spacing");
    const int plane = json_array_size(size) == 2;
    int n[3] = {1, 1, 1};
    double spacing[3] = {1, 1, 1};
    for (size_t i = 0; i < json_array_size(size); i++) {
        n[i] = (int)json_integer_value(json_array_get(size, i));
        spacing[i] = json_number_value(json_array_get(mm, i));
    }
    uint8_t *pred = mask_of(c, "pred"), *ref = mask_of(c, "ref");
    struct surface_pair s;
    struct lesion_counts l;
    if (plane)
        cr_assert_eq(mcs_surface_measure(pred, ref, n[0], n[1], spacing, MCS_SURFACE_2D, &s), MCS_OK);
    else
        cr_assert_eq(mcs_surface_measure_volume(pred, ref, n, spacing, &s), MCS_OK);
    expect(c, "area_ref", s.ref.total);
    expect(c, "area_pred", s.pred.total);
    expect(c, "NSD", mcs_surface_nsd(&s, tolerance));
    expect(c, "HD95", mcs_surface_hausdorff(&s, 95));
    expect(c, "HD", mcs_surface_hausdorff(&s, 100));
    expect(c, "ASSD", mcs_surface_assd(&s));
    mcs_surface_free(&s);
    cr_assert_eq(mcs_lesions_match(pred, ref, n, min_iou, &l), MCS_OK);
    expect(c, "lesions_ref", (double)l.n_ref);
    expect(c, "lesions_pred", (double)l.n_pred);
    expect(c, "lesions_matched", (double)l.n_matched);
    struct mask_metrics m;
    const struct mask_counts counts = mcs_metrics_count(pred, ref, (int64_t)n[0] * n[1] * n[2]);
    if (plane || n[2] > 1) { /* a volume of one slice is taken as a plane there */
        cr_assert_eq(mcs_metrics_measure_all(pred, ref, n, spacing, tolerance, min_iou, &counts, &m), MCS_OK);
        expect(c, "Dice", m.dice);
        expect(c, "IoU", m.iou);
        expect(c, "Sensitivity", m.sensitivity);
        expect(c, "Precision", m.precision);
        expect(c, "Volume_pred", m.volume_pred);
        expect(c, "Volume_ref", m.volume_ref);
        expect(c, "Volume_difference", m.volume_difference);
        expect(c, "NSD", m.nsd);
        expect(c, "HD95", m.hd95);
        expect(c, "ASSD", m.assd);
        expect(c, "Lesion_sensitivity", m.lesion_sensitivity);
        expect(c, "Lesion_precision", m.lesion_precision);
        expect(c, "Lesion_FP", m.lesion_fp);
    }
    expect(c, "Lesion_Dice", l.dice);
    free(pred);
    free(ref);
}

Test(surfaces, equal_surface_distance_and_scipy)
{
    json_t *root = json_load_file(MCS_SOURCE_DIR "/tests/golden/surfaces.json", 0, NULL), *c;
    size_t i;
    cr_assert(root);
    cr_assert_geq(json_array_size(json_object_get(root, "cases")), 13);
    json_array_foreach(json_object_get(root, "cases"), i, c) check(
        c, json_number_value(json_object_get(root, "tolerance")), json_number_value(json_object_get(root, "min_iou")));
    json_decref(root);
}

/* No element on one side: no distance; on neither: undefined. */
Test(surfaces, empty_volumes)
{
    const int n[3] = {3, 4, 2};
    const double spacing[3] = {1, 1, 1};
    uint8_t none[24] = {0}, some[24] = {[7] = 1};
    struct surface_pair s;
    struct lesion_counts l;
    cr_assert_eq(mcs_surface_measure_volume(none, none, n, spacing, &s), MCS_OK);
    cr_expect(s.pred.n == 0 && s.ref.n == 0 && isnan(mcs_surface_nsd(&s, 1)) && isnan(mcs_surface_assd(&s)));
    mcs_surface_free(&s);
    cr_assert_eq(mcs_surface_measure_volume(none, some, n, spacing, &s), MCS_OK);
    cr_expect(s.ref.n == 8 && mcs_surface_nsd(&s, 1) == 0 && isinf(mcs_surface_hausdorff(&s, 95)));
    mcs_surface_free(&s);
    cr_assert_eq(mcs_lesions_match(none, some, n, 0.1, &l), MCS_OK);
    cr_expect(l.n_ref == 1 && l.n_pred == 0 && l.n_matched == 0 && isnan(l.dice));
}

/* Sizes and spacings that cannot be. */
Test(surfaces, refused)
{
    const uint8_t one[1] = {1};
    struct surface_pair s;
    cr_expect_eq(mcs_surface_measure_volume(one, one, (int[]){1, 0, 1}, (double[]){1, 1, 1}, &s), MCS_E_SHAPE);
    mcs_error_clear();
    cr_expect_eq(mcs_surface_measure_volume(one, one, (int[]){1, 1, 1}, (double[]){1, NAN, 1}, &s), MCS_E_USAGE);
    mcs_error_clear();
}

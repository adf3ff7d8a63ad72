/* Folders of predictions against folders of references. */
#include "data/image/image.h"
#include "data/image/volume.h"
#include "data/io/file.h"
#include "infer/metrics/evaluate.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static void setup(void)
{
    char line[192];
    snprintf(folder, sizeof folder, "/tmp/mcs_evaluate_%ld", (long)getpid());
    snprintf(line, sizeof line, "mkdir -p %s/pred %s/ref", folder, folder);
    cr_assert_eq(system(line), 0);
}

static void teardown(void)
{
    char line[128];
    snprintf(line, sizeof line, "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}
TestSuite(evaluate, .init = setup, .fini = teardown);

static char *at(const char *name)
{
    static char path[8][160];
    static int next;
    next = (next + 1) % 8;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

/* A mask with a rectangle of `value`. */
static void write_mask(const char *name, int w, int h, int x0, int y0, int x1, int y1, uint8_t value)
{
    struct image img;
    cr_assert_eq(mcs_image_alloc(&img, w, h, 1), MCS_OK);
    for (int y = y0; y <= y1; y++)
        for (int x = x0; x <= x1; x++) img.pixels[y * w + x] = value;
    cr_assert_eq(mcs_image_write_png(at(name), &img), MCS_OK);
    mcs_image_free(&img);
}

static enum mcs_status evaluate(struct evaluation *e)
{
    struct evaluate_options o = mcs_evaluate_defaults(MCS_PAPER);
    return mcs_evaluate_folder(at("pred"), at("ref"), at("out"), &o, e);
}

static double real_at(json_t *o, const char *a, const char *b, const char *c)
{
    json_t *v = json_object_get(json_object_get(json_object_get(o, a), b), c);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

Test(evaluate, summary_with_the_keys_of_nnunet)
{
    struct evaluation e;
    write_mask("pred/a.png", 20, 10, 2, 2, 5, 5, 1); /* 16 pixels, 12 shared; 0/1 is treated as 0/255 */
    write_mask("ref/a.png", 20, 10, 3, 2, 6, 5, 255);
    write_mask("pred/b.png", 8, 8, 1, 1, 0, 0, 0); /* both empty: in no mean */
    write_mask("ref/b.png", 8, 8, 1, 1, 0, 0, 0);
    write_mask("pred/c.png", 8, 8, 1, 1, 0, 0, 0); /* one empty: 0, distances infinite */
    write_mask("ref/c.png", 8, 8, 1, 1, 3, 3, 9);
    cr_assert_eq(evaluate(&e), MCS_OK, "%s", mcs_error_message());
    cr_assert(e.n == 3 && e.failures.n == 0);
    cr_expect_float_eq(e.cases[0].m.dice, 0.75, 1e-15);
    cr_expect_float_eq(e.mean[MCS_METRIC_dice].mean, 0.375, 1e-15);
    cr_expect(e.mean[MCS_METRIC_dice].n == 2 && e.mean[MCS_METRIC_hd95].n == 1 &&
              e.mean[MCS_METRIC_hd95].n_left_out == 2);
    double hd95 = e.cases[0].m.hd95;
    mcs_evaluation_free(&e);

    json_t *s = json_load_file(at("out/summary.json"), 0, NULL);
    cr_assert(s);
    cr_expect_float_eq(real_at(s, "mean", "1", "Dice"), 0.375, 1e-12);
    cr_expect_float_eq(real_at(s, "mean", "1", "HD95"), hd95, 1e-12);
    cr_expect_float_eq(real_at(s, "mean", "1", "TP"), 4.0, 1e-12);
    cr_expect_float_eq(json_number_value(json_object_get(json_object_get(s, "foreground_mean"), "IoU")), 0.3, 1e-12);
    json_t *cases = json_object_get(s, "metric_per_case"), *a = json_array_get(cases, 0);
    cr_assert_eq(json_array_size(cases), 3);
    const char *keys[] = {"Dice", "IoU", "TP", "FP", "FN", "TN", "n_pred", "n_ref", "NSD", "NSD_slice", "HD95", "ASSD"};
    const double want[] = {0.75, 0.6, 12, 4, 4, 180, 16, 16};
    for (int i = 0; i < 12; i++) {
        double v = real_at(a, "metrics", "1", keys[i]);
        cr_expect(i < 8 ? fabs(v - want[i]) < 1e-12 : isfinite(v), "%s %g", keys[i], v);
    }
    cr_expect(strstr(json_string_value(json_object_get(a, "prediction_file")), "pred/a.png"));
    cr_expect(strstr(json_string_value(json_object_get(a, "reference_file")), "ref/a.png"));
    json_t *b = json_object_get(json_object_get(json_array_get(cases, 1), "metrics"), "1");
    cr_expect(json_is_null(json_object_get(b, "Dice")) && json_is_null(json_object_get(b, "HD95")));
    json_decref(s);

    char *text;
    int64_t n;
    cr_assert_eq(mcs_file_read(at("out/cases.csv"), 100000, &text, &n), MCS_OK);
    cr_expect(!strncmp(text, "case,Dice,IoU,NSD,NSD_slice,HD95,ASSD,TP,", 41), "%s", text);
    cr_expect(strstr(text, "\na,0.75,0.6,") && strstr(text, "\nb,nan,nan,nan,nan,nan,nan,0,") &&
                  strstr(text, "\nc,0,0,0,0,inf,inf,0,"),
              "%s", text);
    free(text);
}

Test(evaluate, files_without_a_counterpart_are_listed)
{
    struct evaluation e;
    write_mask("pred/a.png", 9, 9, 1, 1, 3, 3, 1);
    write_mask("ref/a.png", 9, 9, 1, 1, 3, 3, 1);
    write_mask("pred/only_pred.png", 9, 9, 1, 1, 3, 3, 1);
    write_mask("ref/only_ref.png", 9, 9, 1, 1, 3, 3, 1);
    write_mask("pred/size.png", 9, 9, 1, 1, 3, 3, 1);
    write_mask("ref/size.png", 9, 8, 1, 1, 3, 3, 1);
    write_mask("ref/damaged.png", 9, 8, 1, 1, 3, 3, 1);
    cr_assert_eq(mcs_file_write(at("pred/damaged.png"), "no image", 8), MCS_OK);
    cr_assert_eq(evaluate(&e), MCS_E_PARTIAL);
    cr_expect(strstr(mcs_error_message(), "1 compared, 2 failed, 1 predictions without"), "%s", mcs_error_message());
    mcs_error_clear();
    cr_expect(e.n == 1 && e.n_failed == 2 && e.n_only_pred == 1 && e.n_only_ref == 1 && e.failures.n == 4);
    cr_expect(e.mean[MCS_METRIC_dice].mean == 1.0);
    mcs_evaluation_free(&e);
    char *text;
    int64_t n;
    cr_assert_eq(mcs_file_read(at("out/failures.csv"), 100000, &text, &n), MCS_OK);
    cr_expect(strstr(text, "\nonly_pred,a prediction without a reference\n"), "%s", text);
    cr_expect(strstr(text, "\nonly_ref,a reference without a prediction\n"));
    cr_expect(strstr(text, "9 x 9 x 1") && strstr(text, "9 x 8 x 1"));
    cr_expect(strstr(text, "\ndamaged,"));
    free(text);
}

Test(evaluate, folders_that_make_no_sense)
{
    struct evaluation e;
    cr_expect_eq(evaluate(&e), MCS_E_NOINPUT);
    mcs_error_clear();
    write_mask("pred/a.png", 9, 9, 1, 1, 3, 3, 1);
    cr_expect_eq(evaluate(&e), MCS_E_NOINPUT);
    mcs_error_clear();
    write_mask("ref/b.png", 9, 9, 1, 1, 3, 3, 1);
    cr_expect_eq(evaluate(&e), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "nothing to compare"));
    mcs_error_clear();
    write_mask("ref/a.png", 9, 9, 1, 1, 3, 3, 1);
    write_mask("ref/a.jpg", 9, 9, 1, 1, 3, 3, 1);
    cr_expect_eq(evaluate(&e), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "a.jpg and a.png have one stem"), "%s", mcs_error_message());
    mcs_error_clear();
    struct evaluate_options o = mcs_evaluate_defaults(MCS_PAPER);
    cr_expect_eq(mcs_evaluate(at("nowhere"), at("ref"), &o, &e), MCS_E_NOINPUT);
}

Test(evaluate, released_form_cuts_at_200_and_resizes)
{
    struct evaluation e;
    struct evaluate_options o = mcs_evaluate_defaults(MCS_RELEASE);
    write_mask("pred/a.png", 4, 4, 1, 1, 2, 2, 255); /* twice as large: pixels 2..5 */
    write_mask("ref/a.png", 8, 8, 2, 2, 5, 5, 201);
    write_mask("pred/b.png", 8, 8, 2, 2, 5, 5, 200); /* not above 200 */
    write_mask("ref/b.png", 8, 8, 2, 2, 5, 5, 255);
    cr_assert_eq(mcs_evaluate(at("pred"), at("ref"), &o, &e), MCS_OK, "%s", mcs_error_message());
    cr_expect(e.n == 2 && e.cases[0].m.dice == 1.0 && e.cases[1].m.dice == 0.0);
    mcs_evaluation_free(&e);
}

Test(evaluate, nifti_counts_voxels_and_measures_in_mm)
{
    struct evaluation e;
    struct volume flat = {.nx = 12, .ny = 10, .nz = 1, .spacing = {2.0f, 2.0f, 1.0f}}, deep = flat;
    uint8_t a[12 * 10 * 3] = {0}, b[12 * 10 * 3] = {0};
    for (int y = 2; y < 6; y++)
        for (int x = 2; x < 6; x++) a[y * 12 + x] = b[y * 12 + x + 1] = 1; /* shifted by a pixel, which is 2 mm */
    deep.nz = 3;
    cr_assert_eq(mcs_volume_write_u8(at("pred/flat.nii.gz"), a, &flat), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_volume_write_u8(at("ref/flat.nii.gz"), b, &flat), MCS_OK);
    cr_assert_eq(mcs_volume_write_u8(at("pred/deep.nii.gz"), a, &deep), MCS_OK);
    cr_assert_eq(mcs_volume_write_u8(at("ref/deep.nii"), b, &deep), MCS_OK);
    struct evaluate_options o = mcs_evaluate_defaults(MCS_PAPER);
    cr_assert_eq(mcs_evaluate(at("pred"), at("ref"), &o, &e), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(e.n, 2);
    cr_expect_str_eq(e.cases[0].stem, "deep");
    cr_expect(e.cases[0].m.dice == 0.75 && e.cases[0].m.counts.tn == 360 - 20 && isnan(e.cases[0].m.hd95));
    cr_expect(e.cases[1].m.dice == 0.75 && e.cases[1].m.hd95 == 2.0 && e.cases[1].m.nsd == 1.0);
    mcs_evaluation_free(&e);
    o.tolerance = 1.9; /* under 2 mm: only the upper and lower edges that lie on each other are left */
    cr_assert_eq(mcs_evaluate(at("pred"), at("ref"), &o, &e), MCS_OK);
    cr_expect(e.cases[1].m.nsd > 0.3 && e.cases[1].m.nsd < 0.7, "%g", e.cases[1].m.nsd);
    mcs_evaluation_free(&e);
}

static void write_volume(const char *name, int at_voxel, float value)
{
    struct volume v;
    cr_assert_eq(mcs_volume_alloc(&v, 10, 8, 3, NULL), MCS_OK);
    for (int i = 30; i < 60; i++) v.values[i] = 1;
    v.values[at_voxel] = value;
    cr_assert_eq(mcs_volume_write_f32(at(name), v.values, &v), MCS_OK, "%s", mcs_error_message());
    mcs_volume_free(&v);
}

/* A NaN in the prediction or in the reference: this case is listed as failed, the others are compared.
 */
Test(evaluate, masks_that_are_not_finite_are_listed)
{
    static const struct {
        const char *name, *side;
        float value;
        int voxel;
        const char *reason;
    } broken[] = {
        {"a", "pred", NAN, 0, "pred/a.nii.gz: voxel (0, 0, 0), counted from 0, is NaN"},
        {"b", "ref", NAN, 239, "ref/b.nii.gz: voxel (9, 7, 2), counted from 0, is NaN"},
        {"c", "pred", INFINITY, 80, "pred/c.nii.gz: voxel (0, 0, 1), counted from 0, is infinite"},
        {"d", "ref", -INFINITY, 91, "ref/d.nii.gz: voxel (1, 1, 1), counted from 0, is infinite"},
    };
    struct evaluation e;
    char name[64];
    for (int i = 0; i < 5; i++) {
        for (int side = 0; side < 2; side++) {
            snprintf(name, sizeof name, "%s/%c.nii.gz", side ? "ref" : "pred", 'a' + i);
            const int here = i < 4 && strcmp(broken[i].side, side ? "ref" : "pred") == 0;
            write_volume(name, here ? broken[i].voxel : 0, here ? broken[i].value : 0);
        }
    }
    cr_assert_eq(evaluate(&e), MCS_E_PARTIAL, "%s", mcs_error_message());
    cr_expect(e.n == 1 && e.n_failed == 4 && strcmp(e.cases[0].stem, "e") == 0 && e.cases[0].m.dice == 1);
    cr_assert_eq(e.failures.n, 4);
    for (int i = 0; i < 4; i++) {
        cr_expect_str_eq(e.failures.items[i].stem, broken[i].name);
        cr_expect(strstr(e.failures.items[i].reason, broken[i].reason), "%s", e.failures.items[i].reason);
    }
    cr_expect(mcs_file_exists(at("out/failures.csv")));
    mcs_evaluation_free(&e);
}

Test(evaluate, output_that_cannot_be_written)
{
    struct evaluation e;
    struct evaluate_options o = mcs_evaluate_defaults(MCS_PAPER);
    write_mask("pred/a.png", 9, 9, 1, 1, 3, 3, 1);
    write_mask("ref/a.png", 9, 9, 1, 1, 3, 3, 1);
    write_mask("ref/b.png", 9, 9, 1, 1, 3, 3, 1); /* has no prediction, but E_IO is reported rather than E_PARTIAL */
    cr_expect_eq(mcs_evaluate_folder(at("pred"), at("ref"), "/proc/scores", &o, &e), MCS_E_IO);
    cr_expect(strstr(mcs_error_message(), "/proc/scores"), "%s", mcs_error_message());
    cr_expect_eq(e.n, 0);
}

/* Folders of predictions against folders of references. */
#include "data/image/image.h"
#include "data/image/nifti.h"
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
    write_mask("ref/c.png", 8, 8, 1, 1, 3, 3, 1);  /* as 255: one mask */
    cr_assert_eq(evaluate(&e), MCS_OK, "%s", mcs_error_message());
    cr_assert(e.n == 3 && e.failures.n == 0);
    cr_expect_float_eq(e.cases[0].m[0].dice, 0.75, 1e-15);
    cr_expect_float_eq(e.mean[MCS_METRIC_dice].mean, 0.375, 1e-15);
    cr_expect(e.mean[MCS_METRIC_dice].n == 2 && e.mean[MCS_METRIC_hd95].n == 1 &&
              e.mean[MCS_METRIC_hd95].n_left_out == 2);
    double hd95 = e.cases[0].m[0].hd95;
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
    cr_expect(!strncmp(text, "case,region,Dice,IoU,Sensitivity,Precision,NSD,", 44), "%s", text);
    cr_expect(strstr(text, "\na,1,0.75,0.6,0.75,0.75,") &&
                  strstr(text, "\nb,1,nan,nan,nan,nan,nan,nan,nan,nan,0,0,nan,nan,nan,0,nan,0,") &&
                  strstr(text, "\nc,1,0,0,0,nan,0,0,inf,inf,0,9,-1,0,nan,0,nan,0,"),
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
    cr_expect(strstr(text, "\nonly_pred,a prediction without a reference; the nearest name is only_ref\n"), "%s", text);
    cr_expect(strstr(text, "\nonly_ref,a reference without a prediction; the nearest name is only_pred\n"));
    cr_expect(strstr(text, "9 x 9") && strstr(text, "9 x 8"));
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
    cr_expect(e.n == 2 && e.cases[0].m[0].dice == 1.0 && e.cases[1].m[0].dice == 0.0);
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
    cr_expect(e.cases[0].m[0].dice == 0.75 && e.cases[0].m[0].counts.tn == 360 - 20 && e.cases[0].m[0].hd95 == 2.0 &&
              isnan(e.cases[0].m[0].nsd_slice) && e.cases[0].m[0].volume_ref == 64);
    cr_expect(e.cases[1].m[0].dice == 0.75 && e.cases[1].m[0].hd95 == 2.0 && e.cases[1].m[0].nsd == 1.0);
    mcs_evaluation_free(&e);
    o.tolerance = 1.9; /* under 2 mm: only the upper and lower edges that lie on each other are left */
    cr_assert_eq(mcs_evaluate(at("pred"), at("ref"), &o, &e), MCS_OK);
    cr_expect(e.cases[1].m[0].nsd > 0.3 && e.cases[1].m[0].nsd < 0.7, "%g", e.cases[1].m[0].nsd);
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

/* ---- classes and regions ---- */

static enum mcs_status evaluate_by(const char *labels, const struct label_rule *rule, struct evaluation *e)
{
    struct evaluate_options o = mcs_evaluate_defaults(MCS_PAPER);
    o.labels = labels;
    if (rule) o.rule = *rule;
    return mcs_evaluate_folder(at("pred"), at("ref"), at("out"), &o, e);
}

/* An image of 8 x 8 whose rows 0 to 2 have the labels a, b and c, four pixels each. */
static void write_rows(const char *name, uint8_t a, uint8_t b, uint8_t c)
{
    struct image img;
    cr_assert_eq(mcs_image_alloc(&img, 8, 8, 1), MCS_OK);
    for (int x = 0; x < 4; x++) img.pixels[x] = a, img.pixels[8 + x] = b, img.pixels[16 + x] = c;
    cr_assert_eq(mcs_image_write_png(at(name), &img), MCS_OK);
    mcs_image_free(&img);
}

/* E_DATA, or E_PARTIAL where it is the only pair that fails. */
static void fails(const char *labels, const char *part)
{
    struct evaluation e;
    const enum mcs_status st = evaluate_by(labels, NULL, &e);
    cr_expect(st == MCS_E_DATA || (st == MCS_E_PARTIAL && e.n == 0 && e.n_failed == 1), "%d: %s", st, part);
    cr_expect(strstr(mcs_error_message(), part), "want '%s' in: %s", part, mcs_error_message());
    mcs_error_clear();
    if (st == MCS_E_PARTIAL) mcs_evaluation_free(&e);
}

Test(evaluate, each_label_is_a_class_and_regions_join_them)
{
    struct evaluation e;
    write_rows("pred/a.png", 1, 2, 2);
    write_rows("ref/a.png", 1, 1, 2);
    write_rows("pred/b.png", 1, 0, 0); /* class 2 in neither */
    write_rows("ref/b.png", 0, 1, 0);
    cr_assert_eq(evaluate_by(NULL, NULL, &e), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(e.regions.n, 2);
    cr_expect_str_eq(e.regions.v[0].name, "1");
    cr_expect_str_eq(e.regions.v[1].name, "2");
    const struct mask_metrics *m = e.cases[0].m;
    cr_expect_float_eq(m[0].dice, 2.0 * 4 / (4 + 8), 1e-15);
    cr_expect_float_eq(m[1].dice, 2.0 * 4 / (8 + 4), 1e-15);
    cr_expect(m[0].sensitivity == 0.5 && m[0].precision == 1 && m[1].sensitivity == 1 && m[1].precision == 0.5);
    cr_expect(m[0].volume_pred == 4 && m[0].volume_ref == 8 && m[0].volume_difference == -0.5);
    cr_expect(isnan(e.cases[1].m[1].dice) && e.empty[1].both == 1 && e.empty[0].both == 0);
    const struct mean_interval *dice = &e.mean[MCS_METRIC_dice], *of_2 = &e.mean[MCS_N_METRICS + MCS_METRIC_dice];
    cr_expect_float_eq(dice->mean, 1.0 / 3, 1e-15);
    cr_expect(dice->n == 2 && of_2->n == 1 && of_2->n_left_out == 1 && isnan(of_2->lo));
    cr_expect(dice->lo >= 0 && dice->hi <= 2.0 / 3 + 1e-15 && dice->lo < dice->hi, "%g %g", dice->lo, dice->hi);
    cr_expect_float_eq(mcs_evaluation_foreground(&e, MCS_METRIC_dice), (1.0 / 3 + 2.0 / 3) / 2, 1e-15);
    mcs_evaluation_free(&e);
    cr_assert_eq(evaluate_by("both=1+2,two=2", NULL, &e), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(e.regions.n, 2);
    cr_expect(e.cases[0].m[0].dice == 1 && e.cases[0].m[1].sensitivity == 1 && e.cases[1].m[0].dice == 0);
    mcs_evaluation_free(&e);
    cr_expect_eq(evaluate_by("two=x", NULL, &e), MCS_E_USAGE);
    mcs_error_clear();
    cr_expect_eq(evaluate_by("two=1,two=2", NULL, &e), MCS_E_USAGE);
    mcs_error_clear();
    cr_expect_eq(evaluate_by("1", NULL, &e), MCS_E_PARTIAL);
    cr_expect(strstr(mcs_error_message(), "pred/a.png: voxel (0, 1), counted from 0, has label 2, which is none of"));
    mcs_error_clear();
    mcs_evaluation_free(&e);
}

Test(evaluate, regions_of_a_dataset_json)
{
    static const char json[] =
        "{\"channel_names\": {\"0\": \"CT\"}, \"labels\": {\"background\": 0, \"whole\": [1, 2], "
        "\"core\": [2], \"ignore\": 3}, \"regions_class_order\": [1, 2], \"numTraining\": 1, "
        "\"file_ending\": \".png\"}";
    struct evaluation e;
    write_rows("pred/a.png", 1, 2, 2);
    write_rows("ref/a.png", 1, 2, 3);
    cr_assert_eq(mcs_file_write(at("dataset.json"), json, sizeof json - 1), MCS_OK);
    cr_assert_eq(evaluate_by(at("dataset.json"), NULL, &e), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(e.regions.n, 2);
    cr_expect_str_eq(e.regions.v[1].name, "core");
    for (int k = 0; k < 2; k++) cr_expect(e.cases[0].m[k].dice == 1, "%g", e.cases[0].m[k].dice);
    cr_expect(e.cases[0].m[0].counts.tn == 64 - 12, "four ignored pixels are in no count");
    mcs_evaluation_free(&e);
    const struct label_rule ignore_2 = {.has_ignore = 1, .ignore = 2};
    write_rows("ref/a.png", 1, 2, 2);
    cr_assert_eq(evaluate_by(NULL, &ignore_2, &e), MCS_OK, "%s", mcs_error_message());
    cr_expect(e.regions.n == 1 && e.cases[0].m[0].dice == 1 && e.cases[0].m[0].hd95 == 0);
    mcs_evaluation_free(&e);
}

Test(evaluate, masks_that_could_mean_two_things)
{
    struct evaluation e;
    write_rows("pred/a.png", 255, 0, 0);
    write_rows("ref/a.png", 1, 0, 0);
    write_rows("pred/b.png", 255, 0, 0);
    write_rows("ref/b.png", 255, 0, 0);
    cr_assert_eq(evaluate(&e), MCS_OK, "%s", mcs_error_message()); /* 1 and 255 are one mask */
    cr_expect(e.n == 2 && e.regions.n == 1 && e.mean[MCS_METRIC_dice].mean == 1);
    mcs_evaluation_free(&e);
    write_rows("ref/b.png", 2, 0, 0);
    fails(NULL, "ref/b.png has the label 2 alone and");
    write_rows("ref/b.png", 2, 1, 0);
    fails(NULL, "predictions and references have no label in common");
}

Test(evaluate, images_and_exchanged_folders_are_refused)
{
    static const char record[] = "{\"verb\": \"predict\", \"options\": \"x\"}\n";
    struct image img;
    struct evaluation e;
    cr_assert_eq(mcs_image_alloc(&img, 32, 32, 1), MCS_OK);
    for (int i = 0; i < 1024; i++) img.pixels[i] = (uint8_t)(i * 37 % 251);
    cr_assert_eq(mcs_image_write_png(at("pred/a.png"), &img), MCS_OK);
    mcs_image_free(&img);
    write_mask("ref/a.png", 32, 32, 2, 2, 9, 9, 1);
    fails(NULL, "pred/a.png: 251 different values that change from pixel to pixel: this is an image, not a mask");
    write_mask("pred/a.png", 32, 32, 2, 2, 9, 9, 1);
    cr_assert_eq(mcs_file_write(at("ref/.mcsam.record"), record, sizeof record - 1), MCS_OK);
    fails(NULL, "are --pred and --ref exchanged?");
    cr_assert_eq(mcs_file_write(at("pred/.mcsam.record"), record, sizeof record - 1), MCS_OK);
    cr_expect_eq(evaluate(&e), MCS_OK, "two networks' results");
    mcs_evaluation_free(&e);
}

/* The same voxels stored with x mirrored are compared where they lie; another origin is another grid. */
Test(evaluate, predictions_stored_otherwise_are_turned)
{
    struct evaluation e;
    struct nifti_header h = {.version = 1, .dim = {3, 4, 3, 2, 1, 1, 1, 1}, .pixdim = {1, 1, 1, 2}, .xyzt_units = 2};
    struct volume v = {.nx = 4, .ny = 3, .nz = 2, .spacing = {1, 1, 2}, .header = &h};
    uint8_t a[24] = {[0] = 1, [1] = 1, [12] = 1}, b[24] = {[3] = 1, [2] = 1, [15] = 1};
    const double plain[12] = {1, 0, 0, 5, 0, 1, 0, 0, 0, 0, 2, 0}, mirrored[12] = {-1, 0, 0, 8, 0, 1, 0, 0, 0, 0, 2, 0};
    h.sform_code = 1;
    memcpy(h.srow, plain, sizeof plain);
    cr_assert_eq(mcs_volume_write_u8(at("ref/a.nii"), a, &v), MCS_OK, "%s", mcs_error_message());
    memcpy(h.srow, mirrored, sizeof mirrored);
    cr_assert_eq(mcs_volume_write_u8(at("pred/a.nii"), b, &v), MCS_OK);
    cr_assert_eq(evaluate(&e), MCS_OK, "%s", mcs_error_message());
    cr_expect(e.cases[0].m[0].dice == 1 && e.cases[0].m[0].volume_ref == 6);
    cr_expect(strstr(e.cases[0].note, "prediction: stored otherwise than"), "%s", e.cases[0].note);
    mcs_evaluation_free(&e);
    h.srow[3] = 9;
    cr_assert_eq(mcs_volume_write_u8(at("pred/a.nii"), b, &v), MCS_OK);
    fails(NULL, "--resample takes the nearest voxels");
}

/* Names in other normal forms of Unicode, and nnU-Net's first channel, belong together. */
Test(evaluate, names_that_are_written_otherwise)
{
    struct evaluation e;
    write_mask("pred/M\xC3\xBCller.png", 9, 9, 1, 1, 3, 3, 1);
    write_mask("ref/Mu\xCC\x88ller.png", 9, 9, 1, 1, 3, 3, 1); /* u and a combining diaeresis */
    write_mask("pred/case_0000.png", 9, 9, 1, 1, 3, 3, 1);
    write_mask("ref/case.png", 9, 9, 1, 1, 3, 3, 1);
    cr_assert_eq(evaluate(&e), MCS_OK, "%s", mcs_error_message());
    cr_expect(e.n == 2 && e.mean[MCS_METRIC_dice].mean == 1);
    mcs_evaluation_free(&e);
    write_mask("pred/case.png", 9, 9, 5, 5, 6, 6, 1); /* now case_0000 is another case */
    cr_assert_eq(evaluate(&e), MCS_E_PARTIAL);
    cr_expect(e.n == 2 && e.n_only_pred == 1 && e.cases[1].m[0].dice == 0, "%d %d", e.n, e.n_only_pred);
    mcs_error_clear();
    mcs_evaluation_free(&e);
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
    cr_expect(e.n == 1 && e.n_failed == 4 && strcmp(e.cases[0].stem, "e") == 0 && e.cases[0].m[0].dice == 1);
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

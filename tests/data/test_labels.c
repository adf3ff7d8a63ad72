/* Labels: numbers as stored, refusals, and the grid of another file. */
#include "data/image/image.h"
#include "data/image/labels.h"
#include "data/image/nifti.h"
#include "data/image/volume.h"
#include "data/io/file.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_jpeg.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void setup(void)
{
    test_folder_open("labels");
}
TestSuite(labels, .init = setup, .fini = test_folder_close);

static struct label_map read_map(const char *name, const struct label_rule *rule)
{
    struct label_map m;
    cr_assert_eq(mcs_labels_read(in_folder(name), rule, &m), MCS_OK, "%s", mcs_error_message());
    return m;
}

/* The labels in raster order, separated by spaces. */
static void holds(const struct label_map *m, const char *want)
{
    char text[256] = "";
    const int n = m->grid.n[0] * m->grid.n[1] * m->grid.n[2];
    for (int i = 0, at = 0; i < n; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "%s%lld", i ? " " : "", (long long)m->label[m->index[i]]);
    cr_expect_str_eq(text, want);
}

static void refused(const char *name, const struct label_rule *rule, const char *part)
{
    struct label_map m;
    fails_with(mcs_labels_read(in_folder(name), rule, &m), MCS_E_DATA, part);
    cr_expect_null(m.index);
}

static void put_grey(const char *name, const uint8_t pixels[6])
{
    struct image img;
    cr_assert_eq(mcs_image_alloc(&img, 3, 2, 1), MCS_OK);
    memcpy(img.pixels, pixels, 6);
    cr_assert_eq(mcs_image_write_png(in_folder(name), &img), MCS_OK);
    mcs_image_free(&img);
}

static void put_colours(const char *name, const uint8_t pixels[18])
{
    struct image img;
    cr_assert_eq(mcs_image_alloc(&img, 3, 2, 3), MCS_OK);
    memcpy(img.pixels, pixels, 18);
    cr_assert_eq(mcs_image_write_png(in_folder(name), &img), MCS_OK);
    mcs_image_free(&img);
}

/* 3 x 2 pixels 0 1 2 / 2 2 1, whose palette is white, black, dark red. */
static const uint8_t palette_png[] = {
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00, 0x00,
    0x03, 0x00, 0x00, 0x00, 0x02, 0x08, 0x03, 0x00, 0x00, 0x00, 0xaa, 0xaa, 0x96, 0x28, 0x00, 0x00, 0x00, 0x09, 0x50,
    0x4c, 0x54, 0x45, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x80, 0x00, 0x00, 0x9f, 0x64, 0xb2, 0xdd, 0x00, 0x00, 0x00,
    0x10, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0x60, 0x60, 0x64, 0x62, 0x60, 0x62, 0x62, 0x04, 0x00, 0x00, 0x23,
    0x00, 0x09, 0xe8, 0x95, 0x3b, 0x5d, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};

Test(labels, numbers_as_stored)
{
    const uint16_t wide[6] = {0, 300, 1, 65535, 0, 300};
    struct label_map m;
    cr_assert_eq(mcs_image_write_labels(in_folder("w.png"), wide, 3, 2), MCS_OK);
    m = read_map("w.png", NULL);
    holds(&m, "0 300 1 65535 0 300");
    cr_expect(m.n == 4 && m.label[3] == 65535 && m.count[2] == 2 && m.first[2] == 1 && !m.lossy);
    cr_expect(mcs_labels_find(&m, 300) == 2 && mcs_labels_find(&m, 2) == -1);
    mcs_labels_free(&m);
    cr_assert_eq(mcs_file_write(in_folder("p.png"), palette_png, sizeof palette_png), MCS_OK);
    m = read_map("p.png", NULL);
    holds(&m, "0 1 2 2 2 1");
    mcs_labels_free(&m);
    put_colours("grey.png", (uint8_t[]){0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0, 0, 0, 1, 1, 1});
    m = read_map("grey.png", NULL);
    holds(&m, "0 1 2 2 0 1");
    mcs_labels_free(&m);
    put_colours("red.png", (uint8_t[]){0, 0, 0, 0, 0, 0, 128, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0});
    m = read_map("red.png", NULL);
    holds(&m, "0 0 1 1 0 0");
    mcs_labels_free(&m);
    put_colours("two.png", (uint8_t[]){0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0});
    refused("two.png", NULL, "pixel (0, 1) has the colour (0, 128, 0), an earlier one (128, 0, 0)");
}

static void put_volume(const char *name, const float values[8], const double *srow)
{
    struct volume v;
    struct nifti_header h = {.version = 1, .dim = {3, 2, 2, 2, 1, 1, 1, 1}, .pixdim = {1, 1, 1, 1}, .xyzt_units = 2};
    cr_assert_eq(mcs_volume_alloc(&v, 2, 2, 2, NULL), MCS_OK);
    if (srow) {
        h.sform_code = 1;
        memcpy(h.srow, srow, sizeof h.srow);
        v.header = &h;
    }
    cr_assert_eq(mcs_volume_write_f32(in_folder(name), values, &v), MCS_OK, "%s", mcs_error_message());
    v.header = NULL;
    mcs_volume_free(&v);
}

Test(labels, floats_are_whole_or_refused)
{
    struct label_map m;
    const struct label_rule ignore_minus_1 = {.has_ignore = 1, .ignore = -1};
    put_volume("scaled.nii", (float[]){0, 2.99999f, 3.00001f, -1e-7f, 1, 0, 0, 0}, NULL);
    m = read_map("scaled.nii", NULL);
    holds(&m, "0 3 3 0 1 0 0 0");
    mcs_labels_free(&m);
    put_volume("soft.nii", (float[]){0, 0, 0, 0, 0, 0, 1.4f, 0}, NULL);
    refused("soft.nii", NULL, "soft.nii: voxel (0, 1, 1), counted from 0, is 1.4; labels are whole numbers");
    put_volume("nan.nii", (float[]){0, NAN, 0, 0, 0, 0, 0, 0}, NULL);
    refused("nan.nii", NULL, "voxel (1, 0, 0), counted from 0, is NaN");
    put_volume("big.nii", (float[]){0, 70000, 0, 0, 0, 0, 0, 0}, NULL);
    refused("big.nii", NULL, "is 70000; labels go to 65535");
    put_volume("minus.nii", (float[]){0, 1, 0, 0, -1, 0, 0, 0}, NULL);
    refused("minus.nii", NULL, "voxel (0, 0, 1), counted from 0, is -1; negative labels are refused");
    m = read_map("minus.nii", &ignore_minus_1);
    uint8_t classes[8];
    cr_assert_eq(mcs_labels_to_classes(&m, "minus.nii", &ignore_minus_1, 2, classes), MCS_OK);
    cr_expect(classes[1] == 1 && classes[4] == MCS_LABEL_IGNORED && classes[5] == 0);
    mcs_labels_free(&m);
}

static enum mcs_status classes_of(const char *name, int classes, const struct label_rule *rule, uint8_t dst[6])
{
    struct label_map m = read_map(name, NULL);
    const enum mcs_status st = mcs_labels_to_classes(&m, name, rule, classes, dst);
    mcs_labels_free(&m);
    return st;
}

Test(labels, two_classes_are_0_and_one_other)
{
    const struct label_rule ignore_255 = {.has_ignore = 1, .ignore = 255};
    uint8_t c[6];
    put_grey("white.png", (uint8_t[]){0, 255, 255, 0, 0, 255});
    cr_assert_eq(classes_of("white.png", 2, NULL, c), MCS_OK);
    cr_expect(c[0] == 0 && c[1] == 1 && c[5] == 1);
    fails_with(classes_of("white.png", 3, NULL, c), MCS_E_DATA, "a label of 255 where there are 3 classes, 0 to 2");
    put_grey("four.png", (uint8_t[]){0, 4, 0, 0, 4, 0});
    cr_assert_eq(classes_of("four.png", 2, NULL, c), MCS_OK);
    cr_expect(c[0] == 0 && c[1] == 1);
    put_grey("border.png", (uint8_t[]){0, 1, 255, 0, 1, 0});
    fails_with(classes_of("border.png", 2, NULL, c), MCS_E_DATA, "to leave its voxels out, say --ignore-label 255");
    cr_assert_eq(classes_of("border.png", 2, &ignore_255, c), MCS_OK);
    cr_expect(c[1] == 1 && c[2] == MCS_LABEL_IGNORED && c[3] == 0);
    fails_with(classes_of("border.png", 2, NULL, c), MCS_E_DATA, "border.png");
    cr_assert_eq(classes_of("border.png", 2, &(struct label_rule){.merge = 1}, c), MCS_OK);
    cr_expect(c[0] == 0 && c[1] == 1 && c[2] == 1);
    struct label_rule rule;
    cr_expect(mcs_label_rule_parse("-1", &rule) == MCS_OK && rule.has_ignore && rule.ignore == -1);
    cr_expect(mcs_label_rule_parse(NULL, &rule) == MCS_OK && !rule.has_ignore);
    fails_with(mcs_label_rule_parse("x", &rule), MCS_E_USAGE, "--ignore-label x");
}

/* ---- grids ---- */

static const double standard[12] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0},
                    /* x mirrored, then y and z exchanged: voxel (a, b, c) lies at (1 - a, c, b) */
    mirrored[12] = {-1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0}, moved[12] = {1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0},
                    singular[12] = {1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0};

Test(labels, the_same_voxels_stored_otherwise_are_turned)
{
    struct label_map a, b;
    put_volume("a.nii", (float[]){0, 1, 2, 3, 4, 5, 6, 7}, standard);
    put_volume("b.nii", (float[]){1, 0, 5, 4, 3, 2, 7, 6}, mirrored);
    a = read_map("a.nii", NULL);
    b = read_map("b.nii", NULL);
    cr_assert_eq(mcs_labels_to_grid(&b, "b.nii", &a.grid, "a.nii", 0), MCS_OK, "%s", mcs_error_message());
    holds(&b, "0 1 2 3 4 5 6 7");
    cr_expect(strstr(b.notes, "stored otherwise than a.nii, and turned to it (its axes there: -x +z +y)"), "%s",
              b.notes);
    cr_expect(b.first[5] == 5);
    mcs_labels_free(&b);
    b = read_map("a.nii", NULL);
    cr_assert_eq(mcs_labels_to_grid(&b, "a.nii", &a.grid, "a.nii", 0), MCS_OK);
    cr_expect_str_eq(b.notes, "");
    mcs_labels_free(&b);
    mcs_labels_free(&a);
}

Test(labels, another_grid_is_refused_or_resampled)
{
    struct label_map a, b;
    put_volume("a.nii", (float[]){0, 1, 2, 3, 4, 5, 6, 7}, standard);
    put_volume("b.nii", (float[]){0, 1, 2, 3, 4, 5, 6, 7}, moved);
    put_volume("s.nii", (float[]){0, 1, 2, 3, 4, 5, 6, 7}, singular);
    a = read_map("a.nii", NULL);
    b = read_map("b.nii", NULL);
    fails_with(
        mcs_labels_to_grid(&b, "b.nii", &a.grid, "a.nii", 0), MCS_E_DATA,
        "b.nii is 2 x 2 x 2, but a.nii is 2 x 2 x 2: masks must have one size and grid (the same size at another "
        "place, spacing or angle; --resample");
    cr_assert_eq(mcs_labels_to_grid(&b, "b.nii", &a.grid, "a.nii", 1), MCS_OK);
    holds(&b, "0 0 0 2 0 4 0 6"); /* a voxel further along x; outside is 0 */
    cr_expect(strstr(b.notes, "resampled"), "%s", b.notes);
    mcs_labels_free(&b);
    b = read_map("s.nii", NULL);
    fails_with(mcs_labels_to_grid(&b, "s.nii", &a.grid, "a.nii", 1), MCS_E_DATA, "its affine is singular");
    const struct grid own = b.grid; /* voxel by voxel where both have the same affine, singular or not */
    cr_expect_eq(mcs_labels_to_grid(&b, "s.nii", &own, "s2.nii", 0), MCS_OK);
    cr_expect(strstr(b.notes, "its affine is sheared or singular"), "%s", b.notes);
    mcs_labels_free(&b);
    mcs_labels_free(&a);
}

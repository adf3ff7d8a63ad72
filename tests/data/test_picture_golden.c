/* Every format, as Pillow, tifffile, nibabel, SimpleITK and pydicom read it (tests/golden/make_pictures.py). */
#include "data/image/picture.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/log.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PICTURES MCS_SOURCE_DIR "/tests/golden/pictures/"

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, PICTURES "%s", name);
    return path;
}

static double number(const json_t *o, const char *key, double otherwise)
{
    const json_t *v = json_object_get(o, key);
    return v ? json_number_value(v) : otherwise;
}

/* The stored values, exactly, and a palette's entries. */
static void check_values(const char *name, const struct picture *p, const json_t *o)
{
    const json_t *values = json_object_get(o, "values"), *palette = json_object_get(o, "palette");
    cr_expect_eq(json_array_size(values), (size_t)mcs_picture_count(p), "%s", name);
    for (size_t i = 0; i < json_array_size(values) && i < (size_t)mcs_picture_count(p); i++)
        cr_expect_eq(mcs_picture_value(p, (int64_t)i), json_number_value(json_array_get(values, i)),
                     "%s: value %zu is %.17g, the reference's %.17g", name, i, mcs_picture_value(p, (int64_t)i),
                     json_number_value(json_array_get(values, i)));
    cr_expect_eq(json_array_size(palette), (size_t)p->n_palette * 3, "%s: %d entries", name, p->n_palette);
    for (size_t i = 0; i < json_array_size(palette) && i < (size_t)p->n_palette * 3; i++)
        cr_expect_eq(p->palette[i], json_number_value(json_array_get(palette, i)), "%s: palette %zu", name, i);
    if (palette) cr_expect_eq(p->palette_max, number(o, "palette_max", 255), "%s", name);
}

/* References compute affines in float64 from the same decimal or float32 numbers: a few roundings of values of at most
 * 1000 mm, 1e-13 each. Those that store direction cosines as text keep ten digits: 1e-6 of the issue. */
static void check_geometry(const char *name, const struct picture *p, const json_t *o)
{
    const json_t *affine = json_object_get(o, "affine"), *window = json_object_get(o, "window");
    cr_expect_eq(p->has_affine, affine != NULL, "%s", name);
    for (size_t i = 0; i < json_array_size(affine); i++)
        cr_expect_float_eq(p->affine[i], json_number_value(json_array_get(affine, i)), 1e-6, "%s: affine %zu: %g", name,
                           i, p->affine[i]);
    for (int k = 0; k < 3 && affine; k++) {
        const double *a = p->affine + k;
        cr_expect_float_eq(p->spacing[k], sqrt(a[0] * a[0] + a[4] * a[4] + a[8] * a[8]), 1e-6, "%s: spacing", name);
    }
    cr_expect_eq(p->slope, number(o, "slope", 1), "%s", name);
    cr_expect_eq(p->inter, number(o, "inter", 0), "%s", name);
    cr_expect_eq(p->inverted, number(o, "inverted", 0), "%s", name);
    cr_expect_eq(p->has_window, window != NULL, "%s", name);
    if (window) {
        cr_expect_eq(p->window_low, json_number_value(json_array_get(window, 0)), "%s: %g", name, p->window_low);
        cr_expect_eq(p->window_high, json_number_value(json_array_get(window, 1)), "%s: %g", name, p->window_high);
    }
}

static void check(const char *name, const json_t *o)
{
    struct picture p;
    const char *format;
    format = "DICOM"; /* of a folder */
    cr_expect(mcs_folder_exists(path_of(name)) || mcs_picture_known(path_of(name), &format), "%s", name);
    const enum mcs_status st = mcs_picture_read(path_of(name), NULL, &p);
    cr_expect_eq(st, MCS_OK, "%s", mcs_error_message());
    mcs_error_clear();
    if (st != MCS_OK) return;
    cr_expect_str_eq(p.format, json_string_value(json_object_get(o, "format")), "%s", name);
    cr_expect_str_eq(format, p.format);
    cr_expect_str_eq(mcs_picture_type_name(p.type), json_string_value(json_object_get(o, "type")), "%s", name);
    cr_expect(p.nx == number(o, "nx", 0) && p.ny == number(o, "ny", 0) && p.nz == number(o, "nz", 0) &&
                  p.channels == number(o, "channels", 0),
              "%s: %d x %d x %d, %d channels", name, p.nx, p.ny, p.nz, p.channels);
    if (json_object_get(o, "bits")) cr_expect_eq(p.bits, number(o, "bits", 0), "%s: %d bits", name, p.bits);
    check_values(name, &p, o);
    check_geometry(name, &p, o);
    cr_expect_eq(p.orientation, number(o, "orientation", 1), "%s", name);
    const json_t *upright = json_object_get(o, "upright");
    if (upright) cr_expect_eq(mcs_picture_upright(&p), MCS_OK);
    for (size_t i = 0; i < json_array_size(upright); i++)
        cr_expect_eq(mcs_picture_value(&p, (int64_t)i), json_number_value(json_array_get(upright, i)), "%s upright",
                     name);
    mcs_picture_free(&p);
}

Test(picture_golden, every_file_is_read_as_the_reference_reads_it)
{
    json_t *all;
    const char *name;
    json_t *o;
    int n = 0;
    mcs_log_quiet(1);
    cr_assert_eq(mcs_json_read(path_of("expected.json"), 1 << 24, 0, &all), MCS_OK, "%s", mcs_error_message());
    json_object_foreach(all, name, o)
    {
        check(name, o);
        n++;
    }
    cr_assert_gt(n, 100);
    json_decref(all);
}

/* Each is refused, by its name and with these words; none names the patient. */
Test(picture_golden, bad_files_are_refused_by_name)
{
    static const char *const bad[][2] = {
        {"cmyk.jpg", "CMYK"},
        {"bits12.jpg", "12 bits"},
        {"cmyk.tif", "CMYK"},
        {"channels5.tif", "5 channels"},
        {"pages_differ.tif", "pages differ"},
        {"truncated.tif", "truncated"},
        {"bomb.tif", "cannot hold"},
        {"truncated.jp2", "truncated or damaged"},
        {"truncated.dcm", "truncated"},
        {"no_pixels.dcm", "without pixels"},
        {"spacing0.dcm", "spacing of 0"},
        {"sheared.dcm", "perpendicular"},
        {"bomb.dcm", "truncated"},
        {"outside.mhd", "want one file in its folder"},
        {"list.mhd", "list of files"},
        {"short.mha", "truncated"},
        {"spacing0.mha", "spacing of 0"},
        {"spacingnan.mha", "spacing of nan"},
        {"time.mha", "4 dimensions"},
        {"time.nrrd", "4 dimensions"},
        {"bzip2.nrrd", "bzip2"},
        {"bomb.nrrd", "cannot hold"},
        {"flat.nrrd", "lie in one plane"},
        {"truncated.bmp", "truncated"},
    };
    mcs_log_quiet(1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char name[128];
        struct picture p;
        snprintf(name, sizeof name, "bad/%s", bad[i][0]);
        cr_expect_eq(mcs_picture_read(path_of(name), NULL, &p), MCS_E_DATA, "%s", name);
        cr_expect(strstr(mcs_error_message(), bad[i][0]) && strstr(mcs_error_message(), bad[i][1]), "%s: %s", name,
                  mcs_error_message());
        cr_expect(!strstr(mcs_error_message(), "Secret") && !strstr(mcs_error_message(), "SECRET"));
        mcs_error_clear();
    }
}

/* Series that are no volume: the files are named. */
Test(picture_golden, series_that_do_not_fit_together)
{
    static const char *const bad[][3] = {
        {"missing", "between 1.dcm and 3.dcm", "slices are missing"},
        {"duplicate", "1.dcm and 1b.dcm", "at one place"},
        {"several", "2 series", "1.2.3.4.2"},
        {"mixed", "0.dcm is 6 x 5", "1.dcm is 7 x 5"},
        {"localizer", "0.dcm and 1.dcm", "localizer"},
        {"placeless", "1.dcm", "without position"},
    };
    struct picture p;
    char name[128];
    mcs_log_quiet(1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(name, sizeof name, "bad/%s", bad[i][0]);
        cr_expect_eq(mcs_picture_read(path_of(name), NULL, &p), MCS_E_DATA, "%s", name);
        cr_expect(strstr(mcs_error_message(), bad[i][1]) && strstr(mcs_error_message(), bad[i][2]), "%s: %s", name,
                  mcs_error_message());
        mcs_error_clear();
    }
    static const char *const choices[] = {"1", "2", "3.4.1", "1.2.3.4.2"};
    for (int i = 0; i < 4; i++) {
        const struct picture_choice choice = {choices[i]};
        cr_assert_eq(mcs_picture_read(path_of("bad/several"), &choice, &p), MCS_OK, "%s", mcs_error_message());
        cr_expect_eq(p.nz, 2);
        mcs_picture_free(&p);
    }
    const struct picture_choice none = {"7"};
    cr_expect_eq(mcs_picture_read(path_of("bad/several"), &none, &p), MCS_E_DATA);
    mcs_error_clear();
    cr_expect_eq(mcs_picture_read(path_of("volume"), NULL, &p), MCS_E_IO);
}

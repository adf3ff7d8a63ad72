/* Images of many kinds as nnU-Net's readers see them: tests/golden/make_nnunet_readers.py. */
#include "data/nnunet/nnunet_image.h"
#include "engine/base/log.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_json.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void near(const char *what, const json_t *list, const double *got, int n, double tolerance)
{
    cr_assert_eq((int)json_array_size(list), n, "%s: %zu numbers, want %d", what, json_array_size(list), n);
    for (int i = 0; i < n; i++) {
        const double want = json_number_value(json_array_get(list, (size_t)i));
        cr_assert(fabs(got[i] - want) <= tolerance * fmax(1, fabs(want)), "%s %d: %.17g, want %.17g", what, i, got[i],
                  want);
    }
}

static void compare(const json_t *one)
{
    char path[512], what[128];
    const char *file = json_string_value(json_object_get(one, "file")),
               *reader = json_string_value(json_object_get(one, "reader")), *const paths[] = {path};
    const json_t *values = json_object_get(one, "values"), *shape = json_object_get(one, "shape");
    struct nnunet_image img;
    snprintf(path, sizeof path, MCS_SOURCE_DIR "/tests/golden/nnunet_readers/%s", file);
    snprintf(what, sizeof what, "%s by %s", file, reader);
    const enum mcs_status st = mcs_nnunet_image_read(reader, 1, paths, &img);
    if (!values) {
        fails_with(st, MCS_E_DATA, file);
        return;
    }
    cr_assert_eq(st, MCS_OK, "%s: %s", what, mcs_error_message());
    cr_assert_eq(json_integer_value(json_array_get(shape, 0)), img.channels, "%s: %d channels", what, img.channels);
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(json_integer_value(json_array_get(shape, i + 1)), img.shape[i], "%s: axis %zu", what, i);
    for (size_t i = 0; i < json_array_size(values); i++)
        cr_assert_eq((double)img.values[i], json_number_value(json_array_get(values, i)), "%s: value %zu: %g, want %g",
                     what, i, (double)img.values[i], json_number_value(json_array_get(values, i)));
    /* Spacings are the file's float32 numbers; ITK rounds the matrix of a rotated image to float32. */
    near(what, json_object_get(one, "spacing"), img.spacing, 3, 1e-7);
    if (json_object_get(one, "origin")) {
        double origin[3], direction[9];
        mcs_nnunet_itk_geometry(&img, origin, direction);
        near(what, json_object_get(one, "origin"), origin, img.n_axes, 1e-6);
        near(what, json_object_get(one, "direction"), direction, img.n_axes * img.n_axes, 1e-6);
    }
    mcs_nnunet_image_free(&img);
}

Test(nnunet_readers, see_what_nnunetv2_sees)
{
    json_t *golden = golden_json("nnunet_readers/readers.json"), *one;
    size_t i;
    mcs_log_quiet(1);
    cr_assert_gt(json_array_size(golden), 20);
    json_array_foreach(golden, i, one) compare(one);
    json_decref(golden);
}

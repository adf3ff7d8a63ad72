/* Images of every PNG mode as open_clip prepares them: resize and crop before the conversion to RGB. */
#include "data/io/file.h"
#include "infer/clip/clip_model.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static void setup(void)
{
    shell_open(":", "");
}
TestSuite(image_modes, .init = setup, .fini = shell_close);

static int64_t from_hex(const char *hex, uint8_t *dst)
{
    int64_t n = 0;
    for (; hex[0] && hex[1]; hex += 2) {
        const char two[3] = {hex[0], hex[1], '\0'};
        dst[n++] = (uint8_t)strtol(two, NULL, 16);
    }
    return n;
}

Test(image_modes, equal_open_clips_bytes)
{
    enum { SIDE = 16, VALUES = SIDE * SIDE * 3 };
    struct clip_config c = mcs_clip_biomed();
    json_t *rows = json_load_file(MCS_SOURCE_DIR "/tests/golden/image_modes.json", 0, NULL);
    static uint8_t png[1 << 16], want[VALUES];
    float got[VALUES], plain[VALUES];
    int differ = 0;
    c.image_size = SIDE;
    for (int k = 0; k < 3; k++) c.mean[k] = 0, c.std[k] = 1;
    cr_assert_eq(json_array_size(rows), 32);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const char *name = json_string_value(json_object_get(row, "name"));
        struct stored_image s;
        struct image img;
        int wrong = 0;
        cr_assert_eq(from_hex(json_string_value(json_object_get(row, "rgb")), want), VALUES);
        OK(mcs_file_write(shell_path("i.png"), png, from_hex(json_string_value(json_object_get(row, "png")), png)));
        OK(mcs_image_read_stored(shell_path("i.png"), &s));
        OK(mcs_clip_prepare_stored(&c, &s, CLIP_VIEW_CROP, got));
        for (int k = 0; k < VALUES; k++) wrong += (int)lrintf(got[k] * 255) != want[k];
        cr_expect_eq(wrong, 0, "%s: %d of %d bytes differ", name, wrong, VALUES);
        OK(mcs_image_read(shell_path("i.png"), 0, &img)); /* converted first, as saliency does */
        OK(mcs_clip_prepare(&c, &img, CLIP_VIEW_CROP, plain));
        differ += memcmp(plain, got, sizeof got) != 0;
        mcs_image_free(&img);
        mcs_stored_free(&s);
    }
    cr_expect_geq(differ, 12, "the order of resize and conversion matters in %d of the images only", differ);
    json_decref(rows);
}

/* A PNG with alpha that is cut short, at every length. */
Test(image_modes, truncated)
{
    static uint8_t png[1 << 16];
    json_t *rows = json_load_file(MCS_SOURCE_DIR "/tests/golden/image_modes.json", 0, NULL);
    const int64_t n = from_hex(json_string_value(json_object_get(json_array_get(rows, 2), "png")), png);
    for (int64_t cut = 0; cut < n - 12; cut += 7) {
        struct stored_image s;
        OK(mcs_file_write(shell_path("i.png"), png, cut));
        cr_expect_eq(mcs_image_read_stored(shell_path("i.png"), &s), MCS_E_DATA, "%lld bytes", (long long)cut);
        cr_expect(!s.img.pixels && !s.alpha.pixels);
        mcs_error_clear();
    }
    json_decref(rows);
}

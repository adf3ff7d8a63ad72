/* The data of a U-Net training: sampled patches, targets, refused cases, and the plans of a run folder. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/io/file.h"
#include "engine/base/log.h"
#include "tests/support/support_folder.h"
#include "train/unet/unet_train.h"

static void setup(void)
{
    test_folder_open("unet");
    mcs_log_quiet(1);
}
TestSuite(unet_train, .init = setup, .fini = test_folder_close);

/* ---- sampling ---- */

static void one_case(struct unet_cases *c, int height, int width, int y, int x)
{
    uint8_t *mask = calloc((size_t)(height * width), 1);
    struct image img;
    cr_assert(mask);
    cr_assert_eq(mcs_image_alloc(&img, width, height, 1), MCS_OK);
    for (int i = 0; i < height * width; i++) img.pixels[i] = (uint8_t)(i % 250);
    if (y >= 0) mask[y * width + x] = 1;
    mcs_unet_cases_init(c, 1, 2);
    cr_assert_eq(mcs_unet_cases_add_image(c, "one", &img, mask), MCS_OK);
    mcs_image_free(&img);
    free(mask);
}

Test(unet_train, corners_and_forced_foreground)
{
    enum { P = 8, BATCH = 6, ROUNDS = 400 };
    struct unet_cases c;
    float image[P * P];
    int32_t label[P * P];
    const struct augment_patch patch = {P, P, 1, image, label};
    one_case(&c, 20, 5, 18, 2); /* narrower than a patch by 3 columns */
    struct unet_loader l = {.cases = &c,
                            .augment = mcs_augment_none(),
                            .batch = BATCH,
                            .height = P,
                            .width = P,
                            .foreground = 0.33,
                            .seed = 4};
    cr_assert_eq(mcs_unet_loader_open(&l), MCS_OK);
    int64_t low[2] = {100, 100}, high[2] = {-100, -100}, corner[2];
    int which;
    for (int64_t step = 0; step < ROUNDS; step++)
        for (int i = 0; i < BATCH; i++) {
            mcs_unet_loader_patch(&l, step, i, &patch, &which, corner);
            cr_assert_eq(which, 0);
            for (int y = 0; y < P; y++)
                for (int x = 0; x < P; x++) {
                    const int64_t sy = y + corner[0], sx = x + corner[1];
                    const int inside = sy >= 0 && sy < 20 && sx >= 0 && sx < 5;
                    cr_assert_eq(label[y * P + x], !inside ? -1 : sy == 18 && sx == 2);
                    if (!inside) cr_assert_eq(image[y * P + x], 0);
                }
            if (i >= 4) { /* round(6 * .67) = 4: centred on the pixel at (18, 2); -2 is the leftmost corner */
                cr_assert_eq(corner[0], 14);
                cr_assert_eq(corner[1], -2);
                continue;
            }
            for (int a = 0; a < 2; a++) {
                low[a] = corner[a] < low[a] ? corner[a] : low[a];
                high[a] = corner[a] > high[a] ? corner[a] : high[a];
            }
        }
    cr_expect(low[0] == 0 && high[0] == 12, "rows %lld..%lld", (long long)low[0], (long long)high[0]);
    /* 3 columns are missing: from -ceil(3/2) = -2 to 5 + 2 - 8 = -1 */
    cr_expect(low[1] == -2 && high[1] == -1, "columns %lld..%lld", (long long)low[1], (long long)high[1]);
    mcs_unet_loader_close(&l);
    mcs_unet_cases_free(&c);
    one_case(&c, 20, 20, -1, 0); /* no foreground: forced items are sampled like the others */
    l = (struct unet_loader){.cases = &c,
                             .augment = mcs_augment_none(),
                             .batch = BATCH,
                             .height = P,
                             .width = P,
                             .foreground = 1,
                             .seed = 4};
    cr_assert_eq(mcs_unet_loader_open(&l), MCS_OK);
    mcs_unet_loader_patch(&l, 0, 0, &patch, NULL, corner);
    const int64_t first = corner[0];
    int varies = 0;
    for (int64_t step = 1; step < 20; step++) {
        mcs_unet_loader_patch(&l, step, 0, &patch, NULL, corner);
        varies |= corner[0] != first;
    }
    cr_expect(varies);
    mcs_unet_loader_close(&l);
    mcs_unet_cases_free(&c);
}

Test(unet_train, z_score_and_targets)
{
    struct unet_cases c;
    enum { P = 16 };
    float image[P * P];
    int32_t label[P * P], small[4 * 4], odd[3];
    const struct augment_patch patch = {P, P, 1, image, label};
    one_case(&c, P, P, 3, 3);
    struct unet_loader l = {.cases = &c, .augment = mcs_augment_none(), .batch = 1, .height = P, .width = P};
    cr_assert_eq(mcs_unet_loader_open(&l), MCS_OK);
    mcs_unet_loader_patch(&l, 0, 0, &patch, NULL, NULL);
    double sum = 0, squares = 0;
    for (int i = 0; i < P * P; i++) sum += (double)image[i], squares += (double)(image[i] * image[i]);
    cr_expect_float_eq(sum / (P * P), 0, 1e-5);
    cr_expect_float_eq(squares / (P * P), 1, 1e-5);
    for (int i = 0; i < P * P; i++) label[i] = i;
    mcs_augment_target(label, 1, P, P, 4, 4, small); /* floor((i + .5) 4) = 2, 6, 10, 14 */
    for (int i = 0; i < 16; i++) cr_expect_eq(small[i], (2 + 4 * (i / 4)) * P + 2 + 4 * (i % 4));
    mcs_augment_target(label, 1, 1, 7, 1, 3, odd); /* floor((i + .5) 7/3) = 1, 3, 5 */
    cr_expect(odd[0] == 1 && odd[1] == 3 && odd[2] == 5);
    mcs_unet_loader_close(&l);
    mcs_unet_cases_free(&c);
}

/* ---- bad input ---- */

Test(unet_train, bad_cases)
{
    struct unet_cases c;
    struct image img;
    uint8_t mask[4] = {0, 1, 2, 0};
    const float values[4] = {0, 1, NAN, 2};
    mcs_unet_cases_init(&c, 1, 2);
    cr_assert_eq(mcs_image_alloc(&img, 2, 2, 1), MCS_OK);
    cr_expect_eq(mcs_unet_cases_add_image(&c, "x.png", &img, mask), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "x.png: a label of 2"), "%s", mcs_error_message());
    mcs_error_clear();
    img.channels = 3;
    cr_expect_eq(mcs_unet_cases_add_image(&c, "x.png", &img, mask), MCS_E_DATA);
    mcs_error_clear();
    img.channels = 1;
    cr_expect_eq(mcs_unet_cases_add_volume(&c, "x.nii", values, mask, 1, 2, 2), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "voxel 2"), "%s", mcs_error_message());
    mcs_error_clear();
    struct unet_loader l = {.cases = &c, .batch = 1, .height = 2, .width = 2};
    cr_expect_eq(mcs_unet_loader_open(&l), MCS_E_USAGE, "nothing to draw from");
    mcs_error_clear();
    mcs_unet_cases_free(&c);
    cr_expect_eq(mcs_unet_cases_read(&c, test_folder, test_folder, 0, 2, NULL), MCS_E_NOINPUT, "an empty folder");
    mcs_error_clear();
    mcs_image_free(&img);
    mcs_unet_cases_free(&c);
}

static enum mcs_status reread(const char *from, const char *to)
{
    struct unet_plans p;
    const char *path = in_folder("plans.json"), *at;
    char *text = NULL, out[8192];
    int64_t n_bytes;
    cr_assert_eq(mcs_file_read(path, 1 << 24, &text, &n_bytes), MCS_OK, "%s", mcs_error_message());
    cr_assert(at = strstr(text, from), "%s", from);
    const int n = snprintf(out, sizeof out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    cr_assert_eq(mcs_file_write(path, out, n), MCS_OK);
    const enum mcs_status st = mcs_unet_plans_read(test_folder, &p);
    cr_assert_eq(mcs_file_write(path, text, (int64_t)strlen(text)), MCS_OK);
    free(text);
    mcs_error_clear();
    return st;
}

Test(unet_train, plans)
{
    struct unet_plans p, q;
    struct unet_checkpoint c[UNET_MAX_CHECKPOINTS];
    char path[128];
    int n;
    cr_assert_eq(mcs_unet_plans_make(3, 4, 96, 64, 0, 32, 128, &p), MCS_OK);
    cr_expect_eq(p.net.n_stages, 5); /* 64 32 16 8 4 */
    p.batch = 7;
    p.batch_dice = 0;
    cr_assert_eq(mcs_unet_plans_write(test_folder, &p), MCS_OK);
    cr_assert_eq(mcs_unet_plans_read(test_folder, &q), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(memcmp(&p, &q, sizeof p), 0, "not what was written");
    cr_expect_eq(reread("PlainConvUNet", "ResidualEncoderUNet"), MCS_E_DATA);
    cr_expect_eq(reread("\"n_stages\": 5", "\"n_stages\": 6"), MCS_E_DATA);
    cr_expect_eq(reread("\"n_stages\": 5", "\"n_stages\": 500000000000"), MCS_E_DATA);
    cr_expect_eq(reread("96", "97"), MCS_E_DATA, "a patch that the strides do not divide");
    cr_expect_eq(reread("ZScoreNormalization", "CTNormalization"), MCS_E_DATA);
    cr_expect_eq(reread("{", "["), MCS_E_DATA);
    cr_expect_eq(mcs_unet_plans_make(1, 2, 100, 100, 4, 8, 64, &p), MCS_E_USAGE, "100 is no multiple of 8");
    mcs_error_clear();
    cr_expect_eq(mcs_unet_plans_make(1, 2, 64, 64, 1, 8, 64, &p), MCS_E_USAGE);
    mcs_error_clear();
    cr_expect_eq(mcs_unet_checkpoints_read(test_folder, c, &n), MCS_E_NOINPUT);
    mcs_error_clear();
    snprintf(path, sizeof path, "%s/checkpoints.json", test_folder);
    static const char outside[] = "{\"checkpoints\": [{\"file\": \"../x\", \"cycle\": 1, \"index\": 1, \"step\": 1}]}";
    cr_assert_eq(mcs_file_write(path, outside, sizeof outside - 1), MCS_OK);
    cr_expect_eq(mcs_unet_checkpoints_read(test_folder, c, &n), MCS_E_DATA, "a file outside of the folder");
    mcs_error_clear();
}

/* The formats of images and volumes in the verbs: a DICOM series is segmented as the same volume in NIfTI, files are
 * known by their content, and the window is an option. */
#include "data/image/image.h"
#include "data/image/picture.h"
#include "data/image/volume.h"
#include "data/io/npy.h"
#include "engine/base/rng.h"
#include "tests/support/support_segment.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())
#define PICTURES MCS_SOURCE_DIR "/tests/golden/pictures/"
#define OPTIONS                                                                                                        \
    " --clip clip --sam sam --text tumor --steps 2 --copies 1 --pairs 1 --noise noise.npy --min-confidence 0"

TestSuite(segment, .init = segment_open, .fini = segment_close, .timeout = 120);

static void write_noise(void)
{
    enum { TOKENS = 37, CHANNELS = 16, N = 2 * TOKENS * CHANNELS };
    float noise[N];
    mcs_rng_fill_normal((struct mcs_rng){.seed = 4}, noise, N);
    OK(mcs_npy_write(shell_path("noise.npy"), noise, 4, (const int64_t[]){2, 1, TOKENS, CHANNELS}));
}

Test(segment, a_dicom_series_is_the_volume_that_it_holds)
{
    struct volume v;
    struct picture series, a, b;
    write_noise();
    expect("mkdir in && cp -r " PICTURES "series/oblique in/ct", 0, "");
    OK(mcs_volume_read(shell_path("in/ct"), &v));
    OK(mcs_volume_write_f32(shell_path("in/nifti.NII"), v.values, &v));
    mcs_volume_free(&v);
    shell_write("in/notes.txt", "not an image");
    expect("mcsam segment -i in -o out" OPTIONS, 0, "2 cases");
    OK(mcs_picture_read(shell_path("in/ct"), NULL, &series));
    OK(mcs_picture_read(shell_path("out/ct.nii.gz"), NULL, &a));
    OK(mcs_picture_read(shell_path("out/nifti.nii.gz"), NULL, &b));
    cr_assert_eq(mcs_picture_count(&a), mcs_picture_count(&series));
    cr_expect_arr_eq(a.values, b.values, (size_t)mcs_picture_count(&a));
    for (int i = 0; i < 16; i++) /* NIfTI-1 stores it as float32: half a unit of values below 32 */
        cr_expect_float_eq(a.affine[i], series.affine[i], 1e-6, "%d: %g, %g", i, a.affine[i], series.affine[i]);
    mcs_picture_free(&series);
    mcs_picture_free(&a);
    mcs_picture_free(&b);
    expect("cp -r " PICTURES "bad/missing in/gap && mcsam segment -i in -o other" OPTIONS, 3, "slices are missing");
    expect("grep Secret -r out other", 1, "");
}

Test(segment, deep_images_go_through_the_window)
{
    struct image low, high;
    uint16_t deep[SEGMENT_PIXELS];
    write_noise();
    for (int i = 0; i < SEGMENT_PIXELS; i++) deep[i] = (uint16_t)(1000 + i % SEGMENT_WIDTH);
    expect("mkdir in", 0, "");
    OK(mcs_image_write_labels(shell_path("in/a.PNG"), deep, SEGMENT_WIDTH, SEGMENT_HEIGHT));
    expect("cp in/a.PNG in/unnamed", 0, ""); /* known by its content */
    expect("mcsam segment -i in -o out" OPTIONS, 0, "2 cases");
    expect("cmp out/a.png out/unnamed.png", 0, "");
    expect("mcsam segment -i in -o all --window full --keep-stages" OPTIONS, 0, "2 cases");
    expect("mcsam segment -i in -o cut --window 1000:1050 --keep-stages" OPTIONS, 0, "2 cases");
    OK(mcs_image_read(shell_path("all/saliency/a.png"), 1, &low));
    OK(mcs_image_read(shell_path("cut/saliency/a.png"), 1, &high));
    cr_expect(memcmp(low.pixels, high.pixels, SEGMENT_PIXELS) != 0, "the window changes nothing");
    mcs_image_free(&low);
    mcs_image_free(&high);
    expect("grep 'window: .*1000:1050' cut/config.yaml", 0, "1000:1050");
    expect("mcsam segment -i in -o x --window 9:3" OPTIONS, 2, "two percentiles");
    expect("mcsam segment -i in -o x --window 1%:300%" OPTIONS, 2, "two percentiles");
}

/* Pictures: stored values, depth, geometry and orientation of each format; what no reader takes. */
#include "data/image/image.h"
#include "data/image/media.h"
#include "data/image/nifti.h"
#include "data/image/picture.h"
#include "data/image/volume.h"
#include "data/image/window.h"
#include "data/io/file.h"
#include "data/io/npy.h"
#include "engine/base/log.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/mcs_picture_XXXXXX");
    cr_assert(mkdtemp(folder));
    mcs_log_quiet(1);
}

static void teardown(void)
{
    struct file_list list;
    char path[512];
    if (mcs_folder_list(folder, NULL, &list) != MCS_OK) return;
    for (int i = 0; i < list.n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, list.names[i]);
        unlink(path);
    }
    mcs_file_list_free(&list);
    rmdir(folder);
}

TestSuite(picture, .init = setup, .fini = teardown);

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

Test(picture, a_png_of_16_bits_keeps_its_values_whatever_its_name)
{
    const uint16_t values[6] = {0, 1, 2, 255, 256, 65535};
    struct picture p;
    const char *path = in_folder("labels.of.a.CASE"), *format;
    cr_assert_eq(mcs_image_write_labels(path, values, 3, 2), MCS_OK);
    cr_assert(mcs_picture_known(path, &format));
    cr_assert_str_eq(format, "PNG");
    cr_assert_eq(mcs_picture_read(path, NULL, &p), MCS_OK, "%s", mcs_error_message());
    cr_assert(p.nx == 3 && p.ny == 2 && p.nz == 1 && p.channels == 1 && p.type == MCS_PICTURE_U16 && p.bits == 16);
    cr_assert(!p.has_affine && !p.has_spacing && p.slope == 1 && p.inter == 0 && !p.notes[0] && !p.header);
    for (int i = 0; i < 6; i++) cr_assert_eq(mcs_picture_value(&p, i), values[i]);
    mcs_picture_free(&p);
}

Test(picture, nifti_keeps_stored_values_scale_and_affine)
{
    struct volume v;
    struct picture p;
    struct nifti_header h = {.version = 1, .dim = {3, 4, 3, 2, 1, 1, 1, 1}};
    uint8_t bytes[MCS_NIFTI_MAX_BYTES + 48];
    const double srow[12] = {0, -0.75, 0, 12, 0.5, 0, 0, -7, 0, 0, 2.5, 3};
    h.pixdim[0] = 1;
    h.pixdim[1] = 0.5;
    h.pixdim[2] = 0.75;
    h.pixdim[3] = 2.5;
    h.sform_code = 1;
    memcpy(h.srow, srow, sizeof srow);
    const int start = mcs_nifti_make(&h, MCS_NIFTI_INT16, bytes);
    const float slope = 0.5f, inter = -10;
    memcpy(bytes + 112, &slope, 4); /* nifti1.h: scl_slope, scl_inter */
    memcpy(bytes + 116, &inter, 4);
    for (int16_t i = 0; i < 24; i++) memcpy(bytes + start + 2 * i, &(int16_t){(int16_t)(1000 * i - 9000)}, 2);
    const char *path = in_folder("V.NII");
    cr_assert_eq(mcs_file_write(path, bytes, start + 48), MCS_OK);
    cr_assert_eq(mcs_picture_read(path, NULL, &p), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_volume_read(path, &v), MCS_OK);
    cr_assert(p.type == MCS_PICTURE_I16 && p.slope == 0.5 && p.inter == -10 && p.has_affine && p.has_spacing);
    float seen[24];
    mcs_picture_to_float(&p, 0, 24, seen);
    for (int i = 0; i < 24; i++) {
        cr_assert_eq(mcs_picture_value(&p, i), 1000 * i - 9000);
        cr_assert_eq(seen[i], v.values[i]);
    }
    for (int i = 0; i < 12; i++) cr_assert_eq(p.affine[i], srow[i]); /* each is a float32 */
    cr_assert(p.spacing[0] == 0.5 && p.spacing[1] == 0.75 && p.spacing[2] == 2.5);
    mcs_picture_free(&p);
    mcs_volume_free(&v);
}

Test(picture, sform_and_qform_that_differ_are_told)
{
    struct nifti_header h = {.dim = {3, 4, 3, 2}, .pixdim = {-1, 1, 2, 3}, .sform_code = 1, .qform_code = 1};
    const float spacing[3] = {1, 2, 3};
    double affine[16], apart;
    h.srow[0] = 1; /* a quaternion of (0, 0, 0) is no turn; pixdim[0] -1 mirrors z */
    h.srow[5] = 2;
    h.srow[10] = -3;
    cr_assert_eq(mcs_nifti_affine(&h, spacing, affine, &apart), 1);
    cr_assert_eq(apart, 0);
    h.srow[3] = 4;
    cr_assert_eq(mcs_nifti_affine(&h, spacing, affine, &apart), 1);
    cr_assert_float_eq(apart, 4, 1e-12);
    cr_assert_eq(affine[3], 4);
    h.sform_code = 0; /* half a turn about x: y and z are mirrored, z once more by pixdim[0] */
    h.quatern[0] = 1;
    h.qoffset[1] = -5;
    cr_assert_eq(mcs_nifti_affine(&h, spacing, affine, &apart), 1);
    const double wanted[16] = {1, 0, 0, 0, 0, -2, 0, -5, 0, 0, 3, 0, 0, 0, 0, 1};
    for (int i = 0; i < 16; i++) cr_assert_float_eq(affine[i], wanted[i], 1e-12, "%d: %g", i, affine[i]);
    h.qform_code = 0;
    cr_assert_eq(mcs_nifti_affine(&h, spacing, affine, &apart), 0);
}

/* EXIF 2.3, tag 0x0112: the stored rows and columns begin at these sides of the image. The stored image is 0 1 2 / 3 4
 * 5. */
Test(picture, each_exif_orientation_is_brought_upright)
{
    static const int wanted[9][6] = {{0},
                                     {0, 1, 2, 3, 4, 5},
                                     {2, 1, 0, 5, 4, 3},
                                     {5, 4, 3, 2, 1, 0},
                                     {3, 4, 5, 0, 1, 2},
                                     {0, 3, 1, 4, 2, 5},
                                     {3, 0, 4, 1, 5, 2},
                                     {5, 2, 4, 1, 3, 0},
                                     {2, 5, 1, 4, 0, 3}};
    for (int orientation = 1; orientation <= 8; orientation++)
        for (int channels = 1; channels <= 3; channels += 2) {
            struct picture p;
            cr_assert_eq(mcs_picture_alloc(&p, "made", 3, 2, 1, channels, MCS_PICTURE_U16), MCS_OK);
            for (int i = 0; i < 6 * channels; i++)
                ((uint16_t *)p.values)[i] = (uint16_t)(10 * (i / channels) + i % channels);
            p.orientation = orientation;
            cr_assert_eq(mcs_picture_upright(&p), MCS_OK);
            cr_assert(p.orientation == 1 && p.nx == (orientation < 5 ? 3 : 2) && p.ny == (orientation < 5 ? 2 : 3));
            for (int i = 0; i < 6 * channels; i++)
                cr_assert_eq(mcs_picture_value(&p, i), 10 * wanted[orientation][i / channels] + i % channels);
            cr_assert_eq(strstr(p.notes, "EXIF orientation") != NULL, orientation > 1);
            mcs_picture_free(&p);
        }
}

Test(picture, npy_is_grey_and_an_axis_that_could_be_colours_is_refused)
{
    float values[24];
    struct picture p;
    for (int i = 0; i < 24; i++) values[i] = (float)i;
    cr_assert_eq(mcs_npy_write(in_folder("a.npy"), values, 2, (int64_t[]){4, 6}), MCS_OK);
    cr_assert_eq(mcs_picture_read(in_folder("a.npy"), NULL, &p), MCS_OK, "%s", mcs_error_message());
    cr_assert(p.nx == 6 && p.ny == 4 && p.type == MCS_PICTURE_F32 && mcs_picture_value(&p, 23) == 23);
    mcs_picture_free(&p);
    cr_assert_eq(mcs_npy_write(in_folder("b.npy"), values, 3, (int64_t[]){2, 4, 3}), MCS_OK);
    cr_assert_eq(mcs_picture_read(in_folder("b.npy"), NULL, &p), MCS_E_DATA);
    cr_assert(strstr(mcs_error_message(), "could be colours"), "%s", mcs_error_message());
}

Test(picture, what_no_reader_takes_is_named)
{
    struct picture p;
    cr_assert_eq(mcs_file_write(in_folder("a.png"), "no image at all", 15), MCS_OK);
    cr_assert_eq(mcs_picture_read(in_folder("a.png"), NULL, &p), MCS_E_DATA);
    cr_assert(strstr(mcs_error_message(), "a.png: neither an image nor a volume by its first bytes"), "%s",
              mcs_error_message());
    mcs_error_clear();
    cr_assert_eq(mcs_file_write(in_folder("b.png"), "GIF89a, a film of pictures", 26), MCS_OK);
    cr_assert_eq(mcs_picture_read(in_folder("b.png"), NULL, &p), MCS_E_DATA);
    cr_assert(strstr(mcs_error_message(), "GIF, which is not read"), "%s", mcs_error_message());
    mcs_error_clear();
    cr_assert_eq(mcs_picture_known(in_folder("a.png"), NULL), 0);
    cr_assert_eq(mcs_picture_read(in_folder("none.png"), NULL, &p), MCS_E_NOINPUT);
    mcs_error_clear();
    cr_assert_eq(mcs_picture_known(in_folder("none.png"), NULL), 0);
    cr_assert_str_eq(mcs_error_message(), "");
}

Test(picture, a_folder_lists_images_by_name_and_content_and_series)
{
    struct file_list list;
    const char *folder_of_series = MCS_SOURCE_DIR "/tests/golden/pictures/series";
    const uint16_t values[6] = {0};
    cr_assert_eq(mcs_media_list(folder_of_series, MCS_MEDIA_ENDINGS, &list), MCS_OK);
    cr_assert(list.n == 2 && !strcmp(list.names[0], "oblique/") && mcs_media_is_volume(list.names[0]));
    mcs_file_list_free(&list);
    cr_assert_eq(mcs_media_list(folder_of_series, MCS_IMAGE_ENDINGS, &list), MCS_OK);
    cr_assert_eq(list.n, 0); /* a series is no image */
    mcs_file_list_free(&list);
    cr_assert_eq(mcs_image_write_labels(in_folder("unnamed"), values, 3, 2), MCS_OK);
    cr_assert_eq(mcs_file_write(in_folder("text"), "text", 4), MCS_OK);
    cr_assert_eq(mcs_file_write(in_folder("broken.TIFF"), "text", 4), MCS_OK); /* listed: its reader refuses it */
    cr_assert_eq(mcs_file_write(in_folder("v.nii"), "text", 4), MCS_OK);
    cr_assert_eq(mcs_media_list(folder, MCS_IMAGE_ENDINGS, &list), MCS_OK);
    cr_assert_eq(list.n, 2);
    cr_assert_str_eq(list.names[0], "broken.TIFF");
    cr_assert_str_eq(list.names[1], "unnamed");
    mcs_file_list_free(&list);
}

/* Percentiles are numpy's: of 0 to 100 the 10th is 10, of two values the 25th lies a quarter between them. */
Test(picture, windows)
{
    struct picture p;
    struct window w;
    double low, high;
    int windowed;
    static const char *const wrong[] = {"", "1", "5:5", "9:3", "1%:2", "-1%:5%", "5%:101%", "1:2:3", "nan:3", "all"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cr_expect_eq(mcs_window_parse(wrong[i], &w), MCS_E_USAGE, "%s", wrong[i]);
        mcs_error_clear();
    }
    cr_assert_eq(mcs_picture_alloc(&p, "made", 101, 1, 1, 1, MCS_PICTURE_I16), MCS_OK);
    for (int i = 0; i < 101; i++) ((int16_t *)p.values)[i] = (int16_t)(37 * i % 101);
    cr_assert_eq(mcs_window_parse("10%:90.5%", &w), MCS_OK);
    cr_assert_eq(mcs_window_of("made", &p, &w, &windowed, &low, &high), MCS_OK);
    cr_expect(windowed && low == 10 && high == 90.5, "%g %g", low, high);
    p.slope = -2;
    p.inter = 7;
    cr_assert_eq(mcs_window_of("made", &p, &w, &windowed, &low, &high), MCS_OK);
    cr_expect(low == 7 - 180 && high == 7 - 2 * 9.5, "%g %g", low, high);
    cr_assert_eq(mcs_window_parse("full", &w), MCS_OK);
    cr_assert_eq(mcs_window_of("made", &p, &w, &windowed, &low, &high), MCS_OK);
    cr_expect(low == 7 - 2 * 32767.0 && high == 7 + 2 * 32768.0, "%g %g", low, high);
    p.has_window = 1;
    p.window_low = -30;
    p.window_high = 40;
    cr_assert_eq(mcs_window_parse("auto", &w), MCS_OK);
    cr_assert_eq(mcs_window_of("made", &p, &w, &windowed, &low, &high), MCS_OK);
    cr_expect(low == -30 && high == 40);
    struct image img;
    cr_assert_eq(mcs_picture_to_image("made", &p, &w, 1, &img), MCS_OK);
    for (int i = 0; i < 101; i++) {
        const double share = (7 - 2 * (37 * i % 101) + 30) / 70.0;
        cr_expect_eq(img.pixels[i], share < 0 ? 0 : share > 1 ? 255 : lrint(255 * share), "%d", i);
    }
    mcs_image_free(&img);
    mcs_picture_free(&p);
}

/* Training cases read from folders (JPEG and PNG masks, several classes, volumes), and the sampling of patches. */
#include "data/image/image.h"
#include "data/image/volume.h"
#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "tests/support/support_jpeg.h"
#include "tests/support/support_tiny.h"
#include "train/unet/unet_data.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { W = 48, H = 40, PIXELS = W * H };

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static const char *folder;

static void setup(void)
{
    folder = tiny_folder("unet_data");
    mcs_log_quiet(1);
    cr_assert_eq(tiny_shell("mkdir %s/i %s/l", folder, folder), 0);
}
static void teardown(void)
{
    tiny_remove(folder);
}
TestSuite(unet_data, .init = setup, .fini = teardown);

/* Writes a grey picture by a function of the coordinates, as PNG or as JPEG of this quality. */
static void put(const char *name, int (*value)(int y, int x), int quality)
{
    struct image img;
    uint8_t *bytes = NULL;
    int64_t n;
    OK(mcs_image_alloc(&img, W, H, 1));
    for (int i = 0; i < PIXELS; i++) img.pixels[i] = (uint8_t)value(i / W, i % W);
    if (quality) {
        jpeg_encode(&img, quality, &bytes, &n);
        OK(mcs_file_write(tiny_path(folder, "%s", name), bytes, n));
    } else {
        OK(mcs_image_write_png(tiny_path(folder, "%s", name), &img));
    }
    free(bytes);
    mcs_image_free(&img);
}

static enum mcs_status read_cases(struct unet_cases *c, int channels, int classes)
{
    return mcs_unet_cases_read(c, tiny_path(folder, "i"), tiny_path(folder, "l"), channels, classes, NULL);
}

static void refused(int classes, const char *part)
{
    struct unet_cases c;
    cr_expect_eq(read_cases(&c, 0, classes), MCS_E_DATA, "%s", part);
    cr_expect(strstr(mcs_error_message(), part), "want '%s' in: %s", part, mcs_error_message());
    mcs_error_clear();
}

/* ---- masks ---- */

static int texture(int y, int x)
{
    return 60 + (y * 5 + x * 3) % 120;
}

static int is_in_disc(int y, int x)
{
    return (y - 20) * (y - 20) + (x - 25) * (x - 25) < 130;
}

static int white_disc(int y, int x)
{
    return is_in_disc(y, x) ? 255 : 0;
}

static int dark_grey(int y, int x)
{
    return 120;
}

static int light_grey(int y, int x)
{
    return 136;
}

/* JPEG compression causes ringing near edges, where black is not 0: only pixels above 127 are foreground. */
Test(unet_data, a_jpeg_mask_is_cut_at_half_of_white)
{
    struct unet_cases c;
    struct image mask;
    int ringing = 0, inside = 0;
    put("i/a.png", texture, 0);
    put("l/a.jpg", white_disc, 40);
    OK(mcs_image_read(tiny_path(folder, "l/a.jpg"), 1, &mask));
    OK(read_cases(&c, 0, 2));
    cr_assert_eq(c.n, 1);
    for (int i = 0; i < PIXELS; i++) {
        const int y = i / W, x = i % W, in = is_in_disc(y, x);
        const int border = is_in_disc(y - 1, x) != in || is_in_disc(y + 1, x) != in || is_in_disc(y, x - 1) != in ||
                           is_in_disc(y, x + 1) != in;
        ringing += !in && !border && mask.pixels[i] > 0;
        inside += in;
        if (!border) cr_assert_eq(c.items[0].labels[i], in, "%d %d: grey %d", y, x, mask.pixels[i]);
    }
    cr_assert(ringing > 20, "%d pixels of ringing: the mask shows nothing", ringing);
    cr_expect_float_eq((double)c.items[0].n_of_class[1], inside, 0.1 * inside); /* but for the border itself */
    mcs_image_free(&mask);
    mcs_unet_cases_free(&c);
    refused(3, "a.jpg: JPEG changes values, so it cannot hold 3 classes");
    put("l/a.jpg", dark_grey, 95);
    refused(2, "a.jpg: the greatest value of this JPEG mask is 120");
    put("l/a.jpg", light_grey, 95);
    refused(2, "a.jpg: 100 % of this JPEG's pixels are neither black nor white");
}

static int few_ones(int y, int x)
{
    return y == 3 ? x % 3 : 0;
}

static int all_two(int y, int x)
{
    return y == 3 && x % 3 ? 2 : 0;
}

Test(unet_data, a_png_mask_of_0_and_one_other_number_is_binary)
{
    struct unet_cases c;
    put("i/a.png", texture, 0);
    put("l/a.png", all_two, 0);
    OK(read_cases(&c, 0, 2));
    for (int i = 0; i < PIXELS; i++) cr_assert_eq(c.items[0].labels[i], all_two(i / W, i % W) != 0);
    cr_expect_eq(c.items[0].n_of_class[1], W * 2 / 3);
    mcs_unet_cases_free(&c);
    put("l/a.png", few_ones, 0);
    refused(2, "l/a.png: a label of 2 where there are 2 classes, 0 to 1 (voxel (2, 3)");
}

/* Ignored pixels are -1 in a patch and count for no class. */
Test(unet_data, a_label_to_ignore)
{
    struct unet_cases c;
    float image[PIXELS];
    int32_t label[PIXELS];
    const struct augment_patch patch = {H, W, 1, image, label};
    const struct unet_label_options ignore_2 = {.rule = {.has_ignore = 1, .ignore = 2}};
    put("i/a.png", texture, 0);
    put("l/a.png", few_ones, 0);
    OK(mcs_unet_cases_read(&c, tiny_path(folder, "i"), tiny_path(folder, "l"), 0, 2, &ignore_2));
    cr_expect(c.items[0].n_of_class[1] == W / 3 && c.items[0].n_of_class[0] == PIXELS - 2 * W / 3);
    struct unet_loader l = {.cases = &c, .augment = mcs_augment_none(), .batch = 1, .height = H, .width = W};
    OK(mcs_unet_loader_open(&l));
    mcs_unet_loader_patch(&l, 0, 0, &patch, NULL, NULL);
    for (int i = 0; i < PIXELS; i++) {
        const int v = few_ones(i / W, i % W);
        cr_assert_eq(label[i], v == 2 ? -1 : v);
    }
    mcs_unet_loader_close(&l);
    mcs_unet_cases_free(&c);
}

/* ---- several classes ---- */

static int four_classes(int y, int x)
{
    return y < 10 ? 1 : y < 20 && x < 7 ? 3 : y > 35 ? 2 : 0;
}

Test(unet_data, several_classes_are_taken_as_they_are)
{
    struct unet_cases c;
    put("i/a.png", texture, 0);
    put("l/a.png", four_classes, 0);
    OK(read_cases(&c, 0, 4));
    for (int i = 0; i < PIXELS; i++) cr_assert_eq(c.items[0].labels[i], four_classes(i / W, i % W));
    cr_expect_eq(c.items[0].n_of_class[1], 10 * W);
    cr_expect_eq(c.items[0].n_of_class[2], 4 * W);
    cr_expect_eq(c.items[0].n_of_class[3], 70);
    cr_expect_eq(c.items[0].n_of_class[0], PIXELS - 14 * W - 70);
    mcs_unet_cases_free(&c);
    refused(3, "a.png: a label of 3 where there are 3 classes");
    put("l/a.png", white_disc, 0);
    refused(16, "a.png: a label of 255");
    cr_expect_eq(read_cases(&c, 0, 1), MCS_E_USAGE);
    mcs_error_clear();
    cr_expect_eq(read_cases(&c, 0, UNET_MAX_CLASSES + 1), MCS_E_USAGE);
    mcs_error_clear();
}

enum { DEPTH = 3 };

/* A volume whose slices differ in brightness, and its labels. */
static void put_volume(const char *name, float (*value)(int z, int y, int x))
{
    static float values[DEPTH * PIXELS];
    struct volume v;
    for (int i = 0; i < DEPTH * PIXELS; i++) values[i] = value(i / PIXELS, i / W % H, i % W);
    OK(mcs_volume_alloc(&v, W, H, DEPTH, NULL));
    OK(mcs_volume_write_f32(tiny_path(folder, "%s", name), values, &v));
    mcs_volume_free(&v);
}

static float brighter_slices(int z, int y, int x)
{
    return (float)(100 * z + (y * 7 + x) % 11);
}

static float volume_classes(int z, int y, int x)
{
    return (float)(y < 10 ? z : x < 5 ? 2 : 0);
}

static float below_zero(int z, int y, int x)
{
    return z == 1 && y == 2 && x == 3 ? -254 : 0; /* 2 in 8 bits */
}

Test(unet_data, volumes_are_cut_into_slices_and_normalised_as_a_whole)
{
    struct unet_cases c;
    double mean = 0, variance = 0;
    put_volume("i/v.nii.gz", brighter_slices);
    put_volume("l/v.nii.gz", volume_classes);
    OK(read_cases(&c, 0, 3));
    cr_assert_eq(c.n, DEPTH);
    cr_assert_eq(c.channels, 1);
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < DEPTH * PIXELS; i++) {
            const double v = (double)brighter_slices(i / PIXELS, i / W % H, i % W);
            if (!k) mean += v / (DEPTH * PIXELS);
            if (k) variance += (v - mean) * (v - mean) / (DEPTH * PIXELS);
        }
    for (int z = 0; z < DEPTH; z++) {
        const struct unet_case *s = &c.items[z];
        cr_assert(s->height == H && s->width == W && s->values);
        cr_expect_float_eq(s->mean[0], mean, 1e-5 * mean, "slice %d", z);
        cr_expect_float_eq(s->inverse_sd[0], 1 / sqrt(variance), 1e-6 / sqrt(variance), "slice %d", z);
        for (int i = 0; i < PIXELS; i++) {
            cr_assert_eq(s->values[i], brighter_slices(z, i / W, i % W));
            cr_assert_eq(s->labels[i], (int)volume_classes(z, i / W, i % W));
        }
    }
    mcs_unet_cases_free(&c);
    put_volume("l/v.nii.gz", below_zero);
    refused(3, "l/v.nii.gz: voxel (3, 2, 1), counted from 0, is -254; negative labels are refused");
}

/* ---- pairs that do not match ---- */

static int half_size(int y, int x)
{
    return (y + x) & 1;
}

Test(unet_data, pairs_that_do_not_fit)
{
    struct unet_cases c;
    struct image small;
    put("i/a.png", texture, 0);
    put("l/b.png", half_size, 0);
    refused(2, "no image has a label");
    put("l/a.png", half_size, 0);
    OK(read_cases(&c, 0, 2)); /* a warning: b has no image */
    cr_expect_eq(c.n, 1);
    mcs_unet_cases_free(&c);
    put("i/n.png", texture, 0); /* and n has no label */
    OK(read_cases(&c, 0, 2));
    cr_expect_eq(c.n, 1);
    mcs_unet_cases_free(&c);
    OK(mcs_image_alloc(&small, W - 1, H, 1));
    OK(mcs_image_write_png(tiny_path(folder, "l/a.png"), &small));
    mcs_image_free(&small);
    refused(2, "a.png is 47 x 40, but");
    cr_assert_eq(tiny_shell("rm %s/i/* %s/l/*", folder, folder), 0);
    put_volume("i/v.nii.gz", brighter_slices);
    put("l/v.png", half_size, 0);
    refused(2, "an image and a volume");
}

/* nnU-Net's names: the first channel belongs to its label, a second one is refused. */
Test(unet_data, names_of_channels)
{
    struct unet_cases c;
    put("i/a_0000.png", texture, 0);
    put("l/a.png", half_size, 0);
    OK(read_cases(&c, 0, 2));
    cr_expect_eq(c.n, 1);
    mcs_unet_cases_free(&c);
    put("i/a_0001.png", texture, 0);
    refused(2, "i/a_0001.png is a further channel of a_0000, and train reads one file");
    cr_assert_eq(tiny_shell("rm %s/i/*; mv %s/l/a.png %s/l/patient7.png", folder, folder, folder), 0);
    put("i/pateint7.png", texture, 0);
    refused(2, "the first is pateint7, the nearest label patient7");
}

/* Colour and grey images in one folder: the first image, or --channels, determines the number of channels. Each channel
 * is normalised separately. */
Test(unet_data, channels)
{
    struct unet_cases c;
    struct image colour;
    OK(mcs_image_alloc(&colour, W, H, 3));
    for (int i = 0; i < PIXELS; i++) {
        colour.pixels[3 * i] = (uint8_t)(i % 2 ? 50 : 70); /* mean 60, deviation 10 */
        colour.pixels[3 * i + 1] = (uint8_t)(i % 2 ? 200 : 100);
        colour.pixels[3 * i + 2] = 33;
    }
    OK(mcs_image_write_png(tiny_path(folder, "i/a.png"), &colour));
    mcs_image_free(&colour);
    put("l/a.png", half_size, 0);
    OK(read_cases(&c, 0, 2));
    cr_assert_eq(c.channels, 3);
    cr_expect_float_eq(c.items[0].mean[0], 60, 1e-5);
    cr_expect_float_eq(c.items[0].mean[1], 150, 1e-4);
    cr_expect_float_eq(c.items[0].mean[2], 33, 1e-5);
    cr_expect_float_eq(c.items[0].inverse_sd[0], 0.1, 1e-7);
    cr_expect_float_eq(c.items[0].inverse_sd[1], 0.02, 1e-8);
    float image[PIXELS * 3];
    int32_t label[PIXELS];
    const struct augment_patch patch = {H, W, 3, image, label};
    struct unet_loader l = {.cases = &c, .augment = mcs_augment_none(), .batch = 1, .height = H, .width = W};
    OK(mcs_unet_loader_open(&l));
    mcs_unet_loader_patch(&l, 0, 0, &patch, NULL, NULL);
    for (int i = 0; i < PIXELS; i++) {
        cr_assert_float_eq(image[3 * i], i % 2 ? -1 : 1, 1e-5);
        cr_assert_float_eq(image[3 * i + 1], i % 2 ? 1 : -1, 1e-5);
        cr_assert_eq(image[3 * i + 2], 0, "a constant channel is 0, not divided by 0");
    }
    mcs_unet_loader_close(&l);
    mcs_unet_cases_free(&c);
    OK(read_cases(&c, 1, 2));
    cr_expect_eq(c.channels, 1);
    mcs_unet_cases_free(&c);
}

/* ---- which patches ---- */

/* Case 0 has many pixels of class 1, four of class 3 and none of class 2; case 1 has only class 2; case 2 no
 * foreground.
 */
enum { P = 8, BATCH = 12, FORCED = 4, STEPS = 4000 };

static void add_case(struct unet_cases *c, int which)
{
    uint8_t labels[PIXELS] = {0};
    struct image img;
    OK(mcs_image_alloc(&img, W, H, 1));
    for (int i = 0; i < PIXELS; i++) {
        const int y = i / W, x = i % W;
        if (which == 0 && y >= 10 && y < 30 && x < 40) labels[i] = 1;
        if (which == 0 && y >= 20 && y < 22 && x >= 44 && x < 46) labels[i] = 3;
        if (which == 1 && y == 15) labels[i] = 2;
    }
    OK(mcs_unet_cases_add_image(c, "one", &img, labels));
    mcs_image_free(&img);
}

static void expect_share(const char *what, int hits, int n, double p)
{
    /* five standard errors */
    cr_expect_float_eq((double)hits / n, p, 5 * sqrt(p * (1 - p) / n), "%s: %d of %d, want %g of them", what, hits, n,
                       p);
}

/* Patches of the last third of a batch are centred on a foreground pixel: all classes of the case are equally likely,
 * regardless of their number of pixels, and so are the pixels of a class (nnU-Net's get_bbox). */
Test(unet_data, every_foreground_class_is_oversampled)
{
    struct unet_cases c;
    float image[P * P];
    int32_t label[P * P];
    int of_case[3] = {0}, of_class[3][4] = {{0}}, corner_of_3[4] = {0}, unforced[4] = {0}, n_forced = 0;
    double row = 0, column = 0;
    const struct augment_patch patch = {P, P, 1, image, label};
    mcs_unet_cases_init(&c, 1, 4);
    for (int i = 0; i < 3; i++) add_case(&c, i);
    struct unet_loader l = {.cases = &c,
                            .augment = mcs_augment_none(),
                            .batch = BATCH,
                            .height = P,
                            .width = P,
                            .foreground = 0.33,
                            .seed = 6};
    OK(mcs_unet_loader_open(&l));
    for (int64_t step = 0; step < STEPS; step++)
        for (int i = 0; i < BATCH; i++) {
            int which;
            int64_t corner[2];
            mcs_unet_loader_patch(&l, step, i, &patch, &which, corner);
            const int centre = label[P / 2 * P + P / 2];
            of_case[which]++;
            if (i < BATCH - FORCED) {
                if (which == 0 && centre >= 0) unforced[centre]++;
                continue;
            }
            n_forced++;
            cr_assert(which == 2 || centre > 0, "item %d of %d sees no foreground in its centre", i, BATCH);
            if (centre >= 0) of_class[which][centre]++;
            if (centre == 1) row += (double)corner[0] + P / 2, column += (double)corner[1] + P / 2;
            if (centre == 3) corner_of_3[2 * (corner[0] + P / 2 - 20) + corner[1] + P / 2 - 44]++;
        }
    for (int i = 0; i < 3; i++) expect_share("a case", of_case[i], BATCH * STEPS, 1.0 / 3);
    const int first = of_class[0][1] + of_class[0][3];
    cr_expect_eq(of_class[0][2], 0);
    expect_share("class 1 of case 0", of_class[0][1], first, 0.5);
    expect_share("class 3 of case 0, which has four pixels", of_class[0][3], first, 0.5);
    for (int i = 0; i < 4; i++) expect_share("a pixel of class 3", corner_of_3[i], of_class[0][3], 0.25);
    expect_share("forced items of case 1", of_class[1][2], n_forced, 1.0 / 3);
    /* rows 10 to 29 and columns 0 to 39, uniform: means 19.5 and 19.5, deviations 5.8 and 11.5 */
    const double error = 5 / sqrt(of_class[0][1]);
    cr_expect_float_eq(row / of_class[0][1], 19.5, 5.8 * error);
    cr_expect_float_eq(column / of_class[0][1], 19.5, 11.5 * error);
    /* the others are uniform over the image: centres in rows 4 to 36 and columns 4 to 44, 20 x 36 of them in class 1 */
    const int others = unforced[0] + unforced[1] + unforced[3];
    expect_share("items that are not forced", others, (BATCH - FORCED) * STEPS, 1.0 / 3);
    expect_share("class 1 without force", unforced[1], others, 20.0 * 36 / (33 * 41));
    expect_share("class 3 without force", unforced[3], others, 2.0 / (33 * 41));
    mcs_unet_loader_close(&l);
    mcs_unet_cases_free(&c);
}

Test(unet_data, a_loader_that_cannot_be)
{
    struct unet_cases c;
    mcs_unet_cases_init(&c, 1, 4);
    add_case(&c, 0);
    struct unet_loader l = {.cases = &c, .augment = mcs_augment_none(), .batch = 0, .height = P, .width = P};
    cr_expect_eq(mcs_unet_loader_open(&l), MCS_E_USAGE);
    mcs_error_clear();
    l.batch = 4, l.first = 3, l.n = 2;
    cr_expect_eq(mcs_unet_loader_open(&l), MCS_E_USAGE, "items 3 and 4 of a batch of 4");
    mcs_error_clear();
    mcs_unet_cases_free(&c);
}

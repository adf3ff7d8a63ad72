/* The augmentation's transforms one by one, and the dependence of a whole sample on its key. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support_ops.h"
#include "train/unet/augment.h"

enum { H = 24, W = 20, PIXELS = H * W };

static float image[3 * PIXELS], other[3 * PIXELS], scratch[8 * PIXELS];
static int32_t label[PIXELS], other_label[PIXELS];

/* A smooth ramp with a disc. */
static void draw(int channels)
{
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            const int inside = (y - 9) * (y - 9) + (x - 12) * (x - 12) < 30;
            for (int k = 0; k < channels; k++)
                image[(y * W + x) * channels + k] = 0.1f * (float)y - 0.07f * (float)(x * (k + 1)) + (float)inside;
            label[y * W + x] = inside;
        }
}

static struct augment_plane plane(float *x)
{
    return (struct augment_plane){x, H, W, 1};
}

static double mean_of(const float *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i];
    return sum / n;
}

static double sd_of(const float *x, int n)
{
    const double m = mean_of(x, n);
    double sum = 0;
    for (int i = 0; i < n; i++) sum += ((double)x[i] - m) * ((double)x[i] - m);
    return sqrt(sum / n);
}

Test(augment, nothing_is_a_centre_crop)
{
    const struct augment_options none = mcs_augment_none();
    enum { h = H - 6, w = W - 3 };
    float out[h * w];
    int32_t out_label[h * w];
    draw(1);
    label[(3 + 2) * W + 1 + 5] = -1;
    const struct augment_patch src = {H, W, 1, image, label}, dst = {h, w, 1, out, out_label};
    support_augment(&none, (struct mcs_rng){1, 2, 3, 4}, &src, &dst, scratch);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) { /* offset 24/2 - 18/2 = 3 rows, 20/2 - 17/2 = 2 columns */
            cr_assert_eq(out[y * w + x], image[(y + 3) * W + x + 2]);
            const int32_t l = label[(y + 3) * W + x + 2];
            cr_assert_eq(out_label[y * w + x], l < 0 ? 0 : l);
        }
}

Test(augment, loader_sizes)
{
    struct augment_options o = mcs_augment_nnunet(512, 512);
    int size[2];
    mcs_augment_loader_size(&o, 512, 512, size);
    cr_expect(size[0] == 602 && size[1] == 602, "%d %d", size[0], size[1]); /* 512 / .85 = 602.4 */
    o = mcs_augment_nnunet(128, 128);
    mcs_augment_loader_size(&o, 128, 128, size);
    cr_expect(size[0] == 150 && size[1] == 150, "%d %d", size[0], size[1]); /* 128 / .85 = 150.6 */
    o = mcs_augment_nnunet(320, 160); /* aspect 2: 15 degrees; 320 c + 160 s = 350.5, |160 c - 320 s| < 160 */
    cr_expect_float_eq(o.rotation, M_PI / 12, 1e-12);
    mcs_augment_loader_size(&o, 320, 160, size);
    cr_expect(size[0] == 412 && size[1] == 188, "%d %d", size[0], size[1]);
    o = mcs_augment_none();
    mcs_augment_loader_size(&o, 320, 160, size);
    cr_expect(size[0] == 320 && size[1] == 160, "without turning the patch itself is enough");
}

Test(augment, spatial_identity_and_quarter_turn)
{
    const double same[2][2] = {{1, 0}, {0, 1}}, quarter[2][2] = {{0, 1}, {-1, 0}};
    const struct augment_patch src = {W, W, 1, image, label}, dst = {W, W, 1, other, other_label};
    draw(1);
    mcs_augment_spatial(same, &src, &dst);
    cr_expect_eq(memcmp(other, image, W * W * sizeof *image), 0, "whole pixels are taken as they are");
    cr_expect_eq(memcmp(other_label, label, W * W * sizeof *label), 0);
    mcs_augment_spatial(quarter, &src, &dst);
    for (int y = 0; y < W; y++)
        for (int x = 0; x < W; x++) { /* source y = x, source x = W - 1 - y */
            cr_assert_eq(other[y * W + x], image[x * W + W - 1 - y]);
            cr_assert_eq(other_label[y * W + x], label[x * W + W - 1 - y]);
        }
}

Test(augment, spatial_outside_and_votes)
{
    const double twice[2][2] = {{2, 0}, {0, 2}}, half[2][2] = {{0.5, 0}, {0, 0.5}};
    const struct augment_patch src = {4, 4, 1, image, label}, dst = {4, 4, 1, other, other_label};
    for (int i = 0; i < 16; i++) image[i] = 1, label[i] = i < 8 ? 1 : 2;
    mcs_augment_spatial(twice, &src, &dst); /* rows at 1.5 -+ 1 and -+ 3: -1.5 and 4.5 lie outside, .5 and 2.5 inside */
    cr_expect_eq(other[0], 0);
    cr_expect_eq(other_label[0], -1);
    cr_expect_eq(other[5], 1);
    cr_expect_eq(other_label[5], 1);
    cr_expect_eq(other_label[10], 2);
    mcs_augment_spatial(half, &src, &dst); /* rows .75 1.25 1.75 2.25: the border is at 1.5 */
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 4; x++) cr_expect_eq(other_label[y * 4 + x], y < 2 ? 1 : 2, "%d %d", y, x);
    const double shift[2][2] = {{1, 0}, {0, 1}};
    const struct augment_patch odd = {3, 4, 1, other, other_label}; /* sampled at half rows: equal votes */
    mcs_augment_spatial(shift, &src, &odd);
    cr_expect_eq(other_label[4], 1, "of equal votes the smaller label");
}

Test(augment, blur_keeps_constants_and_spreads_a_point)
{
    for (int i = 0; i < PIXELS; i++) image[i] = 3;
    mcs_augment_blur(plane(image), 1, 0.5, scratch);
    for (int i = 0; i < PIXELS; i++) cr_assert_float_eq(image[i], 3, 1e-5); /* weights sum to 1 within 7 roundings */
    memset(image, 0, sizeof image);
    image[10 * W + 10] = 1;
    mcs_augment_blur(plane(image), 1, 0.5, scratch);
    double sum = 0;
    for (int i = 0; i < PIXELS; i++) sum += (double)image[i];
    cr_expect_float_eq(sum, 1, 1e-5);
    /* neighbours: exp(-1/2) along rows, exp(-2) along columns */
    cr_expect_float_eq(image[11 * W + 10] / image[10 * W + 10], exp(-0.5), 1e-5);
    cr_expect_float_eq(image[10 * W + 9] / image[10 * W + 10], exp(-2), 1e-5);
    cr_expect_eq(image[14 * W + 10], 0, "beyond the radius of 3");
}

Test(augment, contrast_stays_in_the_range)
{
    draw(1);
    memcpy(other, image, sizeof image);
    const double mean = mean_of(image, PIXELS);
    mcs_augment_contrast(plane(image), 0.8);
    cr_expect_float_eq(mean_of(image, PIXELS), mean, 1e-5);
    cr_expect_float_eq(sd_of(image, PIXELS), 0.8 * sd_of(other, PIXELS), 1e-5);
    memcpy(image, other, sizeof image);
    mcs_augment_contrast(plane(image), 1.25);
    float low = INFINITY, high = -INFINITY;
    for (int i = 0; i < PIXELS; i++) low = fminf(low, other[i]), high = fmaxf(high, other[i]);
    for (int i = 0; i < PIXELS; i++) cr_assert(image[i] >= low && image[i] <= high);
}

Test(augment, low_resolution)
{
    draw(1);
    memcpy(other, image, sizeof image);
    mcs_augment_lowres(plane(image), 1, scratch);
    for (int i = 0; i < PIXELS; i++) cr_assert_float_eq(image[i], other[i], 1e-6, "at full size nothing is lost");
    for (int i = 0; i < PIXELS; i++) image[i] = 2.5f;
    mcs_augment_lowres(plane(image), 0.5, scratch);
    for (int i = 0; i < PIXELS; i++) cr_assert_eq(image[i], 2.5f);
    for (int i = 0; i < PIXELS; i++) image[i] = (float)(i / W % 2); /* stripes of one row: nearest takes every second */
    mcs_augment_lowres(plane(image), 0.5, scratch);
    for (int i = 1; i < PIXELS; i++) cr_assert_eq(image[i], image[0]);
}

Test(augment, gamma_keeps_mean_and_deviation)
{
    for (int inverted = 0; inverted < 2; inverted++) {
        draw(1);
        memcpy(other, image, sizeof image);
        mcs_augment_gamma(plane(image), 1.4, inverted);
        /* float values of order 1: a sum of 480 rounded ones, 1e-5 is 84 roundings of 2^-23 */
        cr_expect_float_eq(mean_of(image, PIXELS), mean_of(other, PIXELS), 1e-5);
        cr_expect_float_eq(sd_of(image, PIXELS), sd_of(other, PIXELS), 1e-5);
        int same_order = 1, changed = 0;
        for (int i = 1; i < PIXELS; i++) {
            same_order &= (image[i] > image[i - 1]) == (other[i] > other[i - 1]) || image[i] == image[i - 1];
            changed |= fabsf(image[i] - other[i]) > 0.01f;
        }
        cr_expect(same_order, "gamma is monotonic, inverted or not");
        cr_expect(changed);
    }
    draw(1);
    memcpy(other, image, sizeof image);
    mcs_augment_gamma(plane(image), 1, 1);
    for (int i = 0; i < PIXELS; i++) cr_assert_float_eq(image[i], other[i], 1e-5);
    for (int i = 0; i < PIXELS; i++) image[i] = 7;
    mcs_augment_gamma(plane(image), 0.7, 0);
    for (int i = 0; i < PIXELS; i++) cr_assert_float_eq(image[i], 7, 1e-5, "a constant image stays");
}

static struct augment_options only_noise(void)
{
    struct augment_options o = mcs_augment_none();
    o.p_noise = 1;
    o.noise_hi = 0.1;
    return o;
}

Test(augment, a_sample_depends_on_its_key_alone)
{
    struct augment_options o = mcs_augment_nnunet(H, W);
    o.p_rotation = o.p_scale = o.p_noise = o.p_blur = o.p_brightness = o.p_contrast = o.p_lowres = 1;
    o.p_gamma = o.p_gamma_inverted = 1;
    draw(3);
    const struct augment_patch src = {H, W, 3, image, label}, dst = {H, W, 3, other, other_label};
    float *again = malloc(sizeof other);
    int32_t *again_label = malloc(sizeof other_label);
    cr_assert(again && again_label);
    const struct augment_patch second = {H, W, 3, again, again_label};
    const struct mcs_rng key = {1, 2, 3, 4}, changed[] = {{2, 2, 3, 4}, {1, 5, 3, 4}, {1, 2, 4, 4}, {1, 2, 3, 5}};
    support_augment(&o, key, &src, &dst, scratch);
    memset(scratch, 0x7f, sizeof scratch);
    support_augment(&o, key, &src, &second, scratch);
    cr_expect_eq(memcmp(other, again, sizeof other), 0, "the scratch's old contents showed");
    cr_expect_eq(memcmp(other_label, again_label, sizeof other_label), 0);
    for (int i = 0; i < 3 * PIXELS; i++) cr_assert(isfinite(other[i]));
    for (int i = 0; i < PIXELS; i++) cr_assert(other_label[i] == 0 || other_label[i] == 1);
    for (int i = 0; i < 4; i++) {
        support_augment(&o, changed[i], &src, &second, scratch);
        cr_expect_neq(memcmp(other, again, sizeof other), 0, "key %d does not count", i);
    }
    free(again);
    free(again_label);
}

/* Shares of samples that a transform changes, over 2000 keys: four standard errors are .045 at most. */
Test(augment, probabilities)
{
    const struct augment_patch src = {4, 4, 1, image, label}, dst = {4, 4, 1, other, other_label};
    struct augment_options o = only_noise();
    const struct augment_options all = mcs_augment_nnunet(4, 4);
    int noisy = 0, turned = 0, flipped = 0, rows = 0;
    double most = 0;
    for (int i = 0; i < 16; i++) image[i] = (float)i, label[i] = 0;
    for (uint32_t key = 0; key < 2000; key++) {
        o = only_noise();
        o.p_noise = all.p_noise;
        support_augment(&o, (struct mcs_rng){9, 9, key, 0}, &src, &dst, scratch);
        noisy += memcmp(other, image, 16 * sizeof *image) != 0;
        for (int i = 0; i < 16; i++) most = fmax(most, fabs((double)(other[i] - image[i])));
        o = mcs_augment_none();
        o.p_rotation = o.p_scale = 0.2, o.rotation = 3, o.scale_lo = 0.7, o.scale_hi = 1.4;
        support_augment(&o, (struct mcs_rng){9, 9, key, 0}, &src, &dst, scratch);
        turned += memcmp(other, image, 16 * sizeof *image) != 0;
        o = mcs_augment_none();
        o.p_mirror = 0.5;
        support_augment(&o, (struct mcs_rng){9, 9, key, 0}, &src, &dst, scratch);
        flipped += memcmp(other, image, 16 * sizeof *image) != 0;
        rows += other[0] > 11; /* the last row came first */
    }
    cr_expect_float_eq(noisy / 2000.0, 0.1, 0.045);
    cr_expect_float_eq(turned / 2000.0, 1 - 0.8 * 0.8, 0.045);
    cr_expect_float_eq(flipped / 2000.0, 0.75, 0.045);
    cr_expect_float_eq(rows / 2000.0, 0.5, 0.045);
    cr_expect(most > 0.1 && most < 0.6, "noise of up to %g: the deviation is .1 at most", most);
}

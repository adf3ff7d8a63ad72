/* Random draws of nnU-Net's augmentation: probabilities and ranges against the published ones over many samples; each
 * drawn transform is applied, in nnU-Net's order. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/unet/augment.h"

enum { SAMPLES = 60000, CHANNELS = 3 };

/* ---- chances ---- */

/* The share of hits in n independent draws of probability p is within five standard errors, except once in 1.7 million.
 */
static void expect_share(const char *what, int64_t hits, int64_t n, double p)
{
    const double share = (double)hits / (double)n, bound = 5 * sqrt(p * (1 - p) / (double)n);
    cr_expect_float_eq(share, p, bound, "%s: share %.4f of %lld, want %.4f +- %.4f", what, share, (long long)n, p,
                       bound);
}

/* Values that should be uniform in lo..hi: none outside, the outermost hundredths of the range are reached (at least 20
 * values are expected there), and mean and variance are within five standard errors: the mean's is range/sqrt(12n), the
 * variance of (u - 1/2)^2 is 1/180. */
struct uniform {
    int64_t n;
    double sum, squares, low, high;
};

static void put(struct uniform *u, double x)
{
    u->low = u->n ? fmin(u->low, x) : x;
    u->high = u->n ? fmax(u->high, x) : x;
    u->n++;
    u->sum += x;
    u->squares += x * x;
}

static void expect_uniform(const char *what, const struct uniform *u, double lo, double hi)
{
    const double n = (double)u->n, range = hi - lo, mean = u->sum / n, middle = 0.5 * (lo + hi);
    const double spread = u->squares / n - 2 * middle * mean + middle * middle; /* about the true middle */
    cr_assert(u->n >= 2000, "%s: only %lld values", what, (long long)u->n);
    cr_expect(u->low >= lo - 1e-6 && u->high <= hi + 1e-6, "%s: %g..%g, want %g..%g", what, u->low, u->high, lo, hi);
    cr_expect(u->low < lo + 0.01 * range && u->high > hi - 0.01 * range, "%s: only %g..%g of %g..%g", what, u->low,
              u->high, lo, hi);
    cr_expect_float_eq(mean, middle, 5 * range / sqrt(12 * n), "%s: mean %g, want %g", what, mean, middle);
    cr_expect_float_eq(spread, range * range / 12, 5 * range * range / sqrt(180 * n), "%s: variance %g, want %g", what,
                       spread, range * range / 12);
}

/* A factor that is below 1 with probability 1/2, uniform on both sides. */
struct factor {
    struct uniform below, above;
};

static void put_factor(struct factor *f, double x)
{
    put(x < 1 ? &f->below : &f->above, x);
}

static void expect_factor(const char *what, const struct factor *f, double lo, double hi)
{
    expect_share(what, f->below.n, f->below.n + f->above.n, 0.5);
    expect_uniform(what, &f->below, lo, 1);
    expect_uniform(what, &f->above, 1, hi);
}

static struct augment_draw drawn(const struct augment_options *o, uint32_t sample)
{
    struct augment_draw a;
    mcs_augment_draw(o, (struct mcs_rng){.seed = 11, .site = 5, .sample = sample, .step = sample % 7}, CHANNELS, &a);
    return a;
}

/* nnUNetTrainer.get_training_transforms for a square two-dimensional patch. */
Test(augment_draws, turns_and_scales)
{
    const struct augment_options o = mcs_augment_nnunet(256, 256);
    struct uniform angle = {0}, scale = {0};
    int64_t turns = 0, scales = 0, both = 0;
    for (uint32_t k = 0; k < SAMPLES; k++) {
        const struct augment_draw a = drawn(&o, k);
        const double size = hypot(a.matrix[0][0], a.matrix[1][0]), turn = atan2(a.matrix[1][0], a.matrix[0][0]);
        const int turned = fabs(turn) > 1e-12, scaled = fabs(size - 1) > 1e-12;
        cr_assert_eq(a.moves, turned || scaled);
        cr_assert_float_eq(a.matrix[0][0], a.matrix[1][1], 1e-15, "one factor for both axes, and no shear");
        cr_assert_float_eq(a.matrix[0][1], -a.matrix[1][0], 1e-15);
        turns += turned, scales += scaled, both += turned && scaled;
        if (turned) put(&angle, turn);
        if (scaled) put(&scale, size);
    }
    expect_share("rotation", turns, SAMPLES, 0.2);
    expect_share("scaling", scales, SAMPLES, 0.2);
    expect_share("rotation and scaling, drawn independently", both, SAMPLES, 0.04);
    expect_uniform("angle", &angle, -M_PI, M_PI);
    expect_uniform("scale", &scale, 0.7, 1.4);
}

/* If one side is more than 1.5 times the other: up to 15 degrees. */
Test(augment_draws, an_elongated_patch_turns_by_15_degrees)
{
    struct uniform tall = {0}, wide = {0};
    const struct augment_options high = mcs_augment_nnunet(301, 200), broad = mcs_augment_nnunet(200, 301),
                                 border = mcs_augment_nnunet(300, 200);
    for (uint32_t k = 0; k < SAMPLES; k++) {
        const struct augment_draw a = drawn(&high, k), b = drawn(&broad, k);
        if (a.matrix[1][0] != 0) put(&tall, atan2(a.matrix[1][0], a.matrix[0][0]));
        if (b.matrix[1][0] != 0) put(&wide, atan2(b.matrix[1][0], b.matrix[0][0]));
    }
    expect_uniform("angle of a tall patch", &tall, -M_PI / 12, M_PI / 12);
    expect_uniform("angle of a wide patch", &wide, -M_PI / 12, M_PI / 12);
    cr_expect_float_eq(border.rotation, M_PI, 1e-12, "an aspect of 1.5 itself still turns by any angle");
}

/* One channel's draws, counted over samples and channels. */
struct counts {
    int64_t blurred, brightened, contrasted, coarsened, inverted, bent;
    struct uniform sigma_y, sigma_x, zoom;
    struct factor brightness, contrast, gamma, gamma_inverted;
};

static void count_channel(struct counts *n, const struct augment_channel *c)
{
    cr_assert_eq(c->blur_y > 0, c->blur_x > 0);
    n->blurred += c->blur_y > 0;
    n->brightened += c->brightness != 0;
    n->contrasted += c->contrast != 0;
    n->coarsened += c->zoom > 0;
    n->inverted += c->gamma_inverted != 0;
    n->bent += c->gamma != 0;
    if (c->blur_y > 0) put(&n->sigma_y, c->blur_y), put(&n->sigma_x, c->blur_x);
    if (c->zoom > 0) put(&n->zoom, c->zoom);
    if (c->brightness != 0) put_factor(&n->brightness, (double)c->brightness);
    if (c->contrast != 0) put_factor(&n->contrast, c->contrast);
    if (c->gamma != 0) put_factor(&n->gamma, c->gamma);
    if (c->gamma_inverted != 0) put_factor(&n->gamma_inverted, c->gamma_inverted);
}

/* Probabilities per sample; blur and low resolution are then drawn for each channel, the others apply to all channels.
 */
Test(augment_draws, intensities)
{
    const struct augment_options o = mcs_augment_nnunet(256, 256);
    struct counts one = {0};
    int64_t in_two = 0, coarse_in_two = 0, same_factor = 0, noisy = 0, rows = 0, columns = 0, both = 0;
    struct uniform noise = {0};
    for (uint32_t k = 0; k < SAMPLES; k++) {
        const struct augment_draw a = drawn(&o, k);
        const struct augment_channel *c = a.channel;
        count_channel(&one, &c[0]);
        cr_assert_eq(c[0].brightness != 0, c[2].brightness != 0);
        cr_assert_eq(c[0].contrast != 0, c[2].contrast != 0);
        cr_assert_eq(c[0].gamma != 0, c[2].gamma != 0);
        cr_assert_eq(c[0].gamma_inverted != 0, c[2].gamma_inverted != 0);
        cr_assert_eq(c[CHANNELS].gamma, 0, "a channel that there is not");
        in_two += c[0].blur_y > 0 && c[1].blur_y > 0;
        coarse_in_two += c[0].zoom > 0 && c[1].zoom > 0;
        same_factor += c[0].gamma != 0 && c[0].gamma == c[1].gamma;
        same_factor += c[0].blur_y > 0 && c[0].blur_y == c[0].blur_x;
        noisy += a.noise > 0;
        if (a.noise > 0) put(&noise, (double)a.noise);
        rows += a.flip_rows, columns += a.flip_columns, both += a.flip_rows && a.flip_columns;
    }
    expect_share("noise", noisy, SAMPLES, 0.1);
    expect_uniform("noise", &noise, 0, 0.1);
    expect_share("blur", one.blurred, SAMPLES, 0.2 * 0.5);
    expect_share("blur of two channels", in_two, SAMPLES, 0.2 * 0.25);
    expect_uniform("blur along rows", &one.sigma_y, 0.5, 1);
    expect_uniform("blur along columns", &one.sigma_x, 0.5, 1);
    expect_share("brightness", one.brightened, SAMPLES, 0.15);
    expect_factor("brightness", &one.brightness, 0.75, 1.25);
    expect_share("contrast", one.contrasted, SAMPLES, 0.15);
    expect_factor("contrast", &one.contrast, 0.75, 1.25);
    expect_share("low resolution", one.coarsened, SAMPLES, 0.25 * 0.5);
    expect_share("low resolution of two channels", coarse_in_two, SAMPLES, 0.25 * 0.25);
    expect_uniform("low resolution", &one.zoom, 0.5, 1);
    expect_share("inverted gamma", one.inverted, SAMPLES, 0.1);
    expect_factor("inverted gamma", &one.gamma_inverted, 0.7, 1.5);
    expect_share("gamma", one.bent, SAMPLES, 0.3);
    expect_factor("gamma", &one.gamma, 0.7, 1.5);
    cr_expect_eq(same_factor, 0, "channels and axes are drawn apart");
    expect_share("rows mirrored", rows, SAMPLES, 0.5);
    expect_share("columns mirrored", columns, SAMPLES, 0.5);
    expect_share("both mirrored", both, SAMPLES, 0.25);
}

/* Transforms are drawn independently: the probability of two is the product of theirs. */
Test(augment_draws, transforms_are_independent)
{
    enum { N = 7 };
    static const char *const name[N] = {"move", "noise", "brightness", "contrast", "inverted gamma", "gamma", "mirror"};
    static const double p[N] = {1 - 0.8 * 0.8, 0.1, 0.15, 0.15, 0.1, 0.3, 0.5};
    const struct augment_options o = mcs_augment_nnunet(256, 256);
    int64_t together[N][N] = {0};
    for (uint32_t k = 0; k < SAMPLES; k++) {
        const struct augment_draw a = drawn(&o, k);
        const struct augment_channel *c = &a.channel[0];
        const int on[N] = {a.moves,       a.noise > 0, c->brightness != 0, c->contrast != 0, c->gamma_inverted != 0,
                           c->gamma != 0, a.flip_rows};
        for (int i = 0; i < N; i++)
            for (int j = 0; j < i; j++) together[i][j] += on[i] && on[j];
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < i; j++) {
            char what[64];
            snprintf(what, sizeof what, "%s with %s", name[i], name[j]);
            expect_share(what, together[i][j], SAMPLES, p[i] * p[j]);
        }
}

/* ---- drawn transforms are applied ---- */

enum { H = 18, W = 14, PIXELS = H * W, SRC_H = 24, SRC_W = 22 };

static float source[SRC_H * SRC_W * 2], got[PIXELS * 2], want[PIXELS * 2], scratch[4 * PIXELS + 200];
static int32_t source_label[SRC_H * SRC_W], got_label[PIXELS], want_label[PIXELS];
static const struct augment_patch src = {SRC_H, SRC_W, 2, source, source_label}, dst = {H, W, 2, got, got_label},
                                  wanted = {H, W, 2, want, want_label};

static void paint_source(void)
{
    for (int i = 0; i < SRC_H * SRC_W; i++) {
        const int y = i / SRC_W, x = i % SRC_W;
        source[2 * i] = (float)(sin(0.9 * y) + cos(0.5 * x * y));
        source[2 * i + 1] = (float)(0.3 * y - 0.1 * x + (x > 9));
        source_label[i] = x < 2 ? -1 : (y / 5 + x / 4) % 3;
    }
}

static struct augment_plane plane(int channel)
{
    return (struct augment_plane){want + channel, H, W, 2};
}

static void expect_same(const char *what, double tolerance)
{
    for (int i = 0; i < PIXELS * 2; i++)
        cr_assert_float_eq(got[i], want[i], tolerance, "%s: value %d is %g, want %g", what, i, (double)got[i],
                           (double)want[i]);
    for (int i = 0; i < PIXELS; i++)
        cr_assert_eq(got_label[i], want_label[i] < 0 ? 0 : want_label[i], "%s: label %d", what, i);
}

static void expect_changed(const char *what)
{
    double most = 0;
    mcs_augment_spatial(NULL, &src, &wanted);
    for (int i = 0; i < PIXELS * 2; i++) most = fmax(most, fabs((double)got[i] - (double)want[i]));
    cr_expect(most > 0.05, "%s changed nothing", what);
}

/* Each transform alone, drawn for channel 1 only: equal to its function; channel 0 is unchanged. */
Test(augment_draws, each_transform_is_applied)
{
    enum { BLUR, BRIGHTNESS, CONTRAST, LOWRES, INVERTED, GAMMA, N };
    static const char *const name[N] = {"blur", "brightness", "contrast", "low resolution", "inverted gamma", "gamma"};
    paint_source();
    for (int t = 0; t < N; t++) {
        struct augment_draw a = {0};
        struct augment_channel *c = &a.channel[1];
        mcs_augment_spatial(NULL, &src, &wanted);
        if (t == BLUR) c->blur_y = 0.6, c->blur_x = 0.9, mcs_augment_blur(plane(1), 0.6, 0.9, scratch);
        if (t == CONTRAST) c->contrast = 1.2, mcs_augment_contrast(plane(1), 1.2);
        if (t == LOWRES) c->zoom = 0.55, mcs_augment_lowres(plane(1), 0.55, scratch);
        if (t == INVERTED) c->gamma_inverted = 1.4, mcs_augment_gamma(plane(1), 1.4, 1);
        if (t == GAMMA) c->gamma = 1.4, mcs_augment_gamma(plane(1), 1.4, 0);
        if (t == BRIGHTNESS) {
            c->brightness = 1.25f;
            for (int i = 0; i < PIXELS; i++) want[2 * i + 1] *= 1.25f;
        }
        mcs_augment_apply(&a, &src, &dst, scratch);
        expect_same(name[t], 0);
        expect_changed(name[t]);
    }
}

/* A transform of one channel of two equals the transform of this channel alone, and the other channel is unchanged. */
Test(augment_draws, a_channel_among_others)
{
    static float alone[PIXELS], other[PIXELS];
    const struct augment_plane one = {alone, H, W, 1};
    paint_source();
    for (int t = 0; t < 5; t++) {
        mcs_augment_spatial(NULL, &src, &wanted);
        for (int i = 0; i < PIXELS; i++) alone[i] = want[2 * i + 1], other[i] = want[2 * i];
        for (int k = 0; k < 2; k++) {
            const struct augment_plane p = k ? plane(1) : one;
            if (t == 0) mcs_augment_blur(p, 0.6, 0.9, scratch);
            if (t == 1) mcs_augment_contrast(p, 1.2);
            if (t == 2) mcs_augment_lowres(p, 0.55, scratch);
            if (t == 3) mcs_augment_gamma(p, 1.4, 1);
            if (t == 4) mcs_augment_gamma(p, 0.8, 0);
        }
        for (int i = 0; i < PIXELS; i++) {
            cr_assert_eq(want[2 * i + 1], alone[i], "transform %d, pixel %d", t, i);
            cr_assert_eq(want[2 * i], other[i], "transform %d touched the other channel", t);
        }
    }
}

/* All transforms together: rotation, noise, then in each channel blur, brightness, contrast, low resolution, inverted
 * gamma, gamma, and mirroring last. */
Test(augment_draws, transforms_come_in_order)
{
    struct augment_draw a = {.moves = 1,
                             .flip_rows = 1,
                             .flip_columns = 1,
                             .noise = 0.07f,
                             .matrix = {{0.8, -0.5}, {0.5, 0.8}},
                             .noise_seed = 3,
                             .noise_site = 4,
                             .noise_sample = 5,
                             .noise_step = 6};
    float noise[PIXELS * 2];
    paint_source();
    mcs_augment_spatial(a.matrix, &src, &wanted);
    mcs_rng_fill_normal((struct mcs_rng){3, 4, 5, 6}, noise, PIXELS * 2);
    for (int i = 0; i < PIXELS * 2; i++) want[i] += 0.07f * noise[i];
    for (int k = 0; k < 2; k++) {
        a.channel[k] = (struct augment_channel){.blur_y = 0.5 + 0.3 * k,
                                                .blur_x = 0.7,
                                                .brightness = 1.2f,
                                                .contrast = 1.25 - 0.4 * k,
                                                .zoom = 0.6,
                                                .gamma_inverted = 1.3,
                                                .gamma = 0.8};
        mcs_augment_blur(plane(k), a.channel[k].blur_y, 0.7, scratch);
        for (int i = 0; i < PIXELS; i++) want[2 * i + k] *= 1.2f;
        mcs_augment_contrast(plane(k), a.channel[k].contrast);
        mcs_augment_lowres(plane(k), 0.6, scratch);
        mcs_augment_gamma(plane(k), 1.3, 1);
        mcs_augment_gamma(plane(k), 0.8, 0);
    }
    for (int i = 0; i < PIXELS / 2; i++) { /* both axes mirrored: the last pixel comes first */
        const int j = PIXELS - 1 - i;
        const int32_t l = want_label[i];
        want_label[i] = want_label[j], want_label[j] = l;
        for (int k = 0; k < 2; k++) {
            const float v = want[2 * i + k];
            want[2 * i + k] = want[2 * j + k], want[2 * j + k] = v;
        }
    }
    mcs_augment_apply(&a, &src, &dst, scratch);
    expect_same("all transforms", 0);
}

/* One axis at a time. */
Test(augment_draws, each_axis_is_mirrored_by_itself)
{
    paint_source();
    mcs_augment_spatial(NULL, &src, &wanted);
    for (int columns = 0; columns < 2; columns++) {
        const struct augment_draw a = {.flip_rows = !columns, .flip_columns = columns};
        mcs_augment_apply(&a, &src, &dst, scratch);
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++) {
                const int from = columns ? y * W + W - 1 - x : (H - 1 - y) * W + x, to = y * W + x;
                cr_assert(got[2 * to] == want[2 * from] && got[2 * to + 1] == want[2 * from + 1]);
                cr_assert_eq(got_label[to], want_label[from] < 0 ? 0 : want_label[from]);
            }
    }
}

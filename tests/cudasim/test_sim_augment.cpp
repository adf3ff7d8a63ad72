/* Augmentation on the device against train/unet/augment.c: each transform alone, all together, nnU-Net's
 * probabilities. */
#include "tests/cudasim/support_array.h"

#include "kernels/image/augmentation.h"
extern "C" {
#include "train/unet/unet_data.h"
}

enum { SEEDS = 4 };

struct size_case {
    int n, channels, src_height, src_width, height, width;
};
static const size_case size_cases[] = {{1, 1, 1, 1, 1, 1},    {2, 1, 24, 20, 24, 20}, {3, 3, 30, 27, 17, 22},
                                       {1, 2, 45, 5, 40, 3},  {2, 1, 3, 70, 2, 65},   {1, 8, 9, 9, 7, 8},
                                       {1, 1, 40, 40, 33, 32}};

/* Cases: one transform with probability 1, all others off. HALF: no rotation, but sizes that differ by an odd number,
 * so that samples lie half way between pixels: the labels' weights tie there, and the smallest label must win. */
enum {
    NOTHING,
    HALF,
    TURN,
    SCALE,
    NOISE,
    BLUR,
    BRIGHTNESS,
    CONTRAST,
    LOWRES,
    GAMMA_INVERTED,
    GAMMA,
    MIRROR,
    ALL,
    NNUNET,
    KINDS
};
static augment_options options_of(int kind, int height, int width)
{
    augment_options o = mcs_augment_nnunet(height, width);
    double *p[KINDS] = {
        NULL,          NULL,        &o.p_rotation,       &o.p_scale, &o.p_noise, &o.p_blur, &o.p_brightness,
        &o.p_contrast, &o.p_lowres, &o.p_gamma_inverted, &o.p_gamma, &o.p_mirror};
    for (int k = TURN; k <= MIRROR && kind != NNUNET; k++) *p[k] = kind == ALL || kind == k;
    /* wider than nnU-Net's ranges: the widest blur filter, zoom that skips pixels */
    if (height % 2) o.blur_hi = 8, o.zoom_lo = .2;
    if (kind == ALL) o.p_blur_channel = o.p_lowres_channel = o.p_mirror = .7;
    return o;
}

/* Values are of order 3 (`size`); one rounding is 2^-24 size. Spatial, blur, brightness, low resolution: the CPU's
 * operations in its order, except that sums of products may be fused. Contrast, gamma: mean and deviation are sums of
 * doubles in another order, rounded to float, times the factor; powf is good to 4 ulp on a GPU, and the ratio of
 * deviations scales that by at most 2. Noise: an angle with an error of 2^-23 turns times a radius of at most 6 times
 * 0.1: 5e-7. Gamma after noise raises (value - minimum) to a power of at least 0.7: (5e-7 / range)^0.7 of the range is
 * 4e-5 of it. */
static double tolerance(int kind, double size)
{
    const double rounding = 0x1p-24 * size;
    if (kind == NOTHING || kind == MIRROR) return 0;
    if (kind == NOISE) return 5e-7 + rounding;
    if (kind == ALL || kind == NNUNET) return 2e-4 * size;
    return kind == GAMMA || kind == GAMMA_INVERTED ? 64 * rounding : 32 * rounding;
}

static void augment(const size_case &c, size_t number, int kind, enum k_dtype t)
{
    const size_t from = (size_t)(c.src_height * c.src_width), to = (size_t)(c.height * c.width),
                 ch = (size_t)c.channels, n = (size_t)c.n;
    std::vector<float> src = uniforms("src", n * from * ch, -1, 3), dst(n * to * ch), first;
    std::vector<int32_t> labels(n * from), label(n * to), first_label;
    for (size_t i = 0; i < labels.size(); i++) labels[i] = (int32_t)(5 * uniform_at("label", i / 3)) - 1;
    if (number == 1) src.assign(src.size(), 1.5f); /* constant image: range and deviation are 0 */
    const augment_options o = options_of(kind, c.height, c.width);
    std::vector<augment_draw> samples;
    std::vector<float> scratch;
    for (size_t i = 0; i < n; i++) {
        augment_draw d;
        const augment_patch a = {c.src_height, c.src_width, c.channels, &src[i * from * ch], &labels[i * from]},
                            b = {c.height, c.width, c.channels, &dst[i * to * ch], &label[i * to]};
        const mcs_rng key = {0x123456789abcdef0u + (uint64_t)kind, 4, (uint32_t)(10 * number + i), 3};
        mcs_augment_draw(&o, key, c.channels, &d);
        scratch.resize(mcs_augment_scratch(&b));
        if (kind == HALF) d.moves = 1, d.matrix[0][0] = d.matrix[1][1] = 1;
        mcs_augment_apply(&d, &a, &b, scratch.data());
        samples.push_back(d);
    }
    for (int seed = 0; seed < SEEDS; seed++) {
        const std::string what = "augment case " + std::to_string(number) + " kind " + std::to_string(kind) +
                                 (t == K_BF16 ? " bf16" : "") + " seed " + std::to_string(seed);
        cudasim_seed((uint64_t)seed);
        std::vector<float> empty(dst.size(), 99);
        dev_array<augment_draw> dsamples(samples);
        dev_array<float> dsrc(src);
        dev_array<int32_t> dlabels(labels), out_label(label.size());
        dev_values out(empty, t);
        k_augment a = {t,          c.n,    c.channels, c.src_height, c.src_width, c.height, c.width,
                       dsamples.p, dsrc.p, dlabels.p,  out.at(),     out_label.p, NULL};
        dev_array<char> work(k_augment_bytes(&a));
        a.workspace = work.p;
        cr_assert_eq(k_augment_run(&a, NULL), cudaSuccess);
        expect_clean(what);
        const std::vector<float> got = out.get();
        near_all(what, got, dst, [&](size_t i) {
            return tolerance(kind, 3 + fabs((double)dst[i])) + (t == K_BF16 ? 0x1p-8 * fabs((double)dst[i]) : 0);
        });
        equal_all(what + " label", out_label.get(), label);
        same_bytes(what, got, first);
    }
}

Test(augment, equals_cpu)
{
    for (size_t i = 0; i < sizeof size_cases / sizeof *size_cases; i++)
        for (int kind = NOTHING; kind < KINDS; kind++) augment(size_cases[i], i, kind, kind % 3 ? K_F32 : K_BF16);
    for (int kind = NOTHING; kind < KINDS; kind++) augment(size_cases[2], 2, kind, K_F32);
}

/* Many samples with nnU-Net's probabilities, so that draws that skip a transform occur too. */
Test(augment, nnunet_probabilities)
{
    const size_case many = {40, 1, 12, 11, 9, 8};
    augment(many, 5, NNUNET, K_F32);
    augment(many, 7, ALL, K_F32);
}

Test(augment, targets)
{
    static const int sizes[][5] = {
        {1, 1, 1, 1, 1}, {3, 16, 12, 8, 6}, {2, 7, 23, 3, 11}, {2, 9, 5, 9, 5}, {1, 40, 17, 13, 16}};
    for (const auto &[n, height, width, h, w] : sizes) {
        std::vector<int32_t> labels((size_t)(n * height * width)), want((size_t)(n * h * w));
        for (size_t i = 0; i < labels.size(); i++) labels[i] = (int32_t)i;
        mcs_augment_target(labels.data(), n, height, width, h, w, want.data());
        dev_array<int32_t> from(labels), to(want.size());
        const k_target a = {n, height, width, h, w, from.p, to.p};
        cr_assert_eq(k_target_run(&a, NULL), cudaSuccess);
        expect_clean("targets");
        equal_all("targets", to.get(), want);
    }
}

Test(augment, zero_sizes)
{
    const k_target none = {};
    cr_expect_eq(k_target_run(&none, NULL), cudaSuccess);
    k_augment a = {};
    cr_expect_eq(k_augment_run(&a, NULL), cudaSuccess);
    a.channels = AUGMENT_MAX_CHANNELS + 1;
    cr_expect_eq(k_augment_run(&a, NULL), cudaErrorInvalidValue);
    cr_expect_eq(cudaDeviceSynchronize(), cudaSuccess);
}

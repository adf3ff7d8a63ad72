/* The stages between graphs on a simulated device (engine/stage_ops.h) against infer/'s own code on the CPU: the same tiny
 * models, the same images, float32. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/amp.h"
#include "engine/rng.h"
#include "engine/stage_ops.h"
#include "infer/saliency.h"
#include "tests/support_device.h"
#include "tests/support_tiny.h"

#define VOCABULARY MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt"
#define OK(call) cr_assert_eq(call, MCS_OK, "%s", mcs_error_message())

enum { CPU, GPU, DEVICES };
static struct device device[DEVICES];

static void open_devices(void)
{
    test_devices(1);
    cudasim_seed(3);
    OK(mcs_cpu_open(1, &device[CPU]));
    OK(mcs_cuda_module.open(0, &device[GPU]));
    cr_assert_null(mcs_stages_of(&device[CPU]));
    cr_assert_not_null(mcs_stages_of(&device[GPU]));
}

static void close_devices(void)
{
    for (int d = 0; d < DEVICES; d++) mcs_device_close(&device[d]);
    cr_expect_null(test_reports(), "%s", test_reports());
    cr_expect_eq(cudasim_bytes_held(), 0, "device memory is still held");
}

/* A bright disc on a noisy ground, its place by `id`. */
static void draw(struct image *img, int width, int height, uint32_t id)
{
    const struct mcs_rng r = {5, 1, id, 0};
    const double cy = height * mcs_rng_range(r, 0, 0.3, 0.7), cx = width * mcs_rng_range(r, 1, 0.3, 0.7);
    OK(mcs_image_alloc(img, width, height, 1));
    for (int i = 0; i < width * height; i++) {
        const double dy = i / width - cy, dx = i % width - cx;
        img->pixels[i] = (uint8_t)(60 + 120 * (dy * dy + dx * dx < 30) + 20 * mcs_rng_range(r, 9 + (uint32_t)i, 0, 1));
    }
}

/* ---- saliency ---- */

enum { PAIRS = 2, CASES = 3, STEPS = 5, COPIES = 3, TOKENS = 5, WIDTH = 16, ALPHAS = PAIRS * TOKENS * WIDTH };

struct watched {
    float alpha[2 * STEPS][ALPHAS]; /* of two batches */
    int n;
};
static void watch(void *ctx, int step, const float *alpha)
{
    struct watched *w = ctx;
    (void)step;
    memcpy(w->alpha[w->n++], alpha, sizeof *w->alpha);
}

/* The greatest difference of maps from the CPU's. */
static double saliency_differs(enum clip_view view, const float *noise, int watches)
{
    static struct watched seen[DEVICES];
    const struct clip_config c = tiny_clip_config();
    struct saliency_options o = mcs_saliency_defaults();
    struct saliency_case cases[DEVICES][CASES];
    struct image img[CASES];
    const char *const null_texts[] = {"a normal brain"};
    double most = 0;
    o.pairs = PAIRS, o.steps = STEPS, o.copies = COPIES, o.seed = 0x123456789abcdef, o.view = view, o.noise = noise;
    for (int i = 0; i < CASES; i++) draw(&img[i], 20 + 3 * i, 18 + i, (uint32_t)i);
    memset(seen, 0, sizeof seen);
    for (int d = 0; d < DEVICES; d++) {
        struct clip_model m;
        OK(mcs_clip_model_new(&c, VOCABULARY, 1, &device[d], NULL, &m));
        for (int i = 0; i < CASES; i++)
            cases[d][i] = (struct saliency_case){
                .image = &img[i], .text = i ? "a dark lesion" : "a bright lesion", .key = 100 + (uint32_t)i};
        OK(mcs_saliency_run(&m, &o, cases[d], CASES, null_texts, 1, watches ? watch : NULL, &seen[d], 0));
        mcs_clip_model_close(&m);
    }
    for (int i = 0; i < CASES; i++) {
        const struct map2 *want = &cases[CPU][i].map, *got = &cases[GPU][i].map;
        float low = 1, high = 0;
        cr_assert(got->width == want->width && got->height == want->height);
        for (int k = 0; k < want->width * want->height; k++) {
            most = fmax(most, fabs((double)got->values[k] - (double)want->values[k]));
            low = fminf(low, want->values[k]), high = fmaxf(high, want->values[k]);
        }
        cr_assert(low == 0 && high == 1, "a map of nothing shows nothing");
        cr_expect_float_eq(cases[GPU][i].presence, cases[CPU][i].presence, 1e-2);
    }
    /* Of the last batch one pair is none: its noise is whatever was there. */
    cr_assert_eq(seen[GPU].n, watches ? 2 * (STEPS - 1) : 0);
    cr_assert_eq(seen[GPU].n, seen[CPU].n);
    double moved = 0;
    for (int s = 0; s < seen[CPU].n; s++)
        for (int k = 0; k < (s < STEPS - 1 ? ALPHAS : ALPHAS / 2); k++) {
            const double want = (double)seen[CPU].alpha[s][k], got = (double)seen[GPU].alpha[s][k];
            moved = fmax(moved, fabs(want - 5));
            if (mcs_amp_activations() == MCS_F32)
                cr_assert_float_eq(got, want, 1e-3, "step %d, alpha %d: %g, on the CPU %g", s, k, got, want);
        }
    cr_assert(!watches || moved > 2, "alpha stayed where it was");
    for (int d = 0; d < DEVICES; d++)
        for (int i = 0; i < CASES; i++) mcs_map_free(&cases[d][i].map);
    for (int i = 0; i < CASES; i++) mcs_image_free(&img[i]);
    return most;
}

/* Gradients agree to some hundred roundings of 2^-24, 1e-5 of the greatest. Adam divides them by their own size, so an
 * alpha whose gradient is a hundredth of the greatest is wrong by 1e-3 a step at most, and the map, between 0 and 1 a
 * mean over channels, by less than that. */
Test(pipeline, saliency, .timeout = 120)
{
    open_devices();
    double most = saliency_differs(CLIP_VIEW_WHOLE, NULL, 1);
    cr_expect_leq(most, 1e-3, "%g", most);
    most = saliency_differs(CLIP_VIEW_CROP, NULL, 0);
    cr_expect_leq(most, 1 / 255.0 + 1e-6, "%g", most); /* 8 bits: a value on the border of two */
    close_devices();
}

Test(pipeline, saliency_with_given_noise, .timeout = 120)
{
    static float noise[STEPS * COPIES * TOKENS * WIDTH];
    mcs_rng_fill_normal((struct mcs_rng){1, 2, 3, 4}, noise, STEPS * COPIES * TOKENS * WIDTH);
    open_devices();
    const double most = saliency_differs(CLIP_VIEW_WHOLE, noise, 1);
    cr_expect_leq(most, 1e-3, "%g", most);
    close_devices();
}

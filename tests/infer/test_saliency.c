/* M2IB end to end, mcs_saliency_run, against the reference: ten steps, of which nine update alpha, without resetting
 * alpha between steps (tests/golden/m2ib.safetensors, run.*, few.* and wide.*). */
#include "engine/base/rng.h"
#include "infer/clip/saliency.h"
#include "tests/golden/formula.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_ops.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

enum { SIDE = 32, TOKENS = 17, WIDTH = 32, ALL = TOKENS * WIDTH, VOCAB = 64, STEPS = 10, UPDATES = STEPS - 1 };

/* The reference's tokens 44 10 10 29 51, and its two null prompts, 7 and 33 8 60. */
static const char *const prompt = "w44 w10 w10 w29 w51", *const nulls[] = {"w7", "w33 w8 w60"};

static struct device device;
static struct clip_model model;

/* The toy CLIP of the golden files, with a vocabulary whose word "wN" has the number N. */
static void setup(void)
{
    struct clip_config c = golden_clip_config(4);
    memcpy(c.mean, (float[]){0.48f, 0.46f, 0.41f}, sizeof c.mean);
    memcpy(c.std, (float[]){0.27f, 0.26f, 0.28f}, sizeof c.std);
    const char *folder = tiny_folder("saliency"), *path = tiny_path(folder, "vocab.txt");
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fprintf(f, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n");
    for (int i = 4; i < VOCAB; i++) fprintf(f, "w%d\n", i);
    cr_assert_eq(fclose(f), 0);
    OK(mcs_cpu_open(1, &device));
    OK(mcs_clip_model_new(&c, path, 1, &device, NULL, &model));
    golden_fill_params(model.params);
    tiny_remove(folder);
}

static void teardown(void)
{
    mcs_clip_model_close(&model);
    mcs_cpu_close(&device);
}
TestSuite(saliency, .init = setup, .fini = teardown);

/* The reference's 8-bit picture: floor(128 (u + 1)), planes of width x 32 to interleaved RGB. */
static struct image picture(const char *name, int width)
{
    struct image img;
    const uint64_t h = mcs_golden_hash(name);
    const int pixels = width * SIDE;
    OK(mcs_image_alloc(&img, width, SIDE, 3));
    for (int i = 0; i < 3 * pixels; i++)
        img.pixels[i % pixels * 3 + i / pixels] = (uint8_t)(128 * (mcs_golden_uniform(h, (uint64_t)i) + 1));
    return img;
}

struct watched {
    int n_updates, last;
    float alpha[ALL];
};

static void watch(void *context, int step, const float *alpha)
{
    struct watched *w = context;
    w->n_updates++;
    w->last = step;
    memcpy(w->alpha, alpha, sizeof w->alpha);
}

/* test_clip_model.c bounds the error of each step's gradient by GRADIENT times its range. Adam propagates such an
 * error: the golden file's NAME.alpha.gain and NAME.map.gain are the resulting error per unit in each alpha, and at
 * most in the map (make_m2ib.py, run). The last roundings of alpha and of the map are added. */
#define GRADIENT 1e-5

static double gradient_error(const struct safetensors *file, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "%s.gradient", name);
    float *range = golden_values(file, key, NULL);
    const double error = GRADIENT * (double)*range;
    free(range);
    return error;
}

static void check_alpha(const struct safetensors *file, const char *name, const float *got)
{
    char key[64];
    snprintf(key, sizeof key, "%s.alpha", name);
    float *want = golden_values(file, key, NULL);
    snprintf(key, sizeof key, "%s.alpha.gain", name);
    float *gain = golden_values(file, key, NULL);
    const double error = gradient_error(file, name);
    for (int i = 0; i < ALL; i++)
        cr_assert_float_eq(got[i], want[i], error * (double)gain[i] + 1e-6, "%s: alpha %d is %.9g, want %.9g", name, i,
                           (double)got[i], (double)want[i]);
    free(want);
    free(gain);
}

static double map_error(const struct safetensors *file, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "%s.map.gain", name);
    float *gain = golden_values(file, key, NULL);
    const double error = gradient_error(file, name) * (double)*gain + 1e-6;
    free(gain);
    return error;
}

/* The map of CLIP's view, (SIDE, SIDE). */
static float *wanted_map(const struct safetensors *file, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "%s.map", name);
    return golden_values(file, key, NULL);
}

static void check_map(const struct safetensors *file, const char *name, const float *got)
{
    float *want = wanted_map(file, name);
    const double error = map_error(file, name);
    for (int i = 0; i < SIDE * SIDE; i++)
        cr_assert_float_eq(got[i], want[i], error, "%s: pixel %d is %.9g, want %.9g", name, i, (double)got[i],
                           (double)want[i]);
    free(want);
}

/* A difference of two cosines of 16 features, each accurate to 1e-5 of the range (test_clip_model.c): 2e-5. */
static void check_presence(const struct safetensors *file, const char *name, float got)
{
    char key[64];
    snprintf(key, sizeof key, "%s.presence", name);
    float *want = golden_values(file, key, NULL);
    cr_expect_float_eq(got, *want, 2e-5, "%s: presence %.9g, want %.9g", name, (double)got, (double)*want);
    free(want);
}

/* The noise that the reference used: (STEPS, copies, tokens, channels). */
static float *given_noise(int copies)
{
    const size_t n = (size_t)STEPS * (size_t)copies * ALL;
    float *noise = malloc(n * sizeof *noise);
    cr_assert(noise);
    mcs_golden_input("input.run_noise", noise, n);
    return noise;
}

static void run(const struct saliency_options *o, const struct image *img, struct watched *w, struct saliency_case *one)
{
    *w = (struct watched){0};
    *one = (struct saliency_case){.image = img, .text = prompt, .key = 5};
    OK(mcs_saliency_run(&model, o, one, 1, nulls, 2, watch, w, 0));
    cr_expect_eq(w->n_updates, UPDATES);
    cr_expect_eq(w->last, UPDATES - 1);
    cr_expect(one->map.width == img->width && one->map.height == img->height);
}

/* Only the noise is set: the defaults are the reference's layer 2 of 0 to 3, beta 1, 10 steps, 10 copies and learning
 * rate 1. */
Test(saliency, defaults_equal_the_reference_from_end_to_end)
{
    struct safetensors *file = golden_open("m2ib.safetensors");
    struct saliency_options o = mcs_saliency_defaults();
    struct image img = picture("input.picture", SIDE);
    struct saliency_case one;
    struct watched w;
    float *noise = given_noise(10);
    o.noise = noise;
    run(&o, &img, &w, &one);
    check_alpha(file, "run", w.alpha);
    check_map(file, "run", one.map.values);
    check_presence(file, "run", one.presence);
    mcs_map_free(&one.map);
    mcs_image_free(&img);
    free(noise);
    mcs_safetensors_close(file);
}

Test(saliency, another_beta_and_number_of_copies_equal_the_reference)
{
    struct safetensors *file = golden_open("m2ib.safetensors");
    struct saliency_options o = mcs_saliency_defaults();
    struct image img = picture("input.picture", SIDE);
    struct saliency_case one;
    struct watched w;
    float *noise = given_noise(3);
    o.noise = noise, o.copies = 3, o.beta = 0.1f, o.layer = 2;
    run(&o, &img, &w, &one);
    check_alpha(file, "few", w.alpha);
    check_map(file, "few", one.map.values);
    mcs_map_free(&one.map);
    mcs_image_free(&img);
    free(noise);
    mcs_safetensors_close(file);
}

/* The released view of a picture of 48 x 32: CLIP's input is its centre, columns 8 to 39; the centre's map, in 8 bits,
 * is then stretched over the whole picture: pixel (x, y) is its pixel (floor(32 x / 48), y). */
Test(saliency, released_view_is_the_centres_map_stretched)
{
    enum { WIDE = 48 };
    struct safetensors *file = golden_open("m2ib.safetensors");
    struct saliency_options o = mcs_saliency_defaults();
    struct image img = picture("input.wide", WIDE);
    struct saliency_case one;
    struct watched w;
    float *noise = given_noise(10);
    o.noise = noise, o.view = CLIP_VIEW_CROP;
    run(&o, &img, &w, &one);
    check_alpha(file, "wide", w.alpha);
    check_presence(file, "wide", one.presence);
    float *want = wanted_map(file, "wide");
    const double error = map_error(file, "wide");
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < WIDE; x++) { /* 8 bits: less than one step of 1 / 255 away */
            const double got = (double)one.map.values[y * WIDE + x], centre = (double)want[y * SIDE + x * SIDE / WIDE];
            cr_assert(fabs(got - centre) <= 1.0 / 255 + error, "(%d, %d): %g, want %g", x, y, got, centre);
            cr_assert_float_eq(got * 255, rint(got * 255), 1e-4, "(%d, %d): %g is no 8-bit value", x, y, got);
        }
    free(want);
    mcs_map_free(&one.map);
    mcs_image_free(&img);
    free(noise);
    mcs_safetensors_close(file);
}

/* ---- drawn noise ---- */

/* The noise of a case depends only on seed, step, copy and the case's key, by the formula here: the same noise passed
 * as a file gives the same bytes. */
Test(saliency, noise_is_drawn_by_seed_key_step_and_copy)
{
    enum { COPIES = 3 };
    struct saliency_options o = mcs_saliency_defaults();
    struct image img = picture("input.picture", SIDE);
    struct saliency_case drawn, given;
    struct watched a, b;
    float *noise = calloc((size_t)STEPS * COPIES * ALL, sizeof *noise);
    cr_assert(noise);
    o.copies = COPIES, o.seed = 77;
    run(&o, &img, &a, &drawn);
    for (int step = 0; step < STEPS; step++)
        for (int copy = 0; copy < COPIES; copy++) {
            const struct mcs_rng r = {
                .seed = 77, .site = mcs_rng_site("m2ib.noise") + (uint32_t)copy, .sample = 5, .step = (uint32_t)step};
            mcs_rng_fill_normal(r, noise + ((size_t)step * COPIES + (size_t)copy) * ALL, ALL);
        }
    o.noise = noise, o.seed = 1;
    run(&o, &img, &b, &given);
    cr_expect_arr_eq(a.alpha, b.alpha, sizeof a.alpha);
    cr_expect_arr_eq(drawn.map.values, given.map.values, SIDE * SIDE * sizeof *drawn.map.values);
    mcs_map_free(&given.map);

    /* if all copies get the first one's noise, the map differs */
    for (int i = 0; i < STEPS * COPIES; i++)
        memcpy(noise + (size_t)i * ALL, noise + (size_t)(i - i % COPIES) * ALL, ALL * sizeof *noise);
    run(&o, &img, &b, &given);
    cr_expect_arr_neq(a.alpha, b.alpha, sizeof a.alpha);
    mcs_map_free(&given.map);
    mcs_map_free(&drawn.map);
    mcs_image_free(&img);
    free(noise);
}

/* ---- many cases ---- */

/* Five cases with different pictures, sizes and prompts, three per batch: each gets the same map as alone. Other batch
 * sizes round matrix products in another order, which the bound of the golden comparison includes. */
Test(saliency, each_of_several_cases_is_as_it_is_alone)
{
    enum { N = 5 };
    static const char *const texts[N] = {"w44 w10", "w5 w6 w7", "w60", "w12 w13 w14 w15 w16", "w30 w31"};
    static const int widths[N] = {32, 40, 24, 32, 50};
    struct safetensors *file = golden_open("m2ib.safetensors");
    struct saliency_options o = mcs_saliency_defaults();
    struct image images[N];
    struct saliency_case many[N], one;
    o.copies = 2, o.pairs = 3;
    for (int i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof name, "input.many.%d", i);
        images[i] = picture(name, widths[i]);
        many[i] = (struct saliency_case){.image = &images[i], .text = texts[i], .key = (uint32_t)(100 + i)};
    }
    OK(mcs_saliency_run(&model, &o, many, N, nulls, 2, NULL, NULL, 0));
    o.pairs = 1;
    const double bound = map_error(file, "run");
    for (int i = 0; i < N; i++) {
        one = (struct saliency_case){.image = &images[i], .text = texts[i], .key = (uint32_t)(100 + i)};
        OK(mcs_saliency_run(&model, &o, &one, 1, nulls, 2, NULL, NULL, 0));
        cr_assert(many[i].map.width == widths[i] && many[i].map.height == SIDE);
        for (int p = 0; p < widths[i] * SIDE; p++)
            cr_assert_float_eq(many[i].map.values[p], one.map.values[p], bound, "case %d, pixel %d", i, p);
        cr_expect_float_eq(many[i].presence, one.presence, 2e-5, "case %d", i); /* as check_presence says */
        for (int k = 0; k < i; k++) cr_expect(fabsf(many[i].presence - many[k].presence) > 1e-4f, "%d is %d", i, k);
        mcs_map_free(&one.map);
    }
    for (int i = 0; i < N; i++) {
        mcs_map_free(&many[i].map);
        mcs_image_free(&images[i]);
    }
    mcs_safetensors_close(file);
}

/* ---- the map of tokens ---- */

/* By hand: 2 x 2 tokens resized to 4 x 2 (bilinear, pixel centres) and scaled to 0 .. 1. */
Test(saliency, a_token_map_grows_by_rows_and_columns)
{
    const float tokens[4] = {0, 4, 8, 12};
    const float want[8] = {0, 1, 3, 4, 8, 9, 11, 12};
    struct map2 map;
    support_saliency_map(tokens, 2, 0, 4, 2, &map);
    for (int i = 0; i < 8; i++) cr_expect_float_eq(map.values[i], want[i] / 12, 1e-6);
    mcs_map_free(&map);
}

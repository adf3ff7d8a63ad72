/* M2IB end to end, mcs_saliency_run, against the reference: ten steps, of which nine update alpha, without resetting
 * alpha between steps (tests/golden/m2ib.safetensors, run.* and few.*; the released code's maps: release.safetensors).
 */
#include "engine/base/rng.h"
#include "engine/image/threshold.h"
#include "infer/clip/saliency.h"
#include "infer/cmd/saliency_command.h"
#include "tests/golden/formula.h"
#include "tests/support/support_counted.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_ops.h"
#include "tests/support/support_sessions.h"
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

/* The reference's 8-bit picture: floor(128 (u + 1)), planes of width x height to interleaved RGB. */
static struct image picture(const char *name, int width, int height)
{
    struct image img;
    char input[64];
    snprintf(input, sizeof input, "input.%s", name);
    const uint64_t h = mcs_golden_hash(input);
    const int pixels = width * height;
    OK(mcs_image_alloc(&img, width, height, 3));
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

static double gradient_error(const struct weight_file *file, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "%s.gradient", name);
    float *range = golden_values(file, key, NULL);
    const double error = GRADIENT * (double)*range;
    free(range);
    return error;
}

static void check_alpha(const struct weight_file *file, const char *name, const float *got)
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

static double map_error(const struct weight_file *file, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "%s.map.gain", name);
    float *gain = golden_values(file, key, NULL);
    const double error = gradient_error(file, name) * (double)*gain + 1e-6;
    free(gain);
    return error;
}

/* The map of CLIP's view, (SIDE, SIDE). */
static float *wanted_map(const struct weight_file *file, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "%s.map", name);
    return golden_values(file, key, NULL);
}

static void check_map(const struct weight_file *file, const char *name, const float *got)
{
    float *want = wanted_map(file, name);
    const double error = map_error(file, name);
    for (int i = 0; i < SIDE * SIDE; i++)
        cr_assert_float_eq(got[i], want[i], error, "%s: pixel %d is %.9g, want %.9g", name, i, (double)got[i],
                           (double)want[i]);
    free(want);
}

/* A difference of two cosines of 16 features, each accurate to 1e-5 of the range (test_clip_model.c): 2e-5. */
static void check_presence(const struct weight_file *file, const char *name, float got)
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

static void run(const struct saliency_options *given, const struct image *img, struct watched *w,
                struct saliency_case *one)
{
    struct saliency_options o = *given;
    o.null_texts = nulls, o.n_null = 2, o.on_alpha = watch, o.on_alpha_ctx = w;
    *w = (struct watched){0};
    *one = (struct saliency_case){.image = img, .text = prompt, .key = 5};
    OK(saliency_once(&model, &o, one, 1));
    cr_expect_eq(w->n_updates, UPDATES);
    cr_expect_eq(w->last, UPDATES - 1);
    cr_expect(one->map.width == img->width && one->map.height == img->height);
}

/* Only the noise is set: the defaults are the reference's layer 2 of 0 to 3, beta 1, 10 steps, 10 copies and learning
 * rate 1. */
Test(saliency, defaults_equal_the_reference_from_end_to_end)
{
    struct weight_file *file = golden_open("m2ib.safetensors");
    struct saliency_options o = mcs_saliency_defaults();
    struct image img = picture("picture", SIDE, SIDE);
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
    mcs_weight_file_close(file);
}

Test(saliency, another_beta_and_number_of_copies_equal_the_reference)
{
    struct weight_file *file = golden_open("m2ib.safetensors");
    struct saliency_options o = mcs_saliency_defaults();
    struct image img = picture("picture", SIDE, SIDE);
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
    mcs_weight_file_close(file);
}

/* The released code's whole path (release.safetensors): CLIPImageProcessor's resize and crop, M2IB, the map stretched
 * over the picture by OpenCV's nearest neighbour and rounded to 8 bits by its imwrite. A level may differ by one where
 * the reference's value lies within the map's error of the middle between two levels. "crop", "wide" and "tall" have a
 * crop that starts elsewhere in open_clip; the width of "wide" has a column where OpenCV's index is not the exact one.
 */
static void check_released(const char *name, int width, int height)
{
    struct weight_file *file = golden_open("release.safetensors");
    struct saliency_options o = mcs_saliency_defaults();
    struct image img = picture(name, width, height), square;
    struct saliency_case one;
    struct watched w;
    char key[64];
    float *noise = given_noise(3);
    o.noise = noise, o.view = CLIP_VIEW_PROCESSOR, o.copies = 3, o.beta = 0.1f;
    snprintf(key, sizeof key, "%s.square", name);
    float *want_square = golden_values(file, key, NULL);
    OK(mcs_clip_view(&model.config, &img, CLIP_VIEW_PROCESSOR, &square));
    for (int i = 0; i < 3 * SIDE * SIDE; i++)
        cr_assert_eq(square.pixels[i % (SIDE * SIDE) * 3 + i / (SIDE * SIDE)], want_square[i], "%s: crop, value %d",
                     name, i);
    run(&o, &img, &w, &one);
    snprintf(key, sizeof key, "%s.map", name);
    float *want = golden_values(file, key, NULL);
    snprintf(key, sizeof key, "%s.float", name);
    float *exact = golden_values(file, key, NULL);
    const double error = 255 * map_error(file, name);
    int n_differ = 0;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const int i = y * width + x,
                      at = mcs_nearest_index(y, SIDE, height) * SIDE + mcs_nearest_index(x, SIDE, width);
            const double level = 255 * (double)exact[at], got = rint(255 * (double)one.map.values[i]);
            cr_assert_float_eq(255 * (double)one.map.values[i], got, 1e-4, "(%d, %d) is no 8-bit value", x, y);
            if (got == want[i]) continue;
            n_differ++;
            cr_assert(fabs(got - (double)want[i]) == 1 && fabs(level - floor(level) - 0.5) <= error,
                      "%s (%d, %d): level %g, want %g", name, x, y, got, (double)want[i]);
        }
    cr_expect(n_differ <= width * height / 200, "%s: %d levels of %d differ", name, n_differ, width * height);
    free(exact);
    free(want);
    free(want_square);
    free(noise);
    mcs_map_free(&one.map);
    mcs_image_free(&square);
    mcs_image_free(&img);
    mcs_weight_file_close(file);
}

/* The bottleneck of a picture of 48 x 32 is that of its centre, columns 8 to 39. */
Test(saliency, released_view_is_the_centre)
{
    struct weight_file *file = golden_open("m2ib.safetensors");
    struct saliency_options o = mcs_saliency_defaults();
    struct image img = picture("wide", 48, SIDE);
    struct saliency_case one;
    struct watched w;
    float *noise = given_noise(10);
    o.noise = noise, o.view = CLIP_VIEW_PROCESSOR;
    run(&o, &img, &w, &one);
    check_alpha(file, "wide", w.alpha);
    check_presence(file, "wide", one.presence);
    mcs_map_free(&one.map);
    mcs_image_free(&img);
    free(noise);
    mcs_weight_file_close(file);
}

Test(saliency, released_maps_are_the_released_codes)
{
    check_released("crop", 35, 32);
    check_released("wide", 98, 89);
    check_released("tall", 64, 86);
    check_released("even", 62, 57);
}

/* ---- drawn noise ---- */

/* The noise of a case depends only on seed, step, copy and the case's key, by the formula here: the same noise passed
 * as a file gives the same bytes. */
Test(saliency, noise_is_drawn_by_seed_key_step_and_copy)
{
    enum { COPIES = 3 };
    struct saliency_options o = mcs_saliency_defaults();
    struct image img = picture("picture", SIDE, SIDE);
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
    struct weight_file *file = golden_open("m2ib.safetensors");
    struct saliency_options o = mcs_saliency_defaults();
    struct image images[N];
    struct saliency_case many[N], one;
    o.copies = 2, o.pairs = 3, o.null_texts = nulls, o.n_null = 2;
    for (int i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof name, "many.%d", i);
        images[i] = picture(name, widths[i], SIDE);
        many[i] = (struct saliency_case){.image = &images[i], .text = texts[i], .key = (uint32_t)(100 + i)};
    }
    OK(saliency_once(&model, &o, many, N));
    o.pairs = 1;
    const double bound = map_error(file, "run");
    for (int i = 0; i < N; i++) {
        one = (struct saliency_case){.image = &images[i], .text = texts[i], .key = (uint32_t)(100 + i)};
        OK(saliency_once(&model, &o, &one, 1));
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
    mcs_weight_file_close(file);
}

/* ---- sessions ---- */

static const char *const some_texts[] = {"w44 w10", "w5 w6 w7", "w60", "w12 w13 w14 w15 w16", "w30 w31"};

/* Case i of any number: one of five pictures and texts, the noise's key is i. */
static struct saliency_case some_case(const struct image *images, int i)
{
    return (struct saliency_case){.image = &images[i % 5], .text = some_texts[i % 5], .key = (uint32_t)i};
}

static void some_images(struct image *images)
{
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "many.%d", i);
        images[i] = picture(name, SIDE, SIDE);
    }
}

/* Runs cases first, first + step, .. in an open session; each map and presence must be those of a fresh session. */
static void expect_as_fresh(struct saliency *s, const struct image *images, int n, int first, int step)
{
    struct saliency_case kept[8], fresh[8];
    for (int i = 0; i < n; i++) kept[i] = fresh[i] = some_case(images, first + i * step);
    OK(mcs_saliency_run(s, kept, n, NULL, 0));
    OK(saliency_once(&model, &s->o, fresh, n));
    for (int i = 0; i < n; i++) {
        cr_expect_arr_eq(kept[i].map.values, fresh[i].map.values, SIDE * SIDE * sizeof(float), "case %d of %d", i, n);
        cr_expect(kept[i].presence == fresh[i].presence && kept[i].status == MCS_OK, "case %d of %d", i, n);
        mcs_map_free(&kept[i].map);
        mcs_map_free(&fresh[i].map);
    }
}

Test(saliency, a_session_gives_the_same_as_a_fresh_one)
{
    struct saliency_options o = mcs_saliency_defaults();
    struct image images[5];
    struct saliency s;
    some_images(images);
    o.pairs = 3, o.copies = 2, o.steps = 4, o.null_texts = nulls, o.n_null = 2;
    OK(mcs_saliency_open(&s, &model, &o));
    expect_as_fresh(&s, images, 7, 0, 1);
    expect_as_fresh(&s, images, 1, 4, 1);
    expect_as_fresh(&s, images, 7, 6, -1);
    expect_as_fresh(&s, images, 3, 2, 2);
    expect_as_fresh(&s, images, 0, 0, 1);
    expect_as_fresh(&s, images, 7, 0, 1);
    mcs_saliency_close(&s);
    for (int i = 0; i < 5; i++) mcs_image_free(&images[i]);
}

/* Opening takes the memory that is told before. Graphs are planned and memory is allocated by the first batch at the
 * latest; every batch runs the image tower and the
 * map once, and the bottleneck once a step. */
Test(saliency, a_hundred_images_are_planned_once)
{
    enum { N = 100, PAIRS = 8, EMBED = 16, BATCHES = (N + PAIRS - 1) / PAIRS };
    struct saliency_options o = mcs_saliency_defaults();
    static struct saliency_case cases[N];
    struct image images[5];
    struct saliency s;
    int64_t bytes;
    some_images(images);
    for (int i = 0; i < N; i++) {
        cases[i] = some_case(images, i);
        cases[i].text = some_texts[0];
    }
    o.copies = 2, o.steps = 3, o.null_texts = nulls, o.n_null = 2;
    OK(mcs_saliency_bytes(&model, &o, &bytes));
    support_count(&device);
    OK(mcs_saliency_open(&s, &model, &o));
    const int64_t host = PAIRS * (3 * SIDE * SIDE + ALL + 2 * EMBED) + 2 * EMBED;
    cr_expect_eq(bytes, support_counts.alloc_bytes + 4 * host);
    cr_expect_eq(support_counts.n_prepared, s.graph->n_steps + s.image_graph->n_steps + s.map_graph->n_steps);
    OK(mcs_saliency_run(&s, cases, PAIRS, NULL, 0)); /* plans the texts' graph too */
    const struct support_counts before = support_counts;
    OK(mcs_saliency_run(&s, cases + PAIRS, N - PAIRS, NULL, 0));
    cr_expect_eq(support_counts.n_prepared, before.n_prepared);
    cr_expect_eq(support_counts.n_allocs, before.n_allocs);
    cr_expect_eq(s.image_exec->n_runs, BATCHES);
    cr_expect_eq(s.exec->n_runs, BATCHES * 2);
    cr_expect_eq(s.map_exec->n_runs, BATCHES);
    mcs_saliency_close(&s);
    for (int i = 0; i < N; i++) mcs_map_free(&cases[i].map);
    for (int i = 0; i < 5; i++) mcs_image_free(&images[i]);
}

/* One of 32 images cannot be prepared: scaled to 32 pixels across, it would be 96,000 high. The others run once, in one
 * batch, with the same results as without it. */
Test(saliency, a_bad_image_is_left_out_of_its_batch)
{
    enum { N = 32, BAD = 13 };
    struct saliency_options o = mcs_saliency_defaults();
    struct saliency_case cases[N], good[N];
    struct failure_list failures = {0};
    struct image images[5], thin;
    struct saliency s;
    some_images(images);
    OK(mcs_image_alloc(&thin, 1, 3000, 1));
    for (int i = 0; i < N; i++) cases[i] = some_case(images, i);
    memcpy(good, cases, BAD * sizeof *good);
    memcpy(good + BAD, cases + BAD + 1, (N - 1 - BAD) * sizeof *good);
    cases[BAD].image = &thin, cases[BAD].stem = "thin";
    o.pairs = N, o.copies = 2, o.steps = 3, o.view = CLIP_VIEW_PROCESSOR;
    OK(mcs_saliency_open(&s, &model, &o));
    OK(mcs_saliency_run(&s, cases, N, &failures, 0));
    cr_expect(s.image_exec->n_runs == 1 && s.exec->n_runs == 2 && s.map_exec->n_runs == 1);
    cr_assert_eq(failures.n, 1);
    cr_expect_str_eq(failures.items[0].stem, "thin");
    cr_expect(strstr(failures.items[0].reason, "32 x 96000"), "%s", failures.items[0].reason);
    cr_expect(cases[BAD].status == MCS_E_DATA && !cases[BAD].map.values);
    OK(mcs_saliency_run(&s, good, N - 1, NULL, 0));
    for (int i = 0, k = 0; i < N; i++) {
        if (i == BAD) continue;
        cr_expect_arr_eq(cases[i].map.values, good[k].map.values, SIDE * SIDE * sizeof(float), "case %d", i);
        mcs_map_free(&cases[i].map);
        mcs_map_free(&good[k++].map);
    }
    cr_expect_eq(mcs_saliency_run(&s, cases, N, NULL, 0), MCS_E_DATA); /* without a list it ends the run */
    mcs_error_clear();
    mcs_saliency_close(&s);
    mcs_failures_free(&failures);
    mcs_image_free(&thin);
    for (int i = 0; i < 5; i++) mcs_image_free(&images[i]);
}

/* ---- presets ---- */

/* Layer and beta of the released code's command line and of its scripts, in form release alone; an option that is given
 * wins. */
Test(saliency, presets_of_the_released_code)
{
    static const struct {
        int preset, layer;
        float beta;
    } want[] = {{0, -1, 1}, {1, 7, 0.1f}, {2, 9, 2}, {3, 9, 1}};
    struct mcs_common common = {.form[MCS_FORM_SALIENCY] = MCS_RELEASE};
    struct saliency_options o;
    struct npy noise = {0};
    struct saliency_flags f = {.layer = -1, .beta = -1, .lr = 1, .steps = 10, .copies = 10, .pairs = 8};
    for (int i = 0; i < 4; i++) {
        f.preset = want[i].preset;
        OK(mcs_saliency_resolve(&common, &f, &model, 1, &noise, &o));
        cr_expect(o.layer == want[i].layer && o.beta == want[i].beta, "preset %d: %d, %g", i, o.layer, (double)o.beta);
        cr_expect_eq(o.view, CLIP_VIEW_PROCESSOR);
    }
    f.layer = 2, f.beta = 0;
    OK(mcs_saliency_resolve(&common, &f, &model, 1, &noise, &o));
    cr_expect(o.layer == 2 && o.beta == 0);
    f.beta = -0.5;
    cr_expect_eq(mcs_saliency_resolve(&common, &f, &model, 1, &noise, &o), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "--beta -0.5: want 0 or more"), "%s", mcs_error_message());
    f.beta = -1, f.preset = 2, common.form[MCS_FORM_SALIENCY] = MCS_PAPER;
    mcs_error_clear();
    cr_expect_eq(mcs_saliency_resolve(&common, &f, &model, 1, &noise, &o), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "--preset release-brain is for the released code's form") &&
                  strstr(mcs_error_message(), "--layer 9 --beta 2"),
              "%s", mcs_error_message());
    mcs_error_clear();
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

/* The same command gives the same bytes; another number of threads the same up to rounding; and random draws for a case
 * depend on the case alone, not on the other cases. */
#include "engine/model/layers.h"
#include "engine/tape/grad.h"
#include "infer/clip/saliency.h"
#include "infer/segment.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_isa.h"
#include "tests/support/support_sessions.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())
#define VOCABULARY MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt"

/* ---- the same command twice ---- */

static void train_twice(enum tiny_training t, const char *const *more)
{
    const char *a = tiny_folder("once"), *b = tiny_folder("twice");
    tiny_training_folder(t, a);
    cr_assert_eq(tiny_shell("cp -r %s/. %s", a, b), 0);
    cr_assert_eq(tiny_wait(tiny_start(t, MCS_BINARY, a, more, NULL)), 0, "%s", tiny_log(a));
    cr_assert_eq(tiny_wait(tiny_start(t, MCS_BINARY, b, more, NULL)), 0, "%s", tiny_log(b));
    cr_expect(tiny_same(tiny_path(a, "run"), tiny_path(b, "run")));
    cr_expect_eq(tiny_shell("ls %s/run/checkpoint.h5 %s/run/metrics.jsonl %s/run/*.tfevents.* > /dev/null", a, a, a),
                 0);
    tiny_remove(a);
    tiny_remove(b);
}

Test(determinism, fine_tuning_twice_with_two_threads, .timeout = 120)
{
    train_twice(TINY_CLIP, (const char *const[]){"--threads", "2", "--steps", "10", NULL});
}

Test(determinism, unet_twice_with_two_threads, .timeout = 120)
{
    train_twice(TINY_UNET, (const char *const[]){"--threads", "2", "--epochs", "2", "--iterations", "4", NULL});
}

/* ---- maps and masks ---- */

enum { CASES = 5, WIDTH = 22, HEIGHT = 19 };
static struct image images[CASES];
static const char *const texts[CASES] = {"a bright lesion", "dark lesion on the left side", "a bright lesion", "lesion",
                                         "the right side of a large bright spot"};

static void make_images(void)
{
    for (int i = 0; i < CASES; i++) {
        OK(mcs_image_alloc(&images[i], WIDTH, HEIGHT, 1));
        for (int k = 0; k < WIDTH * HEIGHT; k++)
            images[i].pixels[k] = (uint8_t)(90 + (k * 7 + i * 31) % 23 + (k % WIDTH / 5 == i ? 80 : 0));
    }
}

struct models {
    struct device d;
    struct clip_model clip;
    struct sam_model sam;
};

static void models_open(struct models *m, int threads)
{
    const struct sam_config sam = tiny_sam_config();
    const struct clip_config c = tiny_clip_config();
    omp_set_num_threads(threads);
    OK(mcs_cpu_open(threads, &m->d));
    OK(mcs_clip_model_new(&c, VOCABULARY, 11, &m->d, NULL, &m->clip));
    OK(mcs_sam_model_new(&sam, 3, &m->d, &m->sam));
}

static void models_close(struct models *m)
{
    mcs_clip_model_close(&m->clip);
    mcs_sam_model_close(&m->sam);
    mcs_cpu_close(&m->d);
}

struct result {
    float map[WIDTH * HEIGHT], presence, iou;
    uint8_t coarse[WIDTH * HEIGHT], mask[WIDTH * HEIGHT];
};

/* Runs the pipeline on the n cases of the numbers `which`, in this order, `pairs` pairs of image and text at once;
 * r[number] receives the results. */
static void pipeline(struct models *m, const int *which, int n, int pairs, struct result *r)
{
    const enum mcs_form form[MCS_FORM_STAGES] = {0};
    struct segment_options o = mcs_segment_defaults(form);
    struct segment_case cases[CASES];
    char stem[CASES][8];
    static const char *const nulls[] = {"normal", "no lesion"};
    o.saliency.pairs = pairs;
    o.saliency.null_texts = nulls;
    o.saliency.n_null = 2;
    memset(cases, 0, sizeof cases);
    for (int i = 0; i < n; i++) {
        snprintf(stem[i], sizeof stem[i], "case%d", which[i]);
        cases[i].image = &images[which[i]];
        cases[i].text = texts[which[i]];
        cases[i].stem = stem[i];
    }
    OK(segment_once(&m->clip, &m->sam, &o, cases, n));
    for (int i = 0; i < n; i++) {
        struct result *to = &r[which[i]];
        memset(to, 0, sizeof *to);
        memcpy(to->map, cases[i].map.values, sizeof to->map);
        memcpy(to->coarse, cases[i].coarse_mask, sizeof to->coarse);
        memcpy(to->mask, cases[i].mask, sizeof to->mask);
        to->presence = cases[i].presence;
        to->iou = cases[i].iou;
        mcs_segment_case_free(&cases[i]);
    }
}

static const int all[CASES] = {0, 1, 2, 3, 4};

Test(determinism, the_pipeline_twice_is_the_same_bytes, .timeout = 60)
{
    static struct result r[2][CASES];
    make_images();
    for (int i = 0; i < 2; i++) {
        struct models m;
        models_open(&m, 2);
        pipeline(&m, all, CASES, 4, r[i]);
        models_close(&m);
    }
    cr_expect_arr_eq(r[0], r[1], sizeof r[0]);
    int some = 0;
    for (int k = 0; k < WIDTH * HEIGHT; k++) some |= r[0][0].map[k] > 0;
    cr_expect(some, "an empty map shows nothing");
}

/* Identical bits up to the coarse mask. SAM's decoder is planned for the number of prompts, so its outputs agree up to
 * rounding: the IoUs (of a range of .1 here) to 2e-5 of their range; a mask may differ in a pixel whose logit is nearly
 * 0. */
static void expect_bits(const char *what, int number, const struct result *a, const struct result *b)
{
    int pixels = 0;
    for (int k = 0; k < WIDTH * HEIGHT; k++) pixels += a->mask[k] != b->mask[k];
    cr_expect_arr_eq(a->map, b->map, sizeof a->map, "%s %d: map", what, number);
    cr_expect_eq(a->presence, b->presence, "%s %d: presence", what, number);
    cr_expect_arr_eq(a->coarse, b->coarse, sizeof a->coarse, "%s %d: coarse mask", what, number);
    cr_expect_leq(pixels, 1, "%s %d: SAM's mask differs in %d pixels", what, number, pixels);
    cr_expect_float_eq(a->iou, b->iou, 2e-6, "%s %d: predicted IoU %.9g, %.9g", what, number, (double)a->iou,
                       (double)b->iou);
}

/* Two correct evaluations of a network of a few blocks are each within 1e-5 of the range of the exact one (the bound of
 * tests/infer/test_clip_model.c against another implementation), so within 2e-5 of each other. A map is the bottleneck
 * after nine steps of Adam, whose first steps have the length lr whatever the gradient's size: an element whose
 * gradient rounds to the other sign moves the other way. Gradients are within 1e-4 of their range, so a fraction of
 * about 1e-4 of the elements may do so, and each moves the map by at most its range: maps are compared by their mean
 * difference. */
static void expect_close(const char *what, const struct result *a, const struct result *b)
{
    double sum = 0;
    for (int k = 0; k < WIDTH * HEIGHT; k++) sum += fabs((double)a->map[k] - (double)b->map[k]);
    cr_expect_leq(sum / (WIDTH * HEIGHT), 2e-5 + 1e-4, "%s: maps differ by %g on average", what,
                  sum / (WIDTH * HEIGHT));
    cr_expect_float_eq(a->presence, b->presence, 4e-5, "%s: presence", what); /* a difference of two cosines */
}

/* Runs all cases together, then in reverse order and each alone, always with the same number of pairs at once; compares
 * the results of each case with those of the run of all. */
static void alone_and_together(void (*compare)(const char *what, int number, const struct result *a,
                                               const struct result *b))
{
    static struct result together[CASES], other[CASES];
    static const int backwards[CASES] = {4, 3, 2, 1, 0};
    struct models m;
    make_images();
    models_open(&m, 2);
    for (int pairs = 2; pairs <= 8; pairs *= 2) {
        pipeline(&m, all, CASES, pairs, together);
        memset(other, 0, sizeof other);
        pipeline(&m, backwards, CASES, pairs, other);
        for (int i = 0; i < CASES; i++) compare("backwards, case", i, &other[i], &together[i]);
        for (int i = 0; i < CASES; i++) {
            pipeline(&m, &i, 1, pairs, other);
            compare("alone, case", i, &other[i], &together[i]);
        }
    }
    models_close(&m);
}

/* Alone or with others, in any order: noise is keyed by the case, and with the same number of pairs planned at once
 * oneDNN's AVX-512 product computes each row of its result in the same way at any position. So the maps are identical
 * bits. */
Test(determinism, a_case_does_not_depend_on_other_cases, .timeout = 60)
{
    test_isa(TEST_AVX512);
    alone_and_together(expect_bits);
}

static void expect_close_case(const char *what, int number, const struct result *a, const struct result *b)
{
    expect_close(what, a, b);
}

/* oneDNN's AVX2 product computes rows in blocks of 6 and the remaining 1 to 3 rows by another kernel, which rounds
 * differently: there a case is equal up to rounding, by the bound of expect_close. */
Test(determinism, a_case_depends_on_other_cases_by_rounding_at_most, .timeout = 60)
{
    test_isa(TEST_AVX2);
    alone_and_together(expect_close_case);
}

/* Another number of pairs at once gives the matrix products another shape, which oneDNN blocks differently. */
Test(determinism, the_number_of_pairs_at_once_changes_rounding_only, .timeout = 60)
{
    static struct result one[CASES], many[CASES];
    struct models m;
    make_images();
    models_open(&m, 2);
    pipeline(&m, all, CASES, 1, one);
    pipeline(&m, all, CASES, 8, many);
    for (int i = 0; i < CASES; i++) expect_close("1 and 8 at once", &one[i], &many[i]);
    models_close(&m);
}

Test(determinism, threads_change_rounding_only, .timeout = 60)
{
    static struct result r[2][CASES];
    float image[2][CASES * 8], text[2][CASES * 8];
    make_images();
    for (int i = 0; i < 2; i++) {
        struct models m;
        models_open(&m, 1 + i);
        const struct clip_config *c = &m.clip.config;
        float *pixels = malloc((size_t)(CASES * c->image_size * c->image_size * 3) * sizeof *pixels);
        for (int k = 0; k < CASES; k++)
            OK(mcs_clip_prepare(c, &images[k], CLIP_VIEW_WHOLE, pixels + k * c->image_size * c->image_size * 3));
        OK(mcs_clip_embed_images(&m.clip, pixels, CASES, 0, image[i]));
        OK(mcs_clip_embed_texts(&m.clip, texts, CASES, 0, text[i]));
        pipeline(&m, all, CASES, 4, r[i]);
        free(pixels);
        models_close(&m);
    }
    golden_check("image embeddings", image[1], image[0], CASES * 8, 2e-5, 0);
    golden_check("text embeddings", text[1], text[0], CASES * 8, 2e-5, 0);
    for (int i = 0; i < CASES; i++) expect_close("1 and 2 threads", &r[0][i], &r[1][i]);
}

/* Loss and all gradients of one contrastive step with 1 and 2 threads: within twice 1e-4 of each gradient's range, as
 * above; a range below 1e-2 counts as 1e-2 (the gradient of a key's bias is 0 in exact arithmetic). */
Test(determinism, gradients_with_one_and_two_threads, .timeout = 60)
{
    enum { BATCH = 6 };
    float *grad[2], loss[2];
    int64_t n = 0;
    for (int i = 0; i < 2; i++) {
        struct models m;
        struct exec *e;
        models_open(&m, 1 + i);
        const struct clip_config *c = &m.clip.config;
        struct params *p = m.clip.params;
        struct graph *g = mcs_graph_new(p, MCS_F32);
        struct tensor *image = mcs_input(g, "image", MCS_F32, MCS_DIMS(BATCH, c->image_size, c->image_size, 3));
        const struct clip_text t = mcs_clip_text_inputs(g, BATCH, 64);
        struct tensor *a = mcs_l2norm(g, mcs_clip_image(g, image, c)), *b = mcs_l2norm(g, mcs_clip_text(g, &t, c, 1));
        struct tensor *out =
            mcs_keep(mcs_apply(g, OP_contrastive, "loss", (struct tensor *[]){a, b, mcs_clip_logit_scale(g)},
                               &(struct contrastive_attr){.b_image = 0.15f, .b_text = 0.15f}));
        OK(mcs_grad(g, &out, 1));
        OK(mcs_params_alloc_grad(p));
        OK(mcs_exec_new(g, &m.d, &e));
        float *pixels = malloc((size_t)mcs_count(image) * sizeof *pixels);
        golden_fill_image("determinism", BATCH, 3, (int64_t)c->image_size * c->image_size, pixels);
        int32_t ids[64], position[64], key[64], offset[BATCH + 1] = {0, 10, 21, 27, 40, 41, 52};
        for (int k = 0; k < 64; k++) ids[k] = k < 52 ? 5 + k * 3 % 250 : -1, position[k] = k % 11, key[k] = k;
        OK(mcs_exec_set(e, image, pixels));
        OK(mcs_exec_set(e, t.ids, ids));
        OK(mcs_exec_set(e, t.position, position));
        OK(mcs_exec_set(e, t.key, key));
        OK(mcs_exec_set(e, t.offset, offset));
        mcs_params_zero_grad(p);
        OK(mcs_exec_run(e));
        OK(mcs_exec_get(e, out, &loss[i]));
        n = p->n_values;
        grad[i] = malloc((size_t)n * sizeof *grad[i]);
        memcpy(grad[i], p->grad, (size_t)n * sizeof *grad[i]);
        if (i)
            for (int k = 0; k < p->n; k++) {
                const int64_t at = p->t[k]->offset / (int64_t)sizeof(float);
                golden_check(p->t[k]->name, grad[1] + at, grad[0] + at, mcs_count(p->t[k]), 2e-4, 1e-2);
            }
        free(pixels);
        mcs_exec_free(e);
        mcs_graph_free(g);
        models_close(&m);
    }
    cr_expect_float_eq(loss[0], loss[1], 2e-5 * fabs((double)loss[0]), "%g, %g", (double)loss[0], (double)loss[1]);
    free(grad[0]);
    free(grad[1]);
}

/* Saliency, ensembles of networks and SAM on a device against the CPU: the same tiny models, the same images, float32.
 * With the device of support_guarded.h: the pipelines write inside their blocks, read nothing that nobody wrote, and
 * give everything back when an allocation fails. test_pipeline_cudasim is the same on the simulated GPU. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "engine/base/rng.h"
#include "infer/clip/saliency.h"
#include "infer/sam/sam_prompts.h"
#include "infer/unet/ensemble.h"
#include "infer/unet/predict.h"
#include "tests/support/support_pipeline.h"
#include "tests/support/support_sessions.h"
#include "tests/support/support_tiny.h"

/* ---- saliency ---- */

enum { PAIRS = 2, CASES = 3, STEPS = 5, COPIES = 3, TOKENS = 5, WIDTH = 16, ALPHAS = PAIRS * TOKENS * WIDTH };

struct watched {
    float alpha[2 * STEPS][ALPHAS]; /* steps of two batches */
    int n;
};
static void watch(void *ctx, int step, const float *alpha)
{
    struct watched *w = ctx;
    memcpy(w->alpha[w->n++], alpha, sizeof *w->alpha);
}

/* Largest difference of the device's saliency maps from the CPU's. */
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
    o.null_texts = null_texts, o.n_null = 1;
    for (int i = 0; i < CASES; i++) draw(&img[i], 20 + 3 * i, 18 + i, (uint32_t)i);
    memset(seen, 0, sizeof seen);
    for (int d = 0; d < DEVICES; d++) {
        struct clip_model m;
        choose_precision(d);
        OK(mcs_clip_model_new(&c, VOCABULARY, 1, &device[d], NULL, &m));
        for (int i = 0; i < CASES; i++)
            cases[d][i] = (struct saliency_case){
                .image = &img[i], .text = i ? "a dark lesion" : "a bright lesion", .key = 100 + (uint32_t)i};
        o.on_alpha = watches ? watch : NULL, o.on_alpha_ctx = &seen[d];
        OK(saliency_once(&m, &o, cases[d], CASES));
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
        /* Presence is the difference of two cosines, of features that agree to 1e-5 of their range in float32
         * (test_clip_model.c). In bf16 each of about ten values between pixel and feature is rounded to 2^-9: as a
         * random walk, sqrt(10) 2^-9 = 0.6 % of a feature, in both cosines. */
        cr_expect_float_eq(cases[GPU][i].presence, cases[CPU][i].presence, half ? 1e-2 : 2e-5);
    }
    /* The last batch has one unused pair: its noise is undefined. */
    cr_assert_eq(seen[GPU].n, watches ? 2 * (STEPS - 1) : 0);
    cr_assert_eq(seen[GPU].n, seen[CPU].n);
    double moved = 0;
    for (int s = 0; s < seen[CPU].n; s++)
        for (int k = 0; k < (s < STEPS - 1 ? ALPHAS : ALPHAS / 2); k++) {
            const double want = (double)seen[CPU].alpha[s][k], got = (double)seen[GPU].alpha[s][k];
            moved = fmax(moved, fabs(want - 5));
            if (!half) cr_assert_float_eq(got, want, 1e-3, "step %d, alpha %d: %g, on the CPU %g", s, k, got, want);
        }
    cr_assert(!watches || moved > 2, "alpha stayed where it was");
    for (int d = 0; d < DEVICES; d++)
        for (int i = 0; i < CASES; i++) mcs_map_free(&cases[d][i].map);
    for (int i = 0; i < CASES; i++) mcs_image_free(&img[i]);
    return most;
}

/* Gradients agree to some hundred roundings of 2^-24, 1e-5 of the largest. Adam divides them by their own magnitude, so
 * an alpha whose gradient is 1/100 of the largest is off by at most 1e-3 a step; the map, a mean over channels between
 * 0 and 1, by less. */
Test(pipeline, saliency, .timeout = 400)
{
    open_devices();
    double most = saliency_differs(CLIP_VIEW_WHOLE, NULL, 1);
    cr_expect_leq(most, 1e-3, "%g", most);
    most = saliency_differs(CLIP_VIEW_CROP, NULL, 0);
    /* maps are quantised to 8 bits: a value on a border may round either way */
    cr_expect_leq(most, 1 / 255.0 + 1e-6, "%g", most);
    close_devices();
}

Test(pipeline, saliency_with_given_noise, .timeout = 400)
{
    static float noise[STEPS * COPIES * TOKENS * WIDTH];
    mcs_rng_fill_normal((struct mcs_rng){1, 2, 3, 4}, noise, STEPS * COPIES * TOKENS * WIDTH);
    open_devices();
    const double most = saliency_differs(CLIP_VIEW_WHOLE, noise, 1);
    cr_expect_leq(most, 1e-3, "%g", most);
    close_devices();
}

/* ---- sliding windows and ensembles ---- */

enum { IMAGES = 2, HEIGHT = 13, COLUMNS = 25, PIXELS = HEIGHT * COLUMNS };

struct seen_maps {
    float prob[2][IMAGES * 3 * PIXELS], bits[2][IMAGES * PIXELS];
    uint8_t labels[2][IMAGES * PIXELS];
};

/* threshold 0: no mirroring either. */
static void ensemble_on(struct device *d, const char *folder, double threshold, const float *images,
                        struct seen_maps *to)
{
    const enum ensemble_choice choices[] = {ENSEMBLE_ALL, ENSEMBLE_LAST_CYCLE};
    struct ensemble_maps maps[2];
    struct sliding_options o = mcs_sliding_defaults();
    struct ensemble e;
    o.batch = 5; /* 2 images x 3 windows x 4 mirrorings leave a tail batch of 4; without mirroring, of 1 */
    o.mirror = threshold > 0;
    for (int g = 0; g < 2; g++) maps[g] = (struct ensemble_maps){to->prob[g], g ? NULL : to->bits[g], to->labels[g]};
    memset(to, 77, sizeof *to); /* labels beyond all classes */
    OK(mcs_ensemble_open(folder, choices, 2, d, &e));
    OK(mcs_ensemble_run(&e, &o, images, IMAGES, HEIGHT, COLUMNS, choices, 2, threshold, maps));
    mcs_ensemble_close(&e);
}

/* A network with two levels sums some hundred products: logits of order 1 agree to 1e-5, and so do probabilities. The
 * slope of an entropy, log2(p / (1 - p)), is below 14 for p above 1e-4; below that p log2 p itself changes by less. */
static void expect_same_ensembles(int classes, double threshold, double bound, double dice)
{
    static struct seen_maps seen[DEVICES];
    static float images[IMAGES * PIXELS];
    const char *folder = tiny_folder("pipeline");
    make_run(folder, classes);
    for (uint32_t i = 0; i < IMAGES; i++) {
        struct image img;
        draw(&img, COLUMNS, HEIGHT, 50 + i);
        mcs_ensemble_normalise(img.pixels, NULL, PIXELS, 1, images + i * PIXELS);
        mcs_image_free(&img);
    }
    for (int d = 0; d < DEVICES; d++) {
        choose_precision(d);
        ensemble_on(&device[d], folder, threshold, images, &seen[d]);
    }
    for (int g = 0; g < 2; g++) {
        int both = 0, sum = 0;
        for (int i = 0; i < IMAGES * PIXELS * classes; i++)
            cr_assert_float_eq(seen[GPU].prob[g][i], seen[CPU].prob[g][i], bound, "%d: %g, on the CPU %g", i,
                               (double)seen[GPU].prob[g][i], (double)seen[CPU].prob[g][i]);
        for (int i = 0; i < IMAGES * PIXELS; i++) {
            cr_assert_float_eq(seen[GPU].bits[g][i], seen[CPU].bits[g][i], 14 * bound * classes);
            cr_assert_lt(seen[GPU].labels[g][i], classes);
            both += seen[GPU].labels[g][i] && seen[GPU].labels[g][i] == seen[CPU].labels[g][i];
            sum += (seen[GPU].labels[g][i] != 0) + (seen[CPU].labels[g][i] != 0);
        }
        cr_expect(sum > 0 && 2.0 * both / sum >= dice, "Dice %g of %d pixels", 2.0 * both / sum, sum);
    }
    cr_expect_gt(fabs((double)seen[CPU].prob[0][7] - (double)seen[CPU].prob[1][7]), 1e-4, "the choices differ");
    tiny_remove(folder);
}

Test(pipeline, ensembles, .timeout = 400)
{
    open_devices();
    expect_same_ensembles(2, 0.4, 1e-5, 0.999);
    expect_same_ensembles(3, 0, 1e-5, 0.999);
    close_devices();
}

Test(pipeline, a_network_that_is_not_finite_is_refused, .timeout = 400)
{
    static float image[PIXELS], logits[2 * PIXELS];
    const struct sliding_options o = mcs_sliding_defaults();
    const float nan = NAN;
    struct unet_plans p;
    struct unet_model m;
    struct sliding s;
    open_devices();
    struct device *d = &device[GPU];
    OK(mcs_unet_plans_make(1, 2, PATCH, PATCH, 2, 4, 8, &p));
    OK(mcs_unet_model_new(&p, 1, d, &m));
    OK(mcs_sliding_open(&s, &m, &o, image, 1, HEIGHT, COLUMNS));
    OK(mcs_sliding_run(&s, logits));
    OK(d->backend->upload(d, mcs_params_find(m.params, "decoder.seg_layers.0.bias")->data, &nan, sizeof nan));
    cr_expect_eq(mcs_sliding_run(&s, logits), MCS_E_DATA);
    mcs_sliding_close(&s);
    mcs_unet_model_close(&m);
    close_devices();
}

/* ---- SAM ---- */

enum { BOXES = 3 };

/* Two images with boxes and points, one without prompts; ten prompts are more than one chunk. */
static void segment_on(struct device *d, const struct sam_options *o, const struct image *img,
                       struct sam_result *results)
{
    static struct box_point points[2] = {{5, 6, 1}, {12, 9, 0}};
    struct box_component boxes[BOXES][2 * BOXES];
    struct box_case prompts[BOXES];
    struct sam_case cases[BOXES];
    const struct sam_config c = tiny_sam_config();
    struct sam_model m;
    for (int i = 0; i < BOXES; i++) {
        for (int k = 0; k < 2 * BOXES; k++)
            boxes[i][k] = (struct box_component){
                .x0 = 1 + k, .y0 = 2 * i, .x1 = 9 + 2 * k, .y1 = 7 + k, .n_points = 2, .points = points};
        prompts[i] = (struct box_case){.image = "a",
                                       .width = img[i].width,
                                       .height = img[i].height,
                                       .n_components = i == 1 ? 0 : 6 - i,
                                       .components = boxes[i]};
        cases[i] = (struct sam_case){&img[i], &prompts[i]};
    }
    OK(mcs_sam_model_new(&c, 5, d, &m));
    OK(mcs_sam_segment(&m, o, cases, BOXES, results));
    mcs_sam_model_close(&m);
}

/* Logits agree to 1e-5 of their magnitude: a mask differs where a logit is that close to 0, at most one pixel in a
 * thousand; areas and stability scores likewise. */
static void expect_same_masks(const struct sam_options *o, double bound, double dice)
{
    struct sam_result results[DEVICES][BOXES];
    struct image img[BOXES];
    int64_t some = 0, most = 0;
    for (int i = 0; i < BOXES; i++) draw(&img[i], 26 + 5 * i, 24 + i, 70 + (uint32_t)i);
    for (int d = 0; d < DEVICES; d++) {
        choose_precision(d);
        segment_on(&device[d], o, img, results[d]);
    }
    for (int i = 0; i < BOXES; i++) {
        const struct sam_result *want = &results[CPU][i], *got = &results[GPU][i];
        const int pixels = img[i].width * img[i].height;
        int both = 0;
        cr_assert_eq(got->n_prompts, want->n_prompts);
        for (int k = 0; k < pixels; k++) both += want->mask[k] && got->mask[k];
        cr_expect(2 * both >= dice * (want->area + got->area), "image %d: %d of %d and %d pixels", i, both, want->area,
                  got->area);
        for (int k = 0; k < want->n_prompts; k++) {
            const struct sam_prompt_result *a = &want->prompts[k], *b = &got->prompts[k];
            cr_expect_eq(a->chosen, b->chosen);
            cr_expect_eq(a->n_points, b->n_points);
            cr_expect_eq(memcmp(a->box, b->box, sizeof a->box), 0);
            cr_expect_float_eq(a->iou, b->iou, bound);
            cr_expect_float_eq(a->stability, b->stability, half ? 1 - dice : 2.0 / pixels, "%g, on the CPU %g",
                               b->stability, a->stability);
        }
        some += want->area, most += pixels;
    }
    cr_expect(some > 0 && some < most, "%d of %d pixels tell nothing", (int)some, (int)most);
    for (int i = 0; i < BOXES; i++) {
        for (int d = 0; d < DEVICES; d++) mcs_sam_result_free(&results[d][i]);
        mcs_image_free(&img[i]);
    }
}

Test(pipeline, sam, .timeout = 400)
{
    open_devices();
    struct sam_options o = mcs_sam_defaults(MCS_PAPER);
    expect_same_masks(&o, 1e-4, 0.999);
    o = mcs_sam_defaults(MCS_RELEASE);
    o.kind = SAM_BOTH;
    o.multimask = 1;
    expect_same_masks(&o, 1e-4, 0.999);
    o = mcs_sam_defaults(MCS_PAPER);
    o.multimask = 1;
    o.merge_boxes = 1;
    o.keep = 1;
    expect_same_masks(&o, 1e-4, 0.999);
    close_devices();
}

#ifdef TEST_CUDASIM /* the CPU has no bf16 */
/* bf16 rounds activations to 2^-9: about twenty roundings give 1e-2 of logits of order 1. Saliency's gradients are as
 * coarse, but few alphas are near 0. Pixels within that of the border may flip. */
Test(pipeline, bf16, .timeout = 400)
{
    struct sam_options o = mcs_sam_defaults(MCS_PAPER);
    open_devices();
    half = 1;
    const double most = saliency_differs(CLIP_VIEW_WHOLE, NULL, 0);
    cr_expect(most > 1e-6 && most <= 0.05, "%g", most);
    expect_same_ensembles(2, 0, 1e-2, 0.95);
    expect_same_masks(&o, 1e-2, 0.95);
    close_devices();
}
#endif

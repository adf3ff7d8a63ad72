/* Pipelines on a simulated device against the CPU: the same tiny models, the same images, float32.
 * tests/engine/test_pipeline.c compiles the same with the device of support_guarded.h. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/rng.h"
#include "engine/device_ops.h"
#include "engine/tape/amp.h"
#include "infer/clip/saliency.h"
#include "infer/coarse/coarse.h"
#include "infer/sam/sam_prompts.h"
#include "infer/unet/predict.h"
#include "infer/unet/uncertainty.h"
#include "infer/weights.h"
#ifdef TEST_CUDASIM
#include "tests/support/support_device.h"
#else
#include "tests/support/support_guarded.h"
#endif
#include "tests/support/support_tiny.h"
#include "train/unet/unet_train.h"

#define VOCABULARY MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt"
#define OK(call) cr_assert_eq(call, MCS_OK, "%s", mcs_error_message())

enum { CPU, GPU, DEVICES };
static struct device device[DEVICES];
static int half; /* activations on the simulated device are bf16 */

static void choose_precision(int d)
{
    device[d].activations = half && d == GPU ? MCS_BF16 : MCS_F32;
}

#ifdef TEST_CUDASIM
enum { HALF = MCS_BF16 };
static enum mcs_status open_device(struct device *d)
{
    test_devices(1);
    cudasim_seed(3);
    return mcs_cuda_module.open(0, d);
}

static void check_device(void)
{
    cr_expect_null(test_reports(), "%s", test_reports());
    cr_expect_eq(cudasim_bytes_held(), 0, "device memory is still held");
}

static void fail_alloc(int n)
{
    cudasim_fail_alloc(n);
}
#else
enum { HALF = MCS_F32 }; /* the CPU has no bf16 */
#define open_device support_guarded_open
#define fail_alloc support_guarded_fail_alloc

static void check_device(void)
{
    cr_expect_eq(support_guarded_held(), 0, "device memory is still held");
    cr_expect_eq(support_guarded_damaged(), 0, "written outside of a block");
}
#endif

static void open_devices(void)
{
    OK(open_device(&device[GPU]));
    OK(mcs_cpu_open(1, &device[CPU]));
}

static void close_devices(void)
{
    for (int d = 0; d < DEVICES; d++) mcs_device_close(&device[d]);
    check_device();
}

/* A bright disc on a noisy background; `id` places it. */
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
    float alpha[2 * STEPS][ALPHAS]; /* steps of two batches */
    int n;
};
static void watch(void *ctx, int step, const float *alpha)
{
    struct watched *w = ctx;
    (void)step;
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
    for (int i = 0; i < CASES; i++) draw(&img[i], 20 + 3 * i, 18 + i, (uint32_t)i);
    memset(seen, 0, sizeof seen);
    for (int d = 0; d < DEVICES; d++) {
        struct clip_model m;
        choose_precision(d);
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

enum { CHECKPOINTS = 3, PATCH = 16, IMAGES = 2, HEIGHT = 13, COLUMNS = 25, PIXELS = HEIGHT * COLUMNS };

/* A run folder with networks of different seeds, two of them of the last cycle. */
static void make_run(const char *folder, int classes)
{
    struct unet_checkpoint c[CHECKPOINTS];
    struct unet_plans p;
    OK(mcs_unet_plans_make(1, classes, PATCH, PATCH, 2, 4, 8, &p));
    OK(mcs_unet_plans_write(folder, &p));
    for (int i = 0; i < CHECKPOINTS; i++) {
        struct unet_model m;
        c[i] = (struct unet_checkpoint){.cycle = 1 + (i > 0), .index = 1 + (i > 1), .step = 10 * (i + 1)};
        snprintf(c[i].file, sizeof c[i].file, "w%d.safetensors", i);
        OK(mcs_unet_model_new(&p, 40 + (uint64_t)i, &device[CPU], &m));
        OK(mcs_weights_write(tiny_path(folder, "w%d.safetensors", i), m.params, 0, NULL, "a test"));
        mcs_unet_model_close(&m);
    }
    OK(mcs_unet_checkpoints_write(folder, c, CHECKPOINTS));
}

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

/* ---- coarse masks ---- */

enum map_kind { BUMPS, NOISE, CONSTANT, LEVELS, DARK, MAP_KINDS };

/* Values are multiples of 2^-10, so sums are exact in any order. */
static void draw_map(struct map2 *m, int width, int height, enum map_kind kind)
{
    const struct mcs_rng r = {8, 2, (uint32_t)kind, 0};
    OK(mcs_map_alloc(m, width, height));
    for (int i = 0; i < width * height; i++) {
        const double y = i / width % 16 - 8, x = i % width % 20 - 9, u = mcs_rng_range(r, (uint32_t)i, 0, 1);
        const double bump = (y * y + x * x < 20) * (0.5 + 0.1 * (i % width / 20 + i / width / 16 * 2));
        const double v[MAP_KINDS] = {0.8 * bump + 0.2 * u, u, 0.625, floor(3 * u) / 4, u / 512};
        m->values[i] = (float)(round(1024 * v[kind]) / 1024);
    }
}

/* A score, 0 to 16, from the positions of a component's pixels: wrong labels change it. */
static enum mcs_status score_places(void *context, const char *stem, const struct component_list *list,
                                    const int32_t *labels, int width, int height, float *scores)
{
    (void)stem;
    ++*(int *)context;
    for (int k = 0; k < list->n; k++) {
        int sum = 0;
        for (int i = 0; i < width * height; i++) sum += labels[i] == list->items[k].label ? i : 0;
        scores[k] = (float)(sum % 17);
    }
    return MCS_OK;
}

enum { SEVERAL = MCS_MASK_FILTERED + 1, SCORED, SEEN };
/* number of masks that ended in each state, had several components, were ranked by a scorer */
static int coarse_seen[SEEN];

static void expect_same_coarse(struct device_scratch on[DEVICES], const struct map2 *map,
                               const struct coarse_options *o, const char *what)
{
    const int n = map->width * map->height;
    int scored = 0;
    const struct coarse_text_scorer scorer = {score_places, &scored};
    struct coarse_result r[DEVICES];
    uint8_t *masks = malloc((size_t)(4 * n)), *above[DEVICES] = {masks, masks + n},
            *mask[DEVICES] = {masks + 2 * n, masks + 3 * n};
    cr_assert(masks);
    memset(masks, 77, (size_t)(4 * n));
    for (int d = 0; d < DEVICES; d++) OK(mcs_coarse_mask(&on[d], map, "a", o, &scorer, above[d], mask[d], &r[d]));
    const struct coarse_result *want = &r[CPU], *got = &r[GPU];
    cr_expect(scored == 0 || (scored == 2 && o->rank >= MCS_COARSE_TEXT), "%s: %d scored", what, scored);
    coarse_seen[scored ? SCORED : want->components.n > 1 ? SEVERAL : (int)want->state]++;
    cr_expect_eq(memcmp(above[CPU], above[GPU], (size_t)n), 0, "%s: other pixels above the threshold", what);
    cr_expect_eq(memcmp(mask[CPU], mask[GPU], (size_t)n), 0, "%s: another mask", what);
    cr_expect_eq(got->state, want->state, "%s: %s, on the CPU %s", what, mcs_mask_state_text(got->state),
                 mcs_mask_state_text(want->state));
    /* kernels/image/masks.h: the means of 2-means agree to 2^-32 of the range, here at most 1; then one rounding */
    const double bound = o->threshold == MCS_COARSE_KMEANS ? 0x1p-32 + 0x1p-23 * fabs((double)want->threshold) : 0;
    cr_expect(fabs((double)got->threshold - (double)want->threshold) <= bound, "%s: threshold %.9g, on the CPU %.9g",
              what, (double)got->threshold, (double)want->threshold);
    cr_expect_eq(got->n_found, want->n_found, "%s: %d components, on the CPU %d", what, got->n_found, want->n_found);
    cr_assert_eq(got->components.n, want->components.n, "%s: %d stay, on the CPU %d", what, got->components.n,
                 want->components.n);
    cr_assert_eq(got->n_boxes, want->n_boxes);
    cr_expect_eq(memcmp(got->components.items, want->components.items,
                        (size_t)got->components.n * sizeof *got->components.items),
                 0, "%s: other components", what);
    for (int i = 0; i < want->n_boxes; i++) {
        struct box_component a = want->boxes[i], b = got->boxes[i];
        cr_assert_eq(a.n_points, b.n_points);
        cr_expect_eq(memcmp(a.points, b.points, (size_t)a.n_points * sizeof *a.points), 0, "%s: other points", what);
        cr_expect(a.x0 == b.x0 && a.y0 == b.y0 && a.x1 == b.x1 && a.y1 == b.y1 && a.area == b.area &&
                      a.confidence == b.confidence,
                  "%s: box %d differs", what, i);
    }
    for (int d = 0; d < DEVICES; d++) mcs_coarse_free(&r[d]);
    free(masks);
}

Test(pipeline, coarse, .timeout = 400)
{
    static const int sizes[][2] = {{47, 33}, {1, 1}, {80, 61}, {2, 3}};
    open_devices();
    struct device_scratch on[DEVICES] = {{.device = &device[CPU]}, {.device = &device[GPU]}};
    for (int i = 0; i < 4 * MAP_KINDS; i++) {
        struct map2 map;
        draw_map(&map, sizes[i % 4][0], sizes[i % 4][1], (enum map_kind)(i / 4));
        for (int way = 0; way < 6; way++) { /* three threshold methods, two forms */
            char what[80];
            struct coarse_options o = mcs_coarse_defaults(way % 2 ? MCS_RELEASE : MCS_PAPER);
            o.threshold = (enum mcs_coarse_threshold)(way / 2);
            o.rank = (enum mcs_coarse_rank)((i + way) % 4);
            o.keep = (i + way / 2) % 4; /* 0: all */
            o.min_area = way % 3;
            o.min_confidence = i % 2 ? 0 : 0.25f;
            o.n_negative = 3;
            o.merge_boxes = way == 3;
            snprintf(what, sizeof what, "map %d of %dx%d, way %d", i / 4, map.width, map.height, way);
            expect_same_coarse(on, &map, &o, what);
        }
        mcs_map_free(&map);
    }
    for (int k = 0; k < SEEN; k++) cr_expect_gt(coarse_seen[k], 4, "%d: %d", k, coarse_seen[k]);
    for (int d = 0; d < DEVICES; d++) mcs_device_scratch_free(&on[d]);
    close_devices();
}

Test(pipeline, coarse_bad_maps, .timeout = 400)
{
    open_devices();
    struct device_scratch on[DEVICES] = {{.device = &device[CPU]}, {.device = &device[GPU]}};
    struct map2 map;
    uint8_t mask[12 * 9];
    draw_map(&map, 12, 9, NOISE);
    for (int i = 0; i < 4; i++) {
        char message[DEVICES][200];
        struct coarse_options o = mcs_coarse_defaults(i % 2 ? MCS_RELEASE : MCS_PAPER);
        struct coarse_result r;
        if (i < 2) map.values[70 - i] = i ? -INFINITY : NAN;
        for (int k = 0; i == 2 && k < 12 * 9; k++) map.values[k] = -NAN;
        if (i == 3) o.keep = -1;
        for (int d = 0; d < DEVICES; d++) {
            cr_expect_eq(mcs_coarse_mask(&on[d], &map, "a", &o, NULL, NULL, mask, &r),
                         i < 3 ? MCS_E_DATA : MCS_E_USAGE);
            snprintf(message[d], sizeof *message, "%s", mcs_error_message());
            mcs_error_clear();
        }
        cr_expect_str_eq(message[GPU], message[CPU]);
    }
    mcs_map_free(&map);
    draw_map(&map, 12, 9, BUMPS); /* the next map is not affected */
    const struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
    expect_same_coarse(on, &map, &o, "after bad ones");
    mcs_map_free(&map);
    for (int d = 0; d < DEVICES; d++) mcs_device_scratch_free(&on[d]);
    close_devices();
}

/* ---- augmented batches ---- */

enum { TARGETS = 3, MOST = 3 * 32 * 30 * 5 };

static struct tensor on_device(enum mcs_dtype dt, int n, int height, int width, int channels)
{
    struct tensor t = {.dt = dt, .nd = channels ? 4 : 3, .dim = {n, height, width, channels}};
    OK(device[GPU].backend->alloc(&device[GPU], mcs_bytes(&t), &t.data));
    return t;
}

/* One batch on the device, with the host's arrays overwritten directly after the call, against mcs_augment_apply.
 * Values are below 10; test_sim_augment.cpp derives 2e-4 of that. */
static void expect_augmented(enum mcs_dtype dt, uint32_t key, int n, int channels, const int from[2], const int to[2])
{
    static float src[MOST], want[MOST], got[MOST], scratch[2 * MOST];
    static int32_t src_label[MOST], want_label[MOST], got_label[MOST];
    struct augment_draw draws[5];
    struct device *d = &device[GPU];
    const int pixels = from[0] * from[1], out = to[0] * to[1];
    const struct augment_options o = mcs_augment_nnunet(to[0], to[1]);
    struct tensor image = on_device(dt, n, to[0], to[1], channels), label[TARGETS], *labels[TARGETS];
    cr_assert(n * pixels * channels <= MOST);
    mcs_rng_fill_normal((struct mcs_rng){1, 2, key, 4}, src, n * pixels * channels);
    for (int i = 0; i < n * pixels; i++)
        src_label[i] = (int32_t)mcs_rng_below((struct mcs_rng){key, 1, 2, 3}, (uint32_t)i / 3, 5) - 1;
    for (int i = 0; i < n; i++) {
        const struct augment_patch a = {from[0], from[1], channels, src + i * pixels * channels,
                                        src_label + i * pixels},
                                   b = {to[0], to[1], channels, want + i * out * channels, want_label + i * out};
        const struct mcs_rng own = {8, 9, (uint32_t)i, key};
        mcs_augment_draw(&o, own, channels, &draws[i]);
        mcs_augment_apply(&draws[i], &a, &b, scratch);
    }
    for (int k = 0; k < TARGETS; k++) {
        label[k] = on_device(MCS_I32, n, (to[0] + k) / (k + 1), to[1] / (k + 1), 0);
        labels[k] = &label[k];
    }
    const struct augment_args a = {n, channels, from[0], from[1], src, src_label, draws, &image, TARGETS, labels};
    OK(d->backend->device_ops->augment(d, &a));
    memset(src, 77, sizeof src), memset(src_label, 77, sizeof src_label), memset(draws, 77, sizeof draws);
    struct exec e = {.device = d};
    image.root = &image, image.role = TENSOR_INPUT;
    OK(mcs_exec_get(&e, &image, got));
    for (int i = 0; i < n * out * channels; i++)
        cr_assert_float_eq(got[i], want[i], 2e-3 + (dt == MCS_BF16 ? 0x1p-8 * fabs((double)want[i]) : 0),
                           "%d: %g, on the CPU %g", i, (double)got[i], (double)want[i]);
    for (int k = 0; k < TARGETS; k++) {
        const int h = (int)label[k].dim[1], w = (int)label[k].dim[2];
        mcs_augment_target(want_label, n, to[0], to[1], h, w, src_label); /* level 0: the labels themselves */
        OK(d->backend->download(d, got_label, label[k].data, mcs_bytes(&label[k])));
        cr_expect_eq(memcmp(got_label, src_label, (size_t)mcs_bytes(&label[k])), 0, "level %d", k);
        d->backend->free(d, label[k].data);
    }
    d->backend->free(d, image.data);
}

Test(pipeline, augmented_batches)
{
    open_devices();
    for (uint32_t i = 0; i < 4; i++) { /* batch size grows, shrinks and grows again */
        expect_augmented(MCS_F32, i, 2, 1, (const int[]){20, 19}, (const int[]){16, 12});
        expect_augmented(i & 1 ? MCS_F32 : HALF, i, 3 + i % 3, 3, (const int[]){30, 32}, (const int[]){17, 22});
    }
    close_devices();
}

enum { BATCH = 4, TRAINED = 3 };

static void training_cases(struct unet_cases *c)
{
    uint8_t mask[24 * 20];
    struct image img;
    mcs_unet_cases_init(c, 1, 2);
    for (uint32_t k = 0; k < 3; k++) {
        draw(&img, 24, 20, 90 + k);
        for (int i = 0; i < 24 * 20; i++) mask[i] = img.pixels[i] > 120;
        OK(mcs_unet_cases_add_image(c, "disc", &img, mask));
        mcs_image_free(&img);
    }
}

static struct unet_train_options training_options(const char *run)
{
    return (struct unet_train_options){
        .cycle = {.form = MCS_PAPER,
                  .epochs = 1,
                  .iterations = TRAINED,
                  .cycles = 1,
                  .checkpoints = 1,
                  .late = 1,
                  .lr = 1e-2},
        .optim = mcs_unet_nnunet_sgd(),
        .deep_supervision = 1,
        .foreground = 0.33,
        .augment = mcs_augment_nnunet(PATCH, PATCH),
        .seed = 6,
        .run = run,
        .config = "a: 1\n",
    };
}

static enum mcs_status training_model(struct device *d, struct unet_model *m)
{
    struct unet_plans p;
    MCS_TRY(mcs_unet_plans_make(1, 2, PATCH, PATCH, 4, 4, 8, &p));
    p.batch = BATCH;
    return mcs_unet_model_new(&p, 5, d, m);
}

/* A trainer's inputs on both devices at each step. On the device, a step whose batch is prepared while the previous
 * step runs (mcs_unet_train) gives the same bits as one prepared after it. */
Test(pipeline, training, .timeout = 400)
{
    static float image[DEVICES][BATCH * PATCH * PATCH];
    static int32_t target[DEVICES][2][BATCH * PATCH * PATCH];
    const char *folder = tiny_folder("pipeline");
    struct unet_cases cases;
    struct unet_trainer t[DEVICES];
    struct unet_model m[DEVICES], other;
    const struct unet_train_options o = training_options(folder);
    char hash[2][65];
    double loss, norm;
    open_devices();
    training_cases(&cases);
    for (int d = 0; d < DEVICES; d++) {
        OK(training_model(&device[d], &m[d]));
        OK(mcs_unet_trainer_open(&t[d], &m[d], &cases, &o));
        cr_assert_eq(t[d].n_losses, 2);
    }
    for (int step = 0; step < TRAINED; step++) {
        for (int d = 0; d < DEVICES; d++) {
            OK(mcs_unet_trainer_step(&t[d], step, &loss, &norm));
            OK(mcs_exec_get(t[d].exec, t[d].image, image[d]));
            for (int k = 0; k < 2; k++) OK(mcs_exec_get(t[d].exec, t[d].target[k], target[d][k]));
        }
        for (int i = 0; i < BATCH * PATCH * PATCH; i++)
            cr_assert_float_eq(image[GPU][i], image[CPU][i], 1e-3, "step %d, value %d: %g, on the CPU %g", step, i,
                               (double)image[GPU][i], (double)image[CPU][i]);
        cr_expect_eq(memcmp(target[GPU], target[CPU], sizeof target[CPU]), 0);
    }
    OK(mcs_weights_sha256(m[GPU].params, hash[0]));
    OK(training_model(&device[GPU], &other));
    OK(mcs_unet_train(&other, &cases, &o));
    OK(mcs_weights_sha256(other.params, hash[1]));
    cr_expect_str_eq(hash[0], hash[1]);
    for (int d = 0; d < DEVICES; d++) {
        mcs_unet_trainer_close(&t[d]);
        mcs_unet_model_close(&m[d]);
    }
    mcs_unet_model_close(&other);
    mcs_unet_cases_free(&cases);
    close_devices();
    tiny_remove(folder);
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

/* ---- out of memory ---- */

static enum mcs_status one_saliency(void)
{
    const struct clip_config c = tiny_clip_config();
    struct saliency_options o = mcs_saliency_defaults();
    struct saliency_case one = {.text = "a bright lesion", .key = 1};
    struct clip_model m;
    struct image img;
    o.pairs = 1, o.steps = 2, o.copies = 1;
    draw(&img, 20, 18, 1);
    one.image = &img;
    enum mcs_status st = mcs_clip_model_new(&c, VOCABULARY, 1, &device[GPU], NULL, &m);
    if (st == MCS_OK) {
        st = mcs_saliency_run(&m, &o, &one, 1, NULL, 0, NULL, NULL, 0);
        mcs_clip_model_close(&m);
    }
    mcs_map_free(&one.map);
    mcs_image_free(&img);
    return st;
}

static const char *run_folder;
static enum mcs_status one_ensemble(void)
{
    static float image[PATCH * PATCH], bits[PATCH * PATCH];
    const enum ensemble_choice last = ENSEMBLE_LAST;
    const struct ensemble_maps maps = {.bits = bits};
    const struct sliding_options o = {.step = 1, .batch = 1};
    struct ensemble e;
    enum mcs_status st = mcs_ensemble_open(run_folder, &last, 1, &device[GPU], &e);
    if (st == MCS_OK) {
        st = mcs_ensemble_run(&e, &o, image, 1, PATCH, PATCH, &last, 1, 0, &maps);
        mcs_ensemble_close(&e);
    }
    return st;
}

static enum mcs_status one_coarse(void)
{
    struct device_scratch on = {.device = &device[GPU]};
    const struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
    struct coarse_result r;
    struct map2 map;
    uint8_t mask[30 * 20];
    draw_map(&map, 30, 20, BUMPS);
    const enum mcs_status st = mcs_coarse_mask(&on, &map, "a", &o, NULL, NULL, mask, &r);
    if (st == MCS_OK) mcs_coarse_free(&r);
    mcs_map_free(&map);
    mcs_device_scratch_free(&on);
    return st;
}

static enum mcs_status one_mask(void)
{
    struct box_component box = {.x1 = 9, .y1 = 9};
    const struct box_case prompts = {.image = "a", .width = 26, .height = 24, .n_components = 1, .components = &box};
    const struct sam_options o = mcs_sam_defaults(MCS_PAPER);
    const struct sam_config c = tiny_sam_config();
    struct sam_result result = {0};
    struct sam_model m;
    struct image img;
    draw(&img, 26, 24, 1);
    enum mcs_status st = mcs_sam_model_new(&c, 5, &device[GPU], &m);
    if (st == MCS_OK) {
        st = mcs_sam_segment(&m, &o, &(struct sam_case){&img, &prompts}, 1, &result);
        mcs_sam_model_close(&m);
    }
    mcs_sam_result_free(&result);
    mcs_image_free(&img);
    return st;
}

static enum mcs_status one_step_of_training(void)
{
    const struct unet_train_options o = training_options(NULL);
    struct unet_cases cases;
    struct unet_trainer t;
    struct unet_model m;
    double loss, norm;
    training_cases(&cases);
    enum mcs_status st = training_model(&device[GPU], &m);
    if (st == MCS_OK) {
        st = mcs_unet_trainer_open(&t, &m, &cases, &o);
        if (st == MCS_OK) st = mcs_unet_trainer_step(&t, 0, &loss, &norm);
        mcs_unet_trainer_close(&t);
        mcs_unet_model_close(&m);
    }
    mcs_unet_cases_free(&cases);
    return st;
}

/* Each allocation fails once: the call returns a status, holds no memory, and the next call works. */
static void expect_clean_failures(enum mcs_status (*stage)(void), int at_least)
{
    int n = 1;
    open_devices();
    for (; n < 100; n++) {
        fail_alloc(n);
        const enum mcs_status st = stage();
        if (st == MCS_OK) break;
        cr_expect_eq(st, MCS_E_NOMEM, "allocation %d: %s", n, mcs_error_message());
        mcs_error_clear();
    }
    fail_alloc(0);
    cr_expect(n < 100 && n > at_least, "%d allocations", n - 1);
    close_devices(); /* checks that no memory is held */
}

Test(pipeline, out_of_memory, .timeout = 400)
{
    run_folder = tiny_folder("pipeline");
    open_devices();
    make_run(run_folder, 2);
    close_devices();
    expect_clean_failures(one_saliency, 15);
    expect_clean_failures(one_ensemble, 10);
    expect_clean_failures(one_coarse, 0);
    expect_clean_failures(one_mask, 6);
    expect_clean_failures(one_step_of_training, 6);
    tiny_remove(run_folder);
}

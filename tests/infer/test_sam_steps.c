/* One step of SAM's training against brute force: the loss of the prompted mask by the public predictor, the choice
 * among the multimask outputs, the targets of the IoU head, and the update. Jitter: test_sam_jitter.c. */
#include "data/io/file.h"
#include "data/io/store.h"
#include "tests/support/support_tiny.h"
#include "train/sam/sam_train.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 32, PIXELS = SIZE * SIZE, LOW = 16, LOW_PIXELS = LOW * LOW };

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static const char *folder;
static struct device cpu;
static struct sam_model model;
static int n_runs;

static void setup(void)
{
    folder = tiny_folder("sam_steps");
    OK(mcs_cpu_open(1, &cpu));
}
static void teardown(void)
{
    mcs_cpu_close(&cpu);
    tiny_remove(folder);
}
TestSuite(sam_steps, .init = setup, .fini = teardown);

/* ---- samples ---- */

/* An image, and masks without any symmetry: an L and a bar, each with its box. */
struct scene {
    uint8_t image[PIXELS], mask[2][PIXELS];
    int box[2][4], n;
};

static void find_box(const uint8_t *mask, int box[4])
{
    box[0] = box[1] = SIZE, box[2] = box[3] = -1;
    for (int i = 0; i < PIXELS; i++) {
        const int x = i % SIZE, y = i / SIZE;
        if (!mask[i]) continue;
        box[0] = x < box[0] ? x : box[0], box[1] = y < box[1] ? y : box[1];
        box[2] = x > box[2] ? x : box[2], box[3] = y > box[3] ? y : box[3];
    }
}

static struct scene make_scene(int number, int n)
{
    struct scene s = {.n = n};
    for (int i = 0; i < PIXELS; i++) {
        const int x = i % SIZE - number, y = i / SIZE + number;
        s.mask[0][i] = x >= 3 && x < 7 && y >= 5 && y < 19;
        s.mask[0][i] |= x >= 7 && x < 16 && y >= 15 && y < 19;
        s.mask[1][i] = x >= 12 && x < 29 && y >= 22 && y < 27 - number;
        s.image[i] = (uint8_t)(60 + 2 * y + x + 110 * s.mask[0][i] + 60 * s.mask[1][i]);
    }
    for (int k = 0; k < n; k++) find_box(s.mask[k], s.box[k]);
    return s;
}

static struct scene mirrored(const struct scene *from)
{
    struct scene s = {.n = from->n};
    for (int i = 0; i < PIXELS; i++) {
        const int to = i / SIZE * SIZE + SIZE - 1 - i % SIZE;
        s.image[to] = from->image[i];
        for (int k = 0; k < from->n; k++) s.mask[k][to] = from->mask[k][i];
    }
    for (int k = 0; k < from->n; k++) find_box(s.mask[k], s.box[k]);
    return s;
}

static enum mcs_status draw(void *context, uint64_t seed, uint32_t step, uint32_t index, struct sam_train_sample *s)
{
    const struct scene *scene = (const struct scene *)context + index;
    memcpy(s->image, scene->image, PIXELS);
    memcpy(s->mask, scene->mask, (size_t)scene->n * PIXELS);
    memcpy(s->box, scene->box, sizeof scene->box);
    s->n = scene->n;
    return MCS_OK;
}

/* ---- one step ---- */

/* One image with its boxes as they are, nothing mirrored or inverted. */
static struct sam_train_options plain_options(void)
{
    struct sam_train_options o = mcs_sam_train_defaults();
    o.steps = 1, o.warmup = 4, o.images = 1, o.boxes = 1, o.lr = 1e-3, o.clip_norm = 0, o.seed = 5;
    o.n_jitters = 1, o.jitter[0] = 0, o.scale = 0, o.flip = 0, o.invert = 0;
    o.run = tiny_path(folder, "run%d", n_runs++);
    o.config = "steps";
    return o;
}

/* A new model with four times its initial weights, with which boxes would hardly change a mask. */
static void open_model(uint64_t weights)
{
    const struct sam_config tiny = tiny_sam_config();
    OK(mcs_sam_model_new(&tiny, weights, &cpu, &model));
    for (int i = 0; i < model.params->n; i++) {
        const struct tensor *t = model.params->t[i];
        float *w = t->data;
        for (int64_t k = 0; t->nd >= 2 && !strstr(t->name, "gaussian") && k < mcs_count(t); k++) w[k] *= 4;
    }
}

/* Runs a new model's first step; returns the weights before it, malloc'ed. The model stays open. */
static float *train(const struct sam_train_options *o, struct scene *scenes, uint64_t weights)
{
    open_model(weights);
    const size_t bytes = (size_t)model.params->n_values * sizeof(float);
    float *before = malloc(bytes);
    cr_assert(before);
    memcpy(before, model.params->data, bytes);
    OK(mcs_sam_train(&model, o, &(struct sam_train_source){draw, scenes}));
    return before;
}

/* Restores the weights before the step, for the predictor. */
static void restore(float *before)
{
    memcpy(model.params->data, before, (size_t)model.params->n_values * sizeof(float));
    free(before);
}

static double logged(const struct sam_train_options *o, const char *key)
{
    char *text;
    int64_t n;
    OK(mcs_file_read(tiny_path(o->run, "metrics.jsonl"), 1 << 20, &text, &n));
    json_t *line = json_loads(text, JSON_DISABLE_EOF_CHECK, NULL), *value = json_object_get(line, key);
    cr_assert(value, "no %s in %s", key, text);
    const double v = json_number_value(value);
    json_decref(line);
    free(text);
    return v;
}

/* ---- brute force ---- */

struct prediction {
    double loss, iou;               /* of mask 0 at the image's size */
    double low_loss[4], low_iou[4]; /* of each mask at the masks' own size */
    float predicted[4];             /* the IoU head */
};

static double focal; /* weight of the focal loss with gamma 2 and alpha .25 (Lin et al. 2017) */

/* 2 BCE + Dice (sam_train.h), plus the weighted focal loss; IoU of the pixels above 0. */
static double loss_of(const float *logits, const uint8_t *mask, int n, double *iou)
{
    double bce = 0, focused = 0, both = 0, sum = 0, hit = 0, any = 0;
    for (int i = 0; i < n; i++) {
        const double x = (double)logits[i], p = 1 / (1 + exp(-x));
        const double ce = mask[i] ? log1p(exp(-x)) : log1p(exp(x)), wrong = mask[i] ? 1 - p : p;
        bce += ce / n;
        focused += (mask[i] ? 0.25 : 0.75) * wrong * wrong * ce / n;
        both += mask[i] ? p : 0;
        sum += p + mask[i];
        hit += mask[i] && x > 0;
        any += mask[i] || x > 0;
    }
    *iou = hit / any;
    return 2 * bce + focal * focused + 1 - (2 * both + 1) / (sum + 1);
}

/* The prediction for a box, scored against a mask. */
static struct prediction predict(const uint8_t *pixels, const uint8_t *mask, const double box[4])
{
    static float input[PIXELS * 3], embedding[4 * 4 * 16], low[4 * LOW_PIXELS];
    struct prediction a;
    struct sam_frame frame;
    struct map2 map = {0};
    uint8_t low_mask[LOW_PIXELS];
    const struct image img = {SIZE, SIZE, 1, (uint8_t *)(uintptr_t)pixels};
    struct sam_prompts prompt = {.has_box = 1};
    memcpy(prompt.box, box, sizeof prompt.box);
    cr_assert_eq(mcs_sam_embedding_values(&model.config), 4 * 4 * 16);
    cr_assert_eq(mcs_sam_side(&model.config), LOW);
    OK(mcs_sam_prepare(&model.config, &img, input, &frame));
    OK(mcs_sam_encode_images(&model, input, 1, embedding));
    OK(mcs_sam_predict(&model, embedding, &frame, 1, &prompt, 1, low, a.predicted));
    OK(mcs_sam_upscale(&model.config, low, &frame, &map));
    a.loss = loss_of(map.values, mask, PIXELS, &a.iou);
    mcs_map_free(&map);
    for (int i = 0; i < LOW_PIXELS; i++) { /* a mask pixel is 2 x 2 image pixels: 1 if at least two of them are 1 */
        const uint8_t *m = mask + i / LOW * 2 * SIZE + i % LOW * 2;
        low_mask[i] = m[0] + m[1] + m[SIZE] + m[SIZE + 1] >= 2;
    }
    for (int k = 0; k < 4; k++) a.low_loss[k] = loss_of(low + k * LOW_PIXELS, low_mask, LOW_PIXELS, &a.low_iou[k]);
    return a;
}

static struct prediction predict_scene(const struct scene *s, int target)
{
    double box[4];
    for (int k = 0; k < 4; k++) box[k] = s->box[target][k];
    return predict(s->image, s->mask[target], box);
}

/* ---- the prompted mask ---- */

/* The logits of training and prediction agree to a few roundings; the loss of about 2 is a float32 sum over 1,024
 * pixels: 80 roundings of 2^-23 of it. */
static const double LOSS_ERROR = 2e-5;

/* Compares the logged loss and IoU with the predictor's on this scene; they must not match those of `other`. */
static void expect_scene(const struct sam_train_options *o, const struct scene *scene, const struct scene *other,
                         const char *what)
{
    const struct prediction a = predict_scene(scene, 0), b = predict_scene(other, 0);
    cr_expect_float_eq(logged(o, "loss"), a.loss, LOSS_ERROR, "%s: loss %g, want %g", what, logged(o, "loss"), a.loss);
    cr_expect_float_eq(logged(o, "iou"), a.iou, 1e-6, "%s: IoU %g, want %g", what, logged(o, "iou"), a.iou);
    cr_assert(fabs(a.loss - b.loss) > 10 * LOSS_ERROR, "%s: the two scenes look alike: %g %g", what, a.loss, b.loss);
}

Test(sam_steps, loss_of_the_box_as_the_predictor_sees_it)
{
    struct scene s = make_scene(0, 1), swapped = s;
    const struct sam_train_options o = plain_options();
    restore(train(&o, &s, 3));
    memcpy(swapped.box[0], (int[]){s.box[0][2], s.box[0][3], s.box[0][0], s.box[0][1]}, sizeof s.box[0]);
    expect_scene(&o, &s, &swapped, "a box");
    mcs_sam_model_close(&model);
}

Test(sam_steps, a_mirrored_image_has_its_box_mirrored)
{
    struct scene s = make_scene(0, 1), m = mirrored(&s), wrong_box = m;
    struct sam_train_options o = plain_options();
    o.flip = 1;
    restore(train(&o, &s, 3));
    memcpy(wrong_box.box[0], s.box[0], sizeof s.box[0]);
    expect_scene(&o, &m, &wrong_box, "mirrored");
    expect_scene(&o, &m, &s, "mirrored");
    mcs_sam_model_close(&model);
}

Test(sam_steps, an_inverted_image)
{
    struct scene s = make_scene(0, 1), inverted = s;
    struct sam_train_options o = plain_options();
    o.invert = 1;
    restore(train(&o, &s, 3));
    for (int i = 0; i < PIXELS; i++) inverted.image[i] = (uint8_t)(255 - s.image[i]);
    expect_scene(&o, &inverted, &s, "inverted");
    mcs_sam_model_close(&model);
}

Test(sam_steps, the_focal_loss)
{
    struct scene s = make_scene(0, 1);
    struct sam_train_options o = plain_options();
    o.focal = 20, o.focal_alpha = 0.25f;
    restore(train(&o, &s, 3));
    const double without = predict_scene(&s, 0).loss;
    focal = 20;
    const struct prediction a = predict_scene(&s, 0);
    cr_assert(a.loss > without + 0.1);
    cr_expect_float_eq(logged(&o, "loss"), a.loss, LOSS_ERROR * 5, "loss %g, want %g", logged(&o, "loss"), a.loss);
    cr_expect_float_eq(logged(&o, "loss_multimask"), fmin(a.low_loss[1], fmin(a.low_loss[2], a.low_loss[3])),
                       LOSS_ERROR * 5);
    mcs_sam_model_close(&model);
}

/* As sam_train.h says. */
Test(sam_steps, defaults)
{
    const struct sam_train_options o = mcs_sam_train_defaults();
    cr_expect(o.steps == 1000 && o.images == 10 && o.boxes == 4 && o.warmup == 50);
    cr_expect(o.lr == 1e-3 && o.weight_decay == 0.01 && o.clip_norm == 1);
    cr_expect_eq(o.n_jitters, 5);
    for (int i = 0; i < 5; i++) cr_expect_float_eq(o.jitter[i], 0.2 * i, 1e-12);
    cr_expect(o.scale == 0.3 && o.flip == 0.5 && o.invert == 0.2);
    cr_expect(o.bce == 2 && o.dice == 1 && o.focal == 0 && o.multimask == 0.2f && o.iou == 0.1f);
}

/* Two images with two targets each, every target once: means over the four boxes. */
Test(sam_steps, every_target_of_every_image)
{
    struct scene s[2] = {make_scene(0, 2), make_scene(1, 2)};
    struct sam_train_options o = plain_options();
    double loss = 0, iou = 0, best = 0;
    o.images = o.boxes = 2;
    restore(train(&o, s, 3));
    for (int i = 0; i < 4; i++) {
        const struct prediction a = predict_scene(&s[i / 2], i % 2);
        loss += a.loss / 4, iou += a.iou / 4;
        best += fmin(a.low_loss[1], fmin(a.low_loss[2], a.low_loss[3])) / 4;
    }
    cr_expect_float_eq(logged(&o, "loss"), loss, LOSS_ERROR);
    cr_expect_float_eq(logged(&o, "iou"), iou, 1e-6);
    cr_expect_float_eq(logged(&o, "loss_multimask"), best, LOSS_ERROR);
    mcs_sam_model_close(&model);
}

Test(sam_steps, a_jittered_box)
{
    struct scene s = make_scene(0, 1);
    struct sam_train_options o = plain_options();
    double box[4], loss = 0;
    o.boxes = 3, o.jitter[0] = 0.4, o.scale = 0.3;
    restore(train(&o, &s, 3));
    for (uint32_t k = 0; k < 3; k++) {
        mcs_sam_jitter_box(s.box[0], SIZE, 0.4, 0.3, o.seed, 0, k, box);
        loss += predict(s.image, s.mask[0], box).loss / 3;
    }
    cr_expect_float_eq(logged(&o, "loss"), loss, LOSS_ERROR, "loss %g, want %g", logged(&o, "loss"), loss);
    cr_expect(fabs(loss - predict_scene(&s, 0).loss) > 10 * LOSS_ERROR, "the jittered boxes look like the box");
    mcs_sam_model_close(&model);
}

/* ---- multimask and the IoU head ---- */

/* Only the multimask output with the lowest loss is trained: only its hypernetwork and mask 0's get a gradient. */
Test(sam_steps, the_best_of_three_is_trained)
{
    int wins[4] = {0};
    for (uint64_t weights = 1; weights <= 12; weights++) {
        struct scene s = make_scene(0, 1);
        struct sam_train_options o = plain_options();
        int moved[4] = {0}, best = 1;
        o.weight_decay = 0;
        float *before = train(&o, &s, weights);
        for (int i = 0; i < model.params->n; i++) {
            const struct tensor *t = model.params->t[i];
            const float *old = before + t->offset / (int64_t)sizeof(float);
            int which;
            if (sscanf(t->name, "mask_decoder.output_hypernetworks_mlps.%d.", &which) != 1) continue;
            moved[which] |= memcmp(t->data, old, (size_t)mcs_count(t) * sizeof(float)) != 0;
        }
        restore(before);
        const struct prediction a = predict_scene(&s, 0);
        for (int k = 2; k < 4; k++) best = a.low_loss[k] < a.low_loss[best] ? k : best;
        for (int k = 1; k < 4; k++) {
            cr_assert(k == best || a.low_loss[k] > a.low_loss[best] + LOSS_ERROR, "two masks of one loss");
            cr_expect_eq(moved[k], k == best, "losses %g %g %g: mask %d %s", a.low_loss[1], a.low_loss[2],
                         a.low_loss[3], k, moved[k] ? "was trained" : "was not trained");
        }
        cr_expect(moved[0], "mask 0 is always trained");
        cr_expect_float_eq(logged(&o, "loss_multimask"), a.low_loss[best], LOSS_ERROR);
        wins[best]++;
        mcs_sam_model_close(&model);
    }
    cr_expect(wins[1] && wins[2] && wins[3], "%d %d %d: each of the three must be the best somewhere", wins[1], wins[2],
              wins[3]);
}

/* The first and second moments after the step, from the checkpoint. */
static void read_moments(const struct sam_train_options *o, float *first, float *second)
{
    struct store *s;
    const int64_t n = model.params->n_values;
    OK(mcs_store_open(tiny_path(o->run, "checkpoint.h5"), &s));
    OK(mcs_store_get(s, "moment1", MCS_ARRAY_F32, 1, &n, first));
    OK(mcs_store_get(s, "moment2", MCS_ARRAY_F32, 1, &n, second));
    mcs_store_close(s);
}

/* The gradient of the IoU head's last bias is weight * 2 (predicted - target) / 4, and Adam's first moment is a tenth
 * of it, from which the target is computed: the IoU at the image's size for mask 0, at low resolution for the others.
 */
Test(sam_steps, the_iou_head_is_taught_the_true_iou)
{
    struct scene s = make_scene(0, 1);
    struct sam_train_options o = plain_options();
    o.bce = o.dice = o.multimask = 0, o.iou = 0.25f;
    restore(train(&o, &s, 3));
    const size_t n = (size_t)model.params->n_values;
    float *moments = malloc(2 * n * sizeof *moments);
    cr_assert(moments);
    read_moments(&o, moments, moments + n);
    const struct tensor *bias = mcs_params_find(model.params, "mask_decoder.iou_prediction_head.layers.2.bias");
    cr_assert(bias);
    const float *m = moments + bias->offset / (int64_t)sizeof(float);
    const struct prediction a = predict_scene(&s, 0);
    for (int k = 0; k < 4; k++) {
        const double target = (double)a.predicted[k] - 10 * (double)m[k] * 4 / 2 / 0.25,
                     want = k ? a.low_iou[k] : a.iou;
        cr_expect_float_eq(target, want, 1e-5, "mask %d is taught %g, its IoU is %g", k, target, want);
    }
    cr_expect(fabs(a.iou - a.low_iou[0]) > 1e-3, "at both sizes mask 0 has one IoU: the test cannot tell them apart");
    free(moments);
    mcs_sam_model_close(&model);
}

/* ---- the update ---- */

/* AdamW with betas .9 and .999 and eps 1e-8, decay on tensors of two dimensions or more but for biases; the first of
 * four steps of warm-up has a quarter of the rate. */
Test(sam_steps, the_update_is_adamw)
{
    struct scene s = make_scene(0, 1);
    struct sam_train_options o = plain_options();
    o.weight_decay = 0.1;
    float *before = train(&o, &s, 3);
    const struct params *p = model.params;
    const size_t n = (size_t)p->n_values;
    float *moments = malloc(2 * n * sizeof *moments);
    double sum = 0;
    int decayed = 0, plain = 0;
    cr_assert(moments);
    read_moments(&o, moments, moments + n);
    cr_expect_float_eq(logged(&o, "lr"), 2.5e-4, 1e-12);
    for (int i = 0; i < p->n; i++) {
        const struct tensor *t = p->t[i];
        const int decays = t->nd >= 2 && !strstr(t->name, "bias") && !strstr(t->name, "ln") && !strstr(t->name, "bn");
        const int64_t first = t->offset / (int64_t)sizeof(float);
        for (int64_t k = first; k < first + mcs_count(t); k++) {
            const double g = 10 * (double)moments[k], w = (double)before[k];
            if (!strstr(t->name, "positional_encoding_gaussian_matrix")) {
                /* the moments are rounded: v to 4 roundings of itself */
                cr_assert_float_eq(moments[n + (size_t)k], 0.001 * g * g, 1e-6 * 0.001 * g * g + 1e-30, "%s", t->name);
                const double want = w * (1 - (decays ? 2.5e-4 * 0.1 : 0)) - 2.5e-4 * g / (fabs(g) + 1e-8);
                /* three roundings of w (1 - rate decay, its product with w, the difference); g comes from a rounded
                 * moment */
                cr_assert_float_eq(p->data[k], want, 3 * 0x1p-24 * fabs(w) + 1e-5 * 2.5e-4, "%s[%d]: %.9g, want %.9g",
                                   t->name, (int)(k - first), (double)p->data[k], want);
                sum += g * g;
                *(decays ? &decayed : &plain) += 1;
            } else {
                cr_assert_eq(p->data[k], before[k], "a constant was trained");
            }
        }
    }
    cr_expect(decayed && plain);
    cr_expect_float_eq(logged(&o, "gradient_norm"), sqrt(sum), 1e-5 * sqrt(sum));
    free(moments);
    free(before);
    mcs_sam_model_close(&model);
}

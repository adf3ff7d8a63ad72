/* The training loop on a task that a tiny network learns within seconds: bright discs on noise. Patches, targets and
 * plans: test_unet_cases.c. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "engine/image/prob_maps.h"
#include "infer/unet/ensemble.h"
#include "infer/weights.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_malloc.h"
#include "train/unet/unet_train.h"

enum { SIDE = 32, PIXELS = SIDE * SIDE, CASES = 24 };

static void setup(void)
{
    test_folder_open("unet");
    mcs_log_quiet(1);
}
TestSuite(unet_train, .init = setup, .fini = test_folder_close);

/* ---- data ---- */

static void draw(uint32_t id, struct image *img, uint8_t *mask)
{
    const struct mcs_rng r = {77, 1, id, 0};
    const double cy = mcs_rng_range(r, 0, 9, 23), cx = mcs_rng_range(r, 1, 9, 23), radius = mcs_rng_range(r, 2, 4, 8);
    for (int i = 0; i < PIXELS; i++) {
        const double dy = i / SIDE - cy, dx = i % SIDE - cx;
        mask[i] = dy * dy + dx * dx < radius * radius;
        img->pixels[i] = (uint8_t)(90 + 80 * mask[i] + 12 * mcs_rng_normal(r, 10 + (uint32_t)i));
    }
}

static void make_cases(struct unet_cases *c)
{
    uint8_t mask[PIXELS];
    struct image img;
    cr_assert_eq(mcs_image_alloc(&img, SIDE, SIDE, 1), MCS_OK);
    mcs_unet_cases_init(c, 1, 2);
    for (uint32_t i = 0; i < CASES; i++) {
        draw(i, &img, mask);
        cr_assert_eq(mcs_unet_cases_add_image(c, "disc", &img, mask), MCS_OK);
    }
    mcs_image_free(&img);
}

static struct unet_train_options options_of(const char *run, int64_t cycles, int64_t steps_per_cycle)
{
    return (struct unet_train_options){
        .cycle = {.form = MCS_PAPER,
                  .epochs = cycles,
                  .iterations = steps_per_cycle,
                  .cycles = cycles,
                  .checkpoints = 2,
                  .late = 0.2,
                  .lr = 3e-3},
        .optim = mcs_unet_adamw(),
        .deep_supervision = 1,
        .foreground = 0.33,
        .augment = mcs_augment_nnunet(SIDE, SIDE),
        .seed = 5,
        .run = run,
        .config = "a: 1\n",
    };
}

static void open_model(struct unet_model *m, struct device *d)
{
    struct unet_plans p;
    cr_assert_eq(mcs_cpu_open(1, d), MCS_OK);
    cr_assert_eq(mcs_unet_plans_make(1, 2, SIDE, SIDE, 3, 8, 32, &p), MCS_OK);
    p.batch = 6;
    cr_assert_eq(mcs_unet_model_new(&p, 5, d, m), MCS_OK, "%s", mcs_error_message());
}

/* Runs the training once with a new model, as a new process would. */
static enum mcs_status train(const struct unet_cases *cases, const struct unet_train_options *o, char hash[65])
{
    struct device d;
    struct unet_model m;
    open_model(&m, &d);
    const enum mcs_status st = mcs_unet_train(&m, cases, o);
    if (hash) cr_assert_eq(mcs_weights_sha256(m.params, hash), MCS_OK);
    mcs_unet_model_close(&m);
    mcs_cpu_close(&d);
    return st;
}

/* ---- tests ---- */

/* Mean Dice on unseen images. A threshold halfway between disc and background would reach .95; an untrained network
 * predicts everything or nothing as foreground, below .3. */
static double dice_of(const struct ensemble *e, const float *prob, int n)
{
    double sum = 0;
    uint8_t mask[PIXELS], labels[PIXELS];
    struct image img;
    cr_assert_eq(mcs_image_alloc(&img, SIDE, SIDE, 1), MCS_OK);
    for (int i = 0; i < n; i++) {
        int both = 0, all = 0;
        draw(1000 + (uint32_t)i, &img, mask);
        mcs_prob_labels(prob + (int64_t)i * 2 * PIXELS, e->model.plans.net.classes, PIXELS, 0, labels);
        for (int k = 0; k < PIXELS; k++) both += mask[k] && labels[k], all += mask[k] + labels[k];
        sum += 2.0 * both / (all ? all : 1) / n;
    }
    mcs_image_free(&img);
    return sum;
}

static void predict(struct ensemble *e, const enum ensemble_choice *choices, int n_choices, float *const *prob, int n)
{
    const struct sliding_options o = mcs_sliding_defaults();
    uint8_t mask[PIXELS];
    struct image img;
    float *images = malloc((size_t)(n * PIXELS) * sizeof *images);
    cr_assert(images);
    cr_assert_eq(mcs_image_alloc(&img, SIDE, SIDE, 1), MCS_OK);
    for (int i = 0; i < n; i++) {
        draw(1000 + (uint32_t)i, &img, mask);
        mcs_ensemble_normalise(img.pixels, NULL, PIXELS, 1, images + i * PIXELS);
    }
    cr_assert_eq(mcs_ensemble_predict(e, &o, images, n, SIDE, SIDE, choices, n_choices, prob), MCS_OK, "%s",
                 mcs_error_message());
    mcs_image_free(&img);
    free(images);
}

Test(unet_train, learns_and_predicts, .timeout = 120)
{
    enum { N = 8, VALUES = N * 2 * PIXELS };
    static float all[VALUES], last[VALUES], cycle[VALUES], first[VALUES];
    const enum ensemble_choice choices[] = {ENSEMBLE_ALL, ENSEMBLE_LAST, ENSEMBLE_LAST_CYCLE};
    float *const prob[] = {all, last, cycle};
    struct unet_cases cases;
    struct ensemble e;
    struct device d;
    make_cases(&cases);
    const struct unet_train_options o = options_of(test_folder, 2, 60);
    cr_assert_eq(train(&cases, &o, NULL), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_cpu_open(1, &d), MCS_OK);
    cr_assert_eq(mcs_ensemble_open(test_folder, choices, 3, &d, &e), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(e.n, 4);
    predict(&e, choices, 3, prob, N);
    cr_expect_gt(dice_of(&e, all, N), 0.85);
    cr_expect_gt(dice_of(&e, last, N), 0.85);
    for (int i = 0; i < N * PIXELS; i++) {
        const int64_t at = (int64_t)(i / PIXELS) * 2 * PIXELS + i % PIXELS;
        cr_assert_float_eq(all[at] + all[at + PIXELS], 1, 1e-6); /* mean of 4 rounded softmaxes */
    }
    mcs_ensemble_close(&e);
    /* The last cycle's probabilities are the mean of its two checkpoints'. */
    struct unet_checkpoint list[UNET_MAX_CHECKPOINTS];
    int n;
    cr_assert_eq(mcs_unet_checkpoints_read(test_folder, list, &n), MCS_OK);
    cr_assert_eq(n, 4);
    cr_expect_str_eq(list[2].file, "cycle_2_checkpoint_1.safetensors");
    cr_expect_eq(list[2].step, 108); /* 60 + 48: two checkpoints over the last fifth */
    cr_assert_eq(mcs_unet_checkpoints_write(test_folder, list + 2, 1), MCS_OK);
    cr_assert_eq(mcs_ensemble_open(test_folder, choices, 1, &d, &e), MCS_OK);
    predict(&e, choices, 1, (float *const[]){first}, N);
    for (int i = 0; i < VALUES; i++) cr_assert_float_eq(cycle[i], 0.5f * (first[i] + last[i]), 1e-6);
    mcs_ensemble_close(&e);
    mcs_cpu_close(&d);
    mcs_unet_cases_free(&cases);
}

/* The released form keeps two checkpoints after some steps; the list names each with its cycle and place. */
Test(unet_train, checkpoints_of_one_step, .timeout = 120)
{
    struct unet_cases cases;
    struct unet_checkpoint list[UNET_MAX_CHECKPOINTS];
    struct cycle_checkpoint at[CYCLE_MAX_AT_ONCE];
    int n, found = 0, most = 0;
    make_cases(&cases);
    struct unet_train_options o = options_of(test_folder, 24, 1);
    o.cycle.form = MCS_RELEASE;
    o.cycle.cycles = 1;
    o.cycle.gamma = 0.5;
    cr_assert_eq(train(&cases, &o, NULL), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_unet_checkpoints_read(test_folder, list, &n), MCS_OK);
    for (int64_t step = 1; step <= o.cycle.epochs; step++) {
        const int here = mcs_cycle_checkpoints(&o.cycle, step, at);
        most = here > most ? here : most;
        for (int i = 0; i < here; i++, found++) {
            cr_assert_lt(found, n);
            cr_expect_str_eq(list[found].file, at[i].file);
            cr_expect(list[found].cycle == at[i].cycle && list[found].index == at[i].index && list[found].step == step);
        }
    }
    cr_expect_eq(found, n);
    cr_expect_gt(most, 1);
    mcs_unet_cases_free(&cases);
}

static char *contents(const char *run, const char *name)
{
    char path[256], *text;
    int64_t n;
    snprintf(path, sizeof path, "%s/%s", run, name);
    cr_assert_eq(mcs_file_read(path, 1 << 24, &text, &n), MCS_OK, "%s", mcs_error_message());
    return text;
}

/* A run stopped after steps 1 and 2 and resumed has the same weights, checkpoints and log as an uninterrupted run. */
Test(unet_train, a_stopped_run_goes_on_to_the_same_bits, .timeout = 120)
{
    char whole[65], parts[65], run_a[96], run_b[96], file_a[65], file_b[65], path[256];
    struct unet_cases cases;
    make_cases(&cases);
    snprintf(run_a, sizeof run_a, "%s/a", test_folder);
    snprintf(run_b, sizeof run_b, "%s/b", test_folder);
    struct unet_train_options o = options_of(run_a, 2, 5);
    cr_assert_eq(train(&cases, &o, whole), MCS_OK, "%s", mcs_error_message());
    o.run = run_b;
    mcs_stop_request();
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(train(&cases, &o, parts), MCS_E_STOPPED);
        cr_expect(strstr(mcs_error_message(), i ? "after step 2" : "after step 1"), "%s", mcs_error_message());
        cr_expect(strcmp(whole, parts) != 0);
        mcs_error_clear();
    }
    mcs_stop_reset();
    cr_assert_eq(train(&cases, &o, parts), MCS_OK, "%s", mcs_error_message());
    cr_expect_str_eq(parts, whole);
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "cycle_2_checkpoint_2.safetensors" : "cycle_1_checkpoint_1.safetensors";
        snprintf(path, sizeof path, "%s/%s", run_a, name);
        cr_assert_eq(mcs_file_sha256(path, file_a), MCS_OK, "%s", mcs_error_message());
        snprintf(path, sizeof path, "%s/%s", run_b, name);
        cr_assert_eq(mcs_file_sha256(path, file_b), MCS_OK, "%s", mcs_error_message());
        cr_expect_str_eq(file_a, file_b);
    }
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "metrics.jsonl" : "checkpoints.json";
        char *a = contents(run_a, name), *b = contents(run_b, name);
        cr_expect_str_eq(a, b, "%s", name);
        free(a);
        free(b);
    }
    o.config = "a: 2\n"; /* other options: the old checkpoint is refused */
    cr_expect_eq(train(&cases, &o, NULL), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "other options"), "%s", mcs_error_message());
    mcs_error_clear();
    mcs_unet_cases_free(&cases);
}

#if !defined(MCS_SANITIZE)
Test(unet_train, a_step_takes_no_heap)
{
    struct unet_cases cases;
    struct device d;
    struct unet_model m;
    struct unet_trainer t;
    double loss, norm;
    make_cases(&cases);
    struct unet_train_options o = options_of(test_folder, 1, 20);
    open_model(&m, &d);
    cr_assert_eq(mcs_unet_trainer_open(&t, &m, &cases, &o), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_unet_trainer_step(&t, 0, &loss, &norm), MCS_OK, "%s", mcs_error_message());
    counting = 1;
    void *volatile seen = malloc(1);
    cr_expect_eq(n_allocations, 1, "the count itself does not work");
    for (int64_t step = 1; step < 4; step++) {
        const enum mcs_status st = mcs_unet_trainer_step(&t, step, &loss, &norm);
        if (st != MCS_OK) break;
    }
    counting = 0;
    free(seen);
    cr_expect_eq(n_allocations, 1, "%d allocations in three steps", n_allocations - 1);
    cr_expect(isfinite(loss) && norm > 0, "%s", mcs_error_message());
    mcs_unet_trainer_close(&t);
    mcs_unet_model_close(&m);
    mcs_cpu_close(&d);
    mcs_unet_cases_free(&cases);
}
#endif

Test(unet_train, a_loss_that_is_not_finite_stops_the_run)
{
    struct unet_cases cases;
    make_cases(&cases);
    struct unet_train_options o = options_of(test_folder, 1, 20);
    o.cycle.lr = 1e30;
    cr_expect_eq(train(&cases, &o, NULL), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "not finite"), "%s", mcs_error_message());
    mcs_error_clear();
    mcs_unet_cases_free(&cases);
}

/* The lowest level's head has no loss, so it is neither trained nor decayed. All other weights change. */
Test(unet_train, the_lowest_head_stays)
{
    struct unet_cases cases;
    struct device d;
    struct unet_model m;
    struct unet_trainer t;
    double loss;
    make_cases(&cases);
    struct unet_train_options o = options_of(test_folder, 1, 20);
    for (int deep = 0; deep < 2; deep++) {
        open_model(&m, &d);
        float *before = malloc((size_t)m.params->n_values * sizeof *before);
        cr_assert(before);
        memcpy(before, m.params->data, (size_t)m.params->n_values * sizeof *before);
        o.deep_supervision = deep;
        cr_assert_eq(mcs_unet_trainer_open(&t, &m, &cases, &o), MCS_OK, "%s", mcs_error_message());
        cr_expect_eq(t.n_losses, 1, "3 stages have outputs at 2 levels, the lower of weight 0");
        cr_expect_eq(t.weight[0], 1);
        cr_assert_eq(mcs_unet_trainer_step(&t, 0, &loss, NULL), MCS_OK);
        for (int i = 0; i < m.params->n; i++) {
            const struct tensor *p = m.params->t[i];
            const int same =
                !memcmp(p->data, before + p->offset / (int64_t)sizeof(float), (size_t)mcs_count(p) * sizeof(float));
            cr_expect_eq(same, !strncmp(p->name, "decoder.seg_layers.0.", 21), "%s", p->name);
        }
        mcs_unet_trainer_close(&t);
        mcs_unet_model_close(&m);
        mcs_cpu_close(&d);
        free(before);
    }
    mcs_unet_cases_free(&cases);
}

/* The training loop on a task that a tiny network learns within seconds: bright discs on noise. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "engine/image/prob_maps.h"
#include "infer/unet/ensemble.h"
#include "infer/weights.h"
#include "train/unet/unet_train.h"

enum { SIDE = 32, PIXELS = SIDE * SIDE, CASES = 24 };

static char folder[64];

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/mcs_unet_%ld", (long)getpid());
    cr_assert_eq(mcs_folder_make(folder), MCS_OK);
    mcs_log_quiet(1);
}
static void teardown(void)
{
    char line[128];
    snprintf(line, sizeof line, "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}
TestSuite(unet_train, .init = setup, .fini = teardown);

/* ---- heap allocations, counted if the caller is mcsam's code ---- */

#if !defined(MCS_SANITIZE)
static volatile int counting, n_allocations;
extern char __executable_start, etext;
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static void count(const void *caller)
{
    if (counting && (const char *)caller >= &__executable_start && (const char *)caller < &etext)
        __atomic_add_fetch(&n_allocations, 1, __ATOMIC_RELAXED);
}
__attribute__((noinline)) void *malloc(size_t bytes)
{
    count(__builtin_return_address(0));
    return __libc_malloc(bytes);
}
__attribute__((noinline)) void *calloc(size_t n, size_t bytes)
{
    count(__builtin_return_address(0));
    return __libc_calloc(n, bytes);
}
__attribute__((noinline)) void *realloc(void *p, size_t bytes)
{
    count(__builtin_return_address(0));
    return __libc_realloc(p, bytes);
}
__attribute__((noinline)) void *aligned_alloc(size_t alignment, size_t bytes)
{
    count(__builtin_return_address(0));
    return __libc_memalign(alignment, bytes);
}
#endif

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
    const struct unet_train_options o = options_of(folder, 2, 60);
    cr_assert_eq(train(&cases, &o, NULL), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_cpu_open(1, &d), MCS_OK);
    cr_assert_eq(mcs_ensemble_open(folder, choices, 3, &d, &e), MCS_OK, "%s", mcs_error_message());
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
    cr_assert_eq(mcs_unet_checkpoints_read(folder, list, &n), MCS_OK);
    cr_assert_eq(n, 4);
    cr_expect_str_eq(list[2].file, "cycle_2_checkpoint_1.safetensors");
    cr_expect_eq(list[2].step, 108); /* 60 + 48: two checkpoints over the last fifth */
    cr_assert_eq(mcs_unet_checkpoints_write(folder, list + 2, 1), MCS_OK);
    cr_assert_eq(mcs_ensemble_open(folder, choices, 1, &d, &e), MCS_OK);
    predict(&e, choices, 1, (float *const[]){first}, N);
    for (int i = 0; i < VALUES; i++) cr_assert_float_eq(cycle[i], 0.5f * (first[i] + last[i]), 1e-6);
    mcs_ensemble_close(&e);
    mcs_cpu_close(&d);
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
    snprintf(run_a, sizeof run_a, "%s/a", folder);
    snprintf(run_b, sizeof run_b, "%s/b", folder);
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
    struct unet_train_options o = options_of(folder, 1, 20);
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
    struct unet_train_options o = options_of(folder, 1, 20);
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
    struct unet_train_options o = options_of(folder, 1, 20);
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

/* ---- sampling ---- */

static void one_case(struct unet_cases *c, int height, int width, int y, int x)
{
    uint8_t *mask = calloc((size_t)(height * width), 1);
    struct image img;
    cr_assert(mask);
    cr_assert_eq(mcs_image_alloc(&img, width, height, 1), MCS_OK);
    for (int i = 0; i < height * width; i++) img.pixels[i] = (uint8_t)(i % 250);
    if (y >= 0) mask[y * width + x] = 1;
    mcs_unet_cases_init(c, 1, 2);
    cr_assert_eq(mcs_unet_cases_add_image(c, "one", &img, mask), MCS_OK);
    mcs_image_free(&img);
    free(mask);
}

Test(unet_train, corners_and_forced_foreground)
{
    enum { P = 8, BATCH = 6, ROUNDS = 400 };
    struct unet_cases c;
    float image[P * P];
    int32_t label[P * P];
    const struct augment_patch patch = {P, P, 1, image, label};
    one_case(&c, 20, 5, 18, 2); /* narrower than a patch by 3 columns */
    struct unet_loader l = {.cases = &c,
                            .augment = mcs_augment_none(),
                            .batch = BATCH,
                            .height = P,
                            .width = P,
                            .foreground = 0.33,
                            .seed = 4};
    cr_assert_eq(mcs_unet_loader_open(&l), MCS_OK);
    int64_t low[2] = {100, 100}, high[2] = {-100, -100}, corner[2];
    int which;
    for (int64_t step = 0; step < ROUNDS; step++)
        for (int i = 0; i < BATCH; i++) {
            mcs_unet_loader_patch(&l, step, i, &patch, &which, corner);
            cr_assert_eq(which, 0);
            for (int y = 0; y < P; y++)
                for (int x = 0; x < P; x++) {
                    const int64_t sy = y + corner[0], sx = x + corner[1];
                    const int inside = sy >= 0 && sy < 20 && sx >= 0 && sx < 5;
                    cr_assert_eq(label[y * P + x], !inside ? -1 : sy == 18 && sx == 2);
                    if (!inside) cr_assert_eq(image[y * P + x], 0);
                }
            if (i >= 4) { /* round(6 * .67) = 4: centred on the pixel at (18, 2); -2 is the leftmost corner */
                cr_assert_eq(corner[0], 14);
                cr_assert_eq(corner[1], -2);
                continue;
            }
            for (int a = 0; a < 2; a++) {
                low[a] = corner[a] < low[a] ? corner[a] : low[a];
                high[a] = corner[a] > high[a] ? corner[a] : high[a];
            }
        }
    cr_expect(low[0] == 0 && high[0] == 12, "rows %lld..%lld", (long long)low[0], (long long)high[0]);
    /* 3 columns are missing: from -ceil(3/2) = -2 to 5 + 2 - 8 = -1 */
    cr_expect(low[1] == -2 && high[1] == -1, "columns %lld..%lld", (long long)low[1], (long long)high[1]);
    mcs_unet_loader_close(&l);
    mcs_unet_cases_free(&c);
    one_case(&c, 20, 20, -1, 0); /* no foreground: forced items are sampled like the others */
    l = (struct unet_loader){.cases = &c,
                             .augment = mcs_augment_none(),
                             .batch = BATCH,
                             .height = P,
                             .width = P,
                             .foreground = 1,
                             .seed = 4};
    cr_assert_eq(mcs_unet_loader_open(&l), MCS_OK);
    mcs_unet_loader_patch(&l, 0, 0, &patch, NULL, corner);
    const int64_t first = corner[0];
    int varies = 0;
    for (int64_t step = 1; step < 20; step++) {
        mcs_unet_loader_patch(&l, step, 0, &patch, NULL, corner);
        varies |= corner[0] != first;
    }
    cr_expect(varies);
    mcs_unet_loader_close(&l);
    mcs_unet_cases_free(&c);
}

Test(unet_train, z_score_and_targets)
{
    struct unet_cases c;
    enum { P = 16 };
    float image[P * P];
    int32_t label[P * P], small[4 * 4], odd[3];
    const struct augment_patch patch = {P, P, 1, image, label};
    one_case(&c, P, P, 3, 3);
    struct unet_loader l = {.cases = &c, .augment = mcs_augment_none(), .batch = 1, .height = P, .width = P};
    cr_assert_eq(mcs_unet_loader_open(&l), MCS_OK);
    mcs_unet_loader_patch(&l, 0, 0, &patch, NULL, NULL);
    double sum = 0, squares = 0;
    for (int i = 0; i < P * P; i++) sum += (double)image[i], squares += (double)(image[i] * image[i]);
    cr_expect_float_eq(sum / (P * P), 0, 1e-5);
    cr_expect_float_eq(squares / (P * P), 1, 1e-5);
    for (int i = 0; i < P * P; i++) label[i] = i;
    mcs_augment_target(label, 1, P, P, 4, 4, small); /* floor((i + .5) 4) = 2, 6, 10, 14 */
    for (int i = 0; i < 16; i++) cr_expect_eq(small[i], (2 + 4 * (i / 4)) * P + 2 + 4 * (i % 4));
    mcs_augment_target(label, 1, 1, 7, 1, 3, odd); /* floor((i + .5) 7/3) = 1, 3, 5 */
    cr_expect(odd[0] == 1 && odd[1] == 3 && odd[2] == 5);
    mcs_unet_loader_close(&l);
    mcs_unet_cases_free(&c);
}

/* ---- bad input ---- */

Test(unet_train, bad_cases)
{
    struct unet_cases c;
    struct image img;
    uint8_t mask[4] = {0, 1, 2, 0};
    const float values[4] = {0, 1, NAN, 2};
    mcs_unet_cases_init(&c, 1, 2);
    cr_assert_eq(mcs_image_alloc(&img, 2, 2, 1), MCS_OK);
    cr_expect_eq(mcs_unet_cases_add_image(&c, "x.png", &img, mask), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "x.png: a label of 2"), "%s", mcs_error_message());
    mcs_error_clear();
    img.channels = 3;
    cr_expect_eq(mcs_unet_cases_add_image(&c, "x.png", &img, mask), MCS_E_DATA);
    mcs_error_clear();
    img.channels = 1;
    cr_expect_eq(mcs_unet_cases_add_volume(&c, "x.nii", values, mask, 1, 2, 2), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "voxel 2"), "%s", mcs_error_message());
    mcs_error_clear();
    struct unet_loader l = {.cases = &c, .batch = 1, .height = 2, .width = 2};
    cr_expect_eq(mcs_unet_loader_open(&l), MCS_E_USAGE, "nothing to draw from");
    mcs_error_clear();
    mcs_unet_cases_free(&c);
    cr_expect_eq(mcs_unet_cases_read(&c, folder, folder, 0, 2), MCS_E_NOINPUT, "an empty folder");
    mcs_error_clear();
    mcs_image_free(&img);
    mcs_unet_cases_free(&c);
}

static enum mcs_status reread(const char *from, const char *to)
{
    struct unet_plans p;
    char *text = contents(folder, "plans.json"), *at = strstr(text, from), out[8192], path[128];
    cr_assert(at, "%s", from);
    const int n = snprintf(out, sizeof out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    snprintf(path, sizeof path, "%s/plans.json", folder);
    cr_assert_eq(mcs_file_write(path, out, n), MCS_OK);
    const enum mcs_status st = mcs_unet_plans_read(folder, &p);
    cr_assert_eq(mcs_file_write(path, text, (int64_t)strlen(text)), MCS_OK);
    free(text);
    mcs_error_clear();
    return st;
}

Test(unet_train, plans)
{
    struct unet_plans p, q;
    struct unet_checkpoint c[UNET_MAX_CHECKPOINTS];
    char path[128];
    int n;
    cr_assert_eq(mcs_unet_plans_make(3, 4, 96, 64, 0, 32, 128, &p), MCS_OK);
    cr_expect_eq(p.net.n_stages, 5); /* 64 32 16 8 4 */
    p.batch = 7;
    p.batch_dice = 0;
    cr_assert_eq(mcs_unet_plans_write(folder, &p), MCS_OK);
    cr_assert_eq(mcs_unet_plans_read(folder, &q), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(memcmp(&p, &q, sizeof p), 0, "not what was written");
    cr_expect_eq(reread("PlainConvUNet", "ResidualEncoderUNet"), MCS_E_DATA);
    cr_expect_eq(reread("\"n_stages\": 5", "\"n_stages\": 6"), MCS_E_DATA);
    cr_expect_eq(reread("\"n_stages\": 5", "\"n_stages\": 500000000000"), MCS_E_DATA);
    cr_expect_eq(reread("96", "97"), MCS_E_DATA, "a patch that the strides do not divide");
    cr_expect_eq(reread("ZScoreNormalization", "CTNormalization"), MCS_E_DATA);
    cr_expect_eq(reread("{", "["), MCS_E_DATA);
    cr_expect_eq(mcs_unet_plans_make(1, 2, 100, 100, 4, 8, 64, &p), MCS_E_USAGE, "100 is no multiple of 8");
    mcs_error_clear();
    cr_expect_eq(mcs_unet_plans_make(1, 2, 64, 64, 1, 8, 64, &p), MCS_E_USAGE);
    mcs_error_clear();
    cr_expect_eq(mcs_unet_checkpoints_read(folder, c, &n), MCS_E_NOINPUT);
    mcs_error_clear();
    snprintf(path, sizeof path, "%s/checkpoints.json", folder);
    static const char outside[] = "{\"checkpoints\": [{\"file\": \"../x\", \"cycle\": 1, \"index\": 1, \"step\": 1}]}";
    cr_assert_eq(mcs_file_write(path, outside, sizeof outside - 1), MCS_OK);
    cr_expect_eq(mcs_unet_checkpoints_read(folder, c, &n), MCS_E_DATA, "a file outside of the folder");
    mcs_error_clear();
}

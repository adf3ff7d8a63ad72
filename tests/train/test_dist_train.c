/* Training with several ranks: the gradient equals that of one device on the whole batch, all ranks have the same
 * weights, runs are bit-identical, and all ranks end together. Ranks are threads here. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "engine/dist/comm.h"
#include "infer/weights.h"
#include "tests/support/support_device.h"
#include "tests/support/support_gradient.h"
#include "tests/support/support_tiny.h"
#include "train/clip/finetune.h"
#include "train/sam/sam_train.h"
#include "train/unet/unet_train.h"

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

enum { BATCH = 8, STEPS = 6, MAX_RANKS = 4, SIDE = 32, CASES = 12, MAX_STEPS = 8 };

static const char *folder;
static void setup(void)
{
    mcs_log_quiet(1);
    mcs_stop_reset();
    test_devices(MAX_RANKS);
    folder = tiny_folder("dist_train");
}
static void teardown(void)
{
    tiny_remove(folder);
}
TestSuite(dist_train, .init = setup, .fini = teardown, .timeout = 300);

/* Results of a training on each rank. */
struct outcome {
    int64_t n;              /* floats of the flat arrays */
    float *grad[MAX_RANKS]; /* of the last step */
    float *weights[MAX_RANKS];
    double loss[MAX_STEPS]; /* rank 0's */
    int loss_differs;       /* between ranks */
    char hash[MAX_RANKS][65];
};

/* One training, run by every rank. */
struct job {
    enum mcs_status (*body)(const struct job *job, struct comm *c, struct device *d, int rank);
    struct outcome *out;
    struct contrastive_attr loss;
    int batch_dice, steps, stop_after, poison_rank;
    const char *run;
};

static enum mcs_status keep(struct outcome *out, const struct params *p, int rank)
{
    const int64_t bytes = p->n_values * (int64_t)sizeof(float);
    if (rank == 0) out->n = p->n_values;
    float *grad = malloc((size_t)bytes), *weights = malloc((size_t)bytes);
    out->grad[rank] = grad, out->weights[rank] = weights;
    MCS_REQUIRE(grad && weights, MCS_E_NOMEM, "no memory for a copy");
    MCS_TRY(p->device->backend->download(p->device, grad, p->grad, bytes));
    return p->device->backend->download(p->device, weights, p->data, bytes);
}

static void forget(struct outcome *out)
{
    for (int r = 0; r < MAX_RANKS; r++) {
        free(out->grad[r]);
        free(out->weights[r]);
    }
}

static enum mcs_status run_rank(void *ctx, struct ranks *r)
{
    const struct job *job = ctx;
    struct device d;
    struct comm *c = NULL;
    MCS_TRY(test_device_open(r->local_rank, &d));
    enum mcs_status st = mcs_comm_open(&(struct comm_options){.ranks = r}, &d, &c);
    if (st == MCS_OK) st = job->body(job, c, &d, r->rank);
    mcs_comm_close(c, st);
    mcs_device_close(&d);
    return st;
}

/* ---- CLIP ---- */

static enum mcs_status fill_pairs(void *ctx, int64_t step, struct clip_batch *b)
{
    static const char *const captions[] = {"a bright lesion", "a dark lesion on the left side", "left",
                                           "the right side"};
    const struct job *job = ctx;
    const int64_t pixels = 16 * 16 * 3;
    for (int64_t i = 0; i < b->n; i++) {
        const int64_t item = b->first + i;
        mcs_rng_fill_normal((struct mcs_rng){9, 2, (uint32_t)item, (uint32_t)step}, b->images + i * pixels, pixels);
        b->texts[i] = captions[(item + step) % 4];
        b->sample[i] = (int32_t)item;
        if (job->poison_rank && job->poison_rank == item / (BATCH / 2) && step == 2) b->images[i * pixels] = NAN;
    }
    if (job->stop_after && step + 1 == job->stop_after && b->first > 0) mcs_stop_request();
    return MCS_OK;
}

static enum mcs_status train_clip(const struct job *job, struct comm *c, struct device *d, int rank)
{
    struct clip_model m;
    const struct clip_config config = tiny_clip_config();
    const struct clip_train_options o = {.batch = BATCH,
                                         .steps = job->steps,
                                         .lr = 1e-3,
                                         .weight_decay = 0.1,
                                         .clip_norm = 1,
                                         .loss = job->loss,
                                         .seed = 3,
                                         .run = job->run,
                                         .config = "a: 1\n",
                                         .comm = c};
    /* other ranks have another seed: training must start from rank 0's weights */
    MCS_TRY(mcs_clip_model_new(&config, MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt", 11 + (uint64_t)rank, d,
                               NULL, &m));
    enum mcs_status st = mcs_clip_train(&m, &o, &(struct clip_source){fill_pairs, (void *)job}, NULL);
    if (st == MCS_OK) st = keep(job->out, m.params, rank);
    if (st == MCS_OK) st = mcs_weights_sha256(m.params, job->out->hash[rank]);
    mcs_clip_model_close(&m);
    return st;
}

static const struct contrastive_attr dhnnce = {.b_image = 0.15f, .b_text = 0.15f, .inv_tau = 1 / 0.6f};
static const struct contrastive_attr infonce = {.a = 1};

/* ---- nnU-Net ---- */

static void make_cases(struct unet_cases *cases)
{
    static const uint8_t any[SIDE * SIDE];
    struct image img;
    uint8_t mask[SIDE * SIDE];
    OK(mcs_image_alloc(&img, SIDE, SIDE, 1));
    mcs_unet_cases_init(cases, 1, 2);
    memcpy(mask, any, sizeof mask);
    for (uint32_t k = 0; k < CASES; k++) {
        for (uint32_t i = 0; i < SIDE * SIDE; i++) {
            const struct mcs_rng r = {77, 1, k, 0};
            mask[i] =
                (i / SIDE - 16) * (i / SIDE - 16) + (i % SIDE - 12 - k % 8) * (i % SIDE - 12 - k % 8) < 20 + 5 * k;
            img.pixels[i] = (uint8_t)(90 + 80 * mask[i] + mcs_rng_below(r, i, 30));
        }
        OK(mcs_unet_cases_add_image(cases, "disc", &img, mask));
    }
    mcs_image_free(&img);
}

static struct unet_train_options unet_options(const struct job *job, struct comm *c)
{
    return (struct unet_train_options){
        .cycle = {.form = MCS_PAPER,
                  .epochs = 1,
                  .iterations = job->steps,
                  .cycles = 1,
                  .checkpoints = 1,
                  .late = 1,
                  .lr = 1e-3},
        .optim = mcs_unet_nnunet_sgd(),
        .deep_supervision = 1,
        .foreground = 0.33,
        .augment = mcs_augment_nnunet(SIDE, SIDE),
        .seed = 5,
        .run = job->run,
        .config = "a: 1\n",
        .comm = c,
    };
}

static enum mcs_status make_unet(const struct job *job, struct device *d, int rank, struct unet_model *m)
{
    struct unet_plans p;
    MCS_TRY(mcs_unet_plans_make(1, 2, SIDE, SIDE, 3, 8, 32, &p));
    p.batch = BATCH;
    p.batch_dice = job->batch_dice;
    return mcs_unet_model_new(&p, 5 + (uint64_t)rank * (job->run != NULL), d, m);
}

/* Runs only steps of the trainer. */
static enum mcs_status step_unet(const struct job *job, struct comm *c, struct device *d, int rank)
{
    struct unet_cases cases;
    struct unet_model m;
    struct unet_trainer t;
    double norm;
    const struct unet_train_options o = unet_options(job, c);
    make_cases(&cases);
    MCS_TRY(make_unet(job, d, rank, &m));
    enum mcs_status st = mcs_unet_trainer_open(&t, &m, &cases, &o);
    for (int i = 0; st == MCS_OK && i < job->steps; i++) {
        double loss;
        st = mcs_unet_trainer_step(&t, i, &loss, &norm);
        if (rank == 0) job->out->loss[i] = loss;
    }
    if (st == MCS_OK) st = keep(job->out, m.params, rank);
    mcs_unet_trainer_close(&t);
    mcs_unet_model_close(&m);
    mcs_unet_cases_free(&cases);
    return st;
}

static enum mcs_status train_unet(const struct job *job, struct comm *c, struct device *d, int rank)
{
    struct unet_cases cases;
    struct unet_model m;
    const struct unet_train_options o = unet_options(job, c);
    make_cases(&cases);
    MCS_TRY(make_unet(job, d, rank, &m));
    enum mcs_status st = mcs_unet_train(&m, &cases, &o);
    if (st == MCS_OK) st = keep(job->out, m.params, rank);
    if (st == MCS_OK) st = mcs_weights_sha256(m.params, job->out->hash[rank]);
    mcs_unet_model_close(&m);
    mcs_unet_cases_free(&cases);
    return st;
}

/* ---- SAM ---- */

/* A bright rectangle; item `index` of the whole batch. */
static enum mcs_status draw(void *ctx, uint64_t seed, uint32_t step, uint32_t index, struct sam_train_sample *s)
{
    const struct job *job = ctx;
    const uint32_t k = step * 7 + index * 3 + (uint32_t)seed;
    const int x = 2 + (int)(k % 14), y = 3 + (int)(k * 5 % 13), w = 8 + (int)(k % 5), h = 9 + (int)(k % 4);
    memset(s->image, 60, SIDE * SIDE);
    memset(s->mask, 0, SIDE * SIDE);
    for (int r = y; r < y + h; r++) {
        memset(s->image + r * SIDE + x, 200, (size_t)w);
        memset(s->mask + r * SIDE + x, 1, (size_t)w);
    }
    s->n = 1;
    memcpy(s->box[0], (int[]){x, y, x + w - 1, y + h - 1}, sizeof s->box[0]);
    if (job->stop_after && (int)step + 1 == job->stop_after && index >= BATCH / 2) mcs_stop_request();
    return MCS_OK;
}

static enum mcs_status train_sam(const struct job *job, struct comm *c, struct device *d, int rank)
{
    struct sam_model m;
    const struct sam_config config = tiny_sam_config();
    struct sam_train_options o = mcs_sam_train_defaults();
    o.steps = job->steps, o.warmup = 2, o.images = BATCH, o.boxes = 2, o.seed = 5;
    o.run = job->run, o.config = "a: 1\n", o.comm = c;
    MCS_TRY(mcs_sam_model_new(&config, 3 + (uint64_t)rank, d, &m));
    enum mcs_status st = mcs_sam_train(&m, &o, &(struct sam_train_source){draw, (void *)job});
    if (st == MCS_OK) st = keep(job->out, m.params, rank);
    if (st == MCS_OK) st = mcs_weights_sha256(m.params, job->out->hash[rank]);
    mcs_sam_model_close(&m);
    return st;
}

/* The values of the first log line: loss, loss_multimask, iou, gradient_norm. */
static void sam_line(const char *run, double value[4])
{
    char *text;
    int64_t n;
    OK(mcs_file_read(tiny_path(run, "metrics.jsonl"), 1 << 20, &text, &n));
    cr_assert_eq(sscanf(text,
                        "{\"step\": 1, \"loss\": %lf, \"loss_multimask\": %lf, \"iou\": %lf, \"lr\": %*f, "
                        "\"gradient_norm\": %lf}",
                        value, value + 1, value + 2, value + 3),
                 4, "%s", text);
    free(text);
}

/* ---- gradients ---- */

static struct outcome run(struct job job, int ranks)
{
    struct outcome out = {0};
    job.out = &out;
    OK(mcs_ranks_run(ranks, run_rank, &job));
    for (int r = 1; r < ranks; r++) {
        cr_expect_eq(memcmp(out.grad[0], out.grad[r], (size_t)out.n * sizeof(float)), 0, "gradients of ranks 0 and %d",
                     r);
        cr_expect_eq(memcmp(out.weights[0], out.weights[r], (size_t)out.n * sizeof(float)), 0,
                     "weights of ranks 0 and %d", r);
    }
    return out;
}

static void same_gradient(const char *what, struct job job)
{
    struct outcome one = run(job, 1);
    for (int ranks = 2; ranks <= 4; ranks += 2) {
        char path[200];
        if (job.run) job.run = tiny_path(folder, "%s_%d", what, ranks), snprintf(path, sizeof path, "%s", job.run);
        struct outcome many = run(job, ranks);
        const double off = gradient_error(one.grad[0], many.grad[0], one.n);
        if (getenv("MCS_SHOW")) fprintf(stderr, "%s, %d ranks: %g of the bound\n", what, ranks, off);
        cr_expect_leq(off, 1, "%s, %d ranks: the gradient differs by %g times what rounding explains", what, ranks,
                      off);
        for (int i = 0; i < job.steps && one.loss[0] != 0; i++) /* sums in double of sums in float */
            cr_expect_float_eq(one.loss[i], many.loss[i], 1e-5 * fabs(one.loss[i]), "%s, step %d: loss %g, then %g",
                               what, i, one.loss[i], many.loss[i]);
        forget(&many);
    }
    forget(&one);
}

Test(dist_train, clip_gradient_is_that_of_one_device)
{
    same_gradient("dhnnce",
                  (struct job){.body = train_clip, .loss = dhnnce, .steps = 1, .run = tiny_path(folder, "d")});
    same_gradient("infonce",
                  (struct job){.body = train_clip, .loss = infonce, .steps = 1, .run = tiny_path(folder, "i")});
}

Test(dist_train, unet_gradient_is_that_of_one_device)
{
    same_gradient("batch dice", (struct job){.body = step_unet, .batch_dice = 1, .steps = 1});
    same_gradient("dice by sample", (struct job){.body = step_unet, .steps = 1});
}

/* The log line has losses and IoU of the whole batch too. */
Test(dist_train, sam_gradient_is_that_of_one_device)
{
    double one[4], many[4];
    same_gradient("sam", (struct job){.body = train_sam, .steps = 1, .run = tiny_path(folder, "sam")});
    sam_line(tiny_path(folder, "sam"), one);
    for (int ranks = 2; ranks <= 4; ranks += 2) {
        sam_line(tiny_path(folder, "sam_%d", ranks), many);
        for (int i = 0; i < 4; i++)
            cr_expect_float_eq(many[i], one[i], 1e-5 * fabs(one[i]), "%d ranks, value %d: %g, one rank %g", ranks, i,
                               many[i], one[i]);
    }
}

/* The bound above must detect a loss that each rank computes on its share of the batch only. */
Test(dist_train, the_bound_sees_a_loss_over_parts)
{
    struct job job = {.body = train_clip, .loss = infonce, .steps = 1, .run = tiny_path(folder, "whole")};
    struct outcome whole = run(job, 1), part = {0};
    job.run = tiny_path(folder, "part");
    job.out = &part;
    struct device d;
    OK(test_device_open(0, &d));
    struct clip_model m;
    const struct clip_config config = tiny_clip_config();
    const struct clip_train_options o = {.batch = BATCH / 2,
                                         .steps = 1,
                                         .lr = 1e-3,
                                         .weight_decay = 0.1,
                                         .clip_norm = 1,
                                         .loss = infonce,
                                         .seed = 3,
                                         .run = job.run,
                                         .config = "a: 1\n"};
    OK(mcs_clip_model_new(&config, MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt", 11, &d, NULL, &m));
    OK(mcs_clip_train(&m, &o, &(struct clip_source){fill_pairs, &job}, NULL));
    OK(keep(&part, m.params, 0));
    cr_expect_gt(gradient_error(whole.grad[0], part.grad[0], whole.n), 100);
    mcs_clip_model_close(&m);
    mcs_device_close(&d);
    forget(&whole);
    forget(&part);
}

/* ---- whole trainings ---- */

/* Two runs, one of them stopped and resumed, are bit-identical. */
static void same_bits(struct job job, const char *name)
{
    struct outcome first, again;
    job.steps = STEPS;
    job.run = tiny_path(folder, "%s_a", name);
    first = run(job, 2);
    job.run = tiny_path(folder, "%s_b", name);
    job.stop_after = 3;
    struct outcome none = {0};
    job.out = &none;
    if (job.body == train_unet) mcs_stop_request(); /* after the first step */
    cr_expect_eq(mcs_ranks_run(2, run_rank, &job), MCS_E_STOPPED, "%s", mcs_error_message());
    forget(&none);
    mcs_error_clear();
    mcs_stop_reset();
    job.stop_after = 0;
    again = run(job, 2);
    cr_expect_str_eq(first.hash[0], first.hash[1], "%s: ranks end with other weights", name);
    cr_expect_str_eq(first.hash[0], again.hash[0], "%s: stopped and resumed to other weights", name);
    cr_expect(tiny_same(tiny_path(folder, "%s_a", name), tiny_path(folder, "%s_b", name)));
    forget(&first);
    forget(&again);
}

Test(dist_train, clip_resumes_to_the_same_bits)
{
    same_bits((struct job){.body = train_clip, .loss = dhnnce}, "clip");
}

#ifndef TEST_CUDASIM /* the tests above run the same device code */
Test(dist_train, unet_resumes_to_the_same_bits)
{
    same_bits((struct job){.body = train_unet, .batch_dice = 1}, "unet");
}

Test(dist_train, sam_resumes_to_the_same_bits)
{
    same_bits((struct job){.body = train_sam}, "sam");
}

Test(dist_train, a_loss_that_is_not_finite_ends_all_ranks)
{
    struct outcome out = {0};
    struct job job = {.body = train_clip,
                      .out = &out,
                      .loss = dhnnce,
                      .steps = STEPS,
                      .run = tiny_path(folder, "nan"),
                      .poison_rank = 1};
    cr_expect_eq(mcs_ranks_run(2, run_rank, &job), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "step 3: loss is not finite"), "%s", mcs_error_message());
}

Test(dist_train, a_batch_that_does_not_divide_is_an_error)
{
    struct outcome out = {0};
    struct job job = {.body = train_clip, .out = &out, .loss = dhnnce, .steps = 1, .run = tiny_path(folder, "odd")};
    cr_expect_eq(mcs_ranks_run(3, run_rank, &job), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "a batch of 8 does not divide into 3 ranks; take a multiple of 3"), "%s",
              mcs_error_message());
    mcs_error_clear();
    job.body = train_sam;
    cr_expect_eq(mcs_ranks_run(3, run_rank, &job), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "a batch of 8 does not divide into 3 ranks"), "%s", mcs_error_message());
}

#endif

/* Training steps of the U-Net against a plain implementation of nnU-Net's loss and torch's optimizers: three classes,
 * losses at two levels, batch Dice and sample Dice. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/model/layers.h"
#include "tests/support/support_ops.h"
#include "train/unet/unet_train.h"

enum { SIDE = 32, PIXELS = SIDE * SIDE, CLASSES = 3, BATCH = 4, CASES = 8, LEVELS = 2, STEPS = 4 };

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

/* ---- data and trainer ---- */

/* A bright disc of class 1 and a dark square of class 2 on noise. */
static void make_cases(struct unet_cases *c)
{
    uint8_t labels[PIXELS];
    struct image img;
    OK(mcs_image_alloc(&img, SIDE, SIDE, 1));
    mcs_unet_cases_init(c, 1, CLASSES);
    for (uint32_t k = 0; k < CASES; k++) {
        const struct mcs_rng r = {7, 1, k, 0};
        const double cy = mcs_rng_range(r, 0, 8, 14), cx = mcs_rng_range(r, 1, 8, 24);
        const int y0 = 18 + (int)mcs_rng_below(r, 2, 6), x0 = 2 + (int)mcs_rng_below(r, 3, 20);
        for (int i = 0; i < PIXELS; i++) {
            const int y = i / SIDE, x = i % SIDE;
            labels[i] = (y - cy) * (y - cy) + (x - cx) * (x - cx) < 25   ? 1
                        : y >= y0 && y < y0 + 7 && x >= x0 && x < x0 + 7 ? 2
                                                                         : 0;
            img.pixels[i] = (uint8_t)(100 + 60 * (labels[i] == 1) - 60 * (labels[i] == 2) +
                                      (int)mcs_rng_below(r, 10 + (uint32_t)i, 25));
        }
        OK(mcs_unet_cases_add_image(c, "two objects", &img, labels));
    }
    mcs_image_free(&img);
}

struct bench {
    struct device cpu;
    struct unet_cases cases;
    struct unet_model m;
    struct unet_train_options o;
    struct unet_trainer t;
    struct unet_loader loader;
    struct graph *forward;
    struct exec *exec;
    struct tensor *image, *out[UNET_MAX_STAGES];
    float images[BATCH * PIXELS];
    int32_t labels[BATCH * PIXELS];
};

/* Four stages: outputs at three levels, with weights 2/3, 1/3 and 0. */
static struct bench *bench_open(const struct optim_options *optim, int batch_dice)
{
    struct bench *b = calloc(1, sizeof *b);
    struct unet_plans p;
    cr_assert(b);
    mcs_log_quiet(1);
    make_cases(&b->cases);
    OK(mcs_cpu_open(1, &b->cpu));
    OK(mcs_unet_plans_make(1, CLASSES, SIDE, SIDE, 4, 4, 16, &p));
    p.batch = BATCH;
    p.batch_dice = batch_dice;
    OK(mcs_unet_model_new(&p, 5, &b->cpu, &b->m));
    b->o = (struct unet_train_options){
        .cycle = {.epochs = 1, .iterations = 10, .cycles = 1, .checkpoints = 1, .late = 0.2, .lr = 0.01},
        .optim = *optim,
        .deep_supervision = 1,
        .foreground = 0.33,
        .augment = mcs_augment_nnunet(SIDE, SIDE),
        .seed = 3};
    OK(mcs_unet_trainer_open(&b->t, &b->m, &b->cases, &b->o));
    b->loader = (struct unet_loader){.cases = &b->cases,
                                     .augment = b->o.augment,
                                     .batch = BATCH,
                                     .height = SIDE,
                                     .width = SIDE,
                                     .foreground = 0.33,
                                     .seed = 3};
    OK(mcs_unet_loader_open(&b->loader));
    b->forward = mcs_graph_new(b->m.params, MCS_F32);
    b->image = mcs_input(b->forward, "image", MCS_F32, MCS_DIMS(BATCH, SIDE, SIDE, 1));
    const int n = mcs_unet(b->forward, b->image, &p.net, 1, b->out);
    cr_assert_eq(n, 3);
    for (int i = 0; i < n; i++) mcs_keep(b->out[i]);
    OK(mcs_exec_new(b->forward, &b->cpu, &b->exec));
    return b;
}

static void bench_close(struct bench *b)
{
    mcs_exec_free(b->exec);
    mcs_graph_free(b->forward);
    mcs_unet_loader_close(&b->loader);
    mcs_unet_trainer_close(&b->t);
    mcs_unet_model_close(&b->m);
    mcs_unet_cases_free(&b->cases);
    mcs_cpu_close(&b->cpu);
    free(b);
}

/* ---- plain loss ---- */

/* Mean cross-entropy minus the mean soft Dice of the foreground classes, over the batch or per sample: nnunetv2's
 * DC_and_CE_loss with weights 1 and 1, smooth 1e-5. logits (BATCH, n, CLASSES). */
static double dice_and_ce(const float *logits, const int32_t *labels, int n, int batch_dice)
{
    double ce = 0, dice = 0, both[BATCH][CLASSES] = {{0}}, predicted[BATCH][CLASSES] = {{0}},
           given[BATCH][CLASSES] = {{0}};
    for (int s = 0; s < BATCH; s++)
        for (int i = 0; i < n; i++) {
            const float *x = logits + (s * n + i) * CLASSES;
            const int label = labels[s * n + i], group = batch_dice ? 0 : s;
            double sum = 0;
            for (int c = 0; c < CLASSES; c++) sum += exp((double)x[c]);
            ce -= ((double)x[label] - log(sum)) / (BATCH * n);
            for (int c = 0; c < CLASSES; c++) {
                const double p = exp((double)x[c]) / sum;
                both[group][c] += label == c ? p : 0;
                predicted[group][c] += p;
                given[group][c] += label == c;
            }
        }
    const int groups = batch_dice ? 1 : BATCH;
    for (int g = 0; g < groups; g++)
        for (int c = 1; c < CLASSES; c++)
            dice += (2 * both[g][c] + 1e-5) / (predicted[g][c] + given[g][c] + 1e-5) / (groups * (CLASSES - 1));
    return ce - dice;
}

/* 2/3 of the loss at full resolution, 1/3 at half of it, where the target is every second label, the later of two
 * (nearest-exact: floor((i + .5) 2)). */
static double plain_loss(struct bench *b)
{
    static float full[BATCH * PIXELS * CLASSES], half[BATCH * PIXELS / 4 * CLASSES];
    int32_t small[BATCH * PIXELS / 4];
    OK(mcs_exec_set(b->exec, b->image, b->images));
    OK(mcs_exec_forward(b->exec));
    OK(mcs_exec_get(b->exec, b->out[0], full));
    OK(mcs_exec_get(b->exec, b->out[1], half));
    for (int i = 0; i < BATCH * PIXELS / 4; i++) {
        const int s = i / (PIXELS / 4), y = i / (SIDE / 2) % (SIDE / 2), x = i % (SIDE / 2);
        small[i] = b->labels[s * PIXELS + (2 * y + 1) * SIDE + 2 * x + 1];
    }
    const int by_batch = b->m.plans.batch_dice;
    return 2.0 / 3 * dice_and_ce(full, b->labels, PIXELS, by_batch) +
           1.0 / 3 * dice_and_ce(half, small, PIXELS / 4, by_batch);
}

/* ---- plain update ---- */

struct plain {
    double *w, *m, *v;
    int64_t n;
};

static struct plain plain_open(const struct params *p)
{
    struct plain s = {.n = p->n_values};
    s.w = calloc((size_t)(3 * s.n), sizeof *s.w);
    cr_assert(s.w);
    s.m = s.w + s.n;
    s.v = s.m + s.n;
    for (int64_t i = 0; i < s.n; i++) s.w[i] = (double)p->data[i];
    return s;
}

static int is_trained(const struct tensor *t)
{
    return strncmp(t->name, "decoder.seg_layers.0.", 21) != 0; /* its loss has weight 0 */
}

static double norm_of(const struct params *p)
{
    double sum = 0;
    for (int i = 0; i < p->n; i++)
        for (int64_t k = 0; is_trained(p->t[i]) && k < mcs_count(p->t[i]); k++) {
            const double g = (double)mcs_params_grad(p, p->t[i])[k];
            sum += g * g;
        }
    return sqrt(sum);
}

/* torch.optim.SGD(momentum .99, nesterov, weight_decay 3e-5) after clip_grad_norm_(clip). */
static void plain_sgd(struct plain *s, int64_t i, double g, double lr)
{
    const double e = g + 3e-5 * s->w[i];
    s->m[i] = 0.99 * s->m[i] + e;
    s->w[i] -= lr * (e + 0.99 * s->m[i]);
}

/* torch.optim.AdamW(betas (.9, .999), eps 1e-8, weight_decay .01). */
static void plain_adamw(struct plain *s, int64_t i, double g, double lr, int step)
{
    s->m[i] = 0.9 * s->m[i] + 0.1 * g;
    s->v[i] = 0.999 * s->v[i] + 0.001 * g * g;
    s->w[i] -= lr * 0.01 * s->w[i];
    s->w[i] -= lr * s->m[i] / (1 - pow(0.9, step + 1)) / (sqrt(s->v[i] / (1 - pow(0.999, step + 1))) + 1e-8);
}

/* Roundings of the optimizer: one of the weight per step, and about 8 per step of the moments, relative to the update.
 */
static void expect_updated(const struct params *p, const struct plain *s, double lr, int step)
{
    for (int i = 0; i < p->n; i++) {
        const int64_t first = p->t[i]->offset / (int64_t)sizeof(float);
        for (int64_t k = first; k < first + mcs_count(p->t[i]); k++) {
            const double bound = 0x1p-24 * (step + 1) * (2 * fabs(s->w[k]) + 8 * lr * (fabs(s->m[k]) + 1));
            cr_assert_float_eq(p->data[k], s->w[k], bound, "step %d: %s[%d] is %.9g, want %.9g", step, p->t[i]->name,
                               (int)(k - first), (double)p->data[k], s->w[k]);
        }
    }
}

/* Runs steps of the trainer and of the plain implementation; compares losses before and weights after each update. */
static void check_steps(const struct optim_options *optim, int batch_dice, double clip)
{
    struct optim_options chosen = *optim;
    if (clip > 0) chosen.clip_norm = (float)clip;
    struct bench *b = bench_open(&chosen, batch_dice);
    struct plain s = plain_open(b->m.params);
    cr_assert_eq(b->t.n_losses, LEVELS);
    for (int step = 0; step < STEPS; step++) {
        double loss, norm;
        /* nnU-Net's polynomial rate over the 10 steps of the one cycle */
        const double lr = 0.01 * pow(1 - step / 10.0, 0.9);
        support_loader_fill(&b->loader, step, b->images, b->labels);
        const double want = plain_loss(b);
        OK(mcs_unet_trainer_step(&b->t, step, &loss, &norm));
        /* sums of float32 probabilities of 1,000 pixels per sample: 40 roundings of values below 2 */
        cr_expect_float_eq(loss, want, 40 * 0x1p-23, "step %d: loss %.8g, want %.8g", step, loss, want);
        const double plain_norm = norm_of(b->m.params);
        cr_expect_float_eq(norm, plain_norm, 1e-6 * plain_norm);
        if (clip > 0) cr_assert_gt(norm, clip, "nothing was clipped");
        const double limit = clip > 0 ? clip : 12, scale = norm > limit ? limit / (norm + 1e-6) : 1;
        for (int i = 0; i < b->m.params->n; i++) {
            const struct tensor *t = b->m.params->t[i];
            const int64_t first = t->offset / (int64_t)sizeof(float);
            for (int64_t k = 0; is_trained(t) && k < mcs_count(t); k++) {
                const double g = scale * (double)mcs_params_grad(b->m.params, t)[k];
                if (optim->kind == OPTIM_SGD) plain_sgd(&s, first + k, g, lr);
                if (optim->kind == OPTIM_ADAMW) plain_adamw(&s, first + k, g, lr, step);
            }
        }
        expect_updated(b->m.params, &s, lr, step);
    }
    free(s.w);
    bench_close(b);
}

Test(unet_steps, nesterov_dice_by_batch)
{
    const struct optim_options sgd = mcs_unet_nnunet_sgd();
    check_steps(&sgd, 1, 0);
}

Test(unet_steps, nesterov_dice_by_sample_and_clipped)
{
    const struct optim_options sgd = mcs_unet_nnunet_sgd();
    check_steps(&sgd, 0, 0.05);
}

Test(unet_steps, adamw)
{
    const struct optim_options adamw = mcs_unet_adamw();
    check_steps(&adamw, 1, 0);
}

/* w = before + length * (the gradient over its norm). */
static void move_along_gradient(struct params *p, const float *before, double length, double norm)
{
    for (int i = 0; i < p->n; i++) {
        const int64_t first = p->t[i]->offset / (int64_t)sizeof(float);
        const float *g = mcs_params_grad(p, p->t[i]);
        for (int64_t k = 0; k < mcs_count(p->t[i]); k++)
            p->data[first + k] = before[first + k] + (float)(length / norm) * g[k];
    }
}

/* The gradient used by the update is the derivative of the whole weighted loss: the slope along the gradient, by a
 * central difference, is its norm. Leaky ReLUs that change sign within the difference cause a relative error
 * proportional to h: 1 % at h = .01, so 0.25 % here; rounding of the loss adds 1e-7 / h. */
Test(unet_steps, the_gradient_is_that_of_both_losses)
{
    const double h = 0.0025;
    const struct optim_options sgd = mcs_unet_nnunet_sgd();
    for (int batch_dice = 0; batch_dice < 2; batch_dice++) {
        struct bench *b = bench_open(&sgd, batch_dice);
        struct params *p = b->m.params;
        const size_t bytes = (size_t)p->n_values * sizeof(float);
        float *before = malloc(bytes);
        double loss;
        cr_assert(before);
        memcpy(before, p->data, bytes);
        support_loader_fill(&b->loader, 0, b->images, b->labels);
        OK(mcs_unet_trainer_step(&b->t, 0, &loss, NULL));
        const double norm = norm_of(p);
        move_along_gradient(p, before, h, norm);
        const double above = plain_loss(b);
        move_along_gradient(p, before, -h, norm);
        const double slope = (above - plain_loss(b)) / (2 * h);
        cr_expect_float_eq(slope, norm, 0.005 * norm, "slope %g, norm %g", slope, norm);
        free(before);
        bench_close(b);
    }
}

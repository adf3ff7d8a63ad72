#include "train/sam/sam_train.h"

#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/base/stop.h"
#include "engine/model/layers.h"
#include "engine/optim.h"
#include "engine/tape/grad.h"
#include "train/run/checkpoint.h"
#include "train/run/run_log.h"
#include "train/run/schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LOG_EVERY = 10, N_MULTI = SAM_MASKS - 1 };

struct trainer {
    struct sam_model *model;
    const struct sam_train_options *o;
    struct optim *optim;
    struct graph *graph;
    struct exec *exec;
    int64_t n, pixels, low; /* masks per step, S*S, side*side */
    struct tensor *image, *image_of;
    struct sam_prompt prompt;
    struct sam_output out;
    struct tensor *target, *target_low, *weight, *weight_multi, *iou_target; /* inputs */
    struct tensor *single_iou;                                               /* (n), IoU of mask 0 at S x S */
    struct tensor *loss, *loss_multi, *loss_iou;
    /* Host buffers: a step's inputs, and the outputs read between forward and backward. */
    struct sam_train_sample *samples;
    float *image_host, *coords, *target_host, *low_host, *weight_host, *masks_host, *iou_host, *single_host;
    int32_t *label_host; /* 3 arrays of n*2: label, kind, image_of */
    double *mask_loss;   /* (n,SAM_MASKS) */
    uint8_t *bytes;
};

struct sam_train_options mcs_sam_train_defaults(void)
{
    return (struct sam_train_options){.steps = 1000,
                                      .warmup = 50,
                                      .checkpoint_every = 200,
                                      .images = 10,
                                      .boxes = 4,
                                      .lr = 1e-3,
                                      .weight_decay = 0.01,
                                      .clip_norm = 1,
                                      .n_jitters = 5,
                                      .jitter = {0, 0.2, 0.4, 0.6, 0.8},
                                      .scale = 0.3,
                                      .flip = 0.5,
                                      .invert = 0.2,
                                      .focal = 0,
                                      .bce = 2,
                                      .dice = 1,
                                      .focal_alpha = -1,
                                      .multimask = 0.2f,
                                      .iou = 0.1f};
}

static enum mcs_status check_options(const struct sam_train_options *o)
{
    MCS_REQUIRE(o->steps >= 1 && o->images >= 1 && o->boxes >= 1 && (int64_t)o->images * o->boxes <= 1 << 16,
                MCS_E_USAGE, "%lld steps of %d images with %d boxes: each must be at least 1, 65536 boxes at most",
                (long long)o->steps, o->images, o->boxes);
    MCS_REQUIRE(o->lr > 0 && o->weight_decay >= 0 && o->clip_norm >= 0 && o->warmup >= 0, MCS_E_USAGE,
                "learning rate %g must be above 0; weight decay, clipping and warm-up not below", o->lr);
    MCS_REQUIRE(o->n_jitters >= 1 && o->n_jitters <= SAM_TRAIN_JITTERS && o->scale >= 0 && o->scale < 1, MCS_E_USAGE,
                "1 to %d jitters, and a scale in [0, 1), are wanted", SAM_TRAIN_JITTERS);
    return MCS_OK;
}

/* ---- the graph ---- */

static struct tensor *mask_loss(struct graph *g, const struct sam_train_options *o, const char *name,
                                struct tensor *logits, struct tensor *target, struct tensor *weight,
                                struct tensor **iou)
{
    const struct mask_loss_attr a = {
        .focal = o->focal, .dice = o->dice, .bce = o->bce, .focal_gamma = 2, .focal_alpha = o->focal_alpha};
    const struct step *s = mcs_record(g, OP_mask_loss, name, (struct tensor *[]){logits, target, weight}, &a);
    if (!s) return logits; /* mcs_graph_status has the error */
    if (iou) *iou = mcs_keep(s->out[1]);
    return mcs_keep(s->out[0]);
}

static enum mcs_status build(struct trainer *t)
{
    const struct sam_config *c = &t->model->config;
    const int64_t s = c->image_size, side = mcs_sam_side(c), n = t->n;
    struct graph *g = t->graph = mcs_graph_new(t->model->params, t->model->device->activations);
    g->run.seed = t->o->seed;
    t->image = mcs_input(g, "image", MCS_F32, MCS_DIMS(t->o->images, s, s, 3));
    t->image_of = mcs_input(g, "image_of", MCS_I32, MCS_DIMS(n));
    t->prompt = mcs_sam_prompt_inputs(g, c, n, 2, 0);
    t->out = mcs_sam_decode(g, mcs_sam_encode(g, t->image, c), t->image_of, &t->prompt, c);
    mcs_keep(t->out.masks);

    t->target = mcs_input(g, "target", MCS_F32, MCS_DIMS(n, s * s));
    t->target_low = mcs_input(g, "target_low", MCS_F32, MCS_DIMS(n * SAM_MASKS, side * side));
    t->weight = mcs_input(g, "weight", MCS_F32, MCS_DIMS(n));
    t->weight_multi = mcs_input(g, "weight_multi", MCS_F32, MCS_DIMS(n * SAM_MASKS));
    t->iou_target = mcs_input(g, "iou_target", MCS_F32, MCS_DIMS(n, SAM_MASKS));

    struct tensor *all = mcs_reshape(g, t->out.masks, MCS_DIMS(n * SAM_MASKS, side * side));
    struct tensor *single = mcs_reshape(g, mcs_rows_every(g, all, 0, SAM_MASKS, n), MCS_DIMS(n, side, side, 1));
    single = mcs_apply(g, OP_resize, "upscale", &single, &(struct resize_attr){s, s});
    t->loss =
        mask_loss(g, t->o, "loss", mcs_reshape(g, single, MCS_DIMS(n, s * s)), t->target, t->weight, &t->single_iou);
    /* All four masks against the target with weight 0 for all but the best, instead of gathering the best. */
    t->loss_multi = mask_loss(g, t->o, "loss_multi", all, t->target_low, t->weight_multi, NULL);
    t->loss_iou =
        mcs_keep(mcs_apply(g, OP_mse, "loss_iou", (struct tensor *[]){t->out.iou, t->iou_target, NULL}, NULL));
    MCS_TRY(mcs_graph_status(g));
    MCS_TRY(mcs_grad(g, (struct tensor *[]){t->loss, t->loss_multi, t->loss_iou}, 3));
    MCS_TRY(mcs_exec_new(g, t->model->device, &t->exec));
    return mcs_exec_set(t->exec, t->loss_iou->grad, &t->o->iou);
}

static enum mcs_status trainer_open(struct trainer *t)
{
    const size_t images = (size_t)t->o->images, n = (size_t)t->n, pixels = (size_t)t->pixels, low = (size_t)t->low;
    t->samples = calloc(images, sizeof *t->samples);
    t->bytes = malloc(images * pixels * (1 + SAM_TRAIN_TARGETS));
    t->image_host = malloc(images * pixels * 3 * sizeof(float));
    t->coords = malloc(n * 4 * sizeof(float));
    t->target_host = malloc(n * pixels * sizeof(float));
    t->low_host = malloc(n * SAM_MASKS * low * sizeof(float));
    t->masks_host = malloc(n * SAM_MASKS * low * sizeof(float));
    t->weight_host = malloc(n * SAM_MASKS * sizeof(float));
    t->iou_host = malloc(n * SAM_MASKS * sizeof(float));
    t->single_host = malloc(n * sizeof(float));
    t->label_host = malloc(n * 5 * sizeof(int32_t));
    t->mask_loss = malloc(n * SAM_MASKS * sizeof(double));
    MCS_REQUIRE(t->samples && t->bytes && t->image_host && t->coords && t->target_host && t->low_host &&
                    t->masks_host && t->weight_host && t->iou_host && t->single_host && t->label_host && t->mask_loss,
                MCS_E_NOMEM, "no memory for %d images with %d boxes; ask for fewer", t->o->images, t->o->boxes);
    for (size_t i = 0; i < images; i++) {
        t->samples[i].image = t->bytes + i * pixels * (1 + SAM_TRAIN_TARGETS);
        t->samples[i].mask = t->samples[i].image + pixels;
    }
    for (int64_t i = 0; i < t->n; i++) {
        int32_t *label = t->label_host + 2 * i, *kind = t->label_host + 2 * t->n + 2 * i;
        label[0] = 2, label[1] = 3;
        kind[0] = 3, kind[1] = 4;
        t->label_host[4 * t->n + i] = (int32_t)(i / t->o->boxes);
        t->weight_host[i] = 1.0f / (float)t->n;
    }
    MCS_TRY(build(t));
    MCS_TRY(mcs_exec_set(t->exec, t->prompt.label, t->label_host));
    MCS_TRY(mcs_exec_set(t->exec, t->prompt.kind, t->label_host + 2 * t->n));
    MCS_TRY(mcs_exec_set(t->exec, t->image_of, t->label_host + 4 * t->n));
    return mcs_exec_set(t->exec, t->weight, t->weight_host);
}

static void trainer_close(struct trainer *t)
{
    mcs_exec_free(t->exec);
    mcs_graph_free(t->graph);
    mcs_optim_free(t->optim);
    free(t->samples);
    free(t->bytes);
    free(t->image_host);
    free(t->coords);
    free(t->target_host);
    free(t->low_host);
    free(t->masks_host);
    free(t->weight_host);
    free(t->iou_host);
    free(t->single_host);
    free(t->label_host);
    free(t->mask_loss);
}

/* ---- a step's inputs ---- */

void mcs_sam_jitter_box(const int box[4], int size, double jitter, double scale, uint64_t seed, uint32_t step,
                        uint32_t index, double out[4])
{
    const struct mcs_rng r = {.seed = seed, .site = mcs_rng_site("sam.box"), .sample = index, .step = step};
    const double grow = mcs_rng_uniform(r, 0) < 0.5 ? 1 : 1 + mcs_rng_range(r, 1, -scale, scale);
    for (int k = 0; k < 2; k++) {
        const double side = box[2 + k] - box[k] + 1, middle = 0.5 * (box[2 + k] + box[k]);
        double lo = middle - 0.5 * grow * (side - 1) + mcs_rng_range(r, 2 + (uint32_t)k, -jitter, jitter) * side;
        double hi = middle + 0.5 * grow * (side - 1) + mcs_rng_range(r, 4 + (uint32_t)k, -jitter, jitter) * side;
        if (lo > hi) {
            const double swap = lo;
            lo = hi;
            hi = swap;
        }
        const double short_by = 2 - (hi - lo);
        if (short_by > 0) lo -= 0.5 * short_by, hi += 0.5 * short_by;
        lo = fmin(fmax(lo, 0), size - 3);
        hi = fmax(fmin(hi, size - 1), lo + 2);
        out[k] = lo;
        out[2 + k] = hi;
    }
}

static void mirror(uint8_t *a, int size, int maps)
{
    for (int64_t row = 0; row < (int64_t)maps * size; row++) {
        uint8_t *p = a + row * size;
        for (int x = 0; x < size / 2; x++) {
            const uint8_t v = p[x];
            p[x] = p[size - 1 - x];
            p[size - 1 - x] = v;
        }
    }
}

/* Random flip and inversion of grey values, in place. */
static void augment(const struct sam_train_options *o, struct sam_train_sample *s, int size, struct mcs_rng r)
{
    if (mcs_rng_uniform(r, 0) < o->flip) {
        mirror(s->image, size, 1);
        mirror(s->mask, size, s->n);
        for (int k = 0; k < s->n; k++) {
            const int x0 = s->box[k][0];
            s->box[k][0] = size - 1 - s->box[k][2];
            s->box[k][2] = size - 1 - x0;
        }
    }
    if (mcs_rng_uniform(r, 1) < o->invert)
        for (int i = 0; i < size * size; i++) s->image[i] = (uint8_t)(255 - s->image[i]);
}

/* Writes the target at image resolution, and SAM_MASKS copies at mask resolution (1 if at least half of the pixels are
 * 1). */
static void write_target(const uint8_t *mask, int size, int side, float *target, float *low)
{
    const int ratio = size / side;
    for (int i = 0; i < size * size; i++) target[i] = mask[i];
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            int sum = 0;
            for (int k = 0; k < ratio * ratio; k++) sum += mask[(y * ratio + k / ratio) * size + x * ratio + k % ratio];
            low[y * side + x] = 2 * sum >= ratio * ratio ? 1 : 0;
        }
    for (int m = 1; m < SAM_MASKS; m++) memcpy(low + m * side * side, low, (size_t)(side * side) * sizeof *low);
}

static enum mcs_status fill_image(struct trainer *t, const struct sam_train_source *source, uint32_t step, int i)
{
    const struct sam_train_options *o = t->o;
    const struct sam_config *c = &t->model->config;
    const int size = c->image_size, side = mcs_sam_side(c);
    const struct mcs_rng r = {.seed = o->seed, .site = mcs_rng_site("sam.train"), .sample = (uint32_t)i, .step = step};
    struct sam_train_sample *s = &t->samples[i];
    MCS_TRY(source->draw(source->context, o->seed, step, (uint32_t)i, s));
    MCS_REQUIRE(s->n >= 1 && s->n <= SAM_TRAIN_TARGETS, MCS_E_DATA, "step %u: a sample with %d targets", step, s->n);
    augment(o, s, size, r);
    struct sam_frame frame;
    const struct image img = {size, size, 1, s->image};
    MCS_TRY(mcs_sam_prepare(c, &img, t->image_host + (int64_t)i * t->pixels * 3, &frame));
    const uint32_t first = mcs_rng_below(r, 2, (uint32_t)s->n); /* random first target, if there are fewer boxes */
    for (int b = 0; b < o->boxes; b++) {
        const int64_t k = (int64_t)i * o->boxes + b;
        const int target = (int)((first + (uint32_t)b) % (uint32_t)s->n);
        const double jitter = o->jitter[mcs_rng_below(r, 8 + (uint32_t)b, (uint32_t)o->n_jitters)];
        double box[4];
        mcs_sam_jitter_box(s->box[target], size, jitter, o->scale, o->seed, step, (uint32_t)k, box);
        for (int j = 0; j < 4; j++) t->coords[4 * k + j] = ((float)box[j] + 0.5f) / (float)size;
        write_target(s->mask + (int64_t)target * t->pixels, size, side, t->target_host + k * t->pixels,
                     t->low_host + k * SAM_MASKS * t->low);
    }
    return MCS_OK;
}

static enum mcs_status fill(struct trainer *t, const struct sam_train_source *source, int64_t step)
{
    for (int i = 0; i < t->o->images; i++) MCS_TRY(fill_image(t, source, (uint32_t)step, i));
    MCS_TRY(mcs_exec_set(t->exec, t->image, t->image_host));
    MCS_TRY(mcs_exec_set(t->exec, t->prompt.coords, t->coords));
    MCS_TRY(mcs_exec_set(t->exec, t->target, t->target_host));
    return mcs_exec_set(t->exec, t->target_low, t->low_host);
}

/* ---- between forward and backward ---- */

/* One mask's loss by the formula of OP_mask_loss, and its IoU. */
static double host_loss(const struct sam_train_options *o, const float *x, const float *target, int64_t n, float *iou)
{
    double focal = 0, bce = 0, pg = 0, p = 0, g = 0, both = 0, any = 0;
    const double alpha1 = o->focal_alpha < 0 ? 1 : (double)o->focal_alpha, alpha0 = o->focal_alpha < 0 ? 1 : 1 - alpha1;
    for (int64_t i = 0; i < n; i++) {
        const int in = target[i] > 0.5f, over = x[i] > 0;
        const float e = expf(-fabsf(x[i])), q = over ? 1 / (1 + e) : e / (1 + e), wrong = in ? 1 - q : q;
        const float ce = log1pf(e) + (in ? fmaxf(-x[i], 0) : fmaxf(x[i], 0));
        focal += (in ? alpha1 : alpha0) * (double)(wrong * wrong * ce);
        bce += (double)ce;
        pg += in ? (double)q : 0;
        p += (double)q;
        g += in;
        both += in && over;
        any += in || over;
    }
    *iou = any > 0 ? (float)(both / any) : 1;
    return ((double)o->focal * focal + (double)o->bce * bce) / (double)n +
           (double)o->dice * (1 - (2 * pg + 1) / (p + g + 1));
}

/* Between forward and backward: selects the best multimask output by its loss (weight_multi) and sets the IoU targets.
 */
static enum mcs_status choose(struct trainer *t, double *best_loss)
{
    double sum = 0;
    MCS_TRY(mcs_exec_get(t->exec, t->out.masks, t->masks_host));
    MCS_TRY(mcs_exec_get(t->exec, t->single_iou, t->single_host));
    double *losses = t->mask_loss;
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < t->n * SAM_MASKS; k++)
        losses[k] = host_loss(t->o, t->masks_host + k * t->low, t->low_host + k * t->low, t->low, &t->iou_host[k]);
    for (int64_t i = 0; i < t->n; i++) {
        const double *l = losses + i * SAM_MASKS;
        int best = 1;
        for (int m = 2; m < SAM_MASKS; m++)
            if (l[m] < l[best]) best = m;
        for (int m = 0; m < SAM_MASKS; m++)
            t->weight_host[i * SAM_MASKS + m] = m == best ? t->o->multimask / (float)t->n : 0;
        t->iou_host[i * SAM_MASKS] = t->single_host[i]; /* at image resolution, not at low resolution */
        sum += l[best];
    }
    *best_loss = sum / (double)t->n;
    MCS_TRY(mcs_exec_set(t->exec, t->weight_multi, t->weight_host));
    return mcs_exec_set(t->exec, t->iou_target, t->iou_host);
}

/* ---- the loop ---- */

struct step_result {
    float loss;
    double multi, iou, lr, norm;
};

/* Runs the step whose inputs are set and its update; prefetches the next step's inputs meanwhile. *next: status of the
 * prefetch. */
static enum mcs_status one_step(struct trainer *t, const struct sam_train_source *source, int64_t step,
                                struct step_result *r, enum mcs_status *next)
{
    t->graph->run.step = (uint32_t)step;
    mcs_params_zero_grad(t->model->params);
    MCS_TRY(mcs_exec_forward(t->exec));
    MCS_TRY(choose(t, &r->multi));
    MCS_TRY(mcs_exec_backward(t->exec));
    r->lr = mcs_lr_cosine(step, t->o->lr, t->o->warmup, t->o->steps);
    MCS_TRY(mcs_optim_begin(t->optim, r->lr));
    *next = step + 1 < t->o->steps ? fill(t, source, step + 1) : MCS_OK;
    MCS_TRY(mcs_exec_get(t->exec, t->loss, &r->loss));
    r->iou = 0;
    for (int64_t i = 0; i < t->n; i++) r->iou += (double)t->single_host[i] / (double)t->n;
    MCS_REQUIRE(isfinite(r->loss) && isfinite(r->multi), MCS_E_DATA,
                "step %lld: %s is not finite; lower the learning rate", (long long)step + 1,
                isfinite(r->loss) ? t->loss_multi->name : t->loss->name);
    return mcs_optim_end(t->optim, &r->norm);
}

static enum mcs_status log_step(struct run_log *log, int64_t step, const struct step_result *r)
{
    mcs_run_log_begin(log, step + 1);
    mcs_run_log_value(log, "loss", (double)r->loss);
    mcs_run_log_value(log, "loss_multimask", r->multi);
    mcs_run_log_value(log, "iou", r->iou);
    mcs_run_log_value(log, "lr", r->lr);
    mcs_run_log_value(log, "gradient_norm", r->norm);
    return mcs_run_log_end(log);
}

/* Runs steps `step` to the end. *saved: steps done at the last checkpoint. */
static enum mcs_status loop(struct trainer *t, const struct sam_train_source *source, struct run_log *log,
                            const char *checkpoint, int64_t step, int64_t *saved)
{
    const struct sam_train_options *o = t->o;
    struct mcs_progress bar;
    double smooth = -1;
    mcs_progress_start(&bar, "train SAM", "step", o->steps);
    if (step < o->steps) MCS_TRY(fill(t, source, step));
    for (; step < o->steps; step++) {
        struct step_result r;
        enum mcs_status next;
        MCS_TRY(one_step(t, source, step, &r, &next));
        if (step % LOG_EVERY == 0 || step + 1 == o->steps) MCS_TRY(log_step(log, step, &r));
        smooth = smooth < 0 ? r.iou : 0.95 * smooth + 0.05 * r.iou;
        snprintf(bar.note, sizeof bar.note, "loss %.3f IoU %.3f", (double)r.loss, smooth);
        mcs_progress_set(&bar, step + 1);
        const int stop = mcs_stop_requested(), last = step + 1 == o->steps;
        if (stop || last || (o->checkpoint_every && (step + 1) % o->checkpoint_every == 0)) {
            MCS_TRY(mcs_run_log_sync(log));
            MCS_TRY(mcs_checkpoint_save(checkpoint, t->model->params, t->optim, step + 1, o->config));
            *saved = step + 1;
        }
        MCS_REQUIRE(!stop || last, MCS_E_STOPPED,
                    "stopped after step %lld; run the same command again to go on from %s", (long long)step + 1,
                    checkpoint);
        MCS_TRY(next);
    }
    mcs_progress_set(&bar, step);
    mcs_progress_end(&bar);
    return MCS_OK;
}

enum mcs_status mcs_sam_train(struct sam_model *m, const struct sam_train_options *o,
                              const struct sam_train_source *source)
{
    const struct sam_config *c = &m->config;
    struct trainer t = {.model = m,
                        .o = o,
                        .n = (int64_t)o->images * o->boxes,
                        .pixels = (int64_t)c->image_size * c->image_size,
                        .low = (int64_t)mcs_sam_side(c) * mcs_sam_side(c)};
    struct run_log log = {0};
    char checkpoint[1200];
    int64_t step = 0, saved;
    int resumed = 0;
    enum mcs_status st;
    MCS_TRY(check_options(o));
    MCS_REQUIRE(c->image_size % mcs_sam_side(c) == 0, MCS_E_USAGE, "a mask of %d does not divide an image of %d",
                mcs_sam_side(c), c->image_size);
    MCS_TRY(mcs_folder_make(o->run));
    MCS_TRY(mcs_params_alloc_grad(m->params));
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint.h5", o->run);
    MCS_TRY_GOTO(trainer_open(&t), st, done);
    const struct optim_options adamw = {.kind = OPTIM_ADAMW,
                                        .beta1 = 0.9f,
                                        .beta2 = 0.999f,
                                        .eps = 1e-8f,
                                        .weight_decay = (float)o->weight_decay,
                                        .clip_norm = (float)o->clip_norm};
    MCS_TRY_GOTO(mcs_optim_new(m->params, &adamw, NULL, &t.optim), st, done);
    MCS_TRY_GOTO(mcs_checkpoint_load(checkpoint, m->params, t.optim, o->config, &step, &resumed), st, done);
    if (resumed) mcs_log("%s: resuming after step %lld", checkpoint, (long long)step);
    MCS_TRY_GOTO(mcs_run_log_open(&log, o->run, resumed ? step : -1), st, done);
    saved = step;
    st = loop(&t, source, &log, checkpoint, step, &saved);
    if (st != MCS_OK && st != MCS_E_STOPPED) mcs_checkpoint_error_add(st, checkpoint, saved);
done:
    mcs_run_log_close(&log);
    trainer_close(&t);
    return st;
}

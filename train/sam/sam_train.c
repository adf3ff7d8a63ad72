#include "train/sam/sam_train.h"

#include "engine/base/rng.h"
#include "engine/dist/data_parallel.h"
#include "engine/model/layers.h"
#include "engine/tape/grad.h"
#include "train/run/loop.h"
#include "train/run/process_group.h"
#include "train/run/schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct trainer {
    struct sam_model *model;
    const struct sam_train_options *o;
    const struct sam_train_source *source;
    struct optim *optim;
    struct graph *graph;
    struct exec *exec;
    struct data_parallel data_parallel;
    int first, images;   /* this rank's share of a step's images */
    int64_t n, n_all;    /* masks per step: this rank's, all ranks' */
    int64_t pixels, low; /* of an image, S*S, and of a low-resolution mask, side*side */
    struct tensor *image, *image_of;
    struct sam_prompt prompt;
    struct sam_output out;
    struct tensor *target, *target_low, *weight, *weight_multi, *iou_target; /* inputs */
    struct tensor *single_iou;                                               /* (n), IoU of mask 0 at S x S */
    struct tensor *loss, *loss_multi, *loss_iou;
    /* Host buffers: a step's inputs, and the outputs read between forward and backward. */
    struct sam_train_sample *samples;
    float *floats; /* the allocation of the next ones and of `gathered` */
    float *image_host, *coords, *target_host, *low_host, *weight_host, *masks_host, *iou_host, *single_host;
    int32_t *label_host; /* label (n,2), kind (n,2), image_of (n) */
    double *mask_loss;   /* (n,SAM_MASKS) */
    uint8_t *bytes;      /* the samples' images and masks */
    float *gathered;     /* (ranks,3) */
    double multi, iou;   /* of the last step, over all ranks: loss of the best multimask outputs, mean IoU of mask 0 */
    double smooth_iou;   /* moving average for the progress line; -1 before the first step */
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
    t->image = mcs_input(g, "image", MCS_F32, MCS_DIMS(t->images, s, s, 3));
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
    /* The masks' weights make the other losses means over all ranks; mse is the mean of this rank's masks. */
    const float weight_iou = t->o->iou / (float)mcs_comm_size(t->o->comm);
    MCS_TRY(mcs_exec_set(t->exec, t->loss_iou->grad, &weight_iou));
    mcs_data_parallel_begin(&t->data_parallel, t->o->comm, g);
    return mcs_data_parallel_attach(&t->data_parallel, t->exec, NULL, 0);
}

/* Compiles the graph, sets the inputs that are the same in all steps, and makes the optimizer. */
static enum mcs_status open_graph(struct trainer *t)
{
    const struct optim_options adamw = {.kind = OPTIM_ADAMW,
                                        .beta1 = 0.9f,
                                        .beta2 = 0.999f,
                                        .eps = 1e-8f,
                                        .weight_decay = (float)t->o->weight_decay,
                                        .clip_norm = (float)t->o->clip_norm};
    MCS_TRY(mcs_params_alloc_grad(t->model->params));
    MCS_TRY(build(t));
    MCS_TRY(mcs_exec_set(t->exec, t->prompt.label, t->label_host));
    MCS_TRY(mcs_exec_set(t->exec, t->prompt.kind, t->label_host + 2 * t->n));
    MCS_TRY(mcs_exec_set(t->exec, t->image_of, t->label_host + 4 * t->n));
    MCS_TRY(mcs_exec_set(t->exec, t->weight, t->weight_host));
    return mcs_optim_new(t->model->params, &adamw, NULL, &t->optim);
}

static enum mcs_status trainer_open(struct trainer *t)
{
    const size_t images = (size_t)t->images, n = (size_t)t->n, pixels = (size_t)t->pixels, low = (size_t)t->low,
                 ranks = (size_t)mcs_comm_size(t->o->comm);
    t->samples = calloc(images, sizeof *t->samples);
    t->bytes = malloc(images * pixels * (1 + SAM_TRAIN_TARGETS));
    t->label_host = malloc(n * 5 * sizeof(int32_t));
    t->mask_loss = malloc(n * SAM_MASKS * sizeof(double));
    /* the buffers set below, in their order */
    const size_t floats = images * pixels * 3 + n * (pixels + SAM_MASKS * (2 * low + 2) + 5) + 3 * ranks;
    t->floats = malloc(floats * sizeof(float));
    MCS_REQUIRE(t->samples && t->bytes && t->label_host && t->mask_loss && t->floats, MCS_E_NOMEM,
                "no memory for %d images with %d boxes; ask for fewer", t->images, t->o->boxes);
    t->image_host = t->floats;
    t->coords = t->image_host + images * pixels * 3;
    t->target_host = t->coords + n * 4;
    t->low_host = t->target_host + n * pixels;
    t->masks_host = t->low_host + n * SAM_MASKS * low;
    t->weight_host = t->masks_host + n * SAM_MASKS * low;
    t->iou_host = t->weight_host + n * SAM_MASKS;
    t->single_host = t->iou_host + n * SAM_MASKS;
    t->gathered = t->single_host + n;
    for (size_t i = 0; i < images; i++) {
        t->samples[i].image = t->bytes + i * pixels * (1 + SAM_TRAIN_TARGETS);
        t->samples[i].mask = t->samples[i].image + pixels;
    }
    for (int64_t i = 0; i < t->n; i++) {
        int32_t *label = t->label_host + 2 * i, *kind = t->label_host + 2 * t->n + 2 * i;
        label[0] = 2, label[1] = 3; /* corners of a box (struct sam_prompt) */
        kind[0] = 3, kind[1] = 4;   /* label + 1 */
        t->label_host[4 * t->n + i] = (int32_t)(i / t->o->boxes);
        t->weight_host[i] = 1.0f / (float)t->n_all;
    }
    return open_graph(t);
}

static void trainer_close(struct trainer *t)
{
    mcs_data_parallel_end(&t->data_parallel);
    mcs_exec_free(t->exec);
    mcs_graph_free(t->graph);
    mcs_optim_free(t->optim);
    free(t->samples);
    free(t->bytes);
    free(t->floats);
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

/* Image i of this rank's share. Random numbers are keyed by its index and the boxes' in the whole batch. */
static enum mcs_status fill_image(struct trainer *t, uint32_t step, int i)
{
    const struct sam_train_options *o = t->o;
    const struct sam_config *c = &t->model->config;
    const int size = c->image_size, side = mcs_sam_side(c);
    const uint32_t index = (uint32_t)(t->first + i);
    const struct mcs_rng r = {.seed = o->seed, .site = mcs_rng_site("sam.train"), .sample = index, .step = step};
    struct sam_train_sample *s = &t->samples[i];
    MCS_TRY(t->source->draw(t->source->context, o->seed, step, index, s));
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
        mcs_sam_jitter_box(s->box[target], size, jitter, o->scale, o->seed, step,
                           index * (uint32_t)o->boxes + (uint32_t)b, box);
        for (int j = 0; j < 4; j++) t->coords[4 * k + j] = ((float)box[j] + 0.5f) / (float)size;
        write_target(s->mask + (int64_t)target * t->pixels, size, side, t->target_host + k * t->pixels,
                     t->low_host + k * SAM_MASKS * t->low);
    }
    return MCS_OK;
}

static enum mcs_status set_batch(void *ctx, int64_t step)
{
    struct trainer *t = ctx;
    for (int i = 0; i < t->images; i++) MCS_TRY(fill_image(t, (uint32_t)step, i));
    MCS_TRY(mcs_comm_wait(t->o->comm)); /* the next calls may wait for the device, but not for ranks that have left */
    MCS_TRY(mcs_exec_set(t->exec, t->image, t->image_host));
    MCS_TRY(mcs_exec_set(t->exec, t->prompt.coords, t->coords));
    MCS_TRY(mcs_exec_set(t->exec, t->target, t->target_host));
    return mcs_exec_set(t->exec, t->target_low, t->low_host);
}

/* ---- between forward and backward ---- */

/* One mask's loss by the formula of OP_mask_loss, and its IoU. */
static double host_loss(const struct sam_train_options *o, const float *x, const float *target, int64_t n, float *iou)
{
    double focal = 0, bce = 0, both = 0, any = 0;
    double p = 0, g = 0, pg = 0; /* sums of probabilities, targets and their products, for Dice */
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

/* Selects the best multimask output by its loss (weight_multi) and sets the IoU targets. */
static enum mcs_status select_best_mask(struct trainer *t)
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
            t->weight_host[i * SAM_MASKS + m] = m == best ? t->o->multimask / (float)t->n_all : 0;
        t->iou_host[i * SAM_MASKS] = t->single_host[i]; /* at image resolution, not at low resolution */
        sum += l[best];
    }
    t->multi = sum / (double)t->n_all;
    MCS_TRY(mcs_exec_set(t->exec, t->weight_multi, t->weight_host));
    return mcs_exec_set(t->exec, t->iou_target, t->iou_host);
}

/* ---- the run ---- */

static enum mcs_status begin_step(void *ctx, struct training_step *s)
{
    struct trainer *t = ctx;
    t->graph->run.step = (uint32_t)s->step;
    s->lr = mcs_lr_cosine(s->step, t->o->lr, t->o->warmup, t->o->steps);
    mcs_params_zero_grad(t->model->params);
    MCS_TRY(mcs_exec_forward(t->exec));
    MCS_TRY(select_best_mask(t));
    MCS_TRY(mcs_exec_backward(t->exec));
    return mcs_optim_begin(t->optim, s->lr);
}

/* Adds loss, multi and iou, which are each rank's share of a mean over all masks, over the ranks. */
static enum mcs_status sum_over_ranks(struct trainer *t, double *loss)
{
    const int size = mcs_comm_size(t->o->comm);
    if (size == 1) return MCS_OK;
    const float own[3] = {(float)*loss, (float)t->multi, (float)t->iou};
    MCS_TRY(mcs_comm_values(t->o->comm, own, 3, t->gathered, "losses"));
    *loss = t->multi = t->iou = 0;
    for (int r = 0; r < size; r++) {
        *loss += (double)t->gathered[3 * r];
        t->multi += (double)t->gathered[3 * r + 1];
        t->iou += (double)t->gathered[3 * r + 2];
    }
    return MCS_OK;
}

/* If a loss is not finite, neither is the gradient norm, and the optimizer skipped the update. */
static enum mcs_status end_step(void *ctx, struct training_step *s)
{
    struct trainer *t = ctx;
    float loss;
    MCS_TRY(mcs_comm_wait(t->o->comm));
    MCS_TRY(mcs_exec_get(t->exec, t->loss, &loss));
    s->loss = (double)loss;
    t->iou = 0;
    for (int64_t i = 0; i < t->n; i++) t->iou += (double)t->single_host[i] / (double)t->n_all;
    MCS_TRY(sum_over_ranks(t, &s->loss));
    MCS_REQUIRE(isfinite(s->loss) && isfinite(t->multi), MCS_E_DATA,
                "step %lld: %s is not finite; lower the learning rate", (long long)s->step + 1,
                isfinite(s->loss) ? t->loss_multi->name : t->loss->name);
    t->smooth_iou = t->smooth_iou < 0 ? t->iou : 0.95 * t->smooth_iou + 0.05 * t->iou;
    snprintf(s->note, sizeof s->note, " IoU %.3f", t->smooth_iou);
    return mcs_optim_end(t->optim, &s->norm);
}

static enum mcs_status log_step(void *ctx, const struct training_step *s, struct run_log *log)
{
    const struct trainer *t = ctx;
    mcs_run_log_value(log, "loss", s->loss);
    mcs_run_log_value(log, "loss_multimask", t->multi);
    mcs_run_log_value(log, "iou", t->iou);
    mcs_run_log_value(log, "lr", s->lr);
    mcs_run_log_value(log, "gradient_norm", s->norm);
    return MCS_OK;
}

static const struct training_task task = {"train SAM", 10, NULL, set_batch, begin_step, end_step, log_step, NULL};

enum mcs_status mcs_sam_train(struct sam_model *m, const struct sam_train_options *o,
                              const struct sam_train_source *source)
{
    const struct sam_config *c = &m->config;
    const int size = mcs_comm_size(o->comm), images = o->images / size;
    struct trainer t = {.model = m,
                        .o = o,
                        .source = source,
                        .first = images * mcs_comm_rank(o->comm),
                        .images = images,
                        .n = (int64_t)images * o->boxes,
                        .n_all = (int64_t)o->images * o->boxes,
                        .pixels = (int64_t)c->image_size * c->image_size,
                        .low = (int64_t)mcs_sam_side(c) * mcs_sam_side(c),
                        .smooth_iou = -1};
    MCS_TRY(check_options(o));
    MCS_TRY(mcs_process_group_check_batch(size, o->images));
    MCS_REQUIRE(c->image_size % mcs_sam_side(c) == 0, MCS_E_USAGE,
                "image_size %d is not a multiple of the masks' side, %d", c->image_size, mcs_sam_side(c));
    enum mcs_status st = trainer_open(&t);
    if (st == MCS_OK)
        st = mcs_training_run(&(struct training){.task = &task,
                                                 .ctx = &t,
                                                 .steps = o->steps,
                                                 .checkpoint_every = o->checkpoint_every,
                                                 .run = o->run,
                                                 .config = o->config,
                                                 .optim = t.optim,
                                                 .comm = o->comm});
    trainer_close(&t);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

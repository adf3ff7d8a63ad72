#include "train/unet/unet_train.h"

#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/device_ops.h"
#include "engine/tape/grad.h"
#include "infer/weights.h"
#include "train/run/loop.h"
#include "train/run/process_group.h"

#include <math.h>
#include <stdlib.h>

struct optim_options mcs_unet_nnunet_sgd(void)
{
    return (struct optim_options){
        .kind = OPTIM_SGD, .momentum = 0.99f, .weight_decay = 3e-5f, .decay_all = 1, .clip_norm = 12};
}

struct optim_options mcs_unet_adamw(void)
{
    return (struct optim_options){.kind = OPTIM_ADAMW,
                                  .beta1 = 0.9f,
                                  .beta2 = 0.999f,
                                  .eps = 1e-8f,
                                  .weight_decay = 0.01f,
                                  .decay_all = 1,
                                  .clip_norm = 12};
}

/* ---- one step ---- */

static enum mcs_status record(struct unet_trainer *t)
{
    const struct unet_plans *p = &t->model->plans;
    const struct dice_ce_attr attr = {.batch_dice = p->batch_dice, .smooth = 1e-5f, .weight_ce = 1, .weight_dice = 1};
    struct tensor *out[UNET_MAX_STAGES];
    struct graph *g = t->graph = mcs_graph_new(t->model->params, t->model->device->activations);
    g->run.seed = t->o->seed;
    t->image =
        mcs_input(g, "image", MCS_F32, 4, (int64_t[]){t->loader.n, p->patch[0], p->patch[1], p->net.in_channels});
    const int n = mcs_unet(g, t->image, &p->net, t->o->deep_supervision, out);
    mcs_unet_deep_weights(n, t->weight);
    /* The lowest level's loss has weight 0: its head gets no loss and is frozen, which also excludes weight decay. */
    t->n_losses = t->weight[n - 1] > 0 ? n : n - 1;
    for (int s = 0; s < p->net.n_stages - 1 - t->n_losses; s++) { /* head 0 is the lowest level's */
        snprintf(t->frozen_name[s], sizeof t->frozen_name[s], "decoder.seg_layers.%d.", s);
        t->frozen[s] = t->frozen_name[s];
    }
    g->frozen = t->frozen;
    for (int i = 0; i < t->n_losses; i++) {
        const char *name = mcs_arena_printf(&g->arena, "loss_%d", i);
        MCS_TRY(mcs_graph_status(g));
        t->target[i] = mcs_input(g, mcs_arena_printf(&g->arena, "target_%d", i), MCS_I32, out[i]->nd - 1, out[i]->dim);
        t->loss[i] = mcs_keep(mcs_apply(g, OP_dice_ce, name, (struct tensor *[]){out[i], t->target[i]}, &attr));
    }
    MCS_TRY(mcs_graph_status(g));
    MCS_TRY(mcs_grad(g, t->loss, t->n_losses));
    MCS_TRY(mcs_exec_new(g, t->model->device, &t->exec));
    mcs_data_parallel_begin(&t->data_parallel, t->o->comm, g);
    for (int i = 0; i < t->n_losses; i++) {
        float weight = t->weight[i];
        MCS_TRY(mcs_data_parallel_dice(&t->data_parallel, t->loss[i], &weight));
        MCS_TRY(mcs_exec_set(t->exec, t->loss[i]->grad, &weight));
    }
    return mcs_data_parallel_attach(&t->data_parallel, t->exec, t->frozen, 0);
}

static enum mcs_status open_parts(struct unet_trainer *t, const struct unet_cases *cases)
{
    const struct unet_plans *p = &t->model->plans;
    const int size = mcs_comm_size(t->o->comm);
    const int64_t own = p->batch / size;
    MCS_TRY(mcs_process_group_check_batch(size, p->batch));
    MCS_REQUIRE(cases->channels == p->net.in_channels && cases->classes == p->net.classes, MCS_E_DATA,
                "the cases have %d channels and %d classes, the network %d and %d", cases->channels, cases->classes,
                p->net.in_channels, p->net.classes);
    t->loader = (struct unet_loader){.cases = cases,
                                     .augment = t->o->augment,
                                     .batch = (int)p->batch,
                                     .first = (int)own * mcs_comm_rank(t->o->comm),
                                     .n = (int)own,
                                     .height = (int)p->patch[0],
                                     .width = (int)p->patch[1],
                                     .foreground = t->o->foreground,
                                     .seed = t->o->seed};
    MCS_TRY(mcs_unet_loader_open(&t->loader));
    MCS_TRY(mcs_params_alloc_grad(t->model->params));
    MCS_TRY(record(t));
    return mcs_optim_new(t->model->params, &t->o->optim, t->frozen, &t->optim);
}

enum mcs_status mcs_unet_trainer_open(struct unet_trainer *t, struct unet_model *m, const struct unet_cases *cases,
                                      const struct unet_train_options *o)
{
    *t = (struct unet_trainer){.model = m, .o = o};
    const enum mcs_status st = open_parts(t, cases);
    if (st != MCS_OK) mcs_unet_trainer_close(t);
    return st;
}

void mcs_unet_trainer_close(struct unet_trainer *t)
{
    mcs_data_parallel_end(&t->data_parallel);
    mcs_exec_free(t->exec);
    mcs_graph_free(t->graph);
    mcs_optim_free(t->optim);
    mcs_unet_loader_close(&t->loader);
    *t = (struct unet_trainer){0};
}

static enum mcs_status set_batch(void *ctx, int64_t step)
{
    struct unet_trainer *t = ctx;
    const struct unet_loader *l = &t->loader;
    const struct augment_args a = {.n = l->n,
                                   .channels = l->cases->channels,
                                   .src_height = l->loader_size[0],
                                   .src_width = l->loader_size[1],
                                   .src = l->patches,
                                   .src_label = l->patch_labels,
                                   .draws = l->draws,
                                   .image = t->image,
                                   .n_labels = t->n_losses,
                                   .labels = t->target};
    const double started = mcs_seconds();
    mcs_unet_loader_load(l, step);
    MCS_TRY(mcs_comm_wait(t->o->comm)); /* the next call may wait for the device, but not for ranks that have left */
    MCS_TRY(t->model->device->backend->device_ops->augment(t->model->device, &a));
    t->fill_seconds += mcs_seconds() - started;
    return MCS_OK;
}

/* The weighted loss of the whole batch, over all ranks. */
static enum mcs_status weighted_loss(struct unet_trainer *t, int64_t step, double *loss)
{
    *loss = 0;
    for (int i = 0; i < t->n_losses; i++) {
        float own;
        double all;
        if (mcs_comm_size(t->o->comm) > 1) {
            MCS_TRY(mcs_data_parallel_dice_loss(&t->data_parallel, i, &all));
        } else {
            MCS_TRY(mcs_exec_get(t->exec, t->loss[i], &own));
            all = (double)own;
        }
        MCS_REQUIRE(isfinite(all), MCS_E_DATA,
                    "step %lld: %s is not finite; lower --lr, or look for images with impossible values",
                    (long long)step + 1, t->loss[i]->name);
        *loss += (double)t->weight[i] * all;
    }
    return MCS_OK;
}

static enum mcs_status begin_step(void *ctx, struct training_step *s)
{
    struct unet_trainer *t = ctx;
    const double started = mcs_seconds();
    t->graph->run.step = (uint32_t)s->step;
    s->lr = mcs_cycle_lr(&t->o->cycle, s->step);
    mcs_params_zero_grad(t->model->params);
    MCS_TRY(mcs_exec_run(t->exec));
    MCS_TRY(mcs_optim_begin(t->optim, s->lr));
    t->run_seconds += mcs_seconds() - started;
    return MCS_OK;
}

/* If the loss is not finite, neither is the gradient norm, and the optimizer skipped the update. */
static enum mcs_status end_step(void *ctx, struct training_step *s)
{
    struct unet_trainer *t = ctx;
    const double started = mcs_seconds();
    MCS_TRY(weighted_loss(t, s->step, &s->loss));
    MCS_TRY(mcs_optim_end(t->optim, &s->norm));
    t->run_seconds += mcs_seconds() - started;
    return MCS_OK;
}

enum mcs_status mcs_unet_trainer_step(struct unet_trainer *t, int64_t step, double *loss, double *norm)
{
    struct training_step s = {.step = step};
    MCS_TRY(set_batch(t, step));
    MCS_TRY(begin_step(t, &s));
    MCS_TRY(end_step(t, &s));
    *loss = s.loss;
    if (norm) *norm = s.norm;
    return MCS_OK;
}

/* ---- the run ---- */

/* If the cycle keeps a checkpoint after `done` steps: writes the weights and the list of all checkpoints so far. */
static enum mcs_status keep_checkpoints(void *ctx, int64_t done)
{
    const struct unet_trainer *t = ctx;
    struct cycle_checkpoint now[CYCLE_MAX_AT_ONCE];
    struct unet_checkpoint all[UNET_MAX_CHECKPOINTS];
    char path[MCS_PATH_BYTES];
    int n = 0;
    if (mcs_comm_rank(t->o->comm) != 0) return MCS_OK;
    const int n_now = mcs_cycle_checkpoints(&t->o->cycle, done, now);
    for (int i = 0; i < n_now; i++) {
        MCS_TRY(mcs_path(path, "%s/%s", t->o->run, now[i].file));
        MCS_TRY(mcs_weights_write(path, t->model->params, 0, NULL, "U-Net by mcsam " MCS_VERSION));
    }
    if (!n_now) return MCS_OK;
    for (int64_t step = 1; step <= done; step++) {
        const int found = mcs_cycle_checkpoints(&t->o->cycle, step, now);
        for (int i = 0; i < found; i++) {
            MCS_REQUIRE(n < UNET_MAX_CHECKPOINTS, MCS_E_USAGE, "a run keeps at most %d checkpoints",
                        UNET_MAX_CHECKPOINTS);
            all[n] = (struct unet_checkpoint){.cycle = now[i].cycle, .index = now[i].index, .step = now[i].step};
            snprintf(all[n++].file, sizeof all[0].file, "%s", now[i].file);
        }
    }
    return mcs_unet_checkpoints_write(t->o->run, all, n);
}

static enum mcs_status log_step(void *ctx, const struct training_step *s, struct run_log *log)
{
    const struct cycle_options *o = &((const struct unet_trainer *)ctx)->o->cycle;
    const int64_t length = o->epochs / o->cycles * o->iterations;
    mcs_run_log_value(log, "loss", s->loss);
    mcs_run_log_value(log, "lr", s->lr);
    mcs_run_log_value(log, "gradient_norm", s->norm);
    mcs_run_log_value(log, "cycle", (double)(s->step / length + 1));
    return MCS_OK;
}

static enum mcs_status write_plans(void *ctx)
{
    const struct unet_trainer *t = ctx;
    return mcs_unet_plans_write(t->o->run, &t->model->plans);
}

static const struct training_task task = {"train",    5,        write_plans, set_batch,
                                          begin_step, end_step, log_step,    keep_checkpoints};

enum mcs_status mcs_unet_train(struct unet_model *m, const struct unet_cases *cases, const struct unet_train_options *o)
{
    struct unet_trainer t = {0};
    MCS_TRY(mcs_cycle_check(&o->cycle));
    MCS_TRY(mcs_unet_trainer_open(&t, m, cases, o));
    struct training run = {.task = &task,
                           .ctx = &t,
                           .steps = o->cycle.epochs * o->cycle.iterations,
                           .checkpoint_every = o->checkpoint_every,
                           .run = o->run,
                           .config = o->config,
                           .optim = t.optim,
                           .comm = o->comm};
    const enum mcs_status st = mcs_training_run(&run);
    if (st == MCS_OK && run.step > run.first) {
        const double n = 1e-3 * (double)(run.step - run.first); /* converts to milliseconds per step */
        mcs_log("a step: batch %.1f ms, network and update %.1f ms", t.fill_seconds / n, t.run_seconds / n);
    }
    mcs_unet_trainer_close(&t);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

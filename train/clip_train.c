#include "train/clip_train.h"

#include "data/file.h"
#include "engine/dist/joint.h"
#include "engine/grad.h"
#include "engine/log.h"
#include "engine/model/layers.h"
#include "engine/optim.h"
#include "engine/stop.h"
#include "train/run_log.h"
#include "train/schedule.h"
#include "train/state.h"
#include "train/team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BUCKET = 256, MAX_PLANS = 8, LOG_EVERY = 5 };

/* The training graph for one number of token rows. */
struct train_plan {
    struct graph *graph;
    struct exec *exec;
    struct joint joint;
    struct tensor *images, *image_out, *text_out; /* the embeddings of all ranks */
    struct clip_text text;
    struct tensor *loss[1 + CLIP_MAX_EXTRA];
    const char *loss_name[1 + CLIP_MAX_EXTRA];
    int n_losses;
};

struct trainer {
    struct clip_model *model;
    const struct clip_train_options *o;
    const struct clip_extra *extra;
    struct optim *optim;
    struct train_plan plan[MAX_PLANS];
    int n_plans;
    struct clip_batch batch;
    int32_t *ids, *position, *key, *offset;
    float *image_host, *text_host;
    const char **alone; /* parameters whose gradient is not summed over ranks */
};

/* Of one rank. */
static int64_t own_batch(const struct clip_train_options *o)
{
    return o->batch / mcs_comm_size(o->comm);
}

static enum mcs_status make_plan(struct trainer *t, int64_t rows, int *index)
{
    const struct clip_config *c = &t->model->config;
    const int64_t batch = own_batch(t->o), s = c->image_size;
    for (int i = 0; i < t->n_plans; i++)
        if (t->plan[i].text.ids->dim[0] == rows) {
            *index = i;
            return MCS_OK;
        }
    MCS_REQUIRE(t->n_plans < MAX_PLANS, MCS_E_FAIL, "captions vary too much in length: more than %d plans", MAX_PLANS);
    struct train_plan *p = &t->plan[t->n_plans];
    float weight[1 + CLIP_MAX_EXTRA] = {1};
    struct graph *g = p->graph = mcs_graph_new(t->model->params);
    g->frozen = t->o->frozen;
    g->run.seed = t->o->seed;
    p->images = mcs_input(g, "image", MCS_F32, MCS_DIMS(batch, s, s, 3));
    p->text = mcs_clip_text_inputs(g, batch, rows);
    p->text.first = mcs_comm_rank(t->o->comm) * (int)batch;
    struct clip_nodes n;
    struct tensor *x = mcs_clip_embed_image(g, p->images, c);
    struct tensor *qkv[64] = {0};
    MCS_REQUIRE(c->v_depth <= 64, MCS_E_DATA, "%d blocks are more than this program plans for", c->v_depth);
    n.tokens = mcs_clip_blocks(g, x, c, 0, c->v_depth - 1, qkv);
    n.qkv[0] = c->v_depth > 1 ? qkv[c->v_depth - 2] : NULL;
    n.image_embedding = mcs_clip_finish(g, n.tokens, c, 0, &n.qkv[1]);
    mcs_joint_begin(&p->joint, t->o->comm, g);
    p->image_out = mcs_keep(mcs_joint_rows(&p->joint, mcs_l2norm(g, n.image_embedding)));
    p->text_out = mcs_keep(mcs_joint_rows(&p->joint, mcs_l2norm(g, mcs_clip_text(g, &p->text, c, 1))));
    struct tensor *scale = t->o->loss.inv_tau > 0 ? NULL : mcs_clip_logit_scale(g);
    p->loss[0] =
        mcs_apply(g, OP_contrastive, "loss", (struct tensor *[]){p->image_out, p->text_out, scale}, &t->o->loss);
    p->loss_name[0] = "loss";
    p->n_losses = 1;
    if (t->extra) p->n_losses += t->extra->build(t->extra->ctx, g, &n, p->loss + 1, weight + 1, p->loss_name + 1);
    MCS_TRY(mcs_graph_status(g));
    for (int i = 0; i < p->n_losses; i++) mcs_keep(p->loss[i]);
    MCS_TRY(mcs_grad(g, p->loss, p->n_losses));
    MCS_TRY(mcs_exec_new(g, t->model->device, &p->exec));
    MCS_TRY(mcs_joint_attach(&p->joint, p->exec, t->alone, 0));
    for (int i = 0; i < p->n_losses; i++) MCS_TRY(mcs_exec_set(p->exec, p->loss[i]->grad, &weight[i]));
    *index = t->n_plans++;
    return MCS_OK;
}

/* What is frozen, and the temperature: every rank computes the whole loss, so each has its whole gradient. */
static enum mcs_status set_alone(struct trainer *t)
{
    int n = 0;
    while (t->o->frozen && t->o->frozen[n]) n++;
    t->alone = calloc((size_t)n + 2, sizeof *t->alone);
    MCS_REQUIRE(t->alone, MCS_E_NOMEM, "no memory for %d names", n);
    for (int i = 0; i < n; i++) t->alone[i] = t->o->frozen[i];
    t->alone[n] = "logit_scale";
    return MCS_OK;
}

static enum mcs_status trainer_open(struct trainer *t)
{
    const struct clip_config *c = &t->model->config;
    const int64_t batch = own_batch(t->o), rows = batch * c->context + TEXT_BUCKET,
                  pixels = (int64_t)c->image_size * c->image_size * 3;
    const int size = mcs_comm_size(t->o->comm);
    MCS_REQUIRE(t->o->batch >= 2, MCS_E_USAGE,
                "a contrastive loss needs a batch of at least 2 pairs, got %lld; raise --batch",
                (long long)t->o->batch);
    MCS_TRY(mcs_team_check(size, t->o->batch));
    MCS_REQUIRE(size == 1 || !t->extra, MCS_E_FAIL, "further losses are known for one rank alone");
    MCS_TRY(set_alone(t));
    t->batch.images = malloc((size_t)(batch * pixels) * sizeof(float));
    t->batch.texts = calloc((size_t)batch, sizeof *t->batch.texts);
    t->batch.sample = calloc((size_t)batch, sizeof *t->batch.sample);
    t->ids = calloc((size_t)(3 * rows + batch + 1), sizeof *t->ids);
    t->image_host = malloc((size_t)(2 * t->o->batch * c->embed) * sizeof(float));
    MCS_REQUIRE(t->batch.images && t->batch.texts && t->batch.sample && t->ids && t->image_host, MCS_E_NOMEM,
                "no memory for a batch of %lld", (long long)batch);
    t->position = t->ids + rows;
    t->key = t->position + rows;
    t->offset = t->key + rows;
    t->text_host = t->image_host + t->o->batch * c->embed;
    t->batch.first = mcs_comm_rank(t->o->comm) * batch;
    t->batch.n = batch;
    return MCS_OK;
}

static void trainer_close(struct trainer *t)
{
    for (int i = 0; i < MAX_PLANS; i++) {
        mcs_joint_end(&t->plan[i].joint);
        mcs_exec_free(t->plan[i].exec);
        mcs_graph_free(t->plan[i].graph);
    }
    mcs_optim_free(t->optim);
    free(t->batch.images);
    free(t->batch.texts);
    free(t->batch.sample);
    free(t->ids);
    free(t->image_host);
    free(t->alone);
}

/* Fills a plan's inputs for `step`: while the device is still at the step before, which reads them in its own order.
 * The extra losses' parameters are named by the first plan, so the first
 * plan is made before the parameters get memory: see mcs_clip_train. */
static enum mcs_status set_batch(struct trainer *t, const struct clip_source *source, int64_t step, int *plan)
{
    int64_t rows;
    MCS_TRY(source->fill(source->ctx, step, &t->batch));
    MCS_TRY(mcs_clip_pack_texts(t->model, t->batch.texts, t->batch.sample, (int)t->batch.n, t->ids, t->position, t->key,
                                t->offset, &rows));
    const int64_t planned = (rows + TEXT_BUCKET - 1) / TEXT_BUCKET * TEXT_BUCKET;
    for (int64_t i = rows; i < planned; i++) t->ids[i] = -1, t->position[i] = 0, t->key[i] = 0;
    MCS_TRY(mcs_comm_wait(t->o->comm)); /* the next calls wait for the device, but not for ranks that have left */
    MCS_TRY(make_plan(t, planned, plan));
    struct train_plan *p = &t->plan[*plan];
    MCS_TRY(mcs_exec_set(p->exec, p->images, t->batch.images));
    MCS_TRY(mcs_exec_set(p->exec, p->text.ids, t->ids));
    MCS_TRY(mcs_exec_set(p->exec, p->text.position, t->position));
    MCS_TRY(mcs_exec_set(p->exec, p->text.key, t->key));
    MCS_TRY(mcs_exec_set(p->exec, p->text.offset, t->offset));
    return t->extra && t->extra->fill ? t->extra->fill(t->extra->ctx, *plan, p->exec) : MCS_OK;
}

/* The step whose inputs are set, and its update: enqueued, on a device that works on its own. */
static enum mcs_status begin_step(struct trainer *t, const struct train_plan *p, int64_t step, double lr)
{
    p->graph->run.step = (uint32_t)step;
    mcs_params_zero_grad(t->model->params);
    MCS_TRY(mcs_exec_run(p->exec));
    return mcs_optim_begin(t->optim, lr);
}

/* Waits for it. A loss that is not finite has a gradient that is not either, and then nothing was updated. */
static enum mcs_status end_step(struct trainer *t, const struct train_plan *p, int64_t step, float *loss, double *norm)
{
    MCS_TRY(mcs_comm_wait(t->o->comm));
    for (int i = 0; i < p->n_losses; i++) {
        MCS_TRY(mcs_exec_get(p->exec, p->loss[i], &loss[i]));
        MCS_REQUIRE(isfinite(loss[i]), MCS_E_DATA,
                    "step %lld: %s is not finite; lower --lr, or look at the images of this batch", (long long)step + 1,
                    p->loss_name[i]);
    }
    return mcs_optim_end(t->optim, norm);
}

/* open_clip clamps the learned log scale to [0, ln 100] after every step. */
static enum mcs_status clamp_scale(struct clip_model *m)
{
    const struct tensor *scale = mcs_params_find(m->params, "logit_scale");
    float v;
    MCS_TRY(m->device->backend->download(m->device, &v, scale->data, sizeof v));
    v = fminf(fmaxf(v, 0), logf(100));
    return m->device->backend->upload(m->device, scale->data, &v, sizeof v);
}

static enum mcs_status log_step(struct trainer *t, struct run_log *log, const struct train_plan *p, int64_t step,
                                double lr, double norm, const float *loss)
{
    mcs_run_log_begin(log, step + 1);
    for (int i = 0; i < p->n_losses; i++) mcs_run_log_value(log, p->loss_name[i], loss[i]);
    mcs_run_log_value(log, "lr", lr);
    mcs_run_log_value(log, "gradient_norm", norm);
    if (!(t->o->loss.inv_tau > 0)) {
        float scale;
        const struct tensor *s = mcs_params_find(t->model->params, "logit_scale");
        MCS_TRY(t->model->device->backend->download(t->model->device, &scale, s->data, sizeof scale));
        mcs_run_log_value(log, "temperature", exp(-(double)scale));
    }
    if (t->o->diagnose) {
        struct attraction paper, released;
        const double inv_tau = t->o->loss.inv_tau > 0 ? (double)t->o->loss.inv_tau : 1 / 0.6;
        MCS_TRY(mcs_exec_get(p->exec, p->image_out, t->image_host));
        MCS_TRY(mcs_exec_get(p->exec, p->text_out, t->text_host));
        mcs_clip_attracted(t->image_host, t->text_host, (int)t->o->batch, t->model->config.embed, inv_tau,
                           (double)t->o->loss.b_image, (double)t->o->loss.b_text, &paper, &released);
        mcs_run_log_value(log, "attracted_paper", paper.share);
        mcs_run_log_value(log, "attracted_release", released.share);
        mcs_run_log_value(log, "pull_paper", paper.pull);
        mcs_run_log_value(log, "pull_release", released.pull);
    }
    return mcs_run_log_end(log);
}

enum mcs_status mcs_clip_train(struct clip_model *m, const struct clip_train_options *o,
                               const struct clip_source *source, const struct clip_extra *extra)
{
    struct trainer t = {.model = m, .o = o, .extra = extra};
    struct run_log log = {0};
    struct mcs_progress bar;
    char checkpoint[1200];
    int64_t step = 0;
    int resumed = 0;
    enum mcs_status st = trainer_open(&t);
    if (st != MCS_OK) goto done;
    const int writes = mcs_comm_rank(o->comm) == 0;
    if (writes) MCS_TRY_GOTO(mcs_folder_make(o->run), st, done);
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint.h5", o->run);
    MCS_TRY_GOTO(mcs_params_alloc_grad(m->params), st, done);
    const struct optim_options adamw = {.kind = OPTIM_ADAMW,
                                        .beta1 = 0.9f,
                                        .beta2 = 0.98f,
                                        .eps = 1e-6f,
                                        .weight_decay = (float)o->weight_decay,
                                        .clip_norm = (float)o->clip_norm,
                                        .decay_all = 0};
    MCS_TRY_GOTO(mcs_optim_new(m->params, &adamw, o->frozen, &t.optim), st, done);
    if (writes) MCS_TRY_GOTO(mcs_state_load(checkpoint, m->params, t.optim, o->config, &step, &resumed), st, done);
    MCS_TRY_GOTO(mcs_team_start(o->comm, m->params, t.optim, &step), st, done);
    if (resumed) mcs_log("%s: going on after step %lld", checkpoint, (long long)step);
    if (writes) MCS_TRY_GOTO(mcs_run_log_open(&log, o->run, resumed ? step : -1), st, done);
    mcs_progress_start(&bar, "train CLIP", "step", o->steps);
    int plan = 0;
    int64_t saved = step;
    if (step < o->steps) MCS_TRY_GOTO(set_batch(&t, source, step, &plan), st, done);
    for (; step < o->steps; step++) {
        float loss[1 + CLIP_MAX_EXTRA];
        double norm;
        const double lr = mcs_lr_cosine(step, o->lr, o->warmup, o->steps);
        const struct train_plan *p = &t.plan[plan];
        MCS_TRY_GOTO(begin_step(&t, p, step, lr), st, failed);
        const enum mcs_status next = step + 1 < o->steps ? set_batch(&t, source, step + 1, &plan) : MCS_OK;
        MCS_TRY_GOTO(end_step(&t, p, step, loss, &norm), st, failed);
        if (!(o->loss.inv_tau > 0)) MCS_TRY_GOTO(clamp_scale(m), st, failed);
        if (writes && (step % LOG_EVERY == 0 || step + 1 == o->steps))
            MCS_TRY_GOTO(log_step(&t, &log, p, step, lr, norm, loss), st, done);
        snprintf(bar.note, sizeof bar.note, "loss %.3f", (double)loss[0]);
        mcs_progress_set(&bar, step + 1);
        int stop;
        MCS_TRY_GOTO(mcs_comm_most(o->comm, mcs_stop_requested(), &stop, "request to stop"), st, done);
        const int last = step + 1 == o->steps;
        if (stop || last || (o->checkpoint_every && (step + 1) % o->checkpoint_every == 0)) {
            if (writes) MCS_TRY_GOTO(mcs_state_save(checkpoint, m->params, t.optim, step + 1, o->config), st, done);
            saved = step + 1;
        }
        if (stop && !last) {
            st = MCS_FAIL(MCS_E_STOPPED, "stopped after step %lld; run the same command again to go on from %s",
                          (long long)step + 1, checkpoint);
            goto done;
        }
        MCS_TRY_GOTO(next, st, failed);
    }
    mcs_progress_set(&bar, step);
    mcs_progress_end(&bar);
failed:
    if (st != MCS_OK && !(o->comm && o->comm->broken)) mcs_state_tell(st, checkpoint, saved);
done:
    mcs_run_log_close(&log);
    trainer_close(&t);
    return st;
}

enum mcs_status mcs_clip_train_plan(struct clip_model *m, const struct clip_train_options *o, struct plan *plan)
{
    struct trainer t = {.model = m, .o = o};
    int index = 0;
    enum mcs_status st = mcs_params_alloc_grad(m->params);
    if (st == MCS_OK)
        st = make_plan(&t, (o->batch * m->config.context + TEXT_BUCKET - 1) / TEXT_BUCKET * TEXT_BUCKET, &index);
    if (st == MCS_OK) *plan = t.plan[index].exec->plan;
    trainer_close(&t);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

/* Negatives and the size of their gradient, in all and where it attracts. */
struct tally {
    double n, n_attracted, size, size_attracted;
};

static void count(struct tally *t, double gradient)
{
    t->n += 1;
    t->size += fabs(gradient);
    if (gradient >= 0) return;
    t->n_attracted += 1;
    t->size_attracted -= gradient;
}

static struct attraction attraction_of(const struct tally *t)
{
    return (struct attraction){t->n_attracted / t->n, t->size > 0 ? t->size_attracted / t->size : 0};
}

void mcs_clip_attracted(const float *image, const float *text, int batch, int width, double inv_tau, double beta_image,
                        double beta_text, struct attraction *paper, struct attraction *released)
{
    const size_t n = (size_t)batch;
    double *l = malloc((n * n + 6 * n) * sizeof *l);
    if (!l) abort();
    double *sum = l + n * n; /* six sums: rows and columns of exp((1+b)L), exp(bL), exp(L) */
    memset(sum, 0, 6 * n * sizeof *sum);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double dot = 0;
            for (int k = 0; k < width; k++)
                dot += (double)image[i * (size_t)width + (size_t)k] * text[j * (size_t)width + (size_t)k];
            const double v = l[i * n + j] = dot * inv_tau;
            if (i == j) continue;
            sum[i] += exp((1 + beta_image) * v), sum[n + i] += exp(beta_image * v), sum[2 * n + i] += exp(v);
            sum[3 * n + j] += exp((1 + beta_text) * v), sum[4 * n + j] += exp(beta_text * v), sum[5 * n + j] += exp(v);
        }
    struct tally by_paper = {0}, by_release = {0};
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            if (i == j) continue;
            const double v = l[i * n + j], b = (double)batch;
            const double dpaper = (1 + beta_image) * exp((1 + beta_image) * v) / sum[i] -
                                  beta_image * exp(beta_image * v) / sum[n + i] +
                                  (1 + beta_text) * exp((1 + beta_text) * v) / sum[3 * n + j] -
                                  beta_text * exp(beta_text * v) / sum[4 * n + j];
            const double drelease = (2 + beta_image + beta_text) / (b * b) - exp(v) / (b * (1 + sum[2 * n + i])) -
                                    exp(v) / (b * (1 + sum[5 * n + j]));
            count(&by_paper, dpaper);
            count(&by_release, drelease);
        }
    *paper = attraction_of(&by_paper);
    *released = attraction_of(&by_release);
    free(l);
}

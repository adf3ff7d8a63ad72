#include "train/clip/clip_train.h"

#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "engine/optim.h"
#include "engine/tape/grad.h"
#include "train/clip/clip_sessions.h"
#include "train/run/checkpoint.h"
#include "train/run/process_group.h"
#include "train/run/run_log.h"
#include "train/run/schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LOG_EVERY = 5 };

struct trainer {
    struct clip_model *model;
    const struct clip_train_options *o;
    const struct clip_extra *extra;
    struct optim *optim;
    struct clip_sessions sessions;
    struct clip_batch batch;
    int32_t *ids, *position, *key, *offset;
    float *image_host, *text_host;
    float *agreed;      /* (ranks,2), exchanged before each step by agree */
    const char **alone; /* parameters whose gradient is not summed over ranks */
};

/* Gradients that are not summed over ranks: those of frozen parameters, and of the temperature, since every rank
 * computes the whole loss and therefore its whole gradient. */
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
    const int64_t batch = mcs_clip_own_batch(t->o), rows = batch * c->context + CLIP_BUCKET_STEP,
                  pixels = (int64_t)c->image_size * c->image_size * 3;
    const int size = mcs_comm_size(t->o->comm);
    MCS_REQUIRE(t->o->batch >= 2, MCS_E_USAGE,
                "a contrastive loss needs a batch of at least 2 pairs, got %lld; raise --batch",
                (long long)t->o->batch);
    MCS_TRY(mcs_process_group_check_batch(size, t->o->batch));
    MCS_REQUIRE(size == 1 || !t->extra, MCS_E_FAIL, "auxiliary losses need a single rank; drop --gpus");
    MCS_TRY(set_alone(t));
    t->batch.images = malloc((size_t)(batch * pixels) * sizeof(float));
    t->batch.texts = calloc((size_t)batch, sizeof *t->batch.texts);
    t->batch.sample = calloc((size_t)batch, sizeof *t->batch.sample);
    t->ids = calloc((size_t)(3 * rows + batch + 1), sizeof *t->ids);
    t->image_host = malloc((size_t)(2 * t->o->batch * c->embed) * sizeof(float));
    t->agreed = malloc(2 * (size_t)size * sizeof *t->agreed);
    MCS_REQUIRE(t->batch.images && t->batch.texts && t->batch.sample && t->ids && t->image_host && t->agreed,
                MCS_E_NOMEM, "no memory for a batch of %lld", (long long)batch);
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
    mcs_clip_sessions_free(&t->sessions);
    mcs_optim_free(t->optim);
    free(t->batch.images);
    free(t->batch.texts);
    free(t->batch.sample);
    free(t->ids);
    free(t->image_host);
    free(t->agreed);
    free(t->alone);
}

/* Fills the host buffers with this rank's share of the batch of `step`; *session: the smallest that holds it. */
static enum mcs_status fill_host(struct trainer *t, const struct clip_source *source, int64_t step, int *session)
{
    int64_t rows;
    MCS_TRY(source->fill(source->ctx, step, &t->batch));
    MCS_TRY(mcs_clip_pack_texts(t->model, t->batch.texts, t->batch.sample, (int)t->batch.n, t->ids, t->position, t->key,
                                t->offset, &rows));
    *session = mcs_clip_sessions_find(&t->sessions, rows);
    MCS_REQUIRE(*session >= 0, MCS_E_FAIL, "step %lld: %lld caption tokens, at most %lld were announced",
                (long long)step + 1, (long long)rows, (long long)t->sessions.rows[t->sessions.n - 1]);
    return MCS_OK;
}

/* Exchanges session and stop request: all ranks run the largest session that any of them needs, since NCCL requires all
 * ranks to capture and replay its collectives in the same steps; *stop is set if any rank is asked to stop. */
static enum mcs_status agree(struct trainer *t, int *session, int *stop)
{
    const float mine[2] = {(float)*session, (float)mcs_stop_requested()};
    MCS_TRY(mcs_comm_values(t->o->comm, mine, 2, t->agreed, "size of the next batch"));
    for (int r = 0; r < mcs_comm_size(t->o->comm); r++) {
        if (t->agreed[2 * r] > (float)*session) *session = (int)t->agreed[2 * r];
        if (t->agreed[2 * r + 1] > 0) *stop = 1;
    }
    return MCS_OK;
}

/* Prefetches the inputs of `step` into *session while the device runs the step before; stream order protects that
 * step's inputs. A rank that cannot fill its batch (an unreadable image) still takes part in the exchange, and fails
 * after the other ranks have finished their step. */
static enum mcs_status set_batch(struct trainer *t, const struct clip_source *source, int64_t step, int *session,
                                 int *stop)
{
    int next = 0;
    const enum mcs_status filled = fill_host(t, source, step, &next);
    MCS_TRY(mcs_comm_wait(t->o->comm)); /* reports ranks that have left; the following calls only wait for the device */
    MCS_TRY(agree(t, &next, stop));
    MCS_TRY(filled);
    const struct clip_train_session *p = &t->sessions.session[next];
    for (int64_t i = t->offset[t->batch.n]; i < t->sessions.rows[next]; i++)
        t->ids[i] = -1, t->position[i] = 0, t->key[i] = 0; /* padding */
    MCS_TRY(mcs_exec_set(p->exec, p->images, t->batch.images));
    MCS_TRY(mcs_exec_set(p->exec, p->text.ids, t->ids));
    MCS_TRY(mcs_exec_set(p->exec, p->text.position, t->position));
    MCS_TRY(mcs_exec_set(p->exec, p->text.key, t->key));
    MCS_TRY(mcs_exec_set(p->exec, p->text.offset, t->offset));
    *session = next;
    return t->extra && t->extra->fill ? t->extra->fill(t->extra->ctx, next, p->exec) : MCS_OK;
}

/* Enqueues the step whose inputs are set and its update; on an asynchronous device it does not wait. */
static enum mcs_status begin_step(struct trainer *t, const struct clip_train_session *p, int64_t step, double lr)
{
    p->graph->run.step = (uint32_t)step;
    mcs_params_zero_grad(t->model->params);
    MCS_TRY(mcs_exec_run(p->exec));
    return mcs_optim_begin(t->optim, lr);
}

/* Waits for the step. If the loss is not finite, neither is the gradient norm, and the optimizer skipped the update. */
static enum mcs_status end_step(struct trainer *t, const struct clip_train_session *p, int64_t step, float *loss,
                                double *norm)
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

static enum mcs_status log_step(struct trainer *t, struct run_log *log, const struct clip_train_session *p,
                                int64_t step, double lr, double norm, const float *loss)
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

/* Progress of a run. */
struct position {
    int64_t step, saved; /* steps done; steps done at the last checkpoint */
    char checkpoint[1200];
    struct run_log log;
    int writes; /* this rank reads and writes the run's folder */
};

static enum mcs_status start_run(struct trainer *t, struct position *at)
{
    const struct clip_train_options *o = t->o;
    struct params *params = t->model->params;
    const struct optim_options adamw = {.kind = OPTIM_ADAMW,
                                        .beta1 = 0.9f,
                                        .beta2 = 0.98f,
                                        .eps = 1e-6f,
                                        .weight_decay = (float)o->weight_decay,
                                        .clip_norm = (float)o->clip_norm,
                                        .decay_all = 0};
    int resumed = 0;
    at->writes = mcs_comm_rank(o->comm) == 0;
    if (at->writes) MCS_TRY(mcs_folder_make(o->run));
    snprintf(at->checkpoint, sizeof at->checkpoint, "%s/checkpoint.h5", o->run);
    MCS_TRY(mcs_params_alloc_grad(params));
    MCS_TRY(mcs_clip_sessions_make(&t->sessions, t->model, o, t->extra));
    MCS_TRY(mcs_clip_sessions_alloc(&t->sessions, t->alone));
    MCS_TRY(mcs_optim_new(params, &adamw, o->frozen, &t->optim));
    if (at->writes) MCS_TRY(mcs_checkpoint_load(at->checkpoint, params, t->optim, o->config, &at->step, &resumed));
    MCS_TRY(mcs_process_group_broadcast(o->comm, params, t->optim, &at->step));
    at->saved = at->step;
    if (resumed) mcs_log("%s: resuming after step %lld", at->checkpoint, (long long)at->step);
    return at->writes ? mcs_run_log_open(&at->log, o->run, resumed ? at->step : -1) : MCS_OK;
}

/* Writes a checkpoint after at->step steps if one is due or a stop is requested; E_STOPPED if a stop is requested. */
static enum mcs_status save_and_stop(const struct trainer *t, struct position *at, int stop)
{
    const struct clip_train_options *o = t->o;
    const int last = at->step == o->steps;
    if (stop || last || (o->checkpoint_every && at->step % o->checkpoint_every == 0)) {
        if (at->writes) MCS_TRY(mcs_run_log_sync(&at->log));
        if (at->writes) MCS_TRY(mcs_checkpoint_save(at->checkpoint, t->model->params, t->optim, at->step, o->config));
        at->saved = at->step;
    }
    if (!stop || last) return MCS_OK;
    return MCS_FAIL(MCS_E_STOPPED, "stopped after step %lld; run the same command again to go on from %s",
                    (long long)at->step, at->checkpoint);
}

static enum mcs_status run_steps(struct trainer *t, const struct clip_source *source, struct position *at)
{
    const struct clip_train_options *o = t->o;
    struct mcs_progress bar;
    int session = 0, stop = 0;
    mcs_progress_start(&bar, "train CLIP", "step", o->steps);
    if (at->step < o->steps) MCS_TRY(set_batch(t, source, at->step, &session, &stop));
    while (at->step < o->steps) {
        float loss[1 + CLIP_MAX_EXTRA];
        double norm;
        const int64_t step = at->step;
        const double lr = mcs_lr_cosine(step, o->lr, o->warmup, o->steps);
        const struct clip_train_session *p = &t->sessions.session[session];
        stop = 0;
        MCS_TRY(begin_step(t, p, step, lr));
        const enum mcs_status next = step + 1 < o->steps ? set_batch(t, source, step + 1, &session, &stop) : MCS_OK;
        MCS_TRY(end_step(t, p, step, loss, &norm));
        if (!(o->loss.inv_tau > 0)) MCS_TRY(clamp_scale(t->model));
        if (at->writes && (step % LOG_EVERY == 0 || step + 1 == o->steps))
            MCS_TRY(log_step(t, &at->log, p, step, lr, norm, loss));
        snprintf(bar.note, sizeof bar.note, "loss %.3f", (double)loss[0]);
        mcs_progress_set(&bar, ++at->step);
        if (!o->comm) stop = mcs_stop_requested(); /* a single rank also serves a request since set_batch */
        MCS_TRY(save_and_stop(t, at, stop));
        MCS_TRY(next);
    }
    mcs_progress_set(&bar, at->step);
    mcs_progress_end(&bar);
    return MCS_OK;
}

enum mcs_status mcs_clip_train(struct clip_model *m, const struct clip_train_options *o,
                               const struct clip_source *source, const struct clip_extra *extra)
{
    struct trainer t = {.model = m, .o = o, .extra = extra};
    struct position at = {0};
    enum mcs_status st = trainer_open(&t);
    if (st == MCS_OK) st = start_run(&t, &at);
    if (st == MCS_OK) {
        st = run_steps(&t, source, &at);
        if (st != MCS_OK && st != MCS_E_STOPPED && !(o->comm && o->comm->broken))
            mcs_checkpoint_error_add(st, at.checkpoint, at.saved);
    }
    mcs_run_log_close(&at.log);
    trainer_close(&t);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

enum mcs_status mcs_clip_train_memory(struct clip_model *m, const struct clip_train_options *o,
                                      struct train_memory *memory)
{
    struct clip_sessions sessions;
    const enum mcs_status st = mcs_clip_sessions_make(&sessions, m, o, NULL);
    *memory = mcs_memory_of(m->params, OPTIM_ADAMW);
    memory->plan = mcs_exec_memory_plan(&sessions.memory);
    mcs_clip_sessions_free(&sessions);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

/* Number of negatives and sum of their gradients' magnitudes: all, and those that are attracted. */
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

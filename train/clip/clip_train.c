#include "train/clip/clip_train.h"

#include "engine/tape/grad.h"
#include "train/clip/clip_sessions.h"
#include "train/run/loop.h"
#include "train/run/process_group.h"
#include "train/run/schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct trainer {
    struct clip_model *model;
    const struct clip_train_options *o;
    const struct clip_source *source;
    const struct clip_extra *extra;
    struct optim *optim;
    struct clip_sessions sessions;
    const struct clip_train_session *next, *running; /* of the batch that was prefetched; of the step that was begun */
    struct clip_batch batch;
    int32_t *ids, *position, *key, *offset; /* one allocation, that of ids */
    float *image_host, *text_host;          /* embeddings (batch,embed), for diagnose; one allocation */
    float loss[1 + CLIP_MAX_EXTRA];         /* of the last step */
    const char **alone;                     /* parameters whose gradient is not summed over ranks */
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

static enum mcs_status open_graphs(struct trainer *t)
{
    const struct clip_train_options *o = t->o;
    const struct optim_options adamw = {.kind = OPTIM_ADAMW,
                                        .beta1 = 0.9f,
                                        .beta2 = 0.98f,
                                        .eps = 1e-6f,
                                        .weight_decay = (float)o->weight_decay,
                                        .clip_norm = (float)o->clip_norm,
                                        .decay_all = 0};
    MCS_TRY(mcs_params_alloc_grad(t->model->params));
    MCS_TRY(mcs_clip_sessions_make(&t->sessions, t->model, o, t->extra));
    MCS_TRY(mcs_clip_sessions_alloc(&t->sessions, t->alone));
    return mcs_optim_new(t->model->params, &adamw, o->frozen, &t->optim);
}

static enum mcs_status trainer_open(struct trainer *t)
{
    const struct clip_config *c = &t->model->config;
    const int64_t batch = mcs_clip_own_batch(t->o), pixels = (int64_t)c->image_size * c->image_size * 3;
    const int64_t rows = batch * c->context + CLIP_BUCKET_STEP; /* the largest bucket is rounded up */
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
    MCS_REQUIRE(t->batch.images && t->batch.texts && t->batch.sample && t->ids && t->image_host, MCS_E_NOMEM,
                "no memory for a batch of %lld", (long long)batch);
    t->position = t->ids + rows;
    t->key = t->position + rows;
    t->offset = t->key + rows;
    t->text_host = t->image_host + t->o->batch * c->embed;
    t->batch.first = mcs_comm_rank(t->o->comm) * batch;
    t->batch.n = batch;
    return open_graphs(t);
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
    free(t->alone);
}

/* Fills the host buffers with this rank's share of the batch of `step`; *session: the smallest that holds it. */
static enum mcs_status fill_host(struct trainer *t, int64_t step, int *session)
{
    int64_t rows;
    MCS_TRY(t->source->fill(t->source->ctx, step, &t->batch));
    MCS_TRY(mcs_clip_pack_texts(t->model, t->batch.texts, t->batch.sample, (int)t->batch.n, t->ids, t->position, t->key,
                                t->offset, &rows));
    *session = mcs_clip_sessions_find(&t->sessions, rows);
    MCS_REQUIRE(*session >= 0, MCS_E_FAIL, "step %lld: %lld caption tokens, at most %lld were announced",
                (long long)step + 1, (long long)rows, (long long)t->sessions.rows[t->sessions.n - 1]);
    return MCS_OK;
}

/* Sets the inputs of the largest session that any rank needs, since NCCL requires all ranks to capture and replay their
 * collectives in the same steps. A rank that cannot fill its batch (an unreadable image) still takes part in this
 * exchange, and fails after the other ranks have finished their step. */
static enum mcs_status set_batch(void *ctx, int64_t step)
{
    struct trainer *t = ctx;
    int session = 0;
    const enum mcs_status filled = fill_host(t, step, &session);
    MCS_TRY(mcs_comm_wait(t->o->comm)); /* reports ranks that have left; the following calls only wait for the device */
    MCS_TRY(mcs_comm_allreduce_max(t->o->comm, session, &session, "size of the next batch"));
    MCS_TRY(filled);
    const struct clip_train_session *p = t->next = &t->sessions.session[session];
    for (int64_t i = t->offset[t->batch.n]; i < t->sessions.rows[session]; i++)
        t->ids[i] = -1, t->position[i] = 0, t->key[i] = 0; /* padding */
    MCS_TRY(mcs_exec_set(p->exec, p->images, t->batch.images));
    MCS_TRY(mcs_exec_set(p->exec, p->text.ids, t->ids));
    MCS_TRY(mcs_exec_set(p->exec, p->text.position, t->position));
    MCS_TRY(mcs_exec_set(p->exec, p->text.key, t->key));
    MCS_TRY(mcs_exec_set(p->exec, p->text.offset, t->offset));
    return t->extra && t->extra->fill ? t->extra->fill(t->extra->ctx, session, p->exec) : MCS_OK;
}

static enum mcs_status begin_step(void *ctx, struct training_step *s)
{
    struct trainer *t = ctx;
    t->running = t->next;
    t->running->graph->run.step = (uint32_t)s->step;
    s->lr = mcs_lr_cosine(s->step, t->o->lr, t->o->warmup, t->o->steps);
    mcs_params_zero_grad(t->model->params);
    MCS_TRY(mcs_exec_run(t->running->exec));
    return mcs_optim_begin(t->optim, s->lr);
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

/* If the loss is not finite, neither is the gradient norm, and the optimizer skipped the update. */
static enum mcs_status end_step(void *ctx, struct training_step *s)
{
    struct trainer *t = ctx;
    const struct clip_train_session *p = t->running;
    MCS_TRY(mcs_comm_wait(t->o->comm));
    for (int i = 0; i < p->n_losses; i++) {
        MCS_TRY(mcs_exec_get(p->exec, p->loss[i], &t->loss[i]));
        MCS_REQUIRE(isfinite(t->loss[i]), MCS_E_DATA,
                    "step %lld: %s is not finite; lower --lr, or look at the images of this batch",
                    (long long)s->step + 1, p->loss_name[i]);
    }
    t->loss[0] *= p->weight[0]; /* the auxiliary losses are logged without their weights */
    s->loss = (double)t->loss[0];
    MCS_TRY(mcs_optim_end(t->optim, &s->norm));
    return t->o->loss.inv_tau > 0 ? MCS_OK : clamp_scale(t->model);
}

static enum mcs_status log_step(void *ctx, const struct training_step *s, struct run_log *log)
{
    const struct trainer *t = ctx;
    const struct clip_train_session *p = t->running;
    for (int i = 0; i < p->n_losses; i++) mcs_run_log_value(log, p->loss_name[i], (double)t->loss[i]);
    mcs_run_log_value(log, "lr", s->lr);
    mcs_run_log_value(log, "gradient_norm", s->norm);
    if (!(t->o->loss.inv_tau > 0)) {
        float scale;
        const struct tensor *logit = mcs_params_find(t->model->params, "logit_scale");
        MCS_TRY(t->model->device->backend->download(t->model->device, &scale, logit->data, sizeof scale));
        mcs_run_log_value(log, "temperature", exp(-(double)scale));
    }
    if (t->o->diagnose) {
        struct attraction paper, released;
        /* a learned temperature is replaced by the paper's fixed one */
        const double inv_tau = t->o->loss.inv_tau > 0 ? (double)t->o->loss.inv_tau : 1 / 0.6;
        MCS_TRY(mcs_exec_get(p->exec, p->image_out, t->image_host));
        MCS_TRY(mcs_exec_get(p->exec, p->text_out, t->text_host));
        MCS_TRY(mcs_clip_attracted(t->image_host, t->text_host, (int)t->o->batch, t->model->config.embed, inv_tau,
                                   (double)t->o->loss.b_image, (double)t->o->loss.b_text, &paper, &released));
        mcs_run_log_value(log, "attracted_paper", paper.share);
        mcs_run_log_value(log, "attracted_release", released.share);
        mcs_run_log_value(log, "pull_paper", paper.pull);
        mcs_run_log_value(log, "pull_release", released.pull);
    }
    return MCS_OK;
}

static const struct training_task task = {"train CLIP", 5, NULL, set_batch, begin_step, end_step, log_step, NULL};

enum mcs_status mcs_clip_train(struct clip_model *m, const struct clip_train_options *o,
                               const struct clip_source *source, const struct clip_extra *extra)
{
    struct trainer t = {.model = m, .o = o, .source = source, .extra = extra};
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
    double n, n_attracted, magnitude, magnitude_attracted;
};

static void count(struct tally *t, double gradient)
{
    t->n += 1;
    t->magnitude += fabs(gradient);
    if (gradient >= 0) return;
    t->n_attracted += 1;
    t->magnitude_attracted -= gradient;
}

static struct attraction attraction_of(const struct tally *t)
{
    return (struct attraction){t->n_attracted / t->n, t->magnitude > 0 ? t->magnitude_attracted / t->magnitude : 0};
}

enum mcs_status mcs_clip_attracted(const float *image, const float *text, int batch, int width, double inv_tau,
                                   double beta_image, double beta_text, struct attraction *paper,
                                   struct attraction *released)
{
    const size_t n = (size_t)batch;
    double *l = malloc((n * n + 6 * n) * sizeof *l);
    MCS_REQUIRE(l, MCS_E_NOMEM, "no memory for the similarities of %d pairs", batch);
    double *sum = l + n * n; /* (6,n): sums of exp((1+b)L), exp(bL), exp(L) without the diagonal, by row, by column */
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
            /* derivatives by L_ij, i != j, of the losses in engine/tape/op.h (contrastive_attr); the paper's times B */
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
    return MCS_OK;
}

#include "engine/dist/data_parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A dice_ce step. The sums (N,C,3) and loss (1) of each rank before they are added, to compute the loss's value. */
struct data_parallel_dice {
    int step;
    const struct dice_ce_attr *attr;
    const struct tensor *loss, *sums;
    int64_t n, classes;
    float *all; /* device: (size) losses, padded to 16, then (size,N,C,3) sums */
    float *host;
};

void mcs_data_parallel_begin(struct data_parallel *dp, struct comm *c, struct graph *g)
{
    *dp = (struct data_parallel){.comm = c, .graph = g};
}

void mcs_data_parallel_end(struct data_parallel *dp)
{
    for (int i = 0; i < dp->n_dice; i++) {
        struct device *d = dp->comm->device;
        if (dp->dice[i]->all) d->backend->free(d, dp->dice[i]->all);
        free(dp->dice[i]->host);
        free(dp->dice[i]);
    }
    mcs_buckets_free(&dp->buckets);
    *dp = (struct data_parallel){0};
}

struct tensor *mcs_data_parallel_gather(struct data_parallel *dp, struct tensor *x)
{
    struct graph *g = dp->graph;
    const int size = mcs_comm_size(dp->comm), rank = mcs_comm_rank(dp->comm);
    if (size == 1 || g->status != MCS_OK) return x;
    if (dp->n_rows == DATA_PARALLEL_MAX || x->nd != 2 || x->dt != MCS_F32) {
        g->status = MCS_FAIL(MCS_E_SHAPE, "%s: gathered rows want (n,D) of float32, and at most %d of them", x->name,
                             DATA_PARALLEL_MAX);
        return x;
    }
    const int64_t n = x->dim[0], all = n * size;
    int32_t *index = mcs_arena_alloc(&g->arena, (size_t)all * sizeof *index);
    for (int64_t i = 0; index && i < all; i++) index[i] = i / n == rank ? (int32_t)(i - rank * n) : -1;
    struct tensor *rows =
        mcs_constant(g, mcs_arena_printf(&g->arena, "%s (own rows)", x->name), MCS_I32, 1, &all, index);
    dp->source[dp->n_rows] = x;
    return dp->rows[dp->n_rows++] = mcs_apply(g, OP_gather, mcs_arena_printf(&g->arena, "%s (all ranks)", x->name),
                                              (struct tensor *[]){x, rows}, NULL);
}

/* Soft Dice of class c over n samples. */
static double class_dice(const struct dice_ce_attr *a, const float *sums, int64_t n, int64_t classes, int64_t c)
{
    double pg = 0, both = 0;
    for (int64_t i = 0; i < n; i++) {
        const float *q = sums + (i * classes + c) * 3;
        pg += q[0];
        both += (double)q[1] + q[2];
    }
    return (2 * pg + a->smooth) / fmax(both + a->smooth, 1e-8);
}

/* Mean over the classes but 0, and over the samples without batch Dice (formula: ops.def). sums (n,classes,3). */
static double mean_dice(const struct dice_ce_attr *a, const float *sums, int64_t n, int64_t classes)
{
    double dice = 0;
    const int64_t groups = a->batch_dice ? 1 : n;
    for (int64_t i = 0; i < groups; i++)
        for (int64_t c = 1; c < classes; c++)
            dice += a->batch_dice ? class_dice(a, sums, n, classes, c)
                                  : class_dice(a, sums + i * classes * 3, 1, classes, c);
    return dice / (double)(groups * (classes - 1));
}

static int64_t padded_losses(const struct data_parallel *dp)
{
    return (dp->comm->size + 15) / 16 * 16;
}

enum mcs_status mcs_data_parallel_dice(struct data_parallel *dp, const struct tensor *loss, float *weight)
{
    const struct graph *g = dp->graph;
    int step = 0;
    void *memory;
    if (mcs_comm_size(dp->comm) == 1) return MCS_OK;
    while (step < g->n_steps && !(g->steps[step].op == OP_dice_ce && g->steps[step].out[0] == loss)) step++;
    MCS_REQUIRE(step < g->n_steps && dp->n_dice < DATA_PARALLEL_MAX, MCS_E_SHAPE, "%s: is no loss of a dice_ce step",
                loss->name);
    struct data_parallel_dice *k = dp->dice[dp->n_dice] = calloc(1, sizeof *k);
    MCS_REQUIRE(k, MCS_E_NOMEM, "no memory for the sums of a loss");
    dp->n_dice++;
    const struct tensor *sums = g->steps[step].out[1];
    *k = (struct data_parallel_dice){.step = step,
                                     .attr = g->steps[step].attr,
                                     .loss = loss,
                                     .sums = sums,
                                     .n = sums->dim[0],
                                     .classes = sums->dim[1]};
    const int64_t bytes = (padded_losses(dp) + dp->comm->size * mcs_count(sums)) * (int64_t)sizeof(float);
    MCS_TRY(dp->comm->device->backend->alloc(dp->comm->device, bytes, &memory));
    k->all = memory;
    MCS_TRY(dp->comm->device->backend->zero(dp->comm->device, memory, bytes)); /* the losses' padding is read too */
    k->host = malloc((size_t)bytes);
    MCS_REQUIRE(k->host, MCS_E_NOMEM, "no memory for the sums of a loss");
    if (!k->attr->batch_dice) *weight /= (float)dp->comm->size;
    return MCS_OK;
}

static enum mcs_status exchange_dice(struct data_parallel *dp, const struct data_parallel_dice *k)
{
    MCS_TRY(mcs_comm_allgather(dp->comm, k->loss->data, k->all, 1, k->loss->name));
    MCS_TRY(mcs_comm_allgather(dp->comm, k->sums->data, k->all + padded_losses(dp), mcs_count(k->sums), k->sums->name));
    if (k->attr->batch_dice)
        MCS_TRY(mcs_comm_allreduce_sum(dp->comm, k->sums->data, mcs_count(k->sums), k->sums->name));
    return mcs_comm_join(dp->comm);
}

enum mcs_status mcs_data_parallel_dice_loss(struct data_parallel *dp, int which, double *loss)
{
    const struct data_parallel_dice *k = dp->dice[which];
    struct comm *c = dp->comm;
    const int64_t per_rank = mcs_count(k->sums),
                  bytes = (padded_losses(dp) + c->size * per_rank) * (int64_t)sizeof(float);
    double entropy = 0, all_valid = 0, first_valid = 0;
    MCS_TRY(mcs_comm_wait(c));
    MCS_TRY(c->device->backend->download(c->device, k->host, k->all, bytes));
    const float *sums = k->host + padded_losses(dp);
    for (int r = 0; r < c->size; r++) {
        const float *own = sums + r * per_rank;
        double valid = 0;
        for (int64_t i = 0; i < k->n * k->classes; i++) valid += own[3 * i + 2];
        if (r == 0) first_valid = valid;
        MCS_REQUIRE(k->attr->batch_dice || valid == first_valid, MCS_E_DATA,
                    "%s: rank %d has %.0f labelled voxels and rank 0 %.0f; Dice by sample wants as many on each rank",
                    k->loss->name, r, valid, first_valid);
        entropy += valid * (k->host[r] + k->attr->weight_dice * mean_dice(k->attr, own, k->n, k->classes));
        all_valid += valid;
    }
    *loss = (all_valid > 0 ? entropy / all_valid : 0) -
            k->attr->weight_dice * mean_dice(k->attr, sums, c->size * k->n, k->classes);
    return MCS_OK;
}

static enum mcs_status after_step(void *ctx, int i)
{
    struct data_parallel *dp = ctx;
    const struct step *s = &dp->graph->steps[i];
    if (s->backward) {
        MCS_TRY(mcs_buckets_after_step(&dp->buckets, dp->graph, i));
        return i == dp->graph->n_steps - 1 ? mcs_comm_join(dp->comm) : MCS_OK;
    }
    for (int k = 0; k < dp->n_rows; k++)
        if (s->out[0] == dp->rows[k]) {
            MCS_TRY(mcs_comm_allgather(dp->comm, dp->source[k]->data, dp->rows[k]->data, mcs_count(dp->source[k]),
                                       dp->source[k]->name));
            MCS_TRY(mcs_comm_join(dp->comm));
        }
    for (int k = 0; k < dp->n_dice; k++)
        if (i == dp->dice[k]->step) MCS_TRY(exchange_dice(dp, dp->dice[k]));
    return MCS_OK;
}

enum mcs_status mcs_data_parallel_attach(struct data_parallel *dp, struct exec *e, const char *const *alone,
                                         int64_t bucket_bytes)
{
    if (mcs_comm_size(dp->comm) == 1) return MCS_OK;
    MCS_TRY(mcs_buckets_make(dp->graph, alone, dp->comm, bucket_bytes, &dp->buckets));
    e->after_step = after_step;
    e->after_ctx = dp;
    if (!dp->comm->ops->enqueues) e->no_capture = 1;
    return MCS_OK;
}

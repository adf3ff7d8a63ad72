#include "engine/dist/joint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A dice_ce step. sums (N,C,3) and loss (1) of each rank as they were before they were added up, for the loss's value.
 */
struct joint_dice {
    int step;
    const struct dice_ce_attr *attr;
    const struct tensor *loss, *sums;
    int64_t n, classes;
    float *all; /* device: (size) losses, padded to 16, then (size,N,C,3) sums */
    float *host;
};

void mcs_joint_begin(struct joint *j, struct comm *c, struct graph *g)
{
    *j = (struct joint){.comm = c, .graph = g};
}

void mcs_joint_end(struct joint *j)
{
    for (int i = 0; i < j->n_dice; i++) {
        struct device *d = j->comm->device;
        if (j->dice[i]->all) d->backend->free(d, j->dice[i]->all);
        free(j->dice[i]->host);
        free(j->dice[i]);
    }
    mcs_buckets_free(&j->buckets);
    *j = (struct joint){0};
}

struct tensor *mcs_joint_rows(struct joint *j, struct tensor *x)
{
    struct graph *g = j->graph;
    const int size = mcs_comm_size(j->comm), rank = mcs_comm_rank(j->comm);
    if (size == 1 || g->status != MCS_OK) return x;
    if (j->n_rows == JOINT_MAX || x->nd != 2 || x->dt != MCS_F32) {
        g->status = MCS_FAIL(MCS_E_SHAPE, "%s: gathered rows want (n,D) of float32, and at most %d of them", x->name,
                             JOINT_MAX);
        return x;
    }
    const int64_t n = x->dim[0], all = n * size;
    int32_t *index = mcs_arena_alloc(&g->arena, (size_t)all * sizeof *index);
    for (int64_t i = 0; i < all; i++) index[i] = i / n == rank ? (int32_t)(i - rank * n) : -1;
    struct tensor *rows =
        mcs_constant(g, mcs_arena_printf(&g->arena, "%s (own rows)", x->name), MCS_I32, 1, &all, index);
    j->source[j->n_rows] = x;
    return j->rows[j->n_rows++] = mcs_apply(g, OP_gather, mcs_arena_printf(&g->arena, "%s (all ranks)", x->name),
                                            (struct tensor *[]){x, rows}, NULL);
}

static double parts(const struct dice_ce_attr *a, const float *sums, int64_t n, int64_t classes, int64_t c)
{
    double pg = 0, both = 0;
    for (int64_t i = 0; i < n; i++) {
        const float *q = sums + (i * classes + c) * 3;
        pg += q[0];
        both += (double)q[1] + q[2];
    }
    return (2 * pg + a->smooth) / fmax(both + a->smooth, 1e-8);
}

/* Mean Dice of n samples' sums, as ops.def says it. */
static double mean_dice(const struct dice_ce_attr *a, const float *sums, int64_t n, int64_t classes)
{
    double dice = 0;
    const int64_t groups = a->batch_dice ? 1 : n;
    for (int64_t i = 0; i < groups; i++)
        for (int64_t c = 1; c < classes; c++)
            dice += a->batch_dice ? parts(a, sums, n, classes, c) : parts(a, sums + i * classes * 3, 1, classes, c);
    return dice / (double)(groups * (classes - 1));
}

static int64_t losses_room(const struct joint *j)
{
    return (j->comm->size + 15) / 16 * 16;
}

enum mcs_status mcs_joint_dice(struct joint *j, const struct tensor *loss, float *weight)
{
    const struct graph *g = j->graph;
    int step = 0;
    void *room;
    if (mcs_comm_size(j->comm) == 1) return MCS_OK;
    while (step < g->n_steps && !(g->steps[step].op == OP_dice_ce && g->steps[step].out[0] == loss)) step++;
    MCS_REQUIRE(step < g->n_steps && j->n_dice < JOINT_MAX, MCS_E_SHAPE, "%s: is no loss of a dice_ce step",
                loss->name);
    struct joint_dice *k = j->dice[j->n_dice] = calloc(1, sizeof *k);
    MCS_REQUIRE(k, MCS_E_NOMEM, "no memory for the sums of a loss");
    j->n_dice++;
    const struct tensor *sums = g->steps[step].out[1];
    *k = (struct joint_dice){.step = step,
                             .attr = g->steps[step].attr,
                             .loss = loss,
                             .sums = sums,
                             .n = sums->dim[0],
                             .classes = sums->dim[1]};
    const int64_t bytes = (losses_room(j) + j->comm->size * mcs_count(sums)) * (int64_t)sizeof(float);
    MCS_TRY(j->comm->device->backend->alloc(j->comm->device, bytes, &room));
    k->all = room;
    MCS_TRY(j->comm->device->backend->zero(j->comm->device, room, bytes)); /* the losses' padding is read too */
    k->host = malloc((size_t)bytes);
    MCS_REQUIRE(k->host, MCS_E_NOMEM, "no memory for the sums of a loss");
    if (!k->attr->batch_dice) *weight /= (float)j->comm->size;
    return MCS_OK;
}

static enum mcs_status exchange_dice(struct joint *j, const struct joint_dice *k)
{
    MCS_TRY(mcs_comm_allgather(j->comm, k->loss->data, k->all, 1, k->loss->name));
    MCS_TRY(mcs_comm_allgather(j->comm, k->sums->data, k->all + losses_room(j), mcs_count(k->sums), k->sums->name));
    if (k->attr->batch_dice) MCS_TRY(mcs_comm_allreduce_sum(j->comm, k->sums->data, mcs_count(k->sums), k->sums->name));
    return mcs_comm_join(j->comm);
}

enum mcs_status mcs_joint_dice_loss(struct joint *j, int which, double *loss)
{
    const struct joint_dice *k = j->dice[which];
    struct comm *c = j->comm;
    const int64_t per_rank = mcs_count(k->sums), bytes = (losses_room(j) + c->size * per_rank) * (int64_t)sizeof(float);
    double entropy = 0, all_valid = 0, first_valid = 0;
    MCS_TRY(mcs_comm_wait(c));
    MCS_TRY(c->device->backend->download(c->device, k->host, k->all, bytes));
    const float *sums = k->host + losses_room(j);
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
    struct joint *j = ctx;
    const struct step *s = &j->graph->steps[i];
    if (s->backward) {
        MCS_TRY(mcs_buckets_after_step(&j->buckets, j->graph, i));
        return i == j->graph->n_steps - 1 ? mcs_comm_join(j->comm) : MCS_OK;
    }
    for (int k = 0; k < j->n_rows; k++)
        if (s->out[0] == j->rows[k]) {
            MCS_TRY(mcs_comm_allgather(j->comm, j->source[k]->data, j->rows[k]->data, mcs_count(j->source[k]),
                                       j->source[k]->name));
            MCS_TRY(mcs_comm_join(j->comm));
        }
    for (int k = 0; k < j->n_dice; k++)
        if (i == j->dice[k]->step) MCS_TRY(exchange_dice(j, j->dice[k]));
    return MCS_OK;
}

enum mcs_status mcs_joint_attach(struct joint *j, struct exec *e, const char *const *alone, int64_t bucket_bytes)
{
    if (mcs_comm_size(j->comm) == 1) return MCS_OK;
    MCS_TRY(mcs_buckets_make(j->graph, alone, j->comm, bucket_bytes, &j->buckets));
    e->after_step = after_step;
    e->after_ctx = j;
    if (!j->comm->ops->enqueues) e->no_capture = 1;
    return MCS_OK;
}

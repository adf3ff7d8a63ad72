#include "engine/dist/comm.h"

#include <stdlib.h>
#include <string.h>

static double or_default(double v, double otherwise)
{
    return v > 0 ? v : otherwise;
}

static enum mcs_status find_ranks(struct comm *c, const struct comm_options *o)
{
    char unique_id[UNIQUE_ID_BYTES] = "";
    if (c->rank == 0) c->ops->make_unique_id(unique_id);
    enum mcs_status st =
        mcs_rendezvous(&c->rendezvous, c->ranks, o->same ? o->same : "", or_default(o->rendezvous_s, 300), unique_id);
    if (st == MCS_OK && c->ranks->local_rank < 0) c->ranks->local_rank = c->rendezvous.local_rank;
    c->what = "start", c->doing = "barrier";
    if (st == MCS_OK) st = c->ops->attach(c, unique_id);
    if (st != MCS_OK && c->rank == 0 && c->ops->drop_unique_id) c->ops->drop_unique_id(unique_id);
    return st;
}

static enum mcs_status open_parts(struct comm *c, const struct comm_options *o)
{
    void *memory;
    MCS_TRY(find_ranks(c, o));
    MCS_TRY(c->device->backend->alloc(c->device, COMM_VALUES * (1 + c->size) * (int64_t)sizeof(float), &memory));
    c->scratch = memory;
    c->gathered = malloc((size_t)c->size * sizeof *c->gathered);
    MCS_REQUIRE(c->gathered, MCS_E_NOMEM, "no memory for %d values", c->size);
    return MCS_OK;
}

enum mcs_status mcs_comm_open(const struct comm_options *o, struct device *d, struct comm **made)
{
    const char *timeout = getenv("MCSAM_COMM_TIMEOUT");
    *made = NULL;
    if (o->ranks->size == 1) return MCS_OK;
    MCS_REQUIRE(o->ranks->folder, MCS_E_FAIL, "ranks need a folder to meet in");
    struct comm *c = calloc(1, sizeof *c);
    MCS_REQUIRE(c, MCS_E_NOMEM, "no memory for a communicator");
    const struct comm_ops *own = d->backend->comm ? d->backend->comm() : NULL;
    *c = (struct comm){.ops = own ? own : &mcs_comm_host,
                       .device = d,
                       .ranks = o->ranks,
                       .rank = o->ranks->rank,
                       .size = o->ranks->size,
                       .timeout_s = or_default(o->timeout_s, timeout ? strtod(timeout, NULL) : 0),
                       .heartbeat_timeout_s = or_default(o->heartbeat_timeout_s, 30)};
    c->timeout_s = or_default(c->timeout_s, 900);
    const enum mcs_status st = open_parts(c, o);
    if (st != MCS_OK)
        mcs_comm_close(c, st);
    else
        *made = c;
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

void mcs_comm_close(struct comm *c, enum mcs_status st)
{
    if (!c) return;
    const char *message = st == MCS_OK || st == MCS_E_STOPPED ? NULL : mcs_error_message();
    c->ops->detach(c, message);
    mcs_rendezvous_leave(&c->rendezvous, message);
    if (c->scratch) c->device->backend->free(c->device, c->scratch);
    free(c->gathered);
    free(c);
}

int mcs_comm_rank(const struct comm *c)
{
    return c ? c->rank : 0;
}

int mcs_comm_size(const struct comm *c)
{
    return c ? c->size : 1;
}

enum mcs_status mcs_comm_lost(struct comm *c, const char *happened)
{
    c->broken = 1;
    c->ranks->follows = 1;
    return MCS_FAIL(MCS_E_FAIL, "rank %d, %s of %s (collective %lld): %s", c->rank, c->doing, c->what,
                    (long long)c->n_calls, happened);
}

static enum mcs_status begin(struct comm *c, const char *doing, const char *what)
{
    MCS_REQUIRE(!c->broken, MCS_E_FAIL, "rank %d: %s of %s after a collective that failed", c->rank, doing, what);
    c->doing = doing;
    c->what = what;
    c->n_calls++;
    return MCS_OK;
}

enum mcs_status mcs_comm_allreduce_sum(struct comm *c, float *x, int64_t n, const char *what)
{
    if (!c || n == 0) return MCS_OK;
    MCS_TRY(begin(c, "allreduce", what));
    return c->ops->allreduce_sum(c, x, n);
}

enum mcs_status mcs_comm_allgather(struct comm *c, const float *src, float *dst, int64_t n, const char *what)
{
    MCS_REQUIRE(c, MCS_E_FAIL, "%s: gathered from one rank alone", what);
    MCS_TRY(begin(c, "allgather", what));
    return c->ops->allgather(c, src, dst, n);
}

enum mcs_status mcs_comm_broadcast(struct comm *c, float *x, int64_t n, const char *what)
{
    if (!c || n == 0) return MCS_OK;
    MCS_TRY(begin(c, "broadcast", what));
    return c->ops->broadcast(c, x, n);
}

enum mcs_status mcs_comm_join(struct comm *c)
{
    return c && c->ops->join ? c->ops->join(c) : MCS_OK;
}

enum mcs_status mcs_comm_wait(struct comm *c)
{
    return c ? c->ops->wait(c) : MCS_OK;
}

enum mcs_status mcs_comm_values(struct comm *c, const float *mine, int n, float *all, const char *what)
{
    const size_t bytes = (size_t)n * sizeof(float);
    if (!c) {
        memcpy(all, mine, bytes);
        return MCS_OK;
    }
    const struct backend *b = c->device->backend;
    MCS_REQUIRE(n > 0 && n <= COMM_VALUES, MCS_E_FAIL, "%s: %d values, at most %d go at once", what, n, COMM_VALUES);
    MCS_TRY(b->upload(c->device, c->scratch, mine, (int64_t)bytes));
    MCS_TRY(mcs_comm_allgather(c, c->scratch, c->scratch + COMM_VALUES, n, what));
    MCS_TRY(mcs_comm_join(c));
    MCS_TRY(mcs_comm_wait(c));
    return b->download(c->device, all, c->scratch + COMM_VALUES, (int64_t)bytes * c->size);
}

enum mcs_status mcs_comm_allreduce_max(struct comm *c, int v, int *largest, const char *what)
{
    const float mine = (float)v;
    *largest = v;
    if (!c) return MCS_OK;
    MCS_TRY(mcs_comm_values(c, &mine, 1, c->gathered, what));
    for (int r = 0; r < c->size; r++)
        if (c->gathered[r] > (float)*largest) *largest = (int)c->gathered[r];
    return MCS_OK;
}

enum mcs_status mcs_comm_barrier(struct comm *c, const char *what)
{
    int largest;
    return mcs_comm_allreduce_max(c, 0, &largest, what);
}

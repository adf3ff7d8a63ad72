#include "train/run/process_group.h"

#include "data/io/file.h"
#include "data/run/run_folder.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/devices.h"

#include <stdio.h>
#include <string.h>

enum { STEP_UNIT = 1 << 20 }; /* steps are sent as two numbers, since floats are exact only up to 2^24 */

/* ---- ranks ---- */

/* The arguments of mcs_process_group_run, for each of its ranks. */
struct member {
    const struct process_group_options *o;
    enum mcs_status (*body)(void *ctx, const struct process_group *group);
    void *ctx;
    int threads; /* CPU threads per rank */
};

static enum mcs_status find_gpu(const struct mcs_device_options *o, const struct ranks *r, int64_t *index)
{
    int n;
    MCS_TRY(mcs_device_count((enum mcs_device_kind)o->kind, &n));
    *index = o->gpu;
    if (r->size == 1 || o->kind == MCS_DEVICE_CPU) return MCS_OK;
    MCS_REQUIRE(r->local_rank >= 0 || n == 1, MCS_E_USAGE,
                "%s name no rank on its machine, which has %d GPUs; set LOCAL_RANK", r->launcher, n);
    *index = (o->gpu + (r->local_rank > 0 ? r->local_rank : 0)) % n;
    return MCS_OK;
}

static enum mcs_status run_member(void *ctx, struct ranks *r)
{
    const struct member *m = ctx;
    struct mcs_device_options device = *m->o->device;
    struct device d = {0};
    struct comm *comm = NULL;
    char hash[65];
    enum mcs_status st;
    device.threads = m->threads;
    mcs_sha256(m->o->config, (int64_t)strlen(m->o->config), hash);
    MCS_TRY(find_gpu(m->o->device, r, &device.gpu));
    MCS_TRY(mcs_device_open(&device, &d));
    if (!m->o->dry_run)
        MCS_TRY_GOTO(mcs_comm_open(&(struct comm_options){.ranks = r, .same = hash}, &d, &comm), st, done);
    st = m->body(m->ctx, &(struct process_group){.device = &d, .comm = comm, .rank = r->rank, .size = r->size});
    mcs_comm_close(comm, st);
done:
    mcs_device_close(&d);
    return st;
}

/* Runs the single rank of a process that a launcher started. */
static enum mcs_status run_launched(struct member *m, const struct ranks *found)
{
    struct ranks r = *found; /* with a folder that lives as long as this call */
    char folder[MCS_PATH_BYTES];
    if (m->o->dry_run) return r.rank ? MCS_OK : run_member(m, &r);
    MCS_TRY(mcs_path_room(m->o->run));
    MCS_TRY(mcs_folder_make(m->o->run));
    MCS_TRY(mcs_path(folder, "%s/.ranks", m->o->run));
    r.folder = folder;
    if (r.rank) mcs_log_mute_here(1);
    mcs_log("%d ranks by %s", r.size, r.launcher);
    return run_member(m, &r);
}

enum mcs_status mcs_process_group_run(const struct process_group_options *o,
                                      enum mcs_status (*body)(void *ctx, const struct process_group *group), void *ctx)
{
    struct member m = {.o = o, .body = body, .ctx = ctx, .threads = (int)o->device->threads};
    struct ranks found;
    int n_gpus = 0;
    MCS_TRY(mcs_ranks_find(NULL, &found));
    MCS_REQUIRE(found.size == 1 || o->gpus <= 1, MCS_E_USAGE,
                "--gpus %lld, but %s started %d ranks; leave --gpus out, or start one process", (long long)o->gpus,
                found.launcher, found.size);
    if (found.size > 1) return run_launched(&m, &found);
    if (o->gpus <= 1) return run_member(&m, &(struct ranks){.size = 1});
    if (o->device->kind != MCS_DEVICE_CPU) {
        MCS_TRY(mcs_device_count((enum mcs_device_kind)o->device->kind, &n_gpus));
        MCS_REQUIRE(o->gpus <= n_gpus, MCS_E_USAGE, "--gpus %lld: there %s %d here", (long long)o->gpus,
                    n_gpus == 1 ? "is" : "are", n_gpus);
    }
    if (o->dry_run) return run_member(&m, &(struct ranks){.size = (int)o->gpus});
    m.threads = m.threads / (int)o->gpus > 0 ? m.threads / (int)o->gpus : 1;
    return mcs_ranks_run((int)o->gpus, run_member, &m);
}

enum mcs_status mcs_process_group_open_run(const struct process_group_options *o, struct run_folder **run)
{
    struct ranks found;
    *run = NULL;
    if (o->dry_run) return MCS_OK;
    MCS_TRY(mcs_ranks_find(NULL, &found));
    if (found.size > 1 && found.rank) return MCS_OK;
    return mcs_run_open(o->command, o->run, NULL, run);
}

/* ---- training ---- */

enum mcs_status mcs_process_group_check_batch(int size, int64_t batch)
{
    MCS_REQUIRE(batch % size == 0, MCS_E_USAGE, "a batch of %lld does not divide into %d ranks; take a multiple of %d",
                (long long)batch, size, size);
    return MCS_OK;
}

enum mcs_status mcs_process_group_broadcast(struct comm *c, struct params *p, struct optim *o, int64_t *step)
{
    int high = (int)(*step / STEP_UNIT), low = (int)(*step % STEP_UNIT);
    if (!c) return MCS_OK;
    if (c->rank) high = low = 0; /* so that the maximum over the ranks is rank 0's */
    MCS_TRY(mcs_comm_allreduce_max(c, high, &high, "steps done"));
    MCS_TRY(mcs_comm_allreduce_max(c, low, &low, "steps done"));
    *step = o->step = (int64_t)high * STEP_UNIT + low;
    MCS_TRY(mcs_comm_broadcast(c, p->data, p->n_values, "weights"));
    if (o->m) MCS_TRY(mcs_comm_broadcast(c, o->m, p->n_values, "first moments"));
    if (o->v) MCS_TRY(mcs_comm_broadcast(c, o->v, p->n_values, "second moments"));
    MCS_TRY(mcs_comm_join(c));
    return mcs_comm_wait(c);
}

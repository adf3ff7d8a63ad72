/* Communicator for the ranks of one machine, threads or processes: a memory file that each rank maps. Each rank has a
 * slot for a chunk of its data; in an allreduce each rank adds up its share of the chunk over all slots, in the order
 * of ranks. Ranks wait for each other by counters that only their owner raises, so a rank that dies holds no lock. */
#include "engine/base/log.h"
#include "engine/base/newfile.h"
#include "engine/base/text_cut.h"
#include "engine/dist/comm.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    CHUNK = 1 << 15, /* floats of a slot: 128 KiB */
    SPINS = 200      /* sched_yield calls of a wait before it sleeps between looks */
};

struct slot {
    _Atomic int64_t arrived; /* phases that this rank has reached */
    _Atomic int left;
    int pid;
    int64_t n_calls, n;       /* the collective that this rank is in: number, size in floats */
    char doing[16], what[64]; /* its operation and name: "allreduce", "gradient" */
    char message[400];        /* why this rank left; "": without an error */
    _Alignas(64) float data[CHUNK];
};
struct shared {
    _Alignas(64) float result[CHUNK];
    struct slot slot[];
};
struct host {
    struct shared *shared;
    size_t bytes;  /* of the mapping */
    int64_t phase; /* of this rank: calls of arrive */
};

/* Rank 0's unique id is a file, open and locked until all ranks have mapped it: an unlocked one is the leftover of a
 * killed run. */
static _Thread_local int unique_id_lock = -1;

static void host_make_unique_id(char unique_id[UNIQUE_ID_BYTES])
{
    const char *const places[] = {"/dev/shm", getenv("TMPDIR"), "/tmp"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (!places[i]) continue;
        mcs_leftovers_remove(places[i], "mcsam-comm-");
        if (snprintf(unique_id, UNIQUE_ID_BYTES, "%s/mcsam-comm-XXXXXX", places[i]) >= UNIQUE_ID_BYTES) continue;
        unique_id_lock = mkstemp(unique_id);
        if (unique_id_lock < 0) continue;
        fcntl(unique_id_lock, F_SETFD, FD_CLOEXEC);
        flock(unique_id_lock, LOCK_EX | LOCK_NB);
        if (access(unique_id, F_OK) == 0) return;
        close(unique_id_lock); /* another run removed it as a leftover before it was locked */
        unique_id_lock = -1;
    }
    unique_id[0] = '\0';
}

static void host_drop_unique_id(const char unique_id[UNIQUE_ID_BYTES])
{
    if (unique_id[0]) unlink(unique_id);
    if (unique_id_lock >= 0) close(unique_id_lock);
    unique_id_lock = -1;
}

/* 1 also for a zombie, which has ended but was not waited for yet. */
static int has_ended(int pid)
{
    char path[64], state = '?';
    if (kill(pid, 0) != 0 && errno == ESRCH) return 1;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = '?';
    fclose(f);
    return state == 'Z' || state == 'X';
}

/* Waits until all ranks have reached this phase. Name and number of the collective are written before the counter is
 * raised, and read after, so that they are valid. */
static enum mcs_status arrive(struct comm *c)
{
    struct host *h = c->state;
    const double started = mcs_seconds();
    double looked = started;
    char happened[700];
    h->phase++;
    atomic_store(&h->shared->slot[c->rank].arrived, h->phase);
    for (int r = 0; r < c->size; r++) {
        const struct slot *s = &h->shared->slot[r];
        for (int64_t spin = 0; atomic_load(&s->arrived) < h->phase; spin++) {
            if (atomic_load(&s->left) && atomic_load(&s->arrived) < h->phase) {
                mcs_text_cut(happened, sizeof happened, "rank %d has left%s%s", r, s->message[0] ? ": " : "",
                             s->message);
                return mcs_comm_lost(c, happened);
            }
            if (spin < SPINS) {
                sched_yield();
                continue;
            }
            nanosleep(&(struct timespec){0, 50000}, NULL);
            const double now = mcs_seconds();
            if (now - looked < 0.05) continue;
            looked = now;
            if (s->pid && has_ended(s->pid)) {
                snprintf(happened, sizeof happened, "rank %d has left: its process %d has ended", r, s->pid);
                return mcs_comm_lost(c, happened);
            }
            if (now - started < c->timeout_s) continue;
            snprintf(happened, sizeof happened, "rank %d did not come within %.0f s", r, c->timeout_s);
            return mcs_comm_lost(c, happened);
        }
    }
    return MCS_OK;
}

/* Publishes name, number and size of the collective; call before its first phase. After the phase, `agree` checks that
 * all ranks are in the same one. */
static void announce(struct comm *c, int64_t n)
{
    struct slot *s = &((struct host *)c->state)->shared->slot[c->rank];
    s->n_calls = c->n_calls;
    s->n = n;
    snprintf(s->doing, sizeof s->doing, "%s", c->doing);
    snprintf(s->what, sizeof s->what, "%s", c->what);
}

static enum mcs_status agree(struct comm *c)
{
    const struct slot *all = ((struct host *)c->state)->shared->slot, *mine = &all[c->rank];
    for (int r = 0; r < c->size; r++) {
        const struct slot *s = &all[r];
        if (s->n_calls == mine->n_calls && s->n == mine->n && !strcmp(s->doing, mine->doing) &&
            !strcmp(s->what, mine->what))
            continue;
        char happened[300];
        snprintf(happened, sizeof happened,
                 "%lld values here, but rank %d is at the %s of %s with %lld (collective %lld)", (long long)mine->n, r,
                 s->doing, s->what, (long long)s->n, (long long)s->n_calls);
        return mcs_comm_lost(c, happened);
    }
    return MCS_OK;
}

static enum mcs_status host_attach(struct comm *c, const char unique_id[UNIQUE_ID_BYTES])
{
    MCS_REQUIRE(c->rendezvous.n_machines == 1, MCS_E_DEVICE,
                "ranks on %d machines need GPUs and NCCL; the %s backend works with ranks of one machine",
                c->rendezvous.n_machines, c->device->backend->name);
    MCS_REQUIRE(unique_id[0], MCS_E_IO, "rank 0 could make no file in /dev/shm or /tmp");
    struct host *h = calloc(1, sizeof *h);
    MCS_REQUIRE(h, MCS_E_NOMEM, "no memory for a communicator");
    c->state = h;
    h->bytes = sizeof(struct shared) + (size_t)c->size * sizeof(struct slot);
    const int fd = open(unique_id, O_RDWR);
    MCS_REQUIRE(fd >= 0, MCS_E_IO, "%s: cannot be opened: %s", unique_id, strerror(errno));
    /* every rank sets the same length; the first one fills the file with zeros */
    void *at = ftruncate(fd, (off_t)h->bytes) == 0 ? mmap(NULL, h->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                                                   : MAP_FAILED;
    close(fd);
    MCS_REQUIRE(at != MAP_FAILED, MCS_E_NOMEM, "%s: cannot be mapped: %s", unique_id, strerror(errno));
    h->shared = at;
    h->shared->slot[c->rank].pid = getpid();
    MCS_TRY(arrive(c));
    if (c->rank == 0) host_drop_unique_id(unique_id);
    return MCS_OK;
}

static void host_detach(struct comm *c, const char *message)
{
    struct host *h = c->state;
    if (!h) return;
    if (h->shared) {
        struct slot *s = &h->shared->slot[c->rank];
        mcs_text_cut(s->message, sizeof s->message, "%s", message ? message : "");
        atomic_store(&s->left, 1);
        munmap(h->shared, h->bytes);
    }
    free(h);
    c->state = NULL;
}

static enum mcs_status host_allreduce_sum(struct comm *c, float *x, int64_t n)
{
    const struct host *h = c->state;
    const struct backend *b = c->device->backend;
    struct shared *s = h->shared;
    announce(c, n);
    for (int64_t at = 0; at < n; at += CHUNK) {
        const int64_t m = n - at < CHUNK ? n - at : CHUNK, from = m * c->rank / c->size,
                      to = m * (c->rank + 1) / c->size;
        MCS_TRY(b->download(c->device, s->slot[c->rank].data, x + at, m * (int64_t)sizeof(float)));
        MCS_TRY(arrive(c));
        if (at == 0) MCS_TRY(agree(c));
        for (int64_t i = from; i < to; i++) {
            float sum = s->slot[0].data[i];
            for (int r = 1; r < c->size; r++) sum += s->slot[r].data[i];
            s->result[i] = sum;
        }
        MCS_TRY(arrive(c));
        MCS_TRY(b->upload(c->device, x + at, s->result, m * (int64_t)sizeof(float)));
    }
    return MCS_OK;
}

static enum mcs_status host_allgather(struct comm *c, const float *src, float *dst, int64_t n)
{
    const struct host *h = c->state;
    const struct backend *b = c->device->backend;
    struct shared *s = h->shared;
    announce(c, n);
    for (int64_t at = 0; at < n; at += CHUNK) {
        const int64_t m = n - at < CHUNK ? n - at : CHUNK;
        MCS_TRY(b->download(c->device, s->slot[c->rank].data, src + at, m * (int64_t)sizeof(float)));
        MCS_TRY(arrive(c));
        if (at == 0) MCS_TRY(agree(c));
        for (int r = 0; r < c->size; r++)
            MCS_TRY(b->upload(c->device, dst + r * n + at, s->slot[r].data, m * (int64_t)sizeof(float)));
        MCS_TRY(arrive(c));
    }
    return MCS_OK;
}

static enum mcs_status host_broadcast(struct comm *c, float *x, int64_t n)
{
    const struct host *h = c->state;
    const struct backend *b = c->device->backend;
    struct shared *s = h->shared;
    announce(c, n);
    for (int64_t at = 0; at < n; at += CHUNK) {
        const int64_t m = n - at < CHUNK ? n - at : CHUNK;
        if (c->rank == 0) MCS_TRY(b->download(c->device, s->slot[0].data, x + at, m * (int64_t)sizeof(float)));
        MCS_TRY(arrive(c));
        if (at == 0) MCS_TRY(agree(c));
        if (c->rank) MCS_TRY(b->upload(c->device, x + at, s->slot[0].data, m * (int64_t)sizeof(float)));
        MCS_TRY(arrive(c));
    }
    return MCS_OK;
}

static enum mcs_status host_wait(struct comm *c)
{
    return c->device->backend->sync(c->device);
}

const struct comm_ops mcs_comm_host = {
    .name = "memory",
    .make_unique_id = host_make_unique_id,
    .drop_unique_id = host_drop_unique_id,
    .attach = host_attach,
    .allreduce_sum = host_allreduce_sum,
    .allgather = host_allgather,
    .broadcast = host_broadcast,
    .wait = host_wait,
    .detach = host_detach,
};

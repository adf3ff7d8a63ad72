/* Collectives by NCCL, on a separate stream beside the compute stream. NCCL is loaded when several ranks first connect,
 * so a machine without it needs none; in a build without nccl.h collectives go through the host (engine/dist/host.c).
 * The communicator is non-blocking: every wait polls for NCCL errors and for lost ranks, and a collective that cannot
 * end is aborted. The summation order is NCCL's, fixed for a given number of ranks, size and machine. */
#include "engine/cuda/cuda.h"
#include "engine/dist/comm.h"

#if __has_include(<nccl.h>)

#include <dlfcn.h>
#include <nccl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/log.h"

#define CALLS(X)                                                                                                       \
    X(ncclGetUniqueId)                                                                                                 \
    X(ncclGetErrorString)                                                                                              \
    X(ncclCommInitRankConfig)                                                                                          \
    X(ncclCommGetAsyncError)                                                                                           \
    X(ncclCommFinalize)                                                                                                \
    X(ncclCommDestroy)                                                                                                 \
    X(ncclCommAbort)                                                                                                   \
    X(ncclAllReduce)                                                                                                   \
    X(ncclAllGather)                                                                                                   \
    X(ncclBroadcast)

/* The simulation links its implementation of NCCL: these symbols are then defined, and nothing is loaded. */
#define X(name) extern __typeof__(name) name __attribute__((weak));
CALLS(X)
#undef X

static struct {
#define X(name) __typeof__(name) *name;
    CALLS(X)
#undef X
    char missing[256]; /* the reason why NCCL cannot be used; "" if it can */
} nccl;

struct state {
    ncclComm_t comm;
    cudaStream_t stream;
    cudaEvent_t ready, done; /* ready: the compute stream reached the collective; done: the collectives have ended */
    int pending;             /* collectives since the last join */
};

/* Leaves the reason of a failure in nccl.missing, reported when a communicator is opened. */
static void open_library(void)
{
    void *lib = NULL;
    if (!&ncclAllReduce) {
        lib = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
        if (!lib) {
            const char *why = dlerror();
            snprintf(nccl.missing, sizeof nccl.missing, "%s", why ? why : "libnccl.so.2 cannot be opened");
            return;
        }
    }
#define X(name)                                                                                                        \
    nccl.name = lib ? (__typeof__(name) *)dlsym(lib, #name) : name;                                                    \
    if (!nccl.name) snprintf(nccl.missing, sizeof nccl.missing, "libnccl.so.2 is too old: it has no " #name);
    CALLS(X)
#undef X
}

static enum mcs_status need_library(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_library);
    MCS_REQUIRE(!nccl.missing[0], MCS_E_DEVICE,
                "several GPUs need NCCL: %s; install it (libnccl2), or put its folder into LD_LIBRARY_PATH",
                nccl.missing);
    return MCS_OK;
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){0, ms * 1000000}, NULL);
}

/* Polls the other ranks during a long wait: fails where one is gone, or after timeout_s. */
struct watch {
    double started, looked;
};

static enum mcs_status look(struct comm *c, struct watch *w)
{
    char what[700];
    const double now = mcs_seconds();
    if (w->started == 0) w->started = w->looked = now;
    if (now - w->looked < 0.5) return MCS_OK;
    w->looked = now;
    if (mcs_rendezvous_lost(&c->rendezvous, c->heartbeat_timeout_s, what, sizeof what)) return mcs_comm_lost(c, what);
    if (now - w->started < c->timeout_s) return MCS_OK;
    snprintf(what, sizeof what, "not over within %.0f s, while all other ranks are alive", c->timeout_s);
    return mcs_comm_lost(c, what);
}

/* NCCL can report a lost rank before that rank's error message arrives at the rendezvous: wait up to 2 s for the
 * message. */
static enum mcs_status nccl_failed(struct comm *c, ncclResult_t r)
{
    char what[700];
    for (int i = 0; i < 40; i++) {
        if (mcs_rendezvous_lost(&c->rendezvous, c->heartbeat_timeout_s, what, sizeof what))
            return mcs_comm_lost(c, what);
        pause_ms(50);
    }
    snprintf(what, sizeof what, "NCCL: %s", nccl.ncclGetErrorString(r));
    return mcs_comm_lost(c, what);
}

static void abort_comm(struct state *s)
{
    if (s->comm) (void)nccl.ncclCommAbort(s->comm);
    s->comm = NULL;
}

/* Waits until a non-blocking call is no longer in progress, and returns its result. */
static enum mcs_status settle(struct comm *c, ncclResult_t r)
{
    struct state *s = c->state;
    struct watch w = {0};
    enum mcs_status st = MCS_OK;
    while (r == ncclInProgress && st == MCS_OK) {
        if (nccl.ncclCommGetAsyncError(s->comm, &r) != ncclSuccess) r = ncclInternalError;
        st = look(c, &w);
        if (r == ncclInProgress) pause_ms(1);
    }
    if (st == MCS_OK && r != ncclSuccess) st = nccl_failed(c, r);
    if (st != MCS_OK) abort_comm(s);
    return st;
}

/* ---- the communicator ---- */

static void nccl_make_unique_id(char unique_id[UNIQUE_ID_BYTES])
{
    ncclUniqueId id;
    _Static_assert(sizeof id < UNIQUE_ID_BYTES, "NCCL's id fits a unique id");
    if (need_library() != MCS_OK) { /* each rank reports it in attach */
        mcs_error_clear();
        return;
    }
    if (nccl.ncclGetUniqueId(&id) == ncclSuccess) memcpy(unique_id, &id, sizeof id);
}

static enum mcs_status nccl_attach(struct comm *c, const char unique_id[UNIQUE_ID_BYTES])
{
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    MCS_TRY(need_library());
    struct state *s = calloc(1, sizeof *s);
    MCS_REQUIRE(s, MCS_E_NOMEM, "no memory for a communicator");
    c->state = s;
    memcpy(&id, unique_id, sizeof id);
    MCS_CUDA(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    MCS_CUDA(cudaEventCreateWithFlags(&s->ready, cudaEventDisableTiming));
    MCS_CUDA(cudaEventCreateWithFlags(&s->done, cudaEventDisableTiming));
    config.blocking = 0;
    return settle(c, nccl.ncclCommInitRankConfig(&s->comm, c->size, id, c->rank, &config));
}

static void nccl_detach(struct comm *c, const char *message)
{
    struct state *s = c->state;
    if (!s) return;
    /* On a normal close the enqueued collectives finish first. After an error they may wait forever, so they are
     * aborted. */
    if (s->comm && !message && !c->broken && settle(c, nccl.ncclCommFinalize(s->comm)) == MCS_OK) {
        (void)nccl.ncclCommDestroy(s->comm);
        s->comm = NULL;
    }
    abort_comm(s);
    if (s->stream) (void)cudaStreamSynchronize(s->stream);
    if (s->ready) (void)cudaEventDestroy(s->ready);
    if (s->done) (void)cudaEventDestroy(s->done);
    if (s->stream) (void)cudaStreamDestroy(s->stream);
    free(s);
    c->state = NULL;
}

static cudaStream_t compute_of(const struct comm *c)
{
    return ((const struct cuda_device *)c->device->state)->compute;
}

/* The collective starts after all work that is now on the compute stream. */
static enum mcs_status fork_stream(struct comm *c)
{
    struct state *s = c->state;
    MCS_CUDA(cudaEventRecord(s->ready, compute_of(c)));
    MCS_CUDA(cudaStreamWaitEvent(s->stream, s->ready, 0));
    s->pending = 1;
    return MCS_OK;
}

static enum mcs_status nccl_allreduce_sum(struct comm *c, float *x, int64_t n)
{
    struct state *s = c->state;
    MCS_TRY(fork_stream(c));
    return settle(c, nccl.ncclAllReduce(x, x, (size_t)n, ncclFloat, ncclSum, s->comm, s->stream));
}

static enum mcs_status nccl_allgather(struct comm *c, const float *src, float *dst, int64_t n)
{
    struct state *s = c->state;
    MCS_TRY(fork_stream(c));
    return settle(c, nccl.ncclAllGather(src, dst, (size_t)n, ncclFloat, s->comm, s->stream));
}

static enum mcs_status nccl_broadcast(struct comm *c, float *x, int64_t n)
{
    struct state *s = c->state;
    MCS_TRY(fork_stream(c));
    return settle(c, nccl.ncclBroadcast(x, x, (size_t)n, ncclFloat, 0, s->comm, s->stream));
}

static enum mcs_status nccl_join(struct comm *c)
{
    struct state *s = c->state;
    if (!s->pending) return MCS_OK;
    s->pending = 0;
    MCS_CUDA(cudaEventRecord(s->done, s->stream));
    return MCS_CUDA_STATUS(cudaStreamWaitEvent(compute_of(c), s->done, 0));
}

/* Collectives in replayed graphs run on the compute stream, so wait for the end of that stream. */
static enum mcs_status nccl_wait(struct comm *c)
{
    struct state *s = c->state;
    struct watch w = {0};
    ncclResult_t r = ncclSuccess;
    cudaError_t e;
    MCS_TRY(nccl_join(c));
    MCS_CUDA(cudaEventRecord(s->done, compute_of(c)));
    for (int64_t spin = 0; (e = cudaEventQuery(s->done)) == cudaErrorNotReady; spin++) {
        if (spin % 64 == 0 && nccl.ncclCommGetAsyncError(s->comm, &r) != ncclSuccess) r = ncclInternalError;
        if (spin > 1000) nanosleep(&(struct timespec){0, 50000}, NULL);
        enum mcs_status st = look(c, &w);
        if (st == MCS_OK && r != ncclSuccess && r != ncclInProgress) st = nccl_failed(c, r);
        if (st == MCS_OK) continue;
        abort_comm(s);
        return st;
    }
    return MCS_CUDA_STATUS(e);
}

static const struct comm_ops ops = {
    .name = "NCCL",
    .enqueues = 1,
    .make_unique_id = nccl_make_unique_id,
    .attach = nccl_attach,
    .allreduce_sum = nccl_allreduce_sum,
    .allgather = nccl_allgather,
    .broadcast = nccl_broadcast,
    .join = nccl_join,
    .wait = nccl_wait,
    .detach = nccl_detach,
};

const struct comm_ops *mcs_cuda_comm(void)
{
    return &ops;
}

#else

const struct comm_ops *mcs_cuda_comm(void)
{
    return NULL;
}

#endif

/* NCCL's API. A rank is the host thread that calls for it, on its device; calls between ncclGroupStart and ncclGroupEnd
 * run as one operation. Ranks whose calls differ, or a rank that misses a collective, are reported, and all end in an
 * error. */
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "tests/cudasim/sim_comm.h"

using namespace comm;

namespace
{
struct queued_call { /* a call queued until the group ends */
    ncclComm *of;
    cudaStream_t stream;
    call what;
};
thread_local int depth;
thread_local std::vector<queued_call> queued_calls;
thread_local std::vector<ncclComm *> joining_ranks;
std::map<std::string, std::shared_ptr<communicator>> joining_communicators; /* by unique id */
std::set<ncclComm *> comms;
uint64_t n_ids;
thread_local char last_error[256];

ncclResult_t refuse(ncclResult_t r, const std::string &why)
{
    snprintf(last_error, sizeof last_error, "%s", why.c_str());
    sim::report(CUDASIM_COMM, 0, 0, why);
    return r;
}

bool overlap(const void *a, size_t na, const void *b, size_t nb)
{
    return (const char *)a < (const char *)b + nb && (const char *)b < (const char *)a + na;
}

/* In-place collectives are allowed at one offset of each kind; any other overlap is an error. */
bool in_place_valid(const ncclComm *c, const call &x)
{
    const int n = c->all->n;
    const size_t one = x.count * bytes_of(x.type), in = sent_bytes(x, n), out = received_bytes(x, n);
    if (!x.send || !x.recv || !overlap(x.send, in, x.recv, out)) return true;
    const char *s = (const char *)x.send, *r = (const char *)x.recv;
    if (x.what == ALL_GATHER) return s == r + (size_t)c->rank * one;
    if (x.what == REDUCE_SCATTER) return r == s + (size_t)c->rank * one;
    return s == r;
}

ncclResult_t check(ncclComm *c, const call &x)
{
    const std::string name = "rank " + std::to_string(c->rank) + ": " + text_of(x);
    if (!bytes_of(x.type) || (x.op < ncclSum || x.op > ncclAvg))
        return refuse(ncclInvalidArgument, name + ": a type or operation that is not simulated");
    if (x.peer >= c->all->n || (x.what >= BROADCAST && x.peer < 0) || (x.what >= SEND && x.peer == c->rank))
        return refuse(ncclInvalidArgument, name + ": no such rank");
    const bool sends = does_send(x, c->rank), receives = does_receive(x, c->rank);
    for (int i = 0; i < 2; i++) {
        const void *p = i ? x.recv : x.send;
        const size_t bytes = i ? received_bytes(x, c->all->n) : sent_bytes(x, c->all->n);
        if (!bytes || !(i ? receives : sends)) continue;
        if (!p || !sim::range_valid(p, bytes, true, name.c_str())) return ncclInvalidArgument;
        if (sim::device_of(p) != c->device) return refuse(ncclInvalidArgument, name + ": memory of another device");
    }
    if (sends && receives && !in_place_valid(c, x))
        return refuse(ncclInvalidArgument, name + ": send and receive buffers overlap, but not in place");
    return ncclSuccess;
}

/* Number, from 1, of the stream's current capture among those that the communicator was called in; 0: the stream is not
 * captured. */
uint64_t capture_number(ncclComm *c, const CUstream_st *s)
{
    if (!s->into) return 0;
    auto at = std::find(c->captures.begin(), c->captures.end(), s->into);
    if (at == c->captures.end()) at = c->captures.insert(at, s->into);
    return (uint64_t)(at - c->captures.begin()) + 1;
}

/* Submits the calls of one rank in a group as one operation. */
ncclResult_t submit(ncclComm *c, cudaStream_t stream, const std::vector<call> &calls)
{
    CUstream_st *s = stream ? sim::resolve(stream) : sim::default_stream_of(c->device);
    if (!s || s->device != c->device) return refuse(ncclInvalidArgument, "a stream that is not of the rank's device");
    const uint64_t capture = capture_number(c, s);
    const cudaError_t e = sim::submit(s, "nccl", [c, calls, capture]() {
        c->newest = std::make_shared<bundle>(c, calls, capture);
        return sim::work{[b = c->newest]() { return b->run(); }, c->newest};
    });
    return e == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t call_or_queue(ncclComm *c, cudaStream_t stream, const call &x)
{
    const sim::guard g;
    if (!comms.count(c)) return refuse(ncclInvalidArgument, "no such communicator");
    c->driver = sim::this_host_thread();
    if (sim::device_error(c->device) != cudaSuccess) return ncclUnhandledCudaError;
    const ncclResult_t r = check(c, x);
    if (r != ncclSuccess || !x.count) return r;
    if (depth == 0) return submit(c, stream, {x});
    queued_calls.push_back({c, stream, x});
    return ncclSuccess;
}

ncclResult_t submit_queued()
{
    std::vector<queued_call> all;
    std::swap(all, queued_calls);
    for (size_t i = 0; i < all.size(); i++) {
        if (!all[i].of) continue;
        std::vector<call> calls;
        ncclComm *c = all[i].of;
        for (size_t j = i; j < all.size(); j++) {
            if (all[j].of != c) continue;
            if (all[j].stream != all[i].stream)
                return refuse(ncclInvalidUsage, "a group with one communicator in two streams: not supported");
            calls.push_back(all[j].what);
            all[j].of = NULL;
        }
        const ncclResult_t r = submit(c, all[i].stream, calls);
        if (r != ncclSuccess) return r;
    }
    return ncclSuccess;
}

/* Waits until all ranks of each communicator have joined. */
ncclResult_t wait_for_ranks(const std::vector<ncclComm *> &those)
{
    const sim::waiting here;
    for (ncclComm *c : those)
        while (c->all->joined < c->all->n)
            if (!sim::wait_for_others(here)) {
                std::string missing;
                for (int i = 0; i < c->all->n; i++)
                    if (!c->all->ranks[(size_t)i]) missing += " " + std::to_string(i);
                return refuse(ncclSystemError,
                              "rank " + std::to_string(c->rank) + " waits in ncclCommInitRank for rank" + missing);
            }
    return ncclSuccess;
}

ncclComm *new_rank(std::shared_ptr<communicator> q, int rank, int device)
{
    if (sim::give_up.empty()) sim::give_up.push_back(give_up);
    ncclComm *c = new ncclComm{q, rank, device, sim::this_host_thread(), ncclSuccess, NULL, 0, {}, {}, {}};
    q->ranks[(size_t)rank] = c;
    q->joined++;
    comms.insert(c);
    sim::notify_threads();
    return c;
}
std::shared_ptr<communicator> new_communicator(int n)
{
    auto q = std::make_shared<communicator>();
    q->n = n;
    q->ranks.resize((size_t)n);
    q->left.resize((size_t)n);
    return q;
}

/* Destroys (waits for the rank's queued collectives) or aborts (drops those that still wait for other ranks) a
 * communicator. */
ncclResult_t leave(ncclComm *c, bool abandoned)
{
    const sim::guard g;
    if (!comms.count(c)) return refuse(ncclInvalidArgument, "no such communicator");
    c->driver = sim::this_host_thread();
    for (bundle *b : std::set<bundle *>(c->all->waiting))
        if (abandoned && b->comm == c) {
            b->aborted = true;
            for (auto &m : b->points) m->arrived.erase(c->rank);
        }
    const std::shared_ptr<bundle> last = c->newest;
    if (last && last->own && !sim::is_done(last->own)) sim::wait_for(last->own, {});
    comms.erase(c);
    c->all->left[(size_t)c->rank] = true;
    c->all->ranks[(size_t)c->rank] = NULL;
    sim::notify_threads();
    return ncclSuccess; /* not freed: operations of graphs may still refer to it */
}
} // namespace

extern "C" {
ncclResult_t ncclGetVersion(int *v)
{
    if (!v) return ncclInvalidArgument;
    *v = NCCL_VERSION_CODE;
    return ncclSuccess;
}
const char *ncclGetErrorString(ncclResult_t r)
{
    static const char *const texts[] = {"no error",
                                        "a CUDA call failed",
                                        "a system call failed",
                                        "internal error",
                                        "invalid argument",
                                        "invalid usage",
                                        "a rank has failed, has left or called another collective",
                                        "in progress"};
    return (size_t)r < sizeof texts / sizeof *texts ? texts[r] : "unknown result code";
}
const char *ncclGetLastError(ncclComm_t)
{
    return last_error;
}
ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    const sim::guard g;
    if (!id) return ncclInvalidArgument;
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "cudasim %d", (int)++n_ids);
    return ncclSuccess;
}

/* Waits for the other ranks, unless in a group. The rank's device is the thread's current device. */
ncclResult_t ncclCommInitRank(ncclComm_t *comm, int n, ncclUniqueId id, int rank)
{
    const sim::guard g;
    if (sim::entry_error() != cudaSuccess) return ncclUnhandledCudaError;
    if (!comm || n < 1 || rank < 0 || rank >= n) return refuse(ncclInvalidArgument, "no such rank");
    std::shared_ptr<communicator> &q =
        joining_communicators[std::string(id.internal, strnlen(id.internal, sizeof id.internal))];
    if (!q) q = new_communicator(n);
    if (q->n != n || q->ranks[(size_t)rank])
        return refuse(ncclInvalidUsage, "rank " + std::to_string(rank) + " of " + std::to_string(n) +
                                            ": taken already, or others say " + std::to_string(q->n) + " ranks");
    for (const ncclComm *c : q->ranks)
        if (c && c->device == sim::device_now())
            return refuse(ncclInvalidUsage,
                          "ranks " + std::to_string(c->rank) + " and " + std::to_string(rank) + " have one device");
    *comm = new_rank(q, rank, sim::device_now());
    joining_ranks.push_back(*comm);
    return depth ? ncclSuccess : (ncclGroupStart(), ncclGroupEnd());
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int n, ncclUniqueId id, int rank, ncclConfig_t *)
{
    return ncclCommInitRank(comm, n, id, rank);
}
ncclResult_t ncclCommInitAll(ncclComm_t *all, int n, const int *devices)
{
    const sim::guard g;
    if (sim::entry_error() != cudaSuccess) return ncclUnhandledCudaError;
    int present = 0;
    if (!all || n < 1 || cudaGetDeviceCount(&present) != cudaSuccess) return ncclInvalidArgument;
    std::set<int> used;
    for (int i = 0; i < n; i++) {
        const int d = devices ? devices[i] : i;
        if (d < 0 || d >= present) return refuse(ncclInvalidArgument, "no device " + std::to_string(d));
        if (!used.insert(d).second) return refuse(ncclInvalidUsage, "two ranks have device " + std::to_string(d));
    }
    auto q = new_communicator(n);
    for (int i = 0; i < n; i++) all[i] = new_rank(q, i, devices ? devices[i] : i);
    return ncclSuccess;
}
ncclResult_t ncclCommFinalize(ncclComm_t c)
{
    const sim::guard g;
    if (!comms.count(c)) return ncclInvalidArgument;
    const std::shared_ptr<bundle> last = c->newest;
    if (last && last->own && !sim::is_done(last->own)) sim::wait_for(last->own, {});
    return c->async;
}
ncclResult_t ncclCommDestroy(ncclComm_t c)
{
    return leave(c, false);
}
ncclResult_t ncclCommAbort(ncclComm_t c)
{
    return leave(c, true);
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *e)
{
    const sim::guard g;
    if (!comms.count(c) || !e) return ncclInvalidArgument;
    if (sim::device_error(c->device) != cudaSuccess && c->async == ncclSuccess) c->async = ncclUnhandledCudaError;
    for (const bundle *b : c->all->waiting)
        for (size_t i = 0; b->comm == c && i < b->points.size(); i++)
            for (int r = 0; r < c->all->n; r++) {
                const bool meant = b->calls[i].what < SEND || r == b->calls[i].peer;
                if (meant && !b->points[i]->arrived.count(r) && has_left(*c->all, r)) c->async = ncclRemoteError;
            }
    *e = c->async;
    return ncclSuccess;
}
ncclResult_t ncclCommCount(const ncclComm_t c, int *n)
{
    const sim::guard g;
    if (!comms.count(c) || !n) return ncclInvalidArgument;
    *n = c->all->n;
    return ncclSuccess;
}
ncclResult_t ncclCommCuDevice(const ncclComm_t c, int *device)
{
    const sim::guard g;
    if (!comms.count(c) || !device) return ncclInvalidArgument;
    *device = c->device;
    return ncclSuccess;
}
ncclResult_t ncclCommUserRank(const ncclComm_t c, int *rank)
{
    const sim::guard g;
    if (!comms.count(c) || !rank) return ncclInvalidArgument;
    *rank = c->rank;
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void)
{
    depth++;
    return ncclSuccess;
}
ncclResult_t ncclGroupEnd(void)
{
    const sim::guard g;
    if (depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    if (--depth) return ncclSuccess;
    std::vector<ncclComm *> joining;
    std::swap(joining, joining_ranks);
    const ncclResult_t r = wait_for_ranks(joining);
    return r == ncclSuccess ? submit_queued() : r;
}

ncclResult_t ncclAllReduce(const void *send, void *recv, size_t n, ncclDataType_t t, ncclRedOp_t op, ncclComm_t c,
                           cudaStream_t s)
{
    return call_or_queue(c, s, {ALL_REDUCE, send, recv, n, t, op, -1});
}
ncclResult_t ncclReduce(const void *send, void *recv, size_t n, ncclDataType_t t, ncclRedOp_t op, int root,
                        ncclComm_t c, cudaStream_t s)
{
    return call_or_queue(c, s, {REDUCE, send, recv, n, t, op, root});
}
ncclResult_t ncclBroadcast(const void *send, void *recv, size_t n, ncclDataType_t t, int root, ncclComm_t c,
                           cudaStream_t s)
{
    return call_or_queue(c, s, {BROADCAST, send, recv, n, t, ncclSum, root});
}
ncclResult_t ncclBcast(void *p, size_t n, ncclDataType_t t, int root, ncclComm_t c, cudaStream_t s)
{
    return call_or_queue(c, s, {BROADCAST, p, p, n, t, ncclSum, root});
}
ncclResult_t ncclAllGather(const void *send, void *recv, size_t n, ncclDataType_t t, ncclComm_t c, cudaStream_t s)
{
    return call_or_queue(c, s, {ALL_GATHER, send, recv, n, t, ncclSum, -1});
}
ncclResult_t ncclReduceScatter(const void *send, void *recv, size_t n, ncclDataType_t t, ncclRedOp_t op, ncclComm_t c,
                               cudaStream_t s)
{
    return call_or_queue(c, s, {REDUCE_SCATTER, send, recv, n, t, op, -1});
}
ncclResult_t ncclSend(const void *send, size_t n, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t s)
{
    return call_or_queue(c, s, {SEND, send, NULL, n, t, ncclSum, peer});
}
ncclResult_t ncclRecv(void *recv, size_t n, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t s)
{
    return call_or_queue(c, s, {RECV, NULL, recv, n, t, ncclSum, peer});
}
}

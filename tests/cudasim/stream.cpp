/* Streams are queues that run when the host waits, in order (seed 0: as issued) or in a random order that streams and
 * events allow. Each operation knows by a vector clock which earlier ones it surely follows; memory that two of them
 * touch without that is reported as a race, in whatever order they ran. */
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <set>

#include "tests/cudasim/sim.h"

typedef std::vector<uint32_t> clock_vector; /* by stream: the last operation surely done */

struct operation {
    uint32_t id;
    std::vector<uint32_t> after; /* operations of other streams that must be done */
    clock_vector clock;
    std::string name;
    std::function<cudaError_t()> run;
};
struct CUstream_st {
    int index;
    bool blocking; /* ordered with the default stream */
    bool destroyed;
    std::deque<operation> queue;
    clock_vector last; /* of its newest operation */
    uint32_t last_id;
};
struct CUevent_st {
    uint32_t id; /* 0: never recorded */
    clock_vector clock;
    bool timing;
};

namespace sim
{
static CUstream_st default_stream = {0, true, false, {}, {}, 0};
static std::vector<CUstream_st *> streams = {&default_stream};
static std::set<CUevent_st *> events;
static std::vector<bool> done = {true}; /* by operation */
static clock_vector host;
static int n_streams = 1;
static const operation *op_now;
struct ran { /* blocks from `first` on belong to an operation */
    uint32_t first, id;
    int stream;
    std::string name;
};
static std::vector<ran> history;
static std::map<const void *, kernel> kernels;
static std::map<const void *, size_t> shared_limits;

static void join(clock_vector &a, const clock_vector &b)
{
    if (a.size() < b.size()) a.resize(b.size());
    for (size_t i = 0; i < b.size(); i++) a[i] = std::max(a[i], b[i]);
}

static const ran &owner(uint32_t block)
{
    auto r =
        std::upper_bound(history.begin(), history.end(), block, [](uint32_t b, const ran &x) { return b < x.first; });
    return *std::prev(r);
}
bool ordered_before(uint32_t before)
{
    static uint32_t known_low, known_high, known_for;
    if (known_for == op_now->id && before >= known_low && before < known_high) return true;
    const ran &r = owner(before);
    if ((size_t)r.stream >= op_now->clock.size() || op_now->clock[(size_t)r.stream] < r.id) return false;
    known_low = r.first;
    known_high = &r == &history.back() ? UINT32_MAX : (&r)[1].first;
    known_for = op_now->id;
    return true;
}
std::string origin(uint32_t block)
{
    const ran &r = owner(block);
    return r.name + " in stream " + std::to_string(r.stream);
}

static operation &enqueue(CUstream_st *s, const std::string &name, std::function<cudaError_t()> run)
{
    operation o = {(uint32_t)done.size(), {}, host, name, std::move(run)};
    done.push_back(false);
    join(o.clock, s->last);
    for (CUstream_st *t : streams) /* the default stream waits for all blocking ones, they for it */
        if (t != s && t->last_id && ((s == &default_stream && t->blocking) || (t == &default_stream && s->blocking))) {
            o.after.push_back(t->last_id);
            join(o.clock, t->last);
        }
    if (o.clock.size() <= (size_t)s->index) o.clock.resize((size_t)s->index + 1);
    o.clock[(size_t)s->index] = o.id;
    s->last = o.clock;
    s->last_id = o.id;
    s->queue.push_back(std::move(o));
    return s->queue.back();
}

/* Runs one operation that can run; false where nothing is queued. */
static bool run_one()
{
    std::vector<CUstream_st *> can;
    for (CUstream_st *s : streams) {
        if (s->queue.empty()) continue;
        const operation &o = s->queue.front();
        if (std::all_of(o.after.begin(), o.after.end(), [](uint32_t id) { return done[id]; })) can.push_back(s);
    }
    if (can.empty()) return false;
    CUstream_st *s = seed ? can[below((uint32_t)can.size())]
                          : *std::min_element(can.begin(), can.end(), [](CUstream_st *a, CUstream_st *b) {
                                return a->queue.front().id < b->queue.front().id;
                            });
    operation o = std::move(s->queue.front());
    s->queue.pop_front();
    op_now = &o;
    history.push_back({block_now + 1, o.id, s->index, o.name});
    if (sticky_error() == cudaSuccess) {
        const cudaError_t e = o.run();
        if (e != cudaSuccess) fail_sticky(e);
    }
    op_now = NULL;
    done[o.id] = true;
    return true;
}

static void run_until(uint32_t id)
{
    while (!done[id] && run_one()) {
    }
}
void run_all()
{
    while (run_one()) {
    }
    for (CUstream_st *s : streams) join(host, s->last);
}
void forget_streams()
{
    for (CUstream_st *s : streams) {
        for (operation &o : s->queue) done[o.id] = true;
        s->queue.clear();
    }
}

static CUstream_st *resolve(cudaStream_t s)
{
    if (!s || s == cudaStreamLegacy) return &default_stream;
    for (CUstream_st *t : streams)
        if (t == s && !t->destroyed) return t;
    return NULL;
}
/* Where a copy goes wrong before it starts: a range that is not all device memory, or is where host memory is meant. */
bool range_good(const void *p, size_t n, bool device, const char *call)
{
    if (device ? in_allocation(p, n) : !in_arena(p)) return true;
    report(device && in_arena(p) ? CUDASIM_BOUNDS : CUDASIM_HOST, 0, 0,
           std::string(call) + " of " + std::to_string(n) + " bytes: " +
               (!device       ? "device memory where host memory is meant"
                : in_arena(p) ? nearest(p)
                              : "host memory where device memory is meant"));
    return false;
}

cudaError_t enqueue_call(cudaStream_t stream, const char *name, std::function<cudaError_t()> run)
{
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    enqueue(s, name, std::move(run));
    return cudaSuccess;
}
} // namespace sim

using namespace sim;

void sim_kernel(const void *entry, const char *name, void (*call)(const void *, void **), const size_t *sizes, int n)
{
    kernel &k = kernels[entry];
    if (!k.entry) {
        k.name = name;
        if (k.name[0] == '(') k.name = k.name.substr(1, k.name.size() - 2); /* a template's, as dev_launch wants it */
        k.entry = entry;
        k.call = call;
        k.sizes.assign(sizes, sizes + n);
    }
}

static cudaError_t refuse(const char *name, cudaError_t e, const std::string &what)
{
    report(CUDASIM_LIMIT, 0, 0, std::string("launch of ") + name + ": " + what);
    return fail(e);
}

static bool is_pinned(const void *p)
{
    struct cudaPointerAttributes a;
    return cudaPointerGetAttributes(&a, p) == cudaSuccess && a.type == cudaMemoryTypeHost;
}

extern "C" {
cudaError_t cudaLaunchKernel(const void *entry, dim3 grid, dim3 block, void **args, size_t shared_bytes,
                             cudaStream_t stream)
{
    SIM_TRY_STICKY();
    auto found = kernels.find(entry);
    if (found == kernels.end()) return fail(cudaErrorInvalidDeviceFunction);
    const kernel &k = found->second;
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (!threads || threads > MAX_THREADS || block.x > 1024 || block.y > 1024 || block.z > 64)
        return refuse(k.name.c_str(), cudaErrorInvalidConfiguration,
                      std::to_string(threads) + " threads a block; 1 to 1024, z at most 64");
    if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        return refuse(k.name.c_str(), cudaErrorInvalidConfiguration,
                      "a grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " +
                          std::to_string(grid.z) + "; at least 1, y and z at most 65535");
    const size_t most = shared_limits.count(entry) ? shared_limits[entry] : (size_t)SHARED_DEFAULT;
    if (shared_bytes > most)
        return refuse(k.name.c_str(), cudaErrorInvalidValue,
                      std::to_string(shared_bytes) +
                          " bytes of dynamic shared memory; allowed for it: " + std::to_string(most));
    launch l = {&k, grid, block, shared_bytes, {}};
    for (size_t i = 0; i < k.sizes.size(); i++) l.args.emplace_back((char *)args[i], (char *)args[i] + k.sizes[i]);
    enqueue(s, k.name, [l]() { return run_launch(l); });
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *entry, enum cudaFuncAttribute which, int value)
{
    SIM_TRY_STICKY();
    if (which == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
    if (which != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > SHARED_MAX)
        return fail(cudaErrorInvalidValue);
    shared_limits[entry] = (size_t)value;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    SIM_TRY_STICKY();
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (!n) return cudaSuccess;
    if (!dst || !src) return fail(cudaErrorInvalidValue);
    const bool to =
        kind == cudaMemcpyDefault ? in_arena(dst) : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from =
        kind == cudaMemcpyDefault ? in_arena(src) : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (!range_good(dst, n, to, "cudaMemcpy to") || !range_good(src, n, from, "cudaMemcpy from"))
        return fail(cudaErrorInvalidValue);
    /* Pageable memory, as documented: taken before the call returns; given before it returns. */
    std::vector<char> staged;
    if (!from && !is_pinned(src)) staged.assign((const char *)src, (const char *)src + n);
    const operation &o = enqueue(s, "cudaMemcpy", [=, staged = std::move(staged)]() {
        block_now++;
        if (from) shadow_host_access(src, n, READ, "cudaMemcpy", to);
        if (to) shadow_host_access(dst, n, WRITE, "cudaMemcpy");
        if (from && to) shadow_copy_state(dst, src, n);
        memmove(dst, staged.empty() ? src : staged.data(), n);
        return cudaSuccess;
    });
    if (!to && !is_pinned(dst)) {
        const uint32_t id = o.id;
        const clock_vector clock = o.clock;
        run_until(id);
        join(host, clock);
        SIM_TRY_STICKY();
    }
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t n, enum cudaMemcpyKind kind)
{
    const cudaError_t e = cudaMemcpyAsync(dst, src, n, kind, NULL);
    return e == cudaSuccess ? cudaStreamSynchronize(NULL) : e;
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t n, cudaStream_t stream)
{
    SIM_TRY_STICKY();
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (!n) return cudaSuccess;
    if (!range_good(dst, n, true, "cudaMemset")) return fail(cudaErrorInvalidValue);
    enqueue(s, "cudaMemset", [=]() {
        block_now++;
        shadow_host_access(dst, n, WRITE, "cudaMemset");
        memset(dst, value, n);
        return cudaSuccess;
    });
    return cudaSuccess;
}
cudaError_t cudaMemset(void *dst, int value, size_t n)
{
    const cudaError_t e = cudaMemsetAsync(dst, value, n, NULL);
    return e == cudaSuccess ? cudaStreamSynchronize(NULL) : e;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    SIM_TRY_STICKY();
    if (!s || flags > cudaStreamNonBlocking) return fail(cudaErrorInvalidValue);
    *s = new CUstream_st{n_streams++, flags != cudaStreamNonBlocking, false, {}, {}, 0};
    streams.push_back(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    return cudaStreamCreateWithFlags(s, cudaStreamDefault);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(s, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    SIM_TRY_STICKY();
    CUstream_st *s = resolve(stream);
    if (!s || s == &default_stream) return fail(cudaErrorInvalidResourceHandle);
    s->destroyed = true; /* what is queued still runs, when somebody waits for it */
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    SIM_TRY_STICKY();
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    run_until(s->last_id);
    join(host, s->last);
    return sticky_error();
}
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    SIM_TRY_STICKY();
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (!done[s->last_id]) run_one(); /* time passes */
    SIM_TRY_STICKY();
    if (!done[s->last_id]) return cudaErrorNotReady;
    join(host, s->last);
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void)
{
    SIM_TRY_STICKY();
    run_all();
    return sticky_error();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
    SIM_TRY_STICKY();
    if (!e) return fail(cudaErrorInvalidValue);
    *e = new CUevent_st{0, {}, !(flags & cudaEventDisableTiming)};
    events.insert(*e);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    return cudaEventCreateWithFlags(e, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    SIM_TRY_STICKY();
    if (!events.erase(e)) return fail(cudaErrorInvalidResourceHandle);
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream)
{
    SIM_TRY_STICKY();
    CUstream_st *s = resolve(stream);
    if (!s || !events.count(e)) return fail(cudaErrorInvalidResourceHandle);
    const operation &o = enqueue(s, "cudaEventRecord", []() { return cudaSuccess; });
    e->id = o.id;
    e->clock = o.clock;
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t e, unsigned)
{
    SIM_TRY_STICKY();
    CUstream_st *s = resolve(stream);
    if (!s || !events.count(e)) return fail(cudaErrorInvalidResourceHandle);
    if (!e->id) return cudaSuccess; /* as documented: never recorded, nothing to wait for */
    operation &o = enqueue(s, "cudaStreamWaitEvent", []() { return cudaSuccess; });
    o.after.push_back(e->id);
    join(o.clock, e->clock);
    s->last = o.clock;
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    SIM_TRY_STICKY();
    if (!events.count(e)) return fail(cudaErrorInvalidResourceHandle);
    run_until(e->id);
    join(host, e->clock);
    return sticky_error();
}
cudaError_t cudaEventQuery(cudaEvent_t e)
{
    SIM_TRY_STICKY();
    if (!events.count(e)) return fail(cudaErrorInvalidResourceHandle);
    if (!done[e->id]) run_one();
    SIM_TRY_STICKY();
    if (!done[e->id]) return cudaErrorNotReady;
    join(host, e->clock);
    return cudaSuccess;
}
/* No time passes here: 0, where a device would say how long. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    SIM_TRY_STICKY();
    if (!ms) return fail(cudaErrorInvalidValue);
    if (!events.count(from) || !events.count(to) || !from->timing || !to->timing || !from->id || !to->id)
        return fail(cudaErrorInvalidResourceHandle);
    if (!done[from->id] || !done[to->id]) return cudaErrorNotReady;
    *ms = 0;
    return cudaSuccess;
}
}

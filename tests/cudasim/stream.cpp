/* Streams are queues that run when the host waits: in order (seed 0: as enqueued) or in a random order that stream
 * order and events allow. Each operation has a vector clock of the operations that happen before it; two operations
 * that access the same memory without that order are reported as a race, in whatever order they ran. A host thread that
 * waits runs any operation that can run, on any device; operations that one host thread has waited for happen before
 * the later calls of all. */
#include "tests/cudasim/stream.h"

#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <set>

namespace sim
{
static std::vector<CUstream_st *> streams;
static std::set<CUevent_st *> events;
static std::set<std::string> op_names;
static std::vector<bool> done = {true}; /* by operation id */
static clock_vector host;
static int n_streams;
static const operation *op_now;
struct executed { /* blocks from number `first` on belong to this operation */
    uint32_t first, id;
    int stream;
    const std::string *name;
};
static std::vector<executed> history;

void join(clock_vector &a, const clock_vector &b)
{
    if (a.size() < b.size()) a.resize(b.size());
    for (size_t i = 0; i < b.size(); i++) a[i] = std::max(a[i], b[i]);
}
bool is_done(uint32_t id)
{
    return done[id];
}
bool is_event(cudaEvent_t e)
{
    return events.count(e) != 0;
}
const std::vector<CUstream_st *> &all_streams()
{
    return streams;
}

static const executed &owner(uint32_t block)
{
    auto r = std::upper_bound(history.begin(), history.end(), block,
                              [](uint32_t b, const executed &x) { return b < x.first; });
    return *std::prev(r);
}
bool ordered_before(uint32_t before)
{
    static uint32_t known_low, known_high, known_for;
    if (known_for == op_now->id && before >= known_low && before < known_high) return true;
    const executed &r = owner(before);
    if ((size_t)r.stream >= op_now->clock.size() || op_now->clock[(size_t)r.stream] < r.id) return false;
    known_low = r.first;
    known_high = &r == &history.back() ? UINT32_MAX : (&r)[1].first;
    known_for = op_now->id;
    return true;
}
std::string operation_text(uint32_t block)
{
    const executed &r = owner(block);
    return *r.name + " in stream " + std::to_string(r.stream);
}

static CUstream_st *add_stream(int device, bool blocking)
{
    streams.push_back(new CUstream_st{n_streams++, device, blocking, false, {}, {}, 0, NULL, {}});
    return streams.back();
}
CUstream_st *default_stream_of(int device)
{
    while (n_streams < MAX_DEVICES) add_stream(n_streams, true); /* stream i is the default stream of device i */
    return streams[(size_t)device];
}
CUstream_st *new_stream(int device, bool blocking)
{
    default_stream_of(device);
    return add_stream(device, blocking);
}
void drop_stream(CUstream_st *s)
{
    s->destroyed = true;
    if (!s->queue.empty()) return; /* its queued operations still run, when somebody waits for them */
    streams.erase(std::find(streams.begin(), streams.end(), s));
    delete s;
}

operation &enqueue(CUstream_st *s, const std::string &name, work w)
{
    operation o = {(uint32_t)done.size(), {}, host, &*op_names.insert(name).first, std::move(w)};
    done.push_back(false);
    join(o.clock, s->last);
    const CUstream_st *legacy = default_stream_of(s->device);
    for (CUstream_st *t : streams) /* the legacy default stream waits for all blocking streams, and they for it */
        if (t != s && t->last_id && t->device == s->device &&
            ((s == legacy && t->blocking) || (t == legacy && s->blocking))) {
            o.after.push_back(t->last_id);
            join(o.clock, t->last);
        }
    if (o.what.wait) {
        if (o.what.wait->after) o.after.push_back(o.what.wait->after);
        o.what.wait->own = o.id;
    }
    if (o.clock.size() <= (size_t)s->index) o.clock.resize((size_t)s->index + 1);
    o.clock[(size_t)s->index] = o.id;
    s->last = o.clock;
    s->last_id = o.id;
    s->queue.push_back(std::move(o));
    notify_threads();
    return s->queue.back();
}

cudaError_t submit(CUstream_st *s, const std::string &name, work_maker make, uint32_t *id)
{
    if (id) *id = 0;
    if (s->into) return capture_node(s, name, std::move(make));
    SIM_TRY(legacy_in_capture(s, name.c_str()));
    const operation &o = enqueue(s, name, make());
    if (id) *id = o.id;
    return cudaSuccess;
}
cudaError_t submit_run(CUstream_st *s, const std::string &name, std::function<cudaError_t()> run, uint32_t *id)
{
    return submit(
        s, name,
        [run]() {
            return work{run, NULL};
        },
        id);
}
cudaError_t enqueue_call(cudaStream_t stream, const char *name, std::function<cudaError_t()> run)
{
    CUstream_st *s = resolve(stream);
    if (!s || s->device != device_now()) return fail(cudaErrorInvalidResourceHandle);
    return submit_run(s, name, std::move(run));
}

static bool ready(const operation &o)
{
    return std::all_of(o.after.begin(), o.after.end(), [](uint32_t id) { return done[id]; });
}

bool run_one()
{
    for (CUstream_st *s : streams)
        if (!s->queue.empty() && s->queue.front().what.wait)
            s->queue.front().what.wait->at_head = ready(s->queue.front());
    std::vector<CUstream_st *> runnable;
    for (CUstream_st *s : streams) {
        if (s->queue.empty() || !ready(s->queue.front())) continue;
        gate *g = s->queue.front().what.wait.get();
        if (!g || device_error(s->device) != cudaSuccess || g->open()) runnable.push_back(s);
    }
    if (runnable.empty()) return false;
    CUstream_st *s = seed ? runnable[below((uint32_t)runnable.size())]
                          : *std::min_element(runnable.begin(), runnable.end(), [](CUstream_st *a, CUstream_st *b) {
                                return a->queue.front().id < b->queue.front().id;
                            });
    operation o = std::move(s->queue.front());
    s->queue.pop_front();
    op_now = &o;
    history.push_back({block_now + 1, o.id, s->index, o.name});
    if (device_error(s->device) == cudaSuccess) {
        device_running = s->device;
        const cudaError_t e = o.what.run();
        device_running = -1;
        if (e != cudaSuccess) fail_device(s->device, e);
    } else if (o.what.wait) {
        o.what.wait->cancelled();
    }
    op_now = NULL;
    done[o.id] = true;
    if (s->destroyed) drop_stream(s);
    notify_threads();
    return true;
}

void wait_for(uint32_t id, const clock_vector &clock)
{
    const waiting here;
    while (!done[id])
        if (!run_one() && !wait_for_others(here)) { /* it can never end: fail instead of waiting forever */
            fail_device(device_now(), cudaErrorLaunchTimeout);
            return;
        }
    join(host, clock);
}
void wait_for_stream(CUstream_st *s)
{
    const clock_vector last = s->last;
    wait_for(s->last_id, last);
}
void wait_for_device(int device)
{
    std::vector<std::pair<uint32_t, clock_vector>> last;
    for (CUstream_st *s : streams)
        if (s->device == device && s->last_id) last.push_back({s->last_id, s->last});
    for (auto &x : last) wait_for(x.first, x.second);
}
void reset_streams(int device)
{
    for (CUstream_st *s : streams) {
        if (s->device != device) continue;
        for (operation &o : s->queue) {
            if (o.what.wait) o.what.wait->cancelled();
            done[o.id] = true;
        }
        s->queue.clear();
        s->into = NULL;
    }
}

CUstream_st *resolve(cudaStream_t s)
{
    if (!s || s == cudaStreamLegacy) return default_stream_of(device_now());
    for (CUstream_st *t : streams)
        if (t == s && !t->destroyed) return t;
    return NULL;
}
} // namespace sim

using namespace sim;

extern "C" {
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    SIM_ENTER();
    if (!s || flags > cudaStreamNonBlocking) return fail(cudaErrorInvalidValue);
    *s = new_stream(device_now(), flags != cudaStreamNonBlocking);
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
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    SIM_ENTER();
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    SIM_ENTER();
    CUstream_st *s = resolve(stream);
    if (!s || s == default_stream_of(s->device)) return fail(cudaErrorInvalidResourceHandle);
    SIM_TRY(forbidden_on_captured(s, "cudaStreamDestroy"));
    drop_stream(s);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    SIM_ENTER();
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    SIM_TRY(forbidden_on_captured(s, "cudaStreamSynchronize"));
    SIM_TRY(legacy_in_capture(s, "cudaStreamSynchronize"));
    SIM_TRY(forbidden_in_capture("cudaStreamSynchronize"));
    const int device = s->device;
    wait_for_stream(s);
    return note_error(device_error(device));
}
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    SIM_ENTER();
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    SIM_TRY(forbidden_on_captured(s, "cudaStreamQuery"));
    SIM_TRY(legacy_in_capture(s, "cudaStreamQuery"));
    SIM_TRY(forbidden_in_capture("cudaStreamQuery"));
    if (!done[s->last_id]) run_one(); /* each query lets one operation run */
    if (device_error(s->device) != cudaSuccess) return note_error(device_error(s->device));
    if (!done[s->last_id]) return fail(cudaErrorNotReady);
    join(host, s->last);
    return cudaSuccess;
}
cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned *flags)
{
    SIM_ENTER();
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (!flags) return fail(cudaErrorInvalidValue);
    *flags = s->blocking ? cudaStreamDefault : cudaStreamNonBlocking;
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void)
{
    SIM_ENTER();
    SIM_TRY(forbidden_on_device(device_now(), "cudaDeviceSynchronize"));
    SIM_TRY(forbidden_in_capture("cudaDeviceSynchronize"));
    wait_for_device(device_now());
    return note_error(device_error(device_now()));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
    SIM_ENTER();
    if (!e) return fail(cudaErrorInvalidValue);
    *e = new CUevent_st{0, {}, !(flags & cudaEventDisableTiming), device_now(), NULL, {}};
    events.insert(*e);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    return cudaEventCreateWithFlags(e, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    SIM_ENTER();
    if (!events.erase(e)) return fail(cudaErrorInvalidResourceHandle);
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream)
{
    SIM_ENTER();
    CUstream_st *s = resolve(stream);
    if (!s || !is_event(e) || e->device != s->device) return fail(cudaErrorInvalidResourceHandle);
    if (s->into) return capture_record(e, s);
    SIM_TRY(legacy_in_capture(s, "cudaEventRecord"));
    const operation &o = enqueue(s, "cudaEventRecord", work{[]() { return cudaSuccess; }, NULL});
    e->id = o.id;
    e->clock = o.clock;
    e->into = NULL;
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t e, unsigned)
{
    SIM_ENTER();
    CUstream_st *s = resolve(stream);
    if (!s || !is_event(e)) return fail(cudaErrorInvalidResourceHandle);
    if (s->into || e->into) return capture_wait(s, e);
    SIM_TRY(legacy_in_capture(s, "cudaStreamWaitEvent"));
    if (!e->id) return cudaSuccess; /* as documented: an event that was never recorded orders nothing */
    operation &o = enqueue(s, "cudaStreamWaitEvent", work{[]() { return cudaSuccess; }, NULL});
    o.after.push_back(e->id);
    join(o.clock, e->clock);
    s->last = o.clock;
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    SIM_ENTER();
    if (!is_event(e)) return fail(cudaErrorInvalidResourceHandle);
    SIM_TRY(captured_event(e, "cudaEventSynchronize"));
    SIM_TRY(forbidden_in_capture("cudaEventSynchronize"));
    const int device = e->device;
    const clock_vector clock = e->clock;
    wait_for(e->id, clock);
    return note_error(device_error(device));
}
cudaError_t cudaEventQuery(cudaEvent_t e)
{
    SIM_ENTER();
    if (!is_event(e)) return fail(cudaErrorInvalidResourceHandle);
    SIM_TRY(captured_event(e, "cudaEventQuery"));
    SIM_TRY(forbidden_in_capture("cudaEventQuery"));
    if (!done[e->id]) run_one();
    if (device_error(e->device) != cudaSuccess) return note_error(device_error(e->device));
    if (!done[e->id]) return fail(cudaErrorNotReady);
    join(host, e->clock);
    return cudaSuccess;
}
/* Time is not simulated: always 0. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    SIM_ENTER();
    if (!ms) return fail(cudaErrorInvalidValue);
    if (!is_event(from) || !is_event(to) || !from->timing || !to->timing || !from->id || !to->id ||
        from->device != to->device)
        return fail(cudaErrorInvalidResourceHandle);
    SIM_TRY(captured_event(from, "cudaEventElapsedTime"));
    SIM_TRY(captured_event(to, "cudaEventElapsedTime"));
    if (!done[from->id] || !done[to->id]) return fail(cudaErrorNotReady);
    *ms = 0;
    return cudaSuccess;
}
}

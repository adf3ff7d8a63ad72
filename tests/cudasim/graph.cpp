/* Captures and graphs. Operations of a captured stream become nodes. A new node depends on the stream's tips (its last
 * nodes); an event carries the tips into other streams and back. A launch replays the nodes, each chain of them in an
 * internal stream, so branches run in any order that the edges allow, and the race detector sees them as it sees
 * streams. */
#include <algorithm>
#include <map>
#include <set>

#include "tests/cudasim/stream.h"

struct CUgraphExec_st {
    std::vector<sim::node> nodes;
    std::vector<size_t> chain_of;      /* chain of each node */
    std::vector<CUstream_st *> chains; /* internal streams */
    uint32_t last;                     /* id of its last launch's end: launches of one graph never overlap */
    sim::clock_vector last_clock;
};

namespace sim
{
static std::vector<std::shared_ptr<capture>> active;
static std::set<CUgraph_st *> graphs;
static std::set<CUgraphExec_st *> execs;
static thread_local enum cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

static cudaError_t invalidate(capture &c, cudaError_t e, const char *call, const char *why)
{
    c.invalid = true;
    report(CUDASIM_CAPTURE, 0, 0,
           std::string(call) + " while stream " + std::to_string(c.origin->index) + " is captured: " + why);
    return fail(e);
}

cudaError_t forbidden_in_capture(const char *call)
{
    cudaError_t e = cudaSuccess;
    if (thread_mode == cudaStreamCaptureModeRelaxed) return e;
    for (auto &c : active) {
        const bool mine = c->by == std::this_thread::get_id();
        if (mine ? c->mode == cudaStreamCaptureModeRelaxed
                 : c->mode != cudaStreamCaptureModeGlobal || thread_mode != cudaStreamCaptureModeGlobal)
            continue;
        e = invalidate(*c, cudaErrorStreamCaptureUnsupported, call, "the capture's mode forbids the call");
    }
    return e;
}
cudaError_t forbidden_on_captured(CUstream_st *s, const char *call)
{
    if (!s->into) return cudaSuccess;
    return invalidate(*s->into, cudaErrorStreamCaptureUnsupported, call, "it cannot be part of a graph");
}
cudaError_t forbidden_on_device(int device, const char *call)
{
    cudaError_t e = cudaSuccess;
    for (auto &c : active)
        if (c->origin->device == device)
            e = invalidate(*c, cudaErrorStreamCaptureUnsupported, call, "it would wait for captured work");
    return e;
}
cudaError_t legacy_in_capture(const CUstream_st *s, const char *call)
{
    if (active.empty() || s != default_stream_of(s->device)) return cudaSuccess;
    for (CUstream_st *t : all_streams())
        if (t->into && t->blocking && t->device == s->device)
            return invalidate(*t->into, cudaErrorStreamCaptureImplicit, call,
                              "the default stream waits for all others");
    return cudaSuccess;
}
cudaError_t captured_event(const CUevent_st *e, const char *call)
{
    if (!e->into) return cudaSuccess;
    if (e->into->ended) return fail(cudaErrorCapturedEvent);
    return invalidate(*e->into, cudaErrorCapturedEvent, call, "the event was recorded in it");
}

cudaError_t capture_node(CUstream_st *s, const std::string &name, work_maker make)
{
    if (s->into->invalid) return fail(cudaErrorStreamCaptureInvalidated);
    std::vector<node> &nodes = s->into->graph->nodes;
    nodes.push_back({name, std::move(make), s->tips, s->device});
    s->tips = {nodes.size() - 1};
    return cudaSuccess;
}
cudaError_t capture_record(CUevent_st *e, CUstream_st *s)
{
    if (s->into->invalid) return fail(cudaErrorStreamCaptureInvalidated);
    e->into = s->into;
    e->tips = s->tips;
    return cudaSuccess;
}
cudaError_t capture_wait(CUstream_st *s, CUevent_st *e)
{
    const char *call = "cudaStreamWaitEvent";
    capture &c = s->into ? *s->into : *e->into;
    if (!e->into) {
        if (!e->id) return cudaSuccess; /* never recorded */
        return invalidate(c, cudaErrorStreamCaptureIsolation, call, "the event was recorded outside it");
    }
    if (e->into->ended) {
        if (s->into) c.invalid = true;
        return fail(s->into ? cudaErrorStreamCaptureIsolation : cudaErrorCapturedEvent);
    }
    if (s->into && s->into != e->into) {
        e->into->invalid = true;
        return invalidate(c, cudaErrorStreamCaptureMerge, call, "the event belongs to another capture");
    }
    if (c.invalid) return fail(cudaErrorStreamCaptureInvalidated);
    if (s == default_stream_of(s->device))
        return invalidate(c, cudaErrorStreamCaptureImplicit, call, "the default stream cannot be captured");
    if (!s->into) {
        s->into = e->into;
        s->tips.clear();
    }
    for (size_t t : e->tips)
        if (std::find(s->tips.begin(), s->tips.end(), t) == s->tips.end()) s->tips.push_back(t);
    return cudaSuccess;
}

/* Nodes that the given nodes depend on, directly or not, and these. */
static std::vector<bool> ancestors_of(const CUgraph_st &g, const std::vector<size_t> &from)
{
    std::vector<bool> in(g.nodes.size());
    for (size_t t : from) in[t] = true;
    for (size_t i = g.nodes.size(); i-- > 0;)
        for (size_t a : g.nodes[i].after)
            if (in[i]) in[a] = true;
    return in;
}

static void end_capture(std::shared_ptr<capture> c)
{
    c->ended = true;
    for (CUstream_st *s : all_streams())
        if (s->into == c) {
            s->into = NULL;
            s->tips.clear();
        }
    active.erase(std::find(active.begin(), active.end(), c));
}

/* Assigns nodes to chains: a node continues a chain whose last node it depends on, or starts a new one. */
static void assign_chains(CUgraphExec_st *x)
{
    std::map<size_t, size_t> ends; /* last node of a chain -> the chain */
    for (size_t i = 0; i < x->nodes.size(); i++) {
        size_t chain = x->chains.size();
        for (size_t a : x->nodes[i].after) {
            auto e = ends.find(a);
            if (e == ends.end() || x->chains[e->second]->device != x->nodes[i].device) continue;
            chain = e->second;
            ends.erase(e);
            break;
        }
        if (chain == x->chains.size()) x->chains.push_back(new_stream(x->nodes[i].device, false));
        x->chain_of.push_back(chain);
        ends[i] = chain;
    }
}

static void add_dependency(CUstream_st *s, operation &o, uint32_t id, const clock_vector &clock)
{
    o.after.push_back(id);
    join(o.clock, clock);
    s->last = o.clock;
}

static void replay(CUgraphExec_st *x, CUstream_st *s)
{
    const auto nothing = []() { return cudaSuccess; };
    operation &begin = enqueue(s, "cudaGraphLaunch", work{nothing, NULL});
    if (x->last) add_dependency(s, begin, x->last, x->last_clock);
    const uint32_t begin_id = begin.id;
    const clock_vector begin_clock = begin.clock;
    std::vector<uint32_t> ids;
    std::vector<clock_vector> clocks;
    for (size_t i = 0; i < x->nodes.size(); i++) {
        const node &n = x->nodes[i];
        CUstream_st *chain = x->chains[x->chain_of[i]];
        operation &o = enqueue(chain, n.name, n.make());
        add_dependency(chain, o, begin_id, begin_clock);
        for (size_t a : n.after) add_dependency(chain, o, ids[a], clocks[a]);
        ids.push_back(o.id);
        clocks.push_back(o.clock);
    }
    operation &end = enqueue(s, "cudaGraphLaunch", work{nothing, NULL});
    for (size_t i = 0; i < ids.size(); i++) add_dependency(s, end, ids[i], clocks[i]);
    x->last = end.id;
    x->last_clock = end.clock;
}

static cudaError_t instantiate(cudaGraphExec_t *exec, cudaGraph_t g)
{
    if (!exec) return fail(cudaErrorInvalidValue);
    *exec = NULL;
    if (!graphs.count(g)) return fail(cudaErrorInvalidValue);
    *exec = new CUgraphExec_st{g->nodes, {}, {}, 0, {}};
    assign_chains(*exec);
    execs.insert(*exec);
    return cudaSuccess;
}

static bool same_shape(const CUgraphExec_st &x, const CUgraph_st &g)
{
    if (x.nodes.size() != g.nodes.size()) return false;
    for (size_t i = 0; i < g.nodes.size(); i++)
        if (x.nodes[i].name != g.nodes[i].name || x.nodes[i].after != g.nodes[i].after ||
            x.nodes[i].device != g.nodes[i].device)
            return false;
    return true;
}
} // namespace sim

using namespace sim;

extern "C" {
cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode)
{
    SIM_ENTER();
    if (!mode || *mode > cudaStreamCaptureModeRelaxed) return fail(cudaErrorInvalidValue);
    std::swap(*mode, thread_mode);
    return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    SIM_ENTER();
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (mode > cudaStreamCaptureModeRelaxed) return fail(cudaErrorInvalidValue);
    if (s == default_stream_of(s->device)) return fail(cudaErrorStreamCaptureUnsupported);
    if (s->into) return fail(cudaErrorIllegalState);
    CUgraph_st *g = new CUgraph_st;
    s->into = std::make_shared<capture>(capture{g, s, mode, std::this_thread::get_id(), false, false});
    s->tips.clear();
    active.push_back(s->into);
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    SIM_ENTER();
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (!graph) return fail(cudaErrorInvalidValue);
    *graph = NULL;
    const std::shared_ptr<capture> c = s->into;
    if (!c) return fail(cudaErrorIllegalState);
    if (c->origin != s)
        return invalidate(*c, cudaErrorStreamCaptureUnmatched, "cudaStreamEndCapture", "by another stream");
    if (c->mode != cudaStreamCaptureModeRelaxed && c->by != std::this_thread::get_id())
        return fail(cudaErrorStreamCaptureWrongThread);
    cudaError_t e = c->invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    const std::vector<bool> in = ancestors_of(*c->graph, s->tips);
    for (size_t i = 0; e == cudaSuccess && i < in.size(); i++)
        if (!in[i])
            e = invalidate(*c, cudaErrorStreamCaptureUnjoined, "cudaStreamEndCapture",
                           ("its end does not depend on " + c->graph->nodes[i].name).c_str());
    end_capture(c);
    if (e != cudaSuccess) {
        delete c->graph;
        return fail(e);
    }
    graphs.insert(c->graph);
    *graph = c->graph;
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    SIM_ENTER();
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (!status) return fail(cudaErrorInvalidValue);
    if (s == default_stream_of(s->device))
        for (CUstream_st *t : all_streams())
            if (t->into && t->blocking && t->device == s->device) return fail(cudaErrorStreamCaptureImplicit);
    *status = !s->into           ? cudaStreamCaptureStatusNone
              : s->into->invalid ? cudaStreamCaptureStatusInvalidated
                                 : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

#if CUDART_VERSION >= 12000
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t g, unsigned long long)
#else
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t g, cudaGraphNode_t *, char *, size_t)
#endif
{
    SIM_ENTER();
    return instantiate(exec, g);
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t g, unsigned long long)
{
    SIM_ENTER();
    return instantiate(exec, g);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    SIM_ENTER();
    CUstream_st *s = resolve(stream);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (!execs.count(exec)) return fail(cudaErrorInvalidValue);
    SIM_TRY(forbidden_on_captured(s, "cudaGraphLaunch"));
    SIM_TRY(legacy_in_capture(s, "cudaGraphLaunch"));
    replay(exec, s);
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    SIM_ENTER();
    if (!execs.erase(exec)) return fail(cudaErrorInvalidValue);
    for (CUstream_st *s : exec->chains) drop_stream(s); /* a launch that still runs is completed */
    delete exec;
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    SIM_ENTER();
    if (!graphs.erase(g)) return fail(cudaErrorInvalidValue);
    delete g;
    return cudaSuccess;
}
/* nodes NULL: *n is their number; otherwise returns up to *n of them. */
cudaError_t cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t *nodes, size_t *n)
{
    SIM_ENTER();
    if (!graphs.count(g) || !n) return fail(cudaErrorInvalidValue);
    for (size_t i = 0; nodes && i < *n; i++) nodes[i] = i < g->nodes.size() ? (cudaGraphNode_t)&g->nodes[i] : NULL;
    *n = nodes ? std::min(*n, g->nodes.size()) : g->nodes.size();
    return cudaSuccess;
}
#if CUDART_VERSION >= 12000
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t g, cudaGraphExecUpdateResultInfo *info)
#else
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t g, cudaGraphNode_t *,
                                enum cudaGraphExecUpdateResult *info)
#endif
{
    SIM_ENTER();
    if (!execs.count(exec) || !graphs.count(g) || !info) return fail(cudaErrorInvalidValue);
    const bool same = same_shape(*exec, *g);
    const auto result = same ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
#if CUDART_VERSION >= 12000
    *info = {};
    info->result = result;
#else
    *info = result;
#endif
    if (!same) return fail(cudaErrorGraphExecUpdateFailure);
    exec->nodes = g->nodes; /* used by later launches */
    return cudaSuccess;
}
}

/* Rendezvous of ranks: matches the ranks' calls, checks that they agree and that all have arrived, then computes each
 * rank's result. Reductions go from rank 0 upwards, rounded to the type at each step, so their order is fixed. */
#include <string.h>

#include <algorithm>

#include "tests/cudasim/sim_comm.h"

namespace comm
{
static std::set<bundle *> unreleased; /* bundles that are not released, of all communicators */

static const char *const kinds[] = {"AllReduce", "AllGather", "ReduceScatter", "Broadcast", "Reduce", "Send", "Recv"};

size_t bytes_of(ncclDataType_t t)
{
    switch (t) {
    case ncclInt8:
    case ncclUint8: return 1;
    case ncclBfloat16: return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32: return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64: return 8;
    default: return 0;
    }
}
static const char *name_of(ncclDataType_t t)
{
    static const char *const names[] = {"int8",   "uint8", "int32", "uint32", "int64",
                                        "uint64", "half",  "float", "double", "bfloat16"};
    return (size_t)t < sizeof names / sizeof *names ? names[t] : "?";
}
std::string text_of(const call &c)
{
    static const char *const ops[] = {"sum", "product", "max", "min", "average"};
    std::string s = std::string(kinds[c.what]) + " of " + std::to_string(c.count) + " " + name_of(c.type);
    if (c.what == ALL_REDUCE || c.what == REDUCE_SCATTER || c.what == REDUCE)
        s += std::string(", ") + (c.op >= ncclSum && c.op <= ncclAvg ? ops[c.op] : "?");
    if (c.what == BROADCAST || c.what == REDUCE) s += ", root " + std::to_string(c.peer);
    if (c.what == SEND) s += " to rank " + std::to_string(c.peer);
    if (c.what == RECV) s += " from rank " + std::to_string(c.peer);
    return s;
}
size_t sent_bytes(const call &c, int ranks)
{
    const size_t one = c.count * bytes_of(c.type);
    return c.what == RECV ? 0 : c.what == REDUCE_SCATTER ? one * (size_t)ranks : one;
}
size_t received_bytes(const call &c, int ranks)
{
    const size_t one = c.count * bytes_of(c.type);
    return c.what == SEND ? 0 : c.what == ALL_GATHER ? one * (size_t)ranks : one;
}
bool does_send(const call &c, int rank)
{
    return c.what != RECV && (c.what != BROADCAST || c.peer == rank);
}
bool does_receive(const call &c, int rank)
{
    return c.what != SEND && (c.what != REDUCE || c.peer == rank);
}
bool has_left(const communicator &q, int rank)
{
    return q.left[(size_t)rank] || (q.ranks[(size_t)rank] && q.ranks[(size_t)rank]->driver->gone);
}

static bool agree(const call &a, const call &b)
{
    if (a.count != b.count || a.type != b.type) return false;
    if (a.what == SEND || a.what == RECV) return a.what != b.what;
    return a.what == b.what && a.op == b.op && a.peer == b.peer;
}

static void fail_rendezvous(const std::shared_ptr<rendezvous> &m)
{
    m->bad = true;
    std::vector<bundle *> those;
    for (auto &h : m->arrived) those.push_back(h.second.of);
    m->arrived.clear();
    for (bundle *b : those) {
        if (b->failed || b->released) continue;
        b->failed = true;
        b->comm->async = ncclRemoteError;
        b->comm->all->waiting.erase(b);
        unreleased.erase(b);
        for (auto &other : b->points) fail_rendezvous(other); /* the bundle's other collectives fail with it */
    }
}

static std::string counted(const bundle &b, size_t i)
{
    return b.numbers[i] ? " (its collective " + std::to_string(b.numbers[i]) + ")" : "";
}

static std::string origin_of(uint64_t capture)
{
    return capture ? "from the graph of its capture " + std::to_string(capture) : "outside a graph";
}

/* Compares the calls of two ranks: the same arguments, captured alike. Reports a mismatch. */
static bool check_pair(const member &first, const bundle &b, size_t i)
{
    const bundle &a = *first.of;
    const call &c = b.calls[i];
    if (!agree(a.calls[first.call], c)) {
        sim::report(CUDASIM_COMM, 0, 0,
                    "rank " + std::to_string(a.comm->rank) + " calls " + text_of(a.calls[first.call]) + ", rank " +
                        std::to_string(b.comm->rank) + " calls " + text_of(c) + counted(b, i));
        return false;
    }
    if (a.capture == b.capture) return true;
    const bool in_order = a.comm->rank < b.comm->rank;
    sim::report(CUDASIM_COMM, 0, 0,
                "not captured alike: " + text_of(c) + counted(b, i) + ": rank " +
                    std::to_string((in_order ? a : b).comm->rank) + " launches it " +
                    origin_of((in_order ? a : b).capture) + ", rank " + std::to_string((in_order ? b : a).comm->rank) +
                    " " + origin_of((in_order ? b : a).capture) +
                    "; all ranks or none must capture a collective, and all launch the graph of that capture");
    return false;
}

static void join_rendezvous(bundle *b, size_t i, const std::string &key, size_t need)
{
    communicator &q = *b->comm->all;
    std::shared_ptr<rendezvous> &m = q.points[key];
    if (!m) {
        m = std::make_shared<rendezvous>();
        m->need = need;
    }
    const std::shared_ptr<rendezvous> mine = m;
    b->points.push_back(mine);
    const bool fits = mine->arrived.empty() || check_pair(mine->arrived.begin()->second, *b, i);
    mine->arrived[b->comm->rank] = {b, i};
    if (mine->arrived.size() == need) q.points.erase(key);
    if (!fits || mine->bad) fail_rendezvous(mine);
}

bundle::bundle(ncclComm *c, std::vector<call> x, uint64_t capture_) : comm(c), calls(std::move(x)), capture(capture_)
{
    after = c->newest ? c->newest->own : 0;
    c->all->waiting.insert(this);
    unreleased.insert(this);
    for (size_t i = 0; i < calls.size(); i++) {
        const int peer = calls[i].peer;
        const std::string me = std::to_string(c->rank), other = std::to_string(peer);
        numbers.push_back(calls[i].what < SEND ? ++c->collectives : 0);
        if (calls[i].what == SEND)
            join_rendezvous(this, i, me + ">" + other + " " + std::to_string(c->sends[peer]++), 2);
        else if (calls[i].what == RECV)
            join_rendezvous(this, i, other + ">" + me + " " + std::to_string(c->recvs[peer]++), 2);
        else
            join_rendezvous(this, i, std::to_string(numbers[i]), (size_t)c->all->n);
    }
    if (failed)
        for (auto &m : points) fail_rendezvous(m);
}
bundle::~bundle()
{
    comm->all->waiting.erase(this);
    unreleased.erase(this);
}

static float add_rounded(float a, float b, bool half)
{
    return half ? __bfloat162float(__float2bfloat16_rn(a + b)) : a + b;
}
template <class T, class V> static void combine(char *to, const char *from, size_t n, ncclRedOp_t op, V add)
{
    for (size_t i = 0; i < n; i++) {
        T a, b;
        memcpy(&a, to + i * sizeof a, sizeof a);
        memcpy(&b, from + i * sizeof b, sizeof b);
        a = op == ncclMax ? std::max(a, b) : op == ncclMin ? std::min(a, b) : op == ncclProd ? (T)(a * b) : add(a, b);
        memcpy(to + i * sizeof a, &a, sizeof a);
    }
}
static void combine_bf16(char *to, const char *from, size_t n, ncclRedOp_t op)
{
    for (size_t i = 0; i < n; i++) {
        __nv_bfloat16 x, y;
        memcpy(&x, to + i * 2, 2);
        memcpy(&y, from + i * 2, 2);
        const float a = __bfloat162float(x), b = __bfloat162float(y);
        x = __float2bfloat16_rn(op == ncclMax    ? std::max(a, b)
                                : op == ncclMin  ? std::min(a, b)
                                : op == ncclProd ? a * b
                                                 : add_rounded(a, b, true));
        memcpy(to + i * 2, &x, 2);
    }
}
static void combine_type(char *to, const char *from, size_t n, ncclDataType_t t, ncclRedOp_t op)
{
    const auto add = [](auto a, auto b) { return (decltype(a))(a + b); };
    switch (t) {
    case ncclInt8: combine<int8_t>(to, from, n, op, add); break;
    case ncclUint8: combine<uint8_t>(to, from, n, op, add); break;
    case ncclInt32: combine<int32_t>(to, from, n, op, add); break;
    case ncclUint32: combine<uint32_t>(to, from, n, op, add); break;
    case ncclInt64: combine<int64_t>(to, from, n, op, add); break;
    case ncclUint64: combine<uint64_t>(to, from, n, op, add); break;
    case ncclFloat64: combine<double>(to, from, n, op, add); break;
    case ncclBfloat16: combine_bf16(to, from, n, op); break;
    default: combine<float>(to, from, n, op, add);
    }
}
template <class T> static void divide(char *p, size_t n, int by)
{
    for (size_t i = 0; i < n; i++) {
        T a;
        memcpy(&a, p + i * sizeof a, sizeof a);
        a = (T)(a / (T)by);
        memcpy(p + i * sizeof a, &a, sizeof a);
    }
}
static void average(char *p, size_t n, ncclDataType_t t, int by)
{
    switch (t) {
    case ncclInt8: divide<int8_t>(p, n, by); break;
    case ncclUint8: divide<uint8_t>(p, n, by); break;
    case ncclInt32: divide<int32_t>(p, n, by); break;
    case ncclUint32: divide<uint32_t>(p, n, by); break;
    case ncclInt64: divide<int64_t>(p, n, by); break;
    case ncclUint64: divide<uint64_t>(p, n, by); break;
    case ncclFloat64: divide<double>(p, n, by); break;
    case ncclFloat32: divide<float>(p, n, by); break;
    default:
        for (size_t i = 0; i < n; i++) {
            __nv_bfloat16 x;
            memcpy(&x, p + i * 2, 2);
            x = __float2bfloat16_rn(__bfloat162float(x) / (float)by);
            memcpy(p + i * 2, &x, 2);
        }
    }
}

static const std::vector<char> &sent_by(const rendezvous &m, int rank)
{
    const member &x = m.arrived.at(rank);
    return x.of->sent[x.call];
}

/* Bytes that `rank` receives once all members have contributed. */
static std::vector<char> received(const rendezvous &m, const call &c, int rank, int n)
{
    const size_t one = c.count * bytes_of(c.type);
    std::vector<char> r;
    if (c.what == SEND || (c.what == REDUCE && rank != c.peer)) return r;
    if (c.what == RECV || c.what == BROADCAST) return sent_by(m, c.peer);
    if (c.what == ALL_GATHER) {
        for (int i = 0; i < n; i++) r.insert(r.end(), sent_by(m, i).begin(), sent_by(m, i).end());
        return r;
    }
    const size_t from = c.what == REDUCE_SCATTER ? (size_t)rank * one : 0;
    r.assign(sent_by(m, 0).begin() + (long)from, sent_by(m, 0).begin() + (long)(from + one));
    for (int i = 1; i < n; i++)
        combine_type(r.data(), sent_by(m, i).data() + from, c.count, c.type, c.op == ncclAvg ? ncclSum : c.op);
    if (c.op == ncclAvg) average(r.data(), c.count, c.type, n);
    return r;
}

/* Collects this bundle and all that must be released with it; false if one of them is not ready. */
static bool collect(bundle *b, std::set<bundle *> &with)
{
    if (!with.insert(b).second) return true;
    if (!b->at_head || b->failed || sim::device_error(b->comm->device) != cudaSuccess) return false;
    for (auto &m : b->points) {
        if (m->bad || m->arrived.size() < m->need) return false;
        for (auto &h : m->arrived)
            if (!collect(h.second.of, with)) return false;
    }
    return true;
}

bool bundle::open()
{
    if (released || failed || aborted) return true;
    std::set<bundle *> all;
    if (!collect(this, all)) return false;
    const int n = comm->all->n;
    for (bundle *b : all)
        for (const call &c : b->calls)
            b->sent.emplace_back((const char *)c.send,
                                 (const char *)c.send + (does_send(c, b->comm->rank) ? sent_bytes(c, n) : 0));
    for (bundle *b : all)
        for (size_t i = 0; i < b->calls.size(); i++)
            b->result.push_back(received(*b->points[i], b->calls[i], b->comm->rank, n));
    for (bundle *b : all) {
        b->released = true;
        b->sent.clear();
        b->points.clear();
        b->comm->all->waiting.erase(b);
        unreleased.erase(b);
    }
    return true;
}

cudaError_t bundle::run()
{
    sim::block_now++;
    if (aborted) return cudaSuccess;
    if (failed) return cudaErrorLaunchFailure;
    const int n = comm->all->n;
    for (const call &c : calls) {
        const std::string name = std::string("nccl") + kinds[c.what];
        if (does_send(c, comm->rank) && !sim::shadow_host_access(c.send, sent_bytes(c, n), sim::READ, name.c_str()))
            return cudaErrorIllegalAddress;
    }
    for (size_t i = 0; i < calls.size(); i++) {
        const std::string name = std::string("nccl") + kinds[calls[i].what];
        if (!sim::shadow_host_access(calls[i].recv, result[i].size(), sim::WRITE, name.c_str()))
            return cudaErrorIllegalAddress;
        memcpy(calls[i].recv, result[i].data(), result[i].size());
    }
    return cudaSuccess;
}

void bundle::cancelled()
{
    if (released || failed || aborted) return;
    sim::report(CUDASIM_COMM, 0, 0,
                "rank " + std::to_string(comm->rank) + " cannot run " + text_of(calls[0]) + ": its device has failed");
    failed = true;
    comm->all->waiting.erase(this);
    unreleased.erase(this);
    for (auto &m : points) fail_rendezvous(m);
}

/* Text: the call that this bundle waits in, and the rank that it waits for. */
static std::string wait_text(const bundle &b)
{
    const communicator &q = *b.comm->all;
    std::string s = "rank " + std::to_string(b.comm->rank) + " waits in ";
    for (size_t i = 0; i < b.points.size(); i++) {
        const rendezvous &m = *b.points[i];
        const bool pair = m.need == 2 && b.calls[i].what >= SEND;
        for (int r = 0; r < q.n; r++) {
            if (m.arrived.count(r) || (pair && r != b.calls[i].peer)) continue;
            return s + text_of(b.calls[i]) + counted(b, i) + ", which rank " + std::to_string(r) + " has not called" +
                   (has_left(q, r) ? ": it has left" : "");
        }
        for (auto &h : m.arrived)
            if (!h.second.of->at_head)
                return s + text_of(b.calls[i]) + ", while that of rank " + std::to_string(h.first) +
                       " is behind other work in its stream";
    }
    return s + text_of(b.calls[0]);
}

bool give_up(bool late)
{
    bundle *stuck = NULL;
    for (bundle *b : unreleased) {
        if (b->at_head && !stuck) stuck = b;
        for (const ncclComm *c : b->comm->all->ranks)
            if (!late && c && !b->comm->all->left[(size_t)c->rank] && !sim::is_stuck(*c->driver))
                return false; /* its host thread may still call the missing collective */
    }
    if (!stuck) return false;
    for (bundle *b : unreleased) /* the oldest, so that the choice does not depend on addresses */
        if (b->at_head && b->own < stuck->own) stuck = b;
    sim::report(CUDASIM_COMM, 0, 0, wait_text(*stuck));
    const auto points = stuck->points;
    for (auto &m : points) fail_rendezvous(m);
    return true;
}
} // namespace comm

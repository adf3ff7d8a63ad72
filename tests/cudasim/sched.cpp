/* The scheduler. Blocks run one at a time, each as up to 1024 fibers on one host thread, in order or (seed) in a random
 * order. A thread runs until it must wait. A fiber whose thread has ended runs the next thread that has not started, so
 * kernels without barriers never switch. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

extern "C" {
#include "engine/base/rng.h"
}
#include "tests/cudasim/sim.h"

struct sim_thread *sim_now;

namespace sim
{
__thread bool running;
uint32_t block_now, launch_first_block;
uint16_t epoch_now;
thread *threads;
warp warps[MAX_THREADS / WARP];
const launch *launch_now;
uint64_t seed;

static struct fiber *fibers, main_fiber;
static std::vector<struct fiber *> idle;
static std::vector<int> ready; /* threads that can run; the next is the first one or (seed) a random one */
static size_t ready_at;
static int n_threads, n_gone, n_waiting;
static cudaError_t failure;
static uint32_t draws;
static std::vector<void *> args; /* of the running launch */

uint32_t below(uint32_t n)
{
    if (!seed || n < 2) return 0;
    return mcs_rng_below({seed, 0, 0, 0}, draws++, n);
}

thread *current()
{
    return (thread *)((char *)sim_now - offsetof(thread, self));
}

bool in_current_stack(const void *p)
{
    const struct fiber *f = current()->fiber;
    return (size_t)((const char *)p - f->low) < f->bytes;
}
bool in_any_stack(const void *p)
{
    for (int i = 0; i < MAX_THREADS; i++)
        if ((size_t)((const char *)p - fibers[i].low) < fibers[i].bytes) return true;
    return false;
}
bool in_state(const void *p)
{
    return p == (const void *)&sim_now || (size_t)((const char *)p - (char *)threads) < MAX_THREADS * sizeof *threads;
}

static void push(int t)
{
    ready.push_back(t);
}
static int pop()
{
    if (ready_at == ready.size()) return -1;
    const size_t i = ready_at + below((uint32_t)(ready.size() - ready_at));
    std::swap(ready[ready_at], ready[i]);
    return ready[ready_at++];
}

/* Switches from the running fiber to thread t, or to the scheduler where t < 0: no thread can run. */
static void switch_to(struct fiber *from, int t)
{
    if (t < 0) {
        fiber_switch(from, &main_fiber);
        return;
    }
    thread *next = &threads[t];
    if (!next->fiber) {
        next->fiber = idle.back();
        idle.pop_back();
    }
    sim_now = &next->self;
    if (next->fiber != from) fiber_switch(from, next->fiber);
}

/* Suspends the running thread `me` until wake(me). */
static void suspend(thread *me, wait at)
{
    me->at = at;
    n_waiting++;
    switch_to(me->fiber, pop());
}

static void wake(thread *t)
{
    t->at = READY;
    n_waiting--;
    push(t->index);
}

static void fiber_entry()
{
    for (;;) {
        thread *me = current();
        struct fiber *mine = me->fiber;
        launch_now->k->call(launch_now->k->entry, args.data());
        me = current();
        me->at = GONE;
        me->fiber = NULL;
        n_gone++;
        const int t = pop();
        if (t >= 0 && !threads[t].fiber) {
            threads[t].fiber = mine;
            sim_now = &threads[t].self;
            continue;
        }
        idle.push_back(mine);
        switch_to(mine, t);
    }
}

void abandon(cudaError_t why)
{
    failure = why;
    struct fiber lost = *current()->fiber;
    lost.sp = NULL; /* the state of an abandoned fiber is not kept */
    fiber_switch(&lost, &main_fiber);
    abort();
}

/* Signal handler: a stack overflow into the guard page ends the program with a line that says so. */
static void on_fault(int signal_number, siginfo_t *info, void *)
{
    char text[256];
    if (running) {
        const bool guard = fiber_in_guard(fibers, MAX_THREADS, info->si_addr);
        const int n = snprintf(text, sizeof text, "cudasim: %s at %p in kernel %s, thread %d of block (%u,%u,%u)\n",
                               guard ? "local memory: the stack of 64 KiB overflows" : "fault", info->si_addr,
                               launch_now->k->name.c_str(), current()->index, sim_now->block.x, sim_now->block.y,
                               sim_now->block.z);
        if (write(2, text, (size_t)n) < 0) _exit(1);
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void open_once()
{
    if (fibers) return;
    shadow_open();
    fibers = fiber_stacks(MAX_THREADS, STACK_BYTES);
    threads = new thread[MAX_THREADS]();
    if (!fibers) {
        fprintf(stderr, "cudasim: no memory for %d stacks\n", MAX_THREADS);
        abort();
    }
    struct sigaction a = {};
    a.sa_sigaction = on_fault;
    a.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &a, NULL);
    sigaction(SIGBUS, &a, NULL);
}

/* The signal handler needs an alternate stack, one for each host thread. */
static void open_thread()
{
    static thread_local bool opened;
    static thread_local char alternate[65536];
    if (opened) return;
    opened = true;
    stack_t s = {};
    s.ss_sp = alternate;
    s.ss_size = sizeof alternate;
    sigaltstack(&s, NULL);
}

static std::string waiting_place(const thread *t)
{
    static const char *const kinds[] = {"", "__syncwarp", "a shuffle", "a vote", "a reduction", "ldmatrix", "mma.sync"};
    if (t->at == AT_BARRIER) return std::string("the barrier at ") + t->file + ":" + std::to_string(t->line);
    const warp *w = &warps[t->index / WARP];
    return std::string(kinds[w->kind]) + " at " + pc_text(pc_pack((void *)w->pc));
}

/* Deadlock: no thread can run, and some wait for threads that have left the kernel or wait elsewhere. Reports it. */
static void deadlock()
{
    const thread *waits = NULL, *other = NULL;
    for (int i = 0; i < n_threads; i++)
        if (threads[i].at == AT_WARP || (threads[i].at == AT_BARRIER && !waits)) waits = &threads[i];
    for (int i = 0; i < n_threads && !other; i++)
        if (threads[i].at != waits->at && (waits->at == AT_BARRIER || i / WARP == waits->index / WARP))
            other = &threads[i];
    std::string text = "thread " + std::to_string(waits->index) + " waits in " + waiting_place(waits);
    if (other)
        text += other->at == GONE
                    ? ", which thread " + std::to_string(other->index) + " has missed: it has left the kernel"
                    : ", thread " + std::to_string(other->index) + " in " + waiting_place(other);
    sim_now = (sim_thread *)&waits->self;
    report(waits->at == AT_BARRIER ? CUDASIM_BARRIER : CUDASIM_COLLECTIVE, 0, 0, text);
    failure = cudaErrorLaunchFailure;
}

static void run_block(const launch &l, uint32_t linear)
{
    block_now++;
    epoch_now = 0;
    n_gone = n_waiting = 0;
    ready.clear();
    ready_at = 0;
    shared_begin(l.dynamic);
    const uint3 block = {linear % l.grid.x, linear / l.grid.x % l.grid.y, linear / l.grid.x / l.grid.y};
    for (int i = 0; i < n_threads; i++) {
        thread *t = &threads[i];
        t->self.thread = {(unsigned)i % l.block.x, (unsigned)i / l.block.x % l.block.y,
                          (unsigned)i / l.block.x / l.block.y};
        t->self.block = block;
        t->self.block_dim = l.block;
        t->self.grid_dim = l.grid;
        t->self.lane = i % WARP;
        t->fiber = NULL;
        t->at = READY;
        t->index = (uint16_t)i;
        t->groups = 0;
        t->copies.clear();
        push(i);
    }
    for (int w = 0; w * WARP < n_threads; w++) {
        warps[w].arrived = 0;
        warps[w].epoch = 0;
        warps[w].lanes = std::min((int)WARP, n_threads - w * WARP);
    }
    idle.clear();
    for (int i = MAX_THREADS - 1; i >= 0; i--) {
        if (i >= n_threads) continue;
        fiber_start(&fibers[i], fiber_entry);
        idle.push_back(&fibers[i]);
    }
    running = true;
    switch_to(&main_fiber, pop());
    if (!failure && n_gone < n_threads) deadlock();
    running = false;
    if (counting) count_block_end();
}

cudaError_t run_launch(const launch &l)
{
    open_once();
    open_thread();
    launch_now = &l;
    args.clear();
    for (auto &a : l.args) args.push_back((void *)a.data());
    n_threads = (int)(l.block.x * l.block.y * l.block.z);
    failure = cudaSuccess;
    launch_first_block = block_now + 1;
    launch_begins(l);
    const uint32_t n = l.grid.x * l.grid.y * l.grid.z;
    std::vector<uint32_t> order(n);
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    for (uint32_t i = 0; seed && i + 1 < n; i++) std::swap(order[i], order[i + below(n - i)]);
    if (counting) {
        cudasim_counters *c = counters_of(l.k->name);
        c->launches++;
        c->blocks += n;
        c->threads += (uint64_t)n * (uint64_t)n_threads;
    }
    for (uint32_t i = 0; i < n && !failure; i++) run_block(l, order[i]);
    launch_ends(l);
    launch_now = NULL;
    return failure;
}
} // namespace sim

using namespace sim;

void cudasim_seed(uint64_t to)
{
    seed = to;
    draws = 0;
}

void sim_barrier(int site, const char *file, int line)
{
    thread *me = current();
    me->site = site;
    me->file = file;
    me->line = line;
    if (n_waiting + 1 < n_threads) {
        suspend(me, AT_BARRIER);
        return;
    }
    /* The last thread to arrive: do all others wait at this barrier? */
    for (int i = 0; i < n_threads; i++) {
        if (i == me->index) continue;
        if (threads[i].at != AT_BARRIER) { /* some wait in a warp collective: deadlock */
            suspend(me, AT_BARRIER);
            return;
        }
        if (threads[i].site == site) continue;
        report(CUDASIM_BARRIER, 0, 0,
               std::string("barrier at ") + file + ":" + std::to_string(line) + ", while thread " + std::to_string(i) +
                   " is in the barrier at " + threads[i].file + ":" + std::to_string(threads[i].line));
        abandon(cudaErrorLaunchFailure);
    }
    epoch_now++;
    if (counting) counters_of(launch_now->k->name)->barriers++;
    for (int i = 0; i < n_threads; i++)
        if (i != me->index) wake(&threads[i]);
    push(me->index); /* it is scheduled like the others */
    switch_to(me->fiber, pop());
}

void sim_mask(unsigned mask)
{
    if (mask == 0xffffffffu) return;
    char text[96];
    snprintf(text, sizeof text, "collective with mask %08x: only the full mask is supported", mask);
    report(CUDASIM_COLLECTIVE, pc_pack(__builtin_return_address(0)), 0, text);
    abandon(cudaErrorLaunchFailure);
}

const struct sim_slot *sim_exchange(int kind, const void *mine, unsigned n, const void *pc)
{
    static const char *const kinds[] = {"", "__syncwarp", "shuffle", "vote", "reduction", "ldmatrix", "mma.sync"};
    thread *me = current();
    warp *w = &warps[me->index / WARP];
    if (w->lanes < WARP) {
        report(CUDASIM_COLLECTIVE, pc_pack(pc), 0,
               std::string(kinds[kind]) + " in a warp of " + std::to_string(w->lanes) + " threads");
        abandon(cudaErrorLaunchFailure);
    }
    const unsigned g = w->generation & 1;
    if (w->arrived == 0) {
        w->kind = kind;
        w->pc = (uintptr_t)pc;
        w->first = me->index;
    } else if (w->kind != kind) {
        report(CUDASIM_COLLECTIVE, pc_pack(pc), pc_pack((void *)w->pc),
               std::string(kinds[kind]) + ", while thread " + std::to_string(w->first) + " of the same warp is in a " +
                   kinds[w->kind] + " at " + pc_text(pc_pack((void *)w->pc)));
        abandon(cudaErrorLaunchFailure);
    }
    memcpy(w->slots[g][me->self.lane].bytes, mine, n);
    if (++w->arrived < WARP) {
        suspend(me, AT_WARP);
        return w->slots[g];
    }
    w->arrived = 0;
    w->generation++;
    if (kind == SIM_SYNCWARP) w->epoch++; /* only __syncwarp orders memory */
    if (counting && kind != SIM_MMA) counters_of(launch_now->k->name)->collectives++;
    const int first = me->index / WARP * WARP;
    for (int i = first; i < first + WARP; i++)
        if (i != me->index) wake(&threads[i]);
    return w->slots[g];
}

void sim_count_mma(void)
{
    if (counting) counters_of(launch_now->k->name)->mma++;
}

/* --- cp.async: the bytes are copied when it is waited for; until then the target holds 0xff bytes (NaN) --- */
void sim_copy_async(void *dst, const void *src, unsigned bytes, unsigned full, const void *pc)
{
    thread *me = current();
    const bool placed = (size_t)((char *)dst - shared) < SHARED_SPACE && (!bytes || in_arena(src));
    if (!placed || bytes > full || (uintptr_t)dst % full || (bytes && (uintptr_t)src % full)) {
        report(placed ? CUDASIM_ALIGN : CUDASIM_HOST, pc_pack(pc), 0,
               placed ? "cp.async of " + std::to_string(bytes) + " bytes: at most " + std::to_string(full) +
                            " bytes, at addresses that are multiples of that"
                      : std::string("cp.async that is not from global to shared memory"));
        abandon(cudaErrorMisalignedAddress);
    }
    if (bytes) shadow_access(src, bytes, READ, (uintptr_t)pc);
    shadow_access(dst, full, WRITE, (uintptr_t)pc);
    memset(dst, 0xff, full);
    shadow_shared_set(dst, full, PENDING);
    me->copies.push_back({dst, src, bytes, full, (uintptr_t)pc, me->groups});
}
void sim_copy_commit(void)
{
    current()->groups++;
}
void sim_copy_wait(unsigned groups)
{
    thread *me = current();
    auto &q = me->copies;
    size_t n = 0;
    for (; n < q.size() && q[n].group + groups < me->groups; n++) {
        const copy &c = q[n];
        shadow_shared_set(c.dst, c.full, UNINIT);
        shadow_access(c.dst, c.full, WRITE, c.pc);
        memset(c.dst, 0, c.full);
        memcpy(c.dst, c.src, c.bytes);
    }
    q.erase(q.begin(), q.begin() + (long)n);
}

/* Inside the simulation: its state, and what its parts ask of each other. */
#ifndef CUDASIM_SIM_H
#define CUDASIM_SIM_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/cudasim/cudasim.h"
#include "tests/cudasim/fiber.h"
#include "tests/cudasim/sim_device.h"

namespace sim
{
enum { WARP = 32, MAX_THREADS = 1024, STACK_BYTES = 65536, SHARED_MAX = 227 * 1024, SHARED_DEFAULT = 48 * 1024 };
enum { SHARED_SPACE = 512 * 1024 }; /* room for the zones between arrays, which do not count against the limit */
enum { MAX_DEVICES = 8 };
const size_t slice_bytes = (size_t)4 << 30, zone = 256; /* a device's part of the arena */
const size_t arena_bytes = MAX_DEVICES * slice_bytes;

/* --- one lock for all calls, and threads that wait for each other (lock.cpp) --- */
struct guard {
    guard();
    ~guard();
};
struct host_thread {
    bool waits = false, gone = false; /* in a call that waits for the device; ended */
    uint64_t seen = 0;                /* the news when it last found that it cannot go on */
};
std::shared_ptr<host_thread> this_host_thread();
bool is_stuck(const host_thread &t); /* ended, or waits and knows all that has happened */
struct waiting {                     /* a wait, since when */
    uint64_t since;
    waiting();
};
void tell_others(); /* something was put into a stream, or has ended */
/* Nothing can run: sleeps until there is news. false: nobody is left who could bring any. */
bool wait_for_others(const waiting &w);
/* Asked by a thread that waits and cannot go on; late: for too long. Each ends what surely hangs and says whether there
 * was anything. */
extern std::vector<bool (*)(bool late)> give_up;
extern int patience_ms;

/* --- memory and its shadow (shadow.cpp) --- */
enum state : uint8_t { NEVER, UNSET, SET, FREED, ZONE, PENDING };
enum access : uint8_t { READ, WRITE, ATOMIC };
struct place {              /* who touched two bytes last */
    uint32_t pc, block;     /* where in the program, and which block since the process began (0: nobody) */
    uint16_t epoch, wepoch; /* barriers that block, and its warp, had passed */
    uint16_t thread;
    uint8_t mask, kind; /* which of the two bytes; access */
};
struct cell {
    place write, read, read2;
};
extern char *arena, *shared; /* device memory, shared memory of the running block */
void shadow_open();
void shadow_set(const void *p, size_t n, state s, bool keep = false); /* of device memory; keep: who touched it */
void give_pages_back(void *p, size_t n);                              /* whole pages in it read as zeros again */
void shadow_shared_clear();                                           /* a block begins */
void shadow_shared_set(const void *p, size_t n, state s);
void shadow_access(const void *p, size_t n, access kind, uintptr_t pc);
/* A copy, memset or library call by the device: checks and records it as one block of its own. what: "cudaMemcpy" ...
 * false where a GPU would fault. */
bool shadow_host_access(const void *p, size_t n, access kind, const char *what, bool may_be_unset = false);
void shadow_copy_state(void *dst, const void *src, size_t n); /* what was unset in src is unset in dst */
bool in_arena(const void *p);
int device_of(const void *p);       /* in the arena: whose slice */
std::string nearest(const void *p); /* memory.cpp: "4 bytes past 1024 allocated ones" */
bool in_allocation(const void *p, size_t n);
bool was_freed(const void *p);
bool is_pinned(const void *p);
void shared_begin(size_t dynamic); /* memory.cpp: a block begins */
extern const char *host_call;      /* the copy that runs; NULL in a kernel */

/* --- execution (sched.cpp) --- */
struct kernel {
    std::string name;
    const void *entry;
    void (*call)(const void *entry, void **args);
    std::vector<size_t> sizes;
    size_t shared_limit = SHARED_DEFAULT;
};
enum wait : uint8_t { READY, AT_BARRIER, AT_WARP, GONE };
struct copy { /* one cp.async not yet delivered */
    void *dst;
    const void *src;
    unsigned bytes, full;
    uintptr_t pc;
    unsigned group;
};
struct thread {
    sim_thread self; /* first: what a kernel sees of it */
    struct fiber *fiber;
    wait at;
    uint16_t index;
    const char *file;
    int line, site;
    unsigned groups; /* cp.async groups committed */
    std::vector<copy> copies;
};
struct warp {
    int arrived, kind, lanes, first;
    unsigned generation;
    uint16_t epoch;
    uintptr_t pc;
    sim_slot slots[2][WARP];
};
struct launch {
    const kernel *k;
    dim3 grid, block;
    size_t dynamic;
    std::vector<std::vector<char>> args;
};
extern __thread bool running; /* this host thread runs a kernel's thread: others of the program may be in host code */
extern uint32_t block_now, launch_first_block; /* block_now counts blocks, copies and memsets of the process */
extern uint16_t epoch_now;
extern thread *threads;
extern warp warps[MAX_THREADS / WARP];
extern const launch *launch_now;
thread *current();
cudaError_t run_launch(const launch &l);    /* a device error, or success */
[[noreturn]] void abandon(cudaError_t why); /* ends the launch from a thread of it */
bool in_own_stack(const void *p);
bool in_any_stack(const void *p);
bool in_state(const void *p); /* of the simulation itself */

void host_memory_written(); /* copy.cpp: by the device, or by a function in a stream */

/* --- random order --- */
extern uint64_t seed;
uint32_t below(uint32_t n); /* uniform in [0, n); 0 for seed 0 */

/* --- streams (stream.cpp) --- */
/* Had the operation that ran block `before` ended before the running one could begin, whatever the order of streams? */
bool ordered_before(uint32_t before);
std::string origin(uint32_t block); /* "layernorm_fwd in stream 2" */
bool run_one(); /* one operation that can run, in an order that the streams allow; false: none can */
void wait_for_device(int device);
void forget_streams(int device);
/* A library's call as an operation of a stream. */
cudaError_t enqueue_call(cudaStream_t s, const char *name, std::function<cudaError_t()> run);
/* Is it all device memory (or, device false, none of it)? Reported under the call's name where not. */
bool range_good(const void *p, size_t n, bool device, const char *call);

/* --- devices and errors (device.cpp) --- */
int device_now();               /* the calling host thread's */
extern int device_running;      /* whose operation runs; -1: none */
bool peers(int device, int of); /* may `device` touch memory of `of`? */
cudaError_t enter();            /* what every call returns now: no driver, no device, the device's sticky error */
/* Notes an error that the thread's next cudaGetLastError returns; returns it. */
cudaError_t fail(cudaError_t e);
cudaError_t note_error(cudaError_t e);              /* the same, success left alone */
cudaError_t fail_device(int device, cudaError_t e); /* sticky: all calls return it until cudaDeviceReset */
cudaError_t device_error(int device);
bool runs_here();             /* kernels for the device's compute capability are in the program */
extern bool in_host_function; /* which may not call back */
#define SIM_ENTER()                                                                                                    \
    const sim::guard sim_guard;                                                                                        \
    do {                                                                                                               \
        const cudaError_t sim_entry = sim::enter();                                                                    \
        if (sim_entry != cudaSuccess) return sim::note_error(sim_entry);                                               \
    } while (0)
void free_all(int device); /* memory.cpp */
size_t memory_limit();
extern size_t memory_limit_set;
cudaError_t forbidden_in_capture(const char *call); /* graph.cpp */

/* --- reports (report.cpp) --- */
extern bool checked;
uint32_t pc_pack(const void *return_address);
std::string pc_text(uint32_t pc); /* "kernels/pointwise/gelu.cu:17" */
/* One line: what happened; where (kernel, block, thread of the running thread, place of pc) is added. */
void report(enum cudasim_kind kind, uint32_t pc, uint32_t other, const std::string &what);
bool in_read_only(const void *p);

/* --- counters (counters.cpp) --- */
extern bool counting;
cudasim_counters *counters_of(const std::string &kernel);
void count_access(const void *p, size_t n, bool is_shared, uintptr_t pc);
void count_block_end();
void launch_begins(const launch &l); /* launches.cpp */
void launch_touches(uint64_t sector);
void launch_ends(const launch &l);
} // namespace sim

#endif

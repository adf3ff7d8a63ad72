/* Internals of the simulation: its state, and the functions that its files call of one another. */
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
enum { SHARED_SPACE = 512 * 1024 }; /* address space; redzones between arrays do not count against SHARED_MAX */
enum { MAX_DEVICES = 8 };
/* slice_bytes: address space of one device in the arena; redzone: bytes around each allocation */
const size_t slice_bytes = (size_t)4 << 30, redzone = 256;
const size_t arena_bytes = MAX_DEVICES * slice_bytes;

/* --- one lock for all calls; host threads that wait for each other (lock.cpp) --- */
struct guard {
    guard();
    ~guard();
};
struct host_thread {
    /* waits: blocked in a call that waits for the device; gone: the thread has ended */
    bool waits = false, gone = false;
    uint64_t seen = 0; /* n_changes (lock.cpp) when it last found that it cannot go on */
};
std::shared_ptr<host_thread> this_host_thread();
bool is_stuck(const host_thread &t); /* ended, or blocked with nothing new since */
struct waiting {                     /* start time of a blocking call */
    uint64_t since;
    waiting();
};
void notify_threads(); /* wakes blocked threads: an operation was enqueued or has ended */
/* Called when no operation can run: sleeps until another thread calls notify_threads. false: no thread is left that
 * could. */
bool wait_for_others(const waiting &w);
/* Called by a blocked thread that cannot go on; late: its patience has run out. Each callback fails the operations that
 * certainly hang and returns whether there were any. */
extern std::vector<bool (*)(bool late)> give_up;
extern int patience_ms;

/* --- memory and its shadow (shadow.cpp) --- */
enum state : uint8_t { UNALLOCATED, UNINIT, INIT, FREED, REDZONE, PENDING };
enum access : uint8_t { READ, WRITE, ATOMIC };
struct access_record {      /* last access to two bytes */
    uint32_t pc, block;     /* program counter; number of the block, counted over the process (0: no access) */
    uint16_t epoch, wepoch; /* barriers passed by the block, __syncwarp calls passed by the warp */
    uint16_t thread;
    uint8_t mask, kind; /* mask: which of the two bytes; kind: enum access */
};
struct shadow_cell {
    access_record write, read, read2;
};
extern char *arena, *shared; /* arena: device memory; shared: shared memory of the running block */
void shadow_open();
/* Sets the state of device memory; keep: leaves the access history. */
void shadow_set(const void *p, size_t n, state s, bool keep = false);
void release_pages(void *p, size_t n); /* madvise: whole pages in the range read as zeros again */
void shadow_shared_clear();
void shadow_shared_set(const void *p, size_t n, state s);
void shadow_access(const void *p, size_t n, access kind, uintptr_t pc);
/* Checks and records a copy, memset or library call of the device as an access by one block with one thread. what: its
 * name for reports, such as "cudaMemcpy". Returns false where a GPU would fault. */
bool shadow_host_access(const void *p, size_t n, access kind, const char *what, bool may_be_uninit = false);
void shadow_copy_state(void *dst, const void *src, size_t n); /* copies the initialised state with the bytes */
bool in_arena(const void *p);
int device_of(const void *p);       /* owner of an address in the arena */
std::string nearest(const void *p); /* memory.cpp: "byte 1028 of an allocation of 1024" */
bool in_allocation(const void *p, size_t n);
bool was_freed(const void *p);
bool is_pinned(const void *p);
void shared_begin(size_t dynamic); /* memory.cpp: at the start of a block */
extern const char *host_call;      /* name of the copy, memset or library call that runs; NULL in a kernel */

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
    sim_thread self; /* must stay first; the part that kernels read */
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
/* this host thread runs device code; other host threads of the program may run host code */
extern __thread bool running;
/* block_now: number of the running block; copies and memsets count as blocks */
extern uint32_t block_now, launch_first_block;
extern uint16_t epoch_now;
extern thread *threads;
extern warp warps[MAX_THREADS / WARP];
extern const launch *launch_now;
thread *current();
cudaError_t run_launch(const launch &l);    /* returns the device's error or cudaSuccess */
[[noreturn]] void abandon(cudaError_t why); /* ends the launch; called by a thread of the kernel */
bool in_current_stack(const void *p);
bool in_any_stack(const void *p);
bool in_state(const void *p); /* the simulation's own variables */

void host_memory_written(); /* copy.cpp: pinned memory was written by the device or by a host function in a stream */

/* --- random order --- */
extern uint64_t seed;
uint32_t below(uint32_t n); /* uniform in [0, n); 0 for seed 0 */

/* --- streams (stream.cpp) --- */
/* Happens-before: must the operation that ran block `before` end before the running one starts, in every legal order of
 * the streams? */
bool ordered_before(uint32_t before);
std::string operation_text(uint32_t block); /* "layernorm_fwd in stream 2" */
bool run_one();                             /* runs one operation whose dependencies are met; false: there is none */
void wait_for_device(int device);
void reset_streams(int device);
/* Enqueues a library call as one operation of a stream. */
cudaError_t enqueue_call(cudaStream_t s, const char *name, std::function<cudaError_t()> run);
/* Is the whole range device memory (device true) or host memory (false)? If not, reports it under the call's name. */
bool range_valid(const void *p, size_t n, bool device, const char *call);

/* --- devices and errors (device.cpp) --- */
int device_now();                     /* current device of the calling host thread */
extern int device_running;            /* device whose operation runs; -1: none */
bool peer_access(int device, int of); /* may `device` access memory of device `of`? */
cudaError_t entry_error(); /* error that every call returns first: no driver, no device, the device's sticky error */
/* Sets the error that the thread's next cudaGetLastError returns; returns it. */
cudaError_t fail(cudaError_t e);
cudaError_t note_error(cudaError_t e);              /* the same, but ignores cudaSuccess */
cudaError_t fail_device(int device, cudaError_t e); /* sticky: all calls return it until cudaDeviceReset */
cudaError_t device_error(int device);
bool has_kernel_image();      /* the program has kernels for the device's compute capability */
extern bool in_host_function; /* a function of cudaLaunchHostFunc runs; it may not call CUDA */
#define SIM_ENTER()                                                                                                    \
    const sim::guard sim_guard;                                                                                        \
    do {                                                                                                               \
        const cudaError_t sim_entry = sim::entry_error();                                                              \
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
/* Adds a report of one line: `what`, and the place (kernel, block and thread that run, source line of pc). */
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

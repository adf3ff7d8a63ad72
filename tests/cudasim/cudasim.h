/* Controls of the simulated devices for tests: order of execution, checks, counters, injected failures. The CUDA calls
 * are NVIDIA's prototypes (cuda_runtime_api.h), defined by this library. Up to eight devices; any host thread can use
 * each. */
#ifndef CUDASIM_H
#define CUDASIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 0 (at start): threads, blocks and streams run in order. Any other value: a random legal order that the seed
 * reproduces. */
void cudasim_seed(uint64_t seed);

/* 1 if the kernels of this program were compiled for checked mode (CMake: cudasim_kernels(... CHECKED)). */
int cudasim_checked(void);

enum cudasim_kind {
    CUDASIM_RACE_SHARED, /* racecheck: two threads access the same shared memory without a barrier between */
    CUDASIM_RACE_GLOBAL, /* the same in global memory: threads, blocks of a launch, or operations of streams */
    CUDASIM_UNINIT,      /* initcheck: read of bytes that were never written */
    CUDASIM_PENDING,     /* access to the target of a cp.async that was not waited for */
    CUDASIM_BOUNDS,      /* memcheck: access outside every allocation or shared array */
    CUDASIM_FREED,       /* access after cudaFree */
    CUDASIM_HOST,        /* host memory in a kernel, or device memory where host memory is required */
    CUDASIM_LOCAL,       /* another thread's local memory */
    CUDASIM_ALIGN,       /* address is no multiple of the access size */
    CUDASIM_BARRIER,     /* synccheck: a barrier that some threads miss or reach at another line */
    CUDASIM_COLLECTIVE,  /* a warp collective that some lanes miss, or where lanes meet in different collectives */
    CUDASIM_LIMIT,       /* more threads, shared memory or blocks than a device has */
    CUDASIM_DEVICE,      /* memory of another device without peer access */
    CUDASIM_PINNED,      /* the host changed pinned memory before a queued copy had read it */
    CUDASIM_CAPTURE,     /* a call that a stream capture forbids */
    CUDASIM_COMM         /* ranks call different collectives, or one rank misses a collective */
};
/* The reports in order, one for each place. A text names kernel, block, thread, file and line. BOUNDS, FREED, HOST,
 * LOCAL, ALIGN, BARRIER and COLLECTIVE end the launch and leave a sticky error, as on a GPU; after the others the
 * launch continues. */
int cudasim_reports(void);
enum cudasim_kind cudasim_report_kind(int i);
const char *cudasim_report_text(int i);
void cudasim_reports_clear(void);
void cudasim_quiet(int on); /* 1: do not print reports to stderr as well */

/* The n-th allocation of device memory from now on fails (1: the next; 0: none). */
void cudasim_fail_alloc(int n);
/* Memory of each device: 1 GiB at start (or CUDASIM_MEMORY_MIB of the environment), at most 4 GiB. */
void cudasim_memory_limit(size_t bytes);
size_t cudasim_bytes_held(void); /* bytes of device memory allocated and not freed, on all devices */
/* Marks these bytes of device memory as uninitialised and fills them with NaN, as an operation of the stream: for a
 * program that reuses parts of one allocation. */
void cudasim_forget(void *device_memory, size_t bytes, void *stream);

/* Number of devices, 0 to 8: 1 at start (or CUDASIM_DEVICES); call it before anything is allocated. */
void cudasim_devices(int n);
/* Compute capability: 9.0 at start (or CUDASIM_CAPABILITY, such as "8.6"); below 8.0 the program has no kernel image
 * for the device. */
void cudasim_capability(int major, int minor);
/* The driver's CUDA version as cudaDriverGetVersion returns it: 12040 at start (or CUDASIM_DRIVER). 0: no driver; one
 * with an older major version than the runtime is insufficient. */
void cudasim_driver(int version);
/* How long a rank waits in a collective without any progress before the wait is reported and ends in an error: 30 s at
 * start (or CUDASIM_PATIENCE_MS). If no thread is left that could complete the collective, it is reported at once. */
void cudasim_patience(int milliseconds);

/* Counters by kernel name while counting is on; accesses are counted in checked mode only. A request is one memory
 * instruction of a warp: the accesses of its lanes at the same program counter with the same number of executions since
 * the warp's last collective. */
struct cudasim_counters {
    char kernel[96];
    uint64_t launches, blocks, threads, barriers;
    uint64_t collectives;     /* shuffles, votes, ldmatrix and other exchanges of a warp */
    uint64_t mma;             /* mma.sync.m16n8k16 of a warp: 2048 multiply-adds each */
    uint64_t global_requests; /* loads, stores and atomics of a warp */
    uint64_t sectors;         /* 32-byte sectors that they touch */
    uint64_t sector_bytes;    /* bytes requested of these sectors */
    uint64_t shared_requests;
    uint64_t bank_conflicts;   /* wavefronts beyond the fewest that a request of its size needs */
    uint64_t partial_requests; /* requests by fewer lanes than the warp has: divergence or a ragged tail */
};
void cudasim_count(int on);
int cudasim_counters_n(void);
const struct cudasim_counters *cudasim_counters_at(int i);
void cudasim_counters_clear(void);
/* Launches, blocks, threads and mma.sync of all kernels since the last call, in plain and checked mode. The first call
 * starts the counting. */
void cudasim_work(uint64_t work[4]);
/* Counters of all kernels whose name contains `part`, summed; kernel is then `part`. */
struct cudasim_counters cudasim_counters_sum(const char *part);
/* mma / (mma + requests + collectives): share of tensor-core operations. */
double cudasim_tensor_share(const struct cudasim_counters *c);
/* Requested bytes over bytes of the sectors touched, 0 to 1. */
double cudasim_sector_use(const struct cudasim_counters *c);

#ifdef __cplusplus
}
#endif
#endif

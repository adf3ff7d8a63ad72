/* What a test asks of the simulated device: order, checks, counters, failures. The CUDA calls themselves are NVIDIA's
 * own prototypes (cuda_runtime_api.h), defined by this library. Up to eight devices, each driven by any host thread. */
#ifndef CUDASIM_H
#define CUDASIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 0 (at start): threads, blocks and streams in order. Any other value: a random legal order, the same for the same
 * seed. */
void cudasim_seed(uint64_t seed);

/* 1 where kernels of this program were compiled for checked mode (CMake: cudasim_kernels(... CHECKED)). */
int cudasim_checked(void);

enum cudasim_kind {
    CUDASIM_RACE_SHARED, /* two threads, one word of shared memory, no barrier between */
    CUDASIM_RACE_GLOBAL, /* the same in global memory: threads of a block, blocks of a launch, or streams */
    CUDASIM_UNINIT,      /* read of bytes that nobody wrote */
    CUDASIM_PENDING,     /* touched while a cp.async to it was not waited for */
    CUDASIM_BOUNDS,      /* outside every array */
    CUDASIM_FREED,       /* after cudaFree */
    CUDASIM_HOST,        /* host memory in a kernel, device memory where host memory is meant */
    CUDASIM_LOCAL,       /* another thread's local memory */
    CUDASIM_ALIGN,       /* address no multiple of the access */
    CUDASIM_BARRIER,     /* a barrier that some threads miss, or reach at another place */
    CUDASIM_COLLECTIVE,  /* a warp's collective that some lanes miss, or take for another one */
    CUDASIM_LIMIT,       /* more threads, shared memory or blocks than a device has */
    CUDASIM_DEVICE,      /* memory of another device, without peer access */
    CUDASIM_PINNED,      /* pinned host memory changed while a queued copy had still to read it */
    CUDASIM_CAPTURE,     /* a call that a stream's capture does not allow */
    CUDASIM_COMM         /* ranks whose collectives differ, or one that misses a collective */
};
/* What was found, in order, each place once. A text names kernel, block, thread, file and line. BOUNDS, FREED, HOST,
 * LOCAL, ALIGN, BARRIER and COLLECTIVE end the launch and leave a sticky error, as on a GPU; the others let it go on.
 */
int cudasim_reports(void);
enum cudasim_kind cudasim_report_kind(int i);
const char *cudasim_report_text(int i);
void cudasim_reports_clear(void);
void cudasim_quiet(int on); /* 1: reports are kept, not printed to stderr as well */

/* The n-th allocation of device memory from now on fails (1: the next); 0: none. And each device's memory: 1 GiB at
 * start (or CUDASIM_MEMORY_MIB of the environment), at most 4 GiB. */
void cudasim_fail_alloc(int n);
void cudasim_memory_limit(size_t bytes);
size_t cudasim_bytes_held(void); /* device memory allocated and not freed, of all devices */
/* What is in these bytes of device memory no longer counts as written: for a program that hands out parts of one
 * allocation again and again. Queued on the stream, as NaN. */
void cudasim_forget(void *device_memory, size_t bytes, void *stream);

/* How many devices there are, 0 to 8: one at start (or CUDASIM_DEVICES); before anything is allocated. Their compute
 * capability, 9.0 (CUDASIM_CAPABILITY, "8.6"): below 8.0 no kernel of the program fits. The driver's CUDA version, as
 * cudaDriverGetVersion says it (CUDASIM_DRIVER, 12040): 0 is none, one of an older major version than the runtime's is
 * insufficient. */
void cudasim_devices(int n);
void cudasim_capability(int major, int minor);
void cudasim_driver(int version);
/* For how long a rank waits for the others of a collective while nothing happens, before it is reported and ends in an
 * error: 30 s at start (CUDASIM_PATIENCE_MS). It is reported at once where nobody is left who could bring it. */
void cudasim_patience(int milliseconds);

/* Counted by kernel name while switched on, of checked kernels only (it is their accesses that are seen). A request is
 * one access of a warp: what its lanes do at one place of the program at the same count of passes since they last met
 * in a collective. */
struct cudasim_counters {
    char kernel[96];
    uint64_t launches, blocks, threads, barriers;
    uint64_t collectives;     /* shuffles, votes, ldmatrix and other exchanges, by warp */
    uint64_t mma;             /* m16n8k16 products, by warp: 2048 multiply-adds each */
    uint64_t global_requests; /* loads, stores and atomics of a warp */
    uint64_t sectors;         /* of 32 bytes, touched by them */
    uint64_t sector_bytes;    /* bytes of these sectors that were asked for */
    uint64_t shared_requests;
    uint64_t bank_conflicts;   /* passes over the 32 banks beyond the fewest that a request of its size takes */
    uint64_t partial_requests; /* by fewer lanes than the warp has: divergence, or a ragged tail */
};
void cudasim_count(int on);
int cudasim_counters_n(void);
const struct cudasim_counters *cudasim_counters_at(int i);
void cudasim_counters_clear(void);
/* Launches, blocks, threads and mma of all kernels since its last call, checked or not; from the first call on. */
void cudasim_work(uint64_t work[4]);
/* Counters of all kernels whose name contains `part`, summed; kernel is then `part`. */
struct cudasim_counters cudasim_counters_sum(const char *part);
/* Share of tensor-core products among the warp-level operations that are seen (products, requests, collectives). */
double cudasim_tensor_share(const struct cudasim_counters *c);
/* Bytes asked for over bytes of the sectors touched, 0 to 1. */
double cudasim_sector_use(const struct cudasim_counters *c);

#ifdef __cplusplus
}
#endif
#endif

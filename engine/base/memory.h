/* How much memory may be taken: a file's header is compared with it before anything is allocated for its contents.
 *
 *     MCS_TRY(mcs_memory_check(n_voxels * 4, "%s: %d x %d x %d voxels", path, nx, ny, nz));
 *     v->values = malloc((size_t)n_voxels * 4);
 *
 * The limit is --max-memory for the whole process (what it has resident counts), or, where none was set, the memory
 * that the machine has free: MemAvailable, and what the cgroups (version 1 and 2) of the process and its limits on
 * address space and data (ulimit -v and -d) leave. Nothing is reserved: two threads that check at the same time may
 * together pass the limit. */
#ifndef MCS_MEMORY_H
#define MCS_MEMORY_H

#include "engine/base/status.h"

#include <stdint.h>

/* Bytes from "8G", "512M", "1.5 GiB", "64k" or "1000000"; K, M, G and T are powers of 1024, in either case, with or
 * without "B" or "iB". E_USAGE: no such size, or less than 1 byte, or more than 2^60. `where` stands in the message. */
enum mcs_status mcs_memory_parse(const char *text, const char *where, int64_t *bytes);
/* Sets the limit of the process in bytes; 0: what the machine has free. Call before threads are started. */
void mcs_memory_limit_set(int64_t bytes);
/* Bytes that may still be taken now; INT64_MAX where the system does not tell. */
int64_t mcs_memory_left(void);
/* E_DATA where `bytes` more (negative: a size that overflowed) may not be taken:
 * "WHAT: needs 15.6 GiB of memory, --max-memory allows 3.0 GiB and 0.2 GiB are in use". `fmt` makes WHAT, which begins
 * with the file's name. Requests of less than 1 MiB pass without a look at the system. */
#define mcs_memory_check(bytes, ...) mcs_memory_check_as(MCS_E_DATA, (bytes), __VA_ARGS__)
/* The same with another status, E_NOMEM where no file is to blame. */
enum mcs_status mcs_memory_check_as(enum mcs_status failure, int64_t bytes, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* "15.6 GiB", "512.0 MiB", "17 bytes" into dst; returns dst. */
const char *mcs_memory_text(int64_t bytes, char *dst, int dst_bytes);

/* Bytes that the process has mapped (RLIMIT_AS counts them), in memory, and private and writable (RLIMIT_DATA), by
 * /proc/self/statm; all 0 where the system does not tell. */
struct mcs_process_memory {
    int64_t mapped, resident, data;
};
struct mcs_process_memory mcs_memory_of_process(void);
/* The soft limit of RLIMIT_AS, RLIMIT_DATA and their like in bytes; INT64_MAX: no limit. */
int64_t mcs_memory_rlimit(int resource);
/* Bytes free by the files of a system under `root` ("" for this one): proc/meminfo, proc/self/cgroup and
 * sys/fs/cgroup. For mcs_memory_left and its test. */
int64_t mcs_memory_free_under(const char *root);

#endif

/* How much memory may be allocated. Readers compare a file's header with it before they allocate anything for its
 * contents.
 *
 *     MCS_TRY(mcs_memory_check(n_voxels * 4, "%s: %d x %d x %d voxels", path, nx, ny, nz));
 *     v->values = malloc((size_t)n_voxels * 4);
 *
 * The limit is --max-memory for the whole process (its resident memory counts) or, where none was set, the machine's
 * free memory: the smallest of MemAvailable, the memory left in the process's cgroups (version 1 and 2), and the memory
 * left by its limits on address space and data (ulimit -v and -d). Nothing is reserved: two threads that check at the
 * same time may together exceed the limit. */
#ifndef MCS_MEMORY_H
#define MCS_MEMORY_H

#include "engine/base/status.h"

#include <stdint.h>

/* Bytes from "8G", "512M", "1.5 GiB", "64k" or "1000000"; K, M, G and T are powers of 1024, in either case, with or
 * without "B" or "iB". `where` is used in the message. E_USAGE: not a size, less than 1 byte, or more than 2^60. */
enum mcs_status mcs_memory_parse(const char *text, const char *where, int64_t *bytes);
/* Sets the limit of the process in bytes; 0: the machine's free memory. Call it before threads are started. */
void mcs_memory_limit_set(int64_t bytes);
/* Bytes that may still be allocated; INT64_MAX where the system does not tell. */
int64_t mcs_memory_left(void);
/* E_DATA where `bytes` more (negative: a size that overflowed) may not be allocated: "WHAT: needs 15.6 GiB of memory,
 * --max-memory allows 3.0 GiB and 0.2 GiB are in use". `fmt` formats WHAT, which begins with the file's name. Requests
 * below 1 MiB pass without asking the system. */
#define mcs_memory_check(bytes, ...) mcs_memory_check_as(MCS_E_DATA, (bytes), __VA_ARGS__)
/* The same with another status, E_NOMEM where no file is the cause. */
enum mcs_status mcs_memory_check_as(enum mcs_status failure, int64_t bytes, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Writes "15.6 GiB", "512.0 MiB" or "17 bytes" to dst; returns dst. */
const char *mcs_memory_text(int64_t bytes, char *dst, int dst_bytes);

/* Bytes of the process by /proc/self/statm: mapped (counted by RLIMIT_AS), resident, and private and writable (counted
 * by RLIMIT_DATA). All 0 where the system does not tell. */
struct mcs_process_memory {
    int64_t mapped, resident, data;
};
struct mcs_process_memory mcs_memory_of_process(void);
/* The soft limit of RLIMIT_AS, RLIMIT_DATA and the like in bytes; INT64_MAX: no limit. */
int64_t mcs_memory_rlimit(int resource);
/* Free bytes according to the system's files under `root` ("" for this system): proc/meminfo, proc/self/cgroup and
 * sys/fs/cgroup. For mcs_memory_left and its test. */
int64_t mcs_memory_free_under(const char *root);

#endif

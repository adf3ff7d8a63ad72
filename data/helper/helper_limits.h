/* Limits that the helper program sets on itself before it reads a file, so that code injected by a hostile file can
 * only answer wrongly, stop, or crash:
 *
 *     files       none can be written (RLIMIT_FSIZE) or opened (system calls); no core is dumped
 *     memory      128 MiB at first, more by mcs_helper_allow, never more than 6 GiB (RLIMIT_DATA); the system's
 *                 out-of-memory killer chooses this process first
 *     time        30 s of processor time, more by mcs_helper_allow (RLIMIT_CPU)
 *     system      only the calls that reading needs (seccomp, x86-64 and arm64): no open, socket, exec, kill or ptrace
 *
 * The helper ignores signals from the terminal: the first Ctrl-C lets mcsam finish the current case. With the address
 * sanitizer there is neither the memory limit nor the filter of system calls: its shadow memory is terabytes of address
 * space, and its reports read files. */
#ifndef MCS_HELPER_LIMITS_H
#define MCS_HELPER_LIMITS_H

#include <stdint.h>

/* 0 where a limit cannot be set. A kernel without seccomp is accepted: the other limits hold. */
int mcs_helper_limit(void);
/* Raises the soft limits before a read of `bytes` bytes in chunks of chunk_bytes: memory for the chunks, and time. */
void mcs_helper_allow(int64_t bytes, int64_t chunk_bytes);

#endif

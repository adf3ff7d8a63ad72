/* A helper program that decodes one file of unknown origin for mcsam.
 *
 * A separate process, because the libraries that decode such files can write out of bounds on damaged ones, so that the
 * author of a file could crash mcsam or run code in it. The helper takes that risk instead, under limits
 * (data/helper/helper_limits.h). It is started with posix_spawn, never fork: mcsam has threads. It gets the open file,
 * not its name, so that the file read is the file checked. Its answers are not trusted: lengths are checked here,
 * numbers and texts by the caller, it cannot shrink the shared memory, and a helper that crashes, hangs or answers
 * nonsense costs one file:
 *     E_DATA "FILE: damaged: the HDF5 library failed on it (it crashed)"
 *
 * The program is searched for in $MCSAM_LIBEXEC where that is set, else beside the running program, else in
 * ../libexec/mcsam relative to it. Without it, or with one of another version, no such file is read: E_FAIL. */
#ifndef MCS_HELPER_H
#define MCS_HELPER_H

#include "engine/base/status.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct helper_kind {
    const char *program; /* "mcsam-h5read" */
    const char *files;   /* "HDF5 files", as in "which reads HDF5 files" */
    const char *library; /* "the HDF5 library", as in "the HDF5 library failed on it" */
    const char *magic;   /* 8 characters, data/helper/helper_protocol.h */
    size_t request_bytes, reply_bytes;
};

struct helper_process {
    pid_t pid;
    int socket, memory; /* mcsam's ends; close-on-exec */
};

struct helper {
    const struct helper_kind *kind;
    const char *path; /* of the file, for messages */
    struct helper_process process;
    int failed; /* no further requests are sent */
};

/* Starts the program and receives its hello. fd: a regular file open for reading; the caller keeps it. kind and path
 * must outlive h. On failure nothing is held. */
enum mcs_status mcs_helper_start(const struct helper_kind *kind, int fd, const char *path, struct helper *h);
void mcs_helper_end(struct helper *h);
/* Sends a request, and receives a reply of kind->reply_bytes; more_ms is added to the time it may take. E_DATA as
 * above. */
enum mcs_status mcs_helper_ask(struct helper *h, const void *request, void *reply, int64_t more_ms);
enum mcs_status mcs_helper_receive(struct helper *h, void *reply, int64_t more_ms);
/* The status and message of a reply, whose text is cleaned in place: E_DATA for every failure, since the file is the
 * cause. */
enum mcs_status mcs_helper_verdict(const struct helper *h, int32_t status, char message[], size_t message_bytes);
/* Ends a helper whose answer cannot be true; all such failures share one message. */
enum mcs_status mcs_helper_nonsense(struct helper *h);

/* Makes the shared memory at least this large. E_IO (ulimit -f), E_NOMEM. */
enum mcs_status mcs_helper_grow(struct helper *h, int64_t bytes);
/* Copies bytes from place `at` of the shared memory, then frees its pages. */
enum mcs_status mcs_helper_copy_out(struct helper *h, int64_t at, int64_t bytes, void *dst);

/* How long a helper may take for one answer: 120 s, and more for large ones. Tests shorten it. */
extern int mcs_helper_timeout_ms;

#endif

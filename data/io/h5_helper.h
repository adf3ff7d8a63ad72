/* Reads one HDF5 file through the helper program mcsam-h5read, for data/io/store.c.
 *
 * A separate process, because libhdf5 1.10.8 writes out of bounds on damaged files, so that the author of a file could
 * crash mcsam or run code in it. The helper takes that risk instead, under limits (data/h5read/h5read_limits.h). It is
 * started with posix_spawn, never fork: mcsam has threads. It gets the open file, not its name, so that the file read
 * is the file checked. Its answers are not trusted: lengths, types, ranks, sizes and texts are checked here, it cannot
 * shrink the shared memory, and a helper that crashes, hangs or answers nonsense costs one file:
 *     E_DATA "FILE: damaged: the HDF5 library failed on it (it crashed)"
 *
 * The program is searched for in $MCSAM_LIBEXEC where that is set, else beside the running program, else in
 * ../libexec/mcsam relative to it. Without it, or with one of another version, no such file is read: E_FAIL.
 *
 * One process per file: a file cannot change how the next one is read. Calls on one helper are serialised. */
#ifndef MCS_H5_HELPER_H
#define MCS_H5_HELPER_H

#include "data/io/hdf5_read.h"

struct h5_helper;

/* fd: a regular file open for reading; the caller keeps it. path names it in messages and must outlive h. */
enum mcs_status mcs_h5_helper_open(int fd, const char *path, struct h5_helper **h);
void mcs_h5_helper_close(struct h5_helper *h); /* NULL is allowed */

/* The calls of data/io/hdf5_read.h. Texts are checked with mcs_memory_check before memory is allocated for them. */
enum mcs_status mcs_h5_helper_info(struct h5_helper *h, const char *name, struct store_info *info,
                                   int64_t *chunk_bytes);
enum mcs_status mcs_h5_helper_get(struct h5_helper *h, const char *name, enum mcs_array_type type, int nd,
                                  const int64_t *dims, void *dst);
enum mcs_status mcs_h5_helper_texts(struct h5_helper *h, const char *name, struct hdf5_texts *texts);
enum mcs_status mcs_h5_helper_list(struct h5_helper *h, struct hdf5_texts *names);
enum mcs_status mcs_h5_helper_note_text(struct h5_helper *h, const char *key, int64_t dst_bytes,
                                        struct hdf5_texts *text);
enum mcs_status mcs_h5_helper_note_number(struct h5_helper *h, const char *key, double *number);

/* Timeout for a reply, in milliseconds; 1 ms is added per 1000 requested bytes. Tests shorten it. */
extern int mcs_h5_helper_timeout_ms;

#endif

/* libhdf5, included here alone: hdf5_read.c, hdf5_write.c, hdf5_checks.c and hdf5_fd.c are the only files that use it,
 * and their shared declarations are here. */
#ifndef MCS_HDF5_LIBRARY_H
#define MCS_HDF5_LIBRARY_H

#include <hdf5.h>

#include "data/io/array.h"
#include "engine/base/status.h"

/* Calls of the library stand between enter and leave: one thread at a time, nothing printed by the library itself, no
 * filter plugins loaded. */
void mcs_hdf5_enter(void);
void mcs_hdf5_leave(void);

enum { HDF5_REASON_BYTES = 160 };
/* The innermost reason on the library's error stack, for a message; returns dst. */
const char *mcs_hdf5_reason(char dst[HDF5_REASON_BYTES]);
#define HDF5_REASON mcs_hdf5_reason((char[HDF5_REASON_BYTES]){0})

/* H5T_NATIVE_* of an array type, -1 where the store has no such arrays. */
hid_t mcs_hdf5_memory_type(enum mcs_array_type type);

/* A file access list by which the library reads the open file behind fd (size bytes, not closed by it) and no other:
 * a second file, to which an external link or a virtual dataset points, cannot be opened through it. *opens counts the
 * opens and must be 0 at first; it must outlive the file. Negative where the library has no memory. */
hid_t mcs_hdf5_fd_access(int fd, int64_t size, int *opens);

/* E_DATA where `name`, from the root of the file, leads over an external or user-defined link or over more than 16 soft
 * links, or where there is nothing by that name. label stands for the file in messages, as below. */
enum mcs_status mcs_hdf5_check_path(const char *label, hid_t file, const char *name);
/* E_DATA where an open dataset keeps its values outside the file (external storage, virtual dataset), needs a filter
 * that is not built into the library, or has chunks of more than 1 GiB. *chunk_bytes: of one chunk, 0 without any. */
enum mcs_status mcs_hdf5_check_storage(const char *label, hid_t set, const char *name, int64_t *chunk_bytes);
/* E_DATA where the file has an external or user-defined link anywhere. */
enum mcs_status mcs_hdf5_check_links(const char *label, hid_t file);

#endif

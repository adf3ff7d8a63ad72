/* libhdf5 and the shared declarations of the only files that use it: hdf5_read.c, hdf5_write.c, hdf5_checks.c and
 * hdf5_fd.c. */
#ifndef MCS_HDF5_LIBRARY_H
#define MCS_HDF5_LIBRARY_H

#include <hdf5.h>

#include "data/io/array.h"
#include "engine/base/status.h"

/* Calls of the library are between enter and leave: one thread at a time, nothing printed by the library, no filter
 * plugins loaded. */
void mcs_hdf5_enter(void);
void mcs_hdf5_leave(void);

enum { HDF5_REASON_BYTES = 160 };
/* The innermost reason on the library's error stack, for a message; returns dst. */
const char *mcs_hdf5_reason(char dst[HDF5_REASON_BYTES]);
#define HDF5_REASON mcs_hdf5_reason((char[HDF5_REASON_BYTES]){0})

/* H5T_NATIVE_* of an array type, -1 where the store does not support it. */
hid_t mcs_hdf5_memory_type(enum mcs_array_type type);

/* A file access property list through which the library reads the open file behind fd (size bytes; it does not close
 * fd) and no other: a second file, the target of an external link or a virtual dataset, cannot be opened through it.
 * *opens counts the opens and must be 0 at first; it must outlive the file. Negative where the library has no memory.
 */
hid_t mcs_hdf5_fd_access(int fd, int64_t size, int *opens);

/* E_DATA where the path `name`, from the root of the file, has an external or user-defined link or more than 16 soft
 * links, or does not exist. label names the file in messages, also below. */
enum mcs_status mcs_hdf5_check_path(const char *label, hid_t file, const char *name);
/* E_DATA where an open dataset stores its values outside the file (external storage, virtual dataset), needs a filter
 * that is not built into the library, or has chunks of more than 1 GiB. *chunk_bytes: size of one chunk, 0 without
 * chunks. */
enum mcs_status mcs_hdf5_check_storage(const char *label, hid_t set, const char *name, int64_t *chunk_bytes);
/* E_DATA where the file has an external or user-defined link anywhere. */
enum mcs_status mcs_hdf5_check_links(const char *label, hid_t file);

#endif

/* Reads one HDF5 file through the helper program mcsam-h5read, for data/io/store.c.
 * Its reasons and limits: data/helper/helper.h.
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

#endif

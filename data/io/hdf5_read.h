/* Reads one HDF5 file with libhdf5 in this process. Used for files that this program has written, recognised by their
 * SHA-256 (data/io/store.c), and inside the helper program that reads all others (data/h5read): libhdf5 1.10 writes out
 * of bounds on damaged files, and no check here prevents that.
 *
 * The calls check that the values are in the file and not in others (no external links, external storage or
 * virtual datasets), that no filter plugin is loaded, and that names, ranks, counts, chunks and texts are bounded.
 * Statuses and conversions are those of data/io/store.h, which uses these calls; label names the file in messages
 * and must outlive the file. */
#ifndef MCS_HDF5_READ_H
#define MCS_HDF5_READ_H

#include "data/io/store.h"

struct hdf5_file;

enum {
    HDF5_MAX_NAME = 1023,         /* bytes of a dataset's name with its groups, and of an attribute's key */
    HDF5_MAX_DATASETS = 100000,   /* in a file that is listed */
    HDF5_MAX_TEXTS = 10000000,    /* in one list */
    HDF5_MAX_TEXT_BYTES = 1 << 28 /* total size of the texts in one list */
};

/* fd: a regular file, open for reading; the caller keeps it and must not close it before this file. E_DATA: not an HDF5
 * file, truncated, damaged. */
enum mcs_status mcs_hdf5_open(int fd, const char *label, struct hdf5_file **f);
void mcs_hdf5_close(struct hdf5_file *f); /* NULL is allowed */

/* *chunk_bytes: uncompressed size of one chunk, 0 for datasets without chunks. */
enum mcs_status mcs_hdf5_info(struct hdf5_file *f, const char *name, struct store_info *info, int64_t *chunk_bytes);
enum mcs_status mcs_hdf5_get(struct hdf5_file *f, const char *name, enum mcs_array_type type, int nd,
                             const int64_t *dims, void *dst);
/* Malloc'ed texts one after the other, each ended by NUL: n texts in n_bytes bytes. */
struct hdf5_texts {
    int64_t n, n_bytes;
    char *bytes;
};
enum mcs_status mcs_hdf5_texts(struct hdf5_file *f, const char *name, struct hdf5_texts *texts);
enum mcs_status mcs_hdf5_list(struct hdf5_file *f, struct hdf5_texts *names); /* not sorted */
/* The value of a text attribute of the root group (a "note" in names and messages). E_DATA: no such attribute, or its
 * text is longer than dst_bytes - 1. */
enum mcs_status mcs_hdf5_note_text(struct hdf5_file *f, const char *key, int64_t dst_bytes, struct hdf5_texts *text);
enum mcs_status mcs_hdf5_note_number(struct hdf5_file *f, const char *key, double *number);

#endif

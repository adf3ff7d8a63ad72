/* A small store: named arrays, lists of texts, and attributes in one HDF5 file that h5py, MATLAB and h5dump read.
 *
 *     MCS_TRY(mcs_store_create("OUT.h5", &s));
 *     MCS_TRY_GOTO(mcs_store_put(s, "image_embeddings", MCS_ARRAY_F32, 2, dims, x), st, done);
 *     MCS_TRY_GOTO(mcs_store_put_number(s, "logit_scale", 4.4), st, done);
 *     st = mcs_store_commit(s), s = NULL;
 *   done:
 *     mcs_store_close(s);              // without a commit nothing is written
 *
 * A new file is kept in memory until it is committed, whole or not at all. Object times are off: the same contents
 * in the same order give the same bytes. Calls from several threads are serialised.
 *
 * Threat model: the author of an opened file is hostile. libhdf5 1.10.8 writes out of bounds on damaged files, and
 * the format can refer to other files. So a file is read in this process only if this program wrote it: its SHA-256,
 * computed first, must be in the record of the run folder that contains it (data/run/run_folder.h).
 * All others are read by a helper program that can open and write nothing (data/io/h5_helper.h), one process per file.
 * Claims of a file are bounded: names of up to 1023 bytes, 100,000 datasets, 6 dimensions, chunks of up to 1 GiB, 10
 * million texts of 256 MiB together, values of up to --max-memory and not more than the stored bytes can unpack to.
 * External links, external storage, virtual datasets and plugin filters are refused; the message names them. */
#ifndef MCS_STORE_H
#define MCS_STORE_H

#include "data/io/array.h"
#include "engine/base/status.h"

#include <stdint.h>

struct store;
enum { MCS_STORE_MAX_ND = 6 };

/* Fails at once with E_IO where `path` cannot be written. */
enum mcs_status mcs_store_create(const char *path, struct store **s);
/* E_NOINPUT; E_DATA: not an HDF5 file, truncated, or damaged so that the library failed on it; E_IO: cannot be read, or
 * not a regular file; E_FAIL: the helper program is missing or cannot be started. Any call below may return the same
 * E_DATA where the library fails on the file later; then the only valid call is mcs_store_close. */
enum mcs_status mcs_store_open(const char *path, struct store **s);
/* Writes the file and closes the store, also when it fails (E_IO: the old file is kept). */
enum mcs_status mcs_store_commit(struct store *s);
/* Closes; uncommitted contents are dropped. NULL is allowed. */
void mcs_store_close(struct store *s);

/* Arrays of F32, I32, U8 and I64, up to 6 dimensions, in C order. Names may contain "/" (groups are created). */
enum mcs_status mcs_store_put(struct store *s, const char *name, enum mcs_array_type type, int nd, const int64_t *dims,
                              const void *data);
/* A list of UTF-8 texts. */
enum mcs_status mcs_store_put_texts(struct store *s, const char *name, int n, const char *const *texts);
/* Attributes of the root group, called notes in messages. */
enum mcs_status mcs_store_put_text(struct store *s, const char *key, const char *text);
enum mcs_status mcs_store_put_number(struct store *s, const char *key, double number);

struct store_info {
    enum mcs_array_type type; /* MCS_ARRAY_N_TYPES for any other type: texts, compounds */
    int nd;
    int64_t dims[MCS_STORE_MAX_ND];
    int64_t n_values;
};
/* E_DATA: no such dataset, more than 6 dimensions, values outside the file, or more values than memory allows
 * (mcs_memory_check counts them once, for the copy that the caller will allocate). */
enum mcs_status mcs_store_get_info(struct store *s, const char *name, struct store_info *info);
/* Copies an array of exactly this type and shape (F32 also from stored float16 and float64). Otherwise E_DATA, with
 * both shapes and types. */
enum mcs_status mcs_store_get(struct store *s, const char *name, enum mcs_array_type type, int nd, const int64_t *dims,
                              void *dst);
/* A malloc'ed array of n malloc'ed texts; mcs_store_texts_free releases it. */
enum mcs_status mcs_store_get_texts(struct store *s, const char *name, int *n, char ***texts);
void mcs_store_texts_free(int n, char **texts);
/* E_DATA: no such attribute, or longer than dst_bytes - 1. */
enum mcs_status mcs_store_get_text(struct store *s, const char *key, char *dst, int dst_bytes);
enum mcs_status mcs_store_get_number(struct store *s, const char *key, double *number);
/* Names of all datasets with their groups ("a/b"), sorted; release with mcs_store_texts_free. */
enum mcs_status mcs_store_list(struct store *s, int *n, char ***names);

#endif

/* Files that nnunetv2 reads for a preprocessed case: STEM.npz with the arrays, STEM.pkl with the properties. */
#ifndef MCS_NNUNET_NPZ_H
#define MCS_NNUNET_NPZ_H

#include "data/io/array.h"
#include "engine/base/status.h"

#include <stddef.h>
#include <stdint.h>

/* numpy.savez: a zip archive, stored, of .npy files in C order. */
struct npz_array {
    const char *name;         /* "data" */
    enum mcs_array_type type; /* F32, I16 */
    int nd;
    int64_t dims[MCS_ARRAY_MAX_ND];
    const void *values;
};
/* Whole or not at all; the same arrays give the same bytes. E_USAGE: another type; E_IO, E_NOMEM. */
enum mcs_status mcs_npz_write(const char *path, int n, const struct npz_array *arrays);

/* A Python pickle (protocol 3) is written into memory, value by value:
 *
 *     MCS_TRY(mcs_pickle_begin(&p));
 *     mcs_pickle_open(&p, '{');  mcs_pickle_put_text(&p, "spacing");  ...  mcs_pickle_close(&p, '{');
 *     MCS_TRY(mcs_pickle_end(&p, path));
 *
 * Between open and close of '{' are keys and values in turn, of '(' and '[' the elements of a tuple and a list. Arrays
 * are numpy.ndarray over bytes, which every version of numpy reads. Failures are reported by mcs_pickle_end. */
struct pickle_out {
    char *bytes;
    size_t n_bytes;
    void *stream;
};
enum mcs_status mcs_pickle_begin(struct pickle_out *p);
void mcs_pickle_open(struct pickle_out *p, char kind);
void mcs_pickle_close(struct pickle_out *p, char kind);
void mcs_pickle_put_text(struct pickle_out *p, const char *text);
void mcs_pickle_put_int(struct pickle_out *p, int64_t v);
void mcs_pickle_put_real(struct pickle_out *p, double v);
/* I64 and F64, at most 4 GiB. */
void mcs_pickle_put_array(struct pickle_out *p, enum mcs_array_type type, int nd, const int64_t *dims,
                          const void *values);
/* Writes the file, whole or not at all, and releases the memory, also on failure; path NULL only releases. */
enum mcs_status mcs_pickle_end(struct pickle_out *p, const char *path);

#endif

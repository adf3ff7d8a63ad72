/* Builds an HDF5 file in memory, for data/io/store.c; the calls are those of data/io/store.h. */
#ifndef MCS_HDF5_WRITE_H
#define MCS_HDF5_WRITE_H

#include "data/io/array.h"
#include "engine/base/status.h"

struct hdf5_writer;

/* label names the file in messages and must outlive w. */
enum mcs_status mcs_hdf5_create(const char *label, struct hdf5_writer **w);
void mcs_hdf5_drop(struct hdf5_writer *w); /* NULL is allowed */
enum mcs_status mcs_hdf5_put(struct hdf5_writer *w, const char *name, enum mcs_array_type type, int nd,
                             const int64_t *dims, const void *data);
/* n texts of fixed length, width bytes each. */
enum mcs_status mcs_hdf5_put_texts(struct hdf5_writer *w, const char *name, int n, int64_t width, const char *block);
enum mcs_status mcs_hdf5_put_text(struct hdf5_writer *w, const char *key, const char *text);
enum mcs_status mcs_hdf5_put_number(struct hdf5_writer *w, const char *key, double number);
/* The bytes of the file (HDF5's "file image"), malloc'ed. */
enum mcs_status mcs_hdf5_file_image(struct hdf5_writer *w, char **bytes, int64_t *n_bytes);

#endif

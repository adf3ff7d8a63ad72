/* safetensors: named arrays after a JSON header. https://github.com/huggingface/safetensors (format section)
 *
 *     8 bytes: length of the header, little endian | the header, JSON | the arrays' bytes, little endian, without gaps
 *
 * Every byte of a file is treated as hostile: lengths, offsets, shapes and names are checked before they are used. */
#ifndef MCS_SAFETENSORS_H
#define MCS_SAFETENSORS_H

#include "data/io/array.h"
#include "engine/base/status.h"

#include <stdint.h>

struct safetensors; /* an open file, wholly in memory */

struct safetensor {
    const char *name; /* owned by the file, like bytes */
    enum mcs_array_type type;
    int nd;
    int64_t dims[MCS_ARRAY_MAX_ND];
    int64_t n_values, n_bytes;
    const uint8_t *bytes; /* not aligned */
};

/* E_NOINPUT, E_IO, E_NOMEM; E_DATA: not a safetensors file, damaged or truncated. Close with mcs_safetensors_close. */
enum mcs_status mcs_safetensors_open(const char *path, struct safetensors **file);
/* The same from bytes in memory, which are copied; `name` is used in messages. */
enum mcs_status mcs_safetensors_parse(const char *name, const void *bytes, int64_t n_bytes, struct safetensors **file);
void mcs_safetensors_close(struct safetensors *file);

int mcs_safetensors_count(const struct safetensors *file);
const struct safetensor *mcs_safetensors_at(const struct safetensors *file, int i);              /* sorted by name */
const struct safetensor *mcs_safetensors_find(const struct safetensors *file, const char *name); /* NULL: not there */
const char *mcs_safetensors_metadata(const struct safetensors *file, const char *key);           /* NULL: not there */

/* Copies an array of exactly this shape. f32 widens F16, BF16 and narrows F64; i64 widens U8 and I32. E_DATA: no such
 * array, another shape (the message names both), a type that does not convert. */
enum mcs_status mcs_safetensors_read_f32(const struct safetensors *file, const char *name, int nd, const int64_t *dims,
                                         float *dst);
enum mcs_status mcs_safetensors_read_i64(const struct safetensors *file, const char *name, int nd, const int64_t *dims,
                                         int64_t *dst);

struct safetensor_out {
    const char *name;
    enum mcs_array_type type; /* F32 or F16 (rounded to nearest even) */
    int nd;
    int64_t dims[MCS_ARRAY_MAX_ND];
    const float *values;
};
/* Writes the arrays sorted by name, whole or not at all; meta: n_meta pairs of key and value. The same contents give
 * the same bytes. E_USAGE: a name twice or "__metadata__", an unsupported type. */
enum mcs_status mcs_safetensors_write(const char *path, int n, const struct safetensor_out *arrays, int n_meta,
                                      const char *const (*meta)[2]);

#endif

/* NumPy's .npy files: float32 in C order. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#ifndef MCS_NPY_H
#define MCS_NPY_H

#include "data/io/array.h"
#include "engine/base/status.h"

#include <stdint.h>

struct npy {
    int nd;
    int64_t dims[MCS_ARRAY_MAX_ND];
    int64_t n_values;
    float *values; /* owned */
};

/* Reads versions 1 to 3, little endian float32 (float64 and float16 are converted), C order. E_NOINPUT, E_IO, E_DATA
 * (not .npy, damaged, truncated, another type, Fortran order). Release with mcs_npy_free. */
enum mcs_status mcs_npy_read(const char *path, struct npy *a);
void mcs_npy_free(struct npy *a);
/* Writes version 1, float32, whole or not at all; the bytes are those of numpy.save. */
enum mcs_status mcs_npy_write(const char *path, const float *values, int nd, const int64_t *dims);

#endif

/* The element types of arrays in files (weights, HDF5, .npy). */
#ifndef MCS_ARRAY_H
#define MCS_ARRAY_H

#include <stdint.h>

enum { MCS_ARRAY_MAX_ND = 8 };

/*  name, bytes, dtype in safetensors */
#define MCS_ARRAY_TYPE_LIST(X)                                                                                         \
    X(F32, 4, "F32")                                                                                                   \
    X(F16, 2, "F16")                                                                                                   \
    X(BF16, 2, "BF16")                                                                                                 \
    X(F64, 8, "F64")                                                                                                   \
    X(U8, 1, "U8")                                                                                                     \
    X(I32, 4, "I32")                                                                                                   \
    X(I64, 8, "I64")                                                                                                   \
    X(I16, 2, "I16")                                                                                                   \
    X(I8, 1, "I8")                                                                                                     \
    X(BOOL, 1, "BOOL")

enum mcs_array_type {
#define X(name, bytes, word) MCS_ARRAY_##name,
    MCS_ARRAY_TYPE_LIST(X)
#undef X
        MCS_ARRAY_N_TYPES
};

int mcs_array_type_bytes(enum mcs_array_type type);
const char *mcs_array_type_name(enum mcs_array_type type);
/* Product of the sizes; -1 if a size is negative, nd exceeds MCS_ARRAY_MAX_ND, or the product exceeds 2^60. */
int64_t mcs_array_count(int nd, const int64_t *dims);
int mcs_array_same_shape(int nd, const int64_t *dims, int nd2, const int64_t *dims2);
/* Writes "(2, 3, 4)" to dst, for messages; returns dst. */
const char *mcs_array_shape_text(int nd, const int64_t *dims, char *dst, int dst_bytes);

/* IEEE binary16 and bfloat16. Narrowing rounds to nearest, ties to even; overflow becomes infinity, NaN stays NaN. */
void mcs_half_to_float(const uint16_t *src, int64_t n, float *dst);
void mcs_float_to_half(const float *src, int64_t n, uint16_t *dst);
void mcs_bfloat_to_float(const uint16_t *src, int64_t n, float *dst);
/* Reverses the bytes of each of n values of `bytes` bytes, in place. */
void mcs_swap_bytes(void *values, int bytes, int64_t n);
/* How many of n values are NaN or infinite. */
int64_t mcs_count_not_finite(const float *src, int64_t n);

#endif

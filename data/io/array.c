/* Element types and shapes of arrays in files. */
#include "data/io/array.h"

#include <stdio.h>
#include <string.h>

static const struct {
    int bytes;
    const char *name;
} types[] = {
#define X(name, bytes, word) {bytes, word},
    MCS_ARRAY_TYPE_LIST(X)
#undef X
};

int mcs_array_type_bytes(enum mcs_array_type type)
{
    return types[type].bytes;
}

const char *mcs_array_type_name(enum mcs_array_type type)
{
    return (unsigned)type < MCS_ARRAY_N_TYPES ? types[type].name : "unknown type";
}

int64_t mcs_array_count(int nd, const int64_t *dims)
{
    const int64_t limit = (int64_t)1 << 60;
    int64_t n = 1;
    int empty = 0;

    if (nd < 0 || nd > MCS_ARRAY_MAX_ND) return -1;
    for (int i = 0; i < nd; i++) {
        if (dims[i] < 0) return -1;
        if (dims[i] == 0)
            empty = 1;
        else if (n > limit / dims[i])
            return -1;
        else
            n *= dims[i];
    }
    return empty ? 0 : n;
}

int mcs_array_same_shape(int nd, const int64_t *dims, int nd2, const int64_t *dims2)
{
    if (nd != nd2) return 0;
    for (int i = 0; i < nd; i++)
        if (dims[i] != dims2[i]) return 0;
    return 1;
}

const char *mcs_array_shape_text(int nd, const int64_t *dims, char *dst, int dst_bytes)
{
    int at = snprintf(dst, (size_t)dst_bytes, "(");
    for (int i = 0; i < nd && at < dst_bytes; i++)
        at += snprintf(dst + at, (size_t)(dst_bytes - at), i ? ", %lld" : "%lld", (long long)dims[i]);
    if (at < dst_bytes) snprintf(dst + at, (size_t)(dst_bytes - at), ")");
    return dst;
}

static float as_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static uint32_t as_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

/* The exponent's bias differs by 112: multiplying by 2^112 corrects it and normalises subnormals in one step. */
void mcs_half_to_float(const uint16_t *src, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t h = src[i], magnitude = (h & 0x7fffu) << 13, sign = (h & 0x8000u) << 16;
        uint32_t finite = as_bits(as_float(magnitude) * 0x1p112f), special = magnitude | 0x7f800000u;
        dst[i] = as_float(sign | ((h & 0x7c00u) == 0x7c00u ? special : finite));
    }
}

void mcs_float_to_half(const float *src, int64_t n, uint16_t *dst)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t x = as_bits(src[i]), sign = x >> 16 & 0x8000u, h;
        x &= 0x7fffffffu;
        if (x > 0x7f800000u) { /* NaN: keep it NaN whatever its low bits are */
            h = 0x7e00u | (x >> 13 & 0x3ffu);
        } else if (x >= 0x477ff000u) { /* 65520 and above round to infinity */
            h = 0x7c00u;
        } else if (x < 0x38800000u) {
            /* Subnormal: after adding 0.5, whose units in the last place are 2^-24, the low bits are the result; the
             * addition has rounded it. */
            h = as_bits(as_float(x) + 0.5f) - 0x3f000000u;
        } else {
            /* Lower the exponent's bias by 112 and drop 13 bits, rounding to nearest even. */
            h = (x - 0x38000000u + 0xfffu + (x >> 13 & 1)) >> 13;
        }
        dst[i] = (uint16_t)(sign | h);
    }
}

void mcs_bfloat_to_float(const uint16_t *src, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++) dst[i] = as_float((uint32_t)src[i] << 16);
}

/* By bits, without a branch: as fast as the values can be read, whatever the compiler assumes of NaN. */
int64_t mcs_count_not_finite(const float *src, int64_t n)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) count += (as_bits(src[i]) & 0x7f800000u) == 0x7f800000u;
    return count;
}

void mcs_swap_bytes(void *values, int bytes, int64_t n)
{
    for (uint8_t *p = values, *end = p + n * bytes; p < end; p += bytes)
        for (int k = 0; k < bytes / 2; k++) {
            const uint8_t first = p[k];
            p[k] = p[bytes - 1 - k];
            p[bytes - 1 - k] = first;
        }
}

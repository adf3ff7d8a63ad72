#include "data/weights/weight_write.h"

#include "data/io/gzip.h"

enum mcs_status mcs_weight_out_check(const char *path, const struct weight_out *t)
{
    MCS_REQUIRE(mcs_array_count(t->nd, t->dims) >= 0 && (t->type == MCS_ARRAY_F32 || t->type == MCS_ARRAY_F16),
                MCS_E_USAGE, "%s: array %s: type %s with %d dimensions is not written", path, t->name,
                mcs_array_type_name(t->type), t->nd);
    return MCS_OK;
}

int mcs_weight_out_put(FILE *f, const struct weight_out *t, uint32_t *crc)
{
    enum { PART = 1 << 14 };
    uint16_t half[PART];
    const int64_t count = mcs_array_count(t->nd, t->dims), bytes = mcs_array_type_bytes(t->type);
    for (int64_t i = 0; i < count; i += PART) {
        const int64_t n = count - i < PART ? count - i : PART;
        const void *part = t->values + i;
        if (t->type == MCS_ARRAY_F16) {
            mcs_float_to_half(t->values + i, n, half);
            part = half;
        }
        if (fwrite(part, (size_t)bytes, (size_t)n, f) != (size_t)n) return 0;
        if (crc) *crc = mcs_crc32(*crc, part, n * bytes);
    }
    return 1;
}

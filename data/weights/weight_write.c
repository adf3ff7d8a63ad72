#include "data/weights/weight_write.h"

#include "data/io/gzip.h"
#include "engine/base/memory.h"

#include <errno.h>
#include <stdlib.h>

enum mcs_status mcs_weight_out_check(const char *path, const struct weight_out *t)
{
    const int rounded = t->type == MCS_ARRAY_F32 || t->type == MCS_ARRAY_F16;
    const int as_it_is = t->source && t->source->type == t->type,
              from_floats = !t->source || mcs_weight_is_float(t->source->type);
    MCS_REQUIRE(mcs_array_count(t->nd, t->dims) >= 0 && (as_it_is || (rounded && from_floats)), MCS_E_USAGE,
                "%s: array %s: type %s with %d dimensions is not written", path, t->name, mcs_array_type_name(t->type),
                t->nd);
    return MCS_OK;
}

static int put_raw(FILE *f, const void *bytes, int64_t n_bytes, uint32_t *crc)
{
    if (fwrite(bytes, 1, (size_t)n_bytes, f) != (size_t)n_bytes) return 0;
    if (crc) *crc = mcs_crc32(*crc, bytes, n_bytes);
    return 1;
}

static int put_values(FILE *f, const struct weight_out *t, const float *values, uint32_t *crc)
{
    enum { PART = 1 << 14 };
    uint16_t half[PART];
    const int64_t count = mcs_array_count(t->nd, t->dims);
    if (t->type == MCS_ARRAY_F32) return put_raw(f, values, count * (int64_t)sizeof *values, crc);
    for (int64_t i = 0; i < count; i += PART) {
        const int64_t n = count - i < PART ? count - i : PART;
        mcs_float_to_half(values + i, n, half);
        if (!put_raw(f, half, n * (int64_t)sizeof *half, crc)) return 0;
    }
    return 1;
}

/* The source's values, read whole: memory for one tensor at a time. */
static enum mcs_status read_source(const struct weight_out *t, void **values)
{
    const struct weight_tensor *s = t->source;
    const int64_t bytes = t->type == s->type ? s->n_bytes : s->n_values * (int64_t)sizeof(float);
    MCS_TRY(mcs_memory_check(bytes, "array %s", t->name));
    *values = malloc((size_t)bytes + 1);
    MCS_REQUIRE(*values, MCS_E_NOMEM, "no memory for array %s", t->name);
    return t->type == s->type ? mcs_weight_file_read_raw(t->file, s, *values)
                              : mcs_weight_file_read_f32(t->file, s->name, s->nd, s->dims, *values);
}

int mcs_weight_out_put(FILE *f, const struct weight_out *t, uint32_t *crc)
{
    void *values = NULL;
    if (!t->source) return put_values(f, t, t->values, crc);
    int good = read_source(t, &values) == MCS_OK;
    if (!good)
        errno = EIO;
    else
        good = t->type == t->source->type ? put_raw(f, values, t->source->n_bytes, crc) : put_values(f, t, values, crc);
    free(values);
    return good;
}

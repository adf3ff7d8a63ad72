#include "data/weights/weight_write.h"

#include "data/io/gzip.h"
#include "engine/base/memory.h"
#include "engine/base/newfile.h"

#include <errno.h>
#include <math.h>
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

/* A file that is written, by the name that messages have for it. */
struct target {
    FILE *f;
    const char *path;
    uint32_t *crc;
};

static enum mcs_status put_raw(const struct target *to, const void *bytes, int64_t n_bytes)
{
    MCS_REQUIRE(fwrite(bytes, 1, (size_t)n_bytes, to->f) == (size_t)n_bytes, MCS_E_IO, "%s: cannot write: %s", to->path,
                mcs_file_write_error(errno));
    if (to->crc) *to->crc = mcs_crc32(*to->crc, bytes, n_bytes);
    return MCS_OK;
}

/* float16 ends at 65504: a larger number would become infinite, and the model useless. */
static enum mcs_status check_half(const struct target *to, const struct weight_out *t, const float *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        MCS_REQUIRE(!(fabsf(values[i]) >= 65520 && isfinite(values[i])), MCS_E_DATA,
                    "%s: array %s has the value %g, and float16 ends at 65504: write float32", to->path, t->name,
                    (double)values[i]);
    return MCS_OK;
}

static enum mcs_status put_values(const struct target *to, const struct weight_out *t, const float *values)
{
    enum { PART = 1 << 14 };
    uint16_t half[PART];
    const int64_t count = mcs_array_count(t->nd, t->dims);
    if (t->type == MCS_ARRAY_F32) return put_raw(to, values, count * (int64_t)sizeof *values);
    for (int64_t i = 0; i < count; i += PART) {
        const int64_t n = count - i < PART ? count - i : PART;
        if (t->source) MCS_TRY(check_half(to, t, values + i, n));
        mcs_float_to_half(values + i, n, half);
        MCS_TRY(put_raw(to, half, n * (int64_t)sizeof *half));
    }
    return MCS_OK;
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

enum mcs_status mcs_weight_out_put(FILE *f, const char *path, const struct weight_out *t, uint32_t *crc)
{
    const struct target to = {f, path, crc};
    void *values = NULL;
    if (!t->source) return put_values(&to, t, t->values);
    enum mcs_status st = read_source(t, &values);
    if (st == MCS_OK)
        st = t->type == t->source->type ? put_raw(&to, values, t->source->n_bytes) : put_values(&to, t, values);
    free(values);
    return st;
}

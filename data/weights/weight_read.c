/* Reads a tensor's values: from the file in parts, by its strides, converted to the type that is wanted. */
#include "data/io/bounds.h"
#include "data/weights/weight_parts.h"
#include "engine/base/input.h"
#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "values are copied as they lie in the file: little endian"
#endif

enum { PART = 1 << 14 }; /* values converted at a time */

int mcs_weight_is_float(enum mcs_array_type type)
{
    return type == MCS_ARRAY_F32 || type == MCS_ARRAY_F16 || type == MCS_ARRAY_BF16 || type == MCS_ARRAY_F64;
}

int mcs_weight_is_whole(enum mcs_array_type type)
{
    return !mcs_weight_is_float(type);
}

/* The tensor's elements in row-major order, a part at a time. */
struct elements {
    const struct weight_part *file;
    const struct weight_tensor *t;
    int64_t bytes; /* of an element */
    int row_major; /* as it lies in the file; else: */
    uint8_t *span; /* all bytes from the first element to the last */
    int64_t at;    /* elements given so far, and the index of the next one, */
    int64_t index[MCS_ARRAY_MAX_ND];
    int64_t position; /* and its place in span, in elements */
};

static int is_row_major(const struct weight_tensor *t)
{
    int64_t step = 1;
    for (int d = t->nd - 1; d >= 0; d--) {
        if (t->dims[d] != 1 && t->strides[d] != step) return 0;
        step *= t->dims[d];
    }
    return 1;
}

static enum mcs_status elements_begin(const struct weight_file *f, const struct weight_tensor *t, struct elements *e)
{
    *e = (struct elements){&f->parts[t->part], t, mcs_array_type_bytes(t->type), is_row_major(t), NULL, 0, {0}, 0};
    if (e->row_major || !t->n_values) return MCS_OK;
    int64_t last = 0; /* that all indices lie in the storage was checked when the file was opened */
    for (int d = 0; d < t->nd; d++) last += (t->dims[d] - 1) * t->strides[d];
    const int64_t bytes = mcs_size_mul(last + 1, e->bytes);
    MCS_TRY(mcs_memory_check(bytes, "%s: array %s", f->path, t->name));
    e->span = malloc((size_t)bytes);
    MCS_REQUIRE(e->span, MCS_E_NOMEM, "%s: no memory for array %s", f->path, t->name);
    const enum mcs_status st = mcs_input_read(e->file->fd, e->file->path, e->span, bytes, t->offset);
    if (st != MCS_OK) free(e->span);
    return st;
}

static void next_index(struct elements *e)
{
    const struct weight_tensor *t = e->t;
    for (int d = t->nd - 1; d >= 0; d--) {
        e->position += t->strides[d];
        if (++e->index[d] < t->dims[d]) return;
        e->position -= t->dims[d] * t->strides[d];
        e->index[d] = 0;
    }
}

/* The next n elements as they lie in the file. */
static enum mcs_status elements_take(struct elements *e, int64_t n, void *dst)
{
    if (e->row_major) {
        MCS_TRY(mcs_input_read(e->file->fd, e->file->path, dst, n * e->bytes, e->t->offset + e->at * e->bytes));
    } else {
        uint8_t *to = dst;
        for (int64_t i = 0; i < n; i++, next_index(e))
            memcpy(to + i * e->bytes, e->span + e->position * e->bytes, (size_t)e->bytes);
    }
    e->at += n;
    return MCS_OK;
}

static enum mcs_status wanted(const struct weight_file *f, const char *name, int nd, const int64_t *dims,
                              const struct weight_tensor **t)
{
    char have[128], want[128];
    *t = mcs_weight_file_find(f, name);
    MCS_REQUIRE(*t, MCS_E_DATA, "%s: no array %s (%d others)", f->path, name, f->n);
    MCS_REQUIRE(mcs_array_same_shape((*t)->nd, (*t)->dims, nd, dims), MCS_E_DATA, "%s: array %s has shape %s, want %s",
                f->path, name, mcs_array_shape_text((*t)->nd, (*t)->dims, have, sizeof have),
                mcs_array_shape_text(nd, dims, want, sizeof want));
    return MCS_OK;
}

static void to_f32(enum mcs_array_type type, const void *src, int64_t n, float *dst)
{
    const double *wide = src;
    if (type == MCS_ARRAY_F16)
        mcs_half_to_float(src, n, dst);
    else if (type == MCS_ARRAY_BF16)
        mcs_bfloat_to_float(src, n, dst);
    else
        for (int64_t i = 0; i < n; i++) dst[i] = (float)wide[i];
}

static enum mcs_status read_f32(const struct weight_file *f, const struct weight_tensor *t, float *dst)
{
    struct elements e;
    enum mcs_status st = MCS_OK;
    double part[PART]; /* aligned for every type */

    MCS_TRY(elements_begin(f, t, &e));
    if (t->type == MCS_ARRAY_F32) {
        st = elements_take(&e, t->n_values, dst);
    } else {
        for (int64_t i = 0; i < t->n_values && st == MCS_OK; i += PART) {
            const int64_t n = t->n_values - i < PART ? t->n_values - i : PART;
            st = elements_take(&e, n, part);
            if (st == MCS_OK) to_f32(t->type, part, n, dst + i);
        }
    }
    free(e.span);
    return st;
}

enum mcs_status mcs_weight_file_read_f32(const struct weight_file *f, const char *name, int nd, const int64_t *dims,
                                         float *dst)
{
    const struct weight_tensor *t;
    MCS_TRY(wanted(f, name, nd, dims, &t));
    MCS_REQUIRE(mcs_weight_is_float(t->type), MCS_E_DATA, "%s: array %s has type %s, want floats", f->path, name,
                mcs_array_type_name(t->type));
    if (!t->n_pieces) return read_f32(f, t, dst);
    for (int i = 0; i < t->n_pieces; i++) {
        MCS_TRY(read_f32(f, &t->pieces[i], dst));
        dst += t->pieces[i].n_values;
    }
    return MCS_OK;
}

/* Fewer values than the span from the first to the last one has: no value is counted often. */
static int is_spread(const struct weight_tensor *t)
{
    int64_t last = 0;
    for (int d = 0; d < t->nd; d++) last += (t->dims[d] - 1) * t->strides[d];
    return t->n_values <= last + 1;
}

static enum mcs_status count_not_finite(const struct weight_file *f, const struct weight_tensor *t, int64_t *count)
{
    struct elements e;
    enum mcs_status st = MCS_OK;
    double part[PART]; /* aligned for every type */
    float values[PART];
    if (!t->n_values || !is_spread(t)) return MCS_OK;
    MCS_TRY(elements_begin(f, t, &e));
    for (int64_t i = 0; i < t->n_values && st == MCS_OK; i += PART) {
        const int64_t n = t->n_values - i < PART ? t->n_values - i : PART;
        st = elements_take(&e, n, part);
        if (st != MCS_OK) break;
        if (t->type == MCS_ARRAY_F32)
            memcpy(values, part, (size_t)n * sizeof *values);
        else
            to_f32(t->type, part, n, values);
        *count += mcs_count_not_finite(values, n);
    }
    free(e.span);
    return st;
}

enum mcs_status mcs_weight_file_not_finite(const struct weight_file *f, const struct weight_tensor *t, int64_t *count)
{
    *count = 0;
    if (!mcs_weight_is_float(t->type)) return MCS_OK;
    if (!t->n_pieces) return count_not_finite(f, t, count);
    for (int i = 0; i < t->n_pieces; i++) MCS_TRY(count_not_finite(f, &t->pieces[i], count));
    return MCS_OK;
}

static enum mcs_status read_raw(const struct weight_file *f, const struct weight_tensor *t, void *dst)
{
    struct elements e;
    MCS_TRY(elements_begin(f, t, &e));
    const enum mcs_status st = elements_take(&e, t->n_values, dst);
    free(e.span);
    return st;
}

enum mcs_status mcs_weight_file_read_raw(const struct weight_file *f, const struct weight_tensor *t, void *dst)
{
    uint8_t *to = dst;
    if (!t->n_pieces) return read_raw(f, t, dst);
    for (int i = 0; i < t->n_pieces; i++) {
        MCS_TRY(read_raw(f, &t->pieces[i], to));
        to += t->pieces[i].n_bytes;
    }
    return MCS_OK;
}

static int64_t whole_at(enum mcs_array_type type, const uint8_t *src)
{
    int64_t wide;
    int32_t four;
    int16_t two;
    switch (type) {
    case MCS_ARRAY_I64: memcpy(&wide, src, 8); return wide;
    case MCS_ARRAY_I32: memcpy(&four, src, 4); return four;
    case MCS_ARRAY_I16: memcpy(&two, src, 2); return two;
    case MCS_ARRAY_I8: return (int8_t)src[0];
    default: return src[0]; /* U8, BOOL */
    }
}

enum mcs_status mcs_weight_file_read_i64(const struct weight_file *f, const char *name, int nd, const int64_t *dims,
                                         int64_t *dst)
{
    const struct weight_tensor *t;
    struct elements e;
    enum mcs_status st = MCS_OK;
    uint8_t part[PART * 8];

    MCS_TRY(wanted(f, name, nd, dims, &t));
    MCS_REQUIRE(mcs_weight_is_whole(t->type), MCS_E_DATA, "%s: array %s has type %s, want whole numbers", f->path, name,
                mcs_array_type_name(t->type));
    MCS_TRY(elements_begin(f, t, &e));
    for (int64_t i = 0; i < t->n_values && st == MCS_OK; i += PART) {
        const int64_t n = t->n_values - i < PART ? t->n_values - i : PART;
        st = elements_take(&e, n, part);
        for (int64_t k = 0; k < n && st == MCS_OK; k++) dst[i + k] = whole_at(t->type, part + k * e.bytes);
    }
    free(e.span);
    return st;
}

/* Reading and writing safetensors. */
#include "data/io/safetensors.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/memory.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "arrays are copied as they lie in the file: little endian"
#endif

static const int64_t MAX_HEADER_BYTES = 100 * 1000 * 1000; /* the format's limit */
static const int64_t MAX_FILE_BYTES = (int64_t)1 << 38;

struct safetensors {
    char *path;
    char *bytes;  /* the file */
    json_t *root; /* owns the names */
    int n;
    struct safetensor *arrays; /* (n), sorted by name */
};

static enum mcs_status whole_number(const struct safetensors *f, const char *name, const char *what, const json_t *v,
                                    int64_t *dst)
{
    MCS_REQUIRE(json_is_integer(v) && json_integer_value(v) >= 0, MCS_E_DATA,
                "%s: array %s: its %s should be whole numbers from 0 to 2^63-1", f->path, name, what);
    *dst = json_integer_value(v);
    return MCS_OK;
}

static enum mcs_status parse_array(const struct safetensors *f, const char *name, const json_t *entry, const char *data,
                                   int64_t data_bytes, struct safetensor *a)
{
    const char *word = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    int64_t begin = 0, end = 0;

    a->name = name;
    MCS_REQUIRE(json_is_object(entry) && word && json_is_array(shape) && json_is_array(offsets), MCS_E_DATA,
                "%s: array %s: want dtype, shape and data_offsets", f->path, name);
    MCS_REQUIRE(json_array_size(shape) <= MCS_ARRAY_MAX_ND, MCS_E_DATA,
                "%s: array %s: %zu dimensions, at most %d are read", f->path, name, json_array_size(shape),
                MCS_ARRAY_MAX_ND);
    a->nd = (int)json_array_size(shape);
    for (int i = 0; i < a->nd; i++)
        MCS_TRY(whole_number(f, name, "sizes", json_array_get(shape, (size_t)i), &a->dims[i]));
    a->n_values = mcs_array_count(a->nd, a->dims);
    MCS_REQUIRE(a->n_values >= 0, MCS_E_DATA, "%s: array %s: impossible sizes", f->path, name);

    MCS_REQUIRE(json_array_size(offsets) == 2, MCS_E_DATA, "%s: array %s: want two data_offsets", f->path, name);
    MCS_TRY(whole_number(f, name, "offsets", json_array_get(offsets, 0), &begin));
    MCS_TRY(whole_number(f, name, "offsets", json_array_get(offsets, 1), &end));
    MCS_REQUIRE(begin <= end && end <= data_bytes, MCS_E_DATA,
                "%s: array %s: bytes %lld to %lld lie outside the file's %lld: truncated or damaged", f->path, name,
                (long long)begin, (long long)end, (long long)data_bytes);
    a->bytes = (const uint8_t *)data + begin;
    a->n_bytes = end - begin;

    int type = 0;
    while (type < MCS_ARRAY_N_TYPES && strcmp(word, mcs_array_type_name((enum mcs_array_type)type)) != 0) type++;
    MCS_REQUIRE(type < MCS_ARRAY_N_TYPES, MCS_E_DATA, "%s: array %s: type %.16s is not read", f->path, name, word);
    a->type = (enum mcs_array_type)type;
    MCS_REQUIRE(a->n_bytes / mcs_array_type_bytes(a->type) == a->n_values &&
                    a->n_bytes % mcs_array_type_bytes(a->type) == 0,
                MCS_E_DATA, "%s: array %s: %lld bytes for %lld values of type %s", f->path, name, (long long)a->n_bytes,
                (long long)a->n_values, word);
    return MCS_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct safetensor *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct safetensor *)a)->name, ((const struct safetensor *)b)->name);
}

static enum mcs_status parse(struct safetensors *f, int64_t n_bytes)
{
    json_error_t error;
    uint64_t header_bytes = 0;
    const char *name;
    json_t *entry;

    MCS_REQUIRE(n_bytes >= 8, MCS_E_DATA, "%s: %lld bytes are too few for a safetensors file", f->path,
                (long long)n_bytes);
    memcpy(&header_bytes, f->bytes, 8);
    MCS_REQUIRE(header_bytes <= (uint64_t)MAX_HEADER_BYTES, MCS_E_DATA,
                "%s: no safetensors file: its header would have %llu bytes", f->path, (unsigned long long)header_bytes);
    MCS_REQUIRE((int64_t)header_bytes <= n_bytes - 8, MCS_E_DATA,
                "%s: truncated: a header of %llu bytes in a file of %lld", f->path, (unsigned long long)header_bytes,
                (long long)n_bytes);
    MCS_TRY(mcs_json_check_size(f->path, f->bytes + 8, (int64_t)header_bytes));
    f->root = json_loadb(f->bytes + 8, (size_t)header_bytes, JSON_REJECT_DUPLICATES, &error);
    MCS_REQUIRE(f->root, MCS_E_DATA, "%s: damaged safetensors header: %.200s", f->path, error.text);
    MCS_REQUIRE(json_is_object(f->root), MCS_E_DATA, "%s: damaged safetensors header: no JSON object", f->path);

    const char *data = f->bytes + 8 + header_bytes;
    int64_t data_bytes = n_bytes - 8 - (int64_t)header_bytes;
    f->arrays = calloc(json_object_size(f->root) + 1, sizeof *f->arrays);
    MCS_REQUIRE(f->arrays, MCS_E_NOMEM, "%s: no memory for the list of arrays", f->path);
    json_object_foreach(f->root, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) {
            MCS_REQUIRE(json_is_object(entry), MCS_E_DATA, "%s: __metadata__ is no JSON object", f->path);
            continue;
        }
        MCS_TRY(parse_array(f, name, entry, data, data_bytes, &f->arrays[f->n]));
        f->n++;
    }
    /* The arrays must tile the rest of the file: no overlaps (two names for one memory) and no gaps (hidden bytes). */
    const uint8_t *at = (const uint8_t *)data;
    qsort(f->arrays, (size_t)f->n, sizeof *f->arrays, by_offset);
    for (int i = 0; i < f->n; i++) {
        MCS_REQUIRE(f->arrays[i].bytes == at, MCS_E_DATA, "%s: array %s: %s", f->path, f->arrays[i].name,
                    f->arrays[i].bytes < at ? "overlaps another one" : "a hole lies before it");
        at += f->arrays[i].n_bytes;
    }
    MCS_REQUIRE(at == (const uint8_t *)data + data_bytes, MCS_E_DATA, "%s: %lld bytes after the last array", f->path,
                (long long)((const uint8_t *)data + data_bytes - at));
    qsort(f->arrays, (size_t)f->n, sizeof *f->arrays, by_name);
    return MCS_OK;
}

/* Takes ownership of `bytes`, also on failure. */
static enum mcs_status open_bytes(const char *path, char *bytes, int64_t n_bytes, struct safetensors **file)
{
    *file = NULL;
    enum mcs_status st = MCS_OK;
    struct safetensors *f = calloc(1, sizeof *f);
    if (f)
        *f = (struct safetensors){.path = strdup(path), .bytes = bytes};
    else
        free(bytes);
    MCS_REQUIRE_GOTO(f && f->path, MCS_E_NOMEM, st, failed, "%s: no memory to open it", path);
    MCS_TRY_GOTO(parse(f, n_bytes), st, failed);
    *file = f;
    return MCS_OK;
failed:
    mcs_safetensors_close(f);
    return st;
}

enum mcs_status mcs_safetensors_open(const char *path, struct safetensors **file)
{
    char *bytes;
    int64_t n_bytes;

    *file = NULL;
    MCS_TRY(mcs_file_read(path, MAX_FILE_BYTES, &bytes, &n_bytes));
    MCS_TRY(open_bytes(path, bytes, n_bytes, file));
    return MCS_OK;
}

enum mcs_status mcs_safetensors_parse(const char *name, const void *bytes, int64_t n_bytes, struct safetensors **file)
{
    *file = NULL;
    MCS_TRY(mcs_memory_check(n_bytes, "%s", name));
    char *copy = malloc((size_t)n_bytes + 1);
    MCS_REQUIRE(copy, MCS_E_NOMEM, "%s: no memory for %lld bytes", name, (long long)n_bytes);
    if (n_bytes) memcpy(copy, bytes, (size_t)n_bytes);
    MCS_TRY(open_bytes(name, copy, n_bytes, file));
    return MCS_OK;
}

void mcs_safetensors_close(struct safetensors *f)
{
    if (!f) return;
    json_decref(f->root);
    free(f->arrays);
    free(f->bytes);
    free(f->path);
    free(f);
}

int mcs_safetensors_count(const struct safetensors *f)
{
    return f->n;
}

const struct safetensor *mcs_safetensors_at(const struct safetensors *f, int i)
{
    return i >= 0 && i < f->n ? &f->arrays[i] : NULL;
}

const struct safetensor *mcs_safetensors_find(const struct safetensors *f, const char *name)
{
    struct safetensor key = {.name = name};
    return bsearch(&key, f->arrays, (size_t)f->n, sizeof key, by_name);
}

const char *mcs_safetensors_metadata(const struct safetensors *f, const char *key)
{
    return json_string_value(json_object_get(json_object_get(f->root, "__metadata__"), key));
}

static enum mcs_status wanted(const struct safetensors *f, const char *name, int nd, const int64_t *dims,
                              const struct safetensor **a)
{
    char have[128], want[128];

    *a = mcs_safetensors_find(f, name);
    MCS_REQUIRE(*a, MCS_E_DATA, "%s: no array %s (%d others)", f->path, name, f->n);
    MCS_REQUIRE(mcs_array_same_shape((*a)->nd, (*a)->dims, nd, dims), MCS_E_DATA, "%s: array %s has shape %s, want %s",
                f->path, name, mcs_array_shape_text((*a)->nd, (*a)->dims, have, sizeof have),
                mcs_array_shape_text(nd, dims, want, sizeof want));
    return MCS_OK;
}

enum { PART = 1024 }; /* values copied at a time through an aligned buffer on the stack */

enum mcs_status mcs_safetensors_read_f32(const struct safetensors *f, const char *name, int nd, const int64_t *dims,
                                         float *dst)
{
    const struct safetensor *a;
    uint16_t half[PART];
    double wide[PART];

    MCS_TRY(wanted(f, name, nd, dims, &a));
    MCS_REQUIRE(a->type == MCS_ARRAY_F32 || a->type == MCS_ARRAY_F16 || a->type == MCS_ARRAY_BF16 ||
                    a->type == MCS_ARRAY_F64,
                MCS_E_DATA, "%s: array %s has type %s, want floats", f->path, name, mcs_array_type_name(a->type));
    if (a->type == MCS_ARRAY_F32) {
        if (a->n_bytes) memcpy(dst, a->bytes, (size_t)a->n_bytes);
        return MCS_OK;
    }
    for (int64_t i = 0; i < a->n_values; i += PART) {
        int64_t n = a->n_values - i < PART ? a->n_values - i : PART;
        if (a->type == MCS_ARRAY_F64) {
            memcpy(wide, a->bytes + 8 * i, (size_t)n * 8);
            for (int64_t k = 0; k < n; k++) dst[i + k] = (float)wide[k];
            continue;
        }
        memcpy(half, a->bytes + 2 * i, (size_t)n * 2);
        if (a->type == MCS_ARRAY_F16)
            mcs_half_to_float(half, n, dst + i);
        else
            mcs_bfloat_to_float(half, n, dst + i);
    }
    return MCS_OK;
}

enum mcs_status mcs_safetensors_read_i64(const struct safetensors *f, const char *name, int nd, const int64_t *dims,
                                         int64_t *dst)
{
    const struct safetensor *a;

    MCS_TRY(wanted(f, name, nd, dims, &a));
    MCS_REQUIRE(a->type == MCS_ARRAY_I64 || a->type == MCS_ARRAY_I32 || a->type == MCS_ARRAY_U8, MCS_E_DATA,
                "%s: array %s has type %s, want whole numbers", f->path, name, mcs_array_type_name(a->type));
    for (int64_t i = 0; i < a->n_values; i++) {
        int32_t x;
        if (a->type == MCS_ARRAY_I64) {
            memcpy(&dst[i], a->bytes + 8 * i, 8);
        } else if (a->type == MCS_ARRAY_I32) {
            memcpy(&x, a->bytes + 4 * i, 4);
            dst[i] = x;
        } else {
            dst[i] = a->bytes[i];
        }
    }
    return MCS_OK;
}

static int out_by_name(const void *a, const void *b)
{
    return strcmp((*(const struct safetensor_out *const *)a)->name, (*(const struct safetensor_out *const *)b)->name);
}

static json_t *entry_make(const struct safetensor_out *a, int64_t begin, int64_t end)
{
    json_t *shape = json_array();
    for (int i = 0; i < a->nd; i++) json_array_append_new(shape, json_integer(a->dims[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", mcs_array_type_name(a->type), "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)end);
}

/* The header as text, padded with blanks so that the arrays start at a multiple of 8. */
static enum mcs_status header_make(const char *path, int n, const struct safetensor_out *const *sorted, int n_meta,
                                   const char *const (*meta)[2], char **text, uint64_t *text_bytes)
{
    enum mcs_status st = MCS_OK;
    int64_t at = 0;
    json_t *root = json_object(), *notes = json_object();
    char *json = NULL;

    for (int i = 0; i < n_meta; i++)
        MCS_REQUIRE_GOTO(json_object_set_new(notes, meta[i][0], json_string(meta[i][1])) == 0, MCS_E_USAGE, st, done,
                         "%s: metadata %s is no UTF-8 text", path, meta[i][0]);
    if (n_meta) json_object_set(root, "__metadata__", notes);
    for (int i = 0; i < n; i++) {
        const struct safetensor_out *a = sorted[i];
        int64_t count = mcs_array_count(a->nd, a->dims);
        MCS_REQUIRE_GOTO(count >= 0 && (a->type == MCS_ARRAY_F32 || a->type == MCS_ARRAY_F16), MCS_E_USAGE, st, done,
                         "%s: array %s: type %s with %d dimensions is not written", path, a->name,
                         mcs_array_type_name(a->type), a->nd);
        MCS_REQUIRE_GOTO(strcmp(a->name, "__metadata__") != 0 && (i == 0 || strcmp(a->name, sorted[i - 1]->name) != 0),
                         MCS_E_USAGE, st, done, "%s: array %s: the name is taken", path, a->name);
        int64_t end = at + count * mcs_array_type_bytes(a->type);
        MCS_REQUIRE_GOTO(json_object_set_new(root, a->name, entry_make(a, at, end)) == 0, MCS_E_USAGE, st, done,
                         "%s: array %s: its name is no UTF-8 text", path, a->name);
        at = end;
    }
    json = json_dumps(root, JSON_COMPACT);
    MCS_REQUIRE_GOTO(json, MCS_E_NOMEM, st, done, "%s: no memory for its header", path);
    size_t used = strlen(json), padded = (used + 7) / 8 * 8;
    *text = malloc(padded);
    MCS_REQUIRE_GOTO(*text, MCS_E_NOMEM, st, done, "%s: no memory for its header", path);
    memset(*text, ' ', padded);
    memcpy(*text, json, used);
    *text_bytes = padded;
done:
    free(json);
    json_decref(notes);
    json_decref(root);
    return st;
}

static int put_values(FILE *f, const struct safetensor_out *a)
{
    uint16_t half[PART];
    int64_t count = mcs_array_count(a->nd, a->dims);

    if (a->type == MCS_ARRAY_F32) return count == 0 || fwrite(a->values, 4, (size_t)count, f) == (size_t)count;
    for (int64_t i = 0; i < count; i += PART) {
        int64_t n = count - i < PART ? count - i : PART;
        mcs_float_to_half(a->values + i, n, half);
        if (fwrite(half, 2, (size_t)n, f) != (size_t)n) return 0;
    }
    return 1;
}

enum mcs_status mcs_safetensors_write(const char *path, int n, const struct safetensor_out *arrays, int n_meta,
                                      const char *const (*meta)[2])
{
    enum mcs_status st = MCS_OK;
    struct mcs_new_file out = MCS_NEW_FILE;
    char *text = NULL;
    uint64_t text_bytes = 0;
    FILE *f = NULL;
    const struct safetensor_out **sorted = calloc((size_t)n + 1, sizeof *sorted);

    MCS_REQUIRE(sorted, MCS_E_NOMEM, "%s: no memory for the list of arrays", path);
    for (int i = 0; i < n; i++) sorted[i] = &arrays[i];
    qsort(sorted, (size_t)n, sizeof *sorted, out_by_name);
    MCS_TRY_GOTO(header_make(path, n, sorted, n_meta, meta, &text, &text_bytes), st, done);
    MCS_TRY_GOTO(mcs_file_begin(path, &out), st, done);
    f = fopen(out.path, "wbe");
    MCS_REQUIRE_GOTO(f, MCS_E_IO, st, done, "%s: cannot write: %s", path, strerror(errno));
    int good = fwrite(&text_bytes, 8, 1, f) == 1 && fwrite(text, 1, (size_t)text_bytes, f) == text_bytes;
    for (int i = 0; i < n && good; i++) good = put_values(f, sorted[i]);
    int error = errno;
    if (fclose(f) != 0 && good) {
        good = 0;
        error = errno;
    }
    MCS_REQUIRE_GOTO(good, MCS_E_IO, st, done, "%s: cannot write: %s", path, mcs_file_write_error(error));
    MCS_TRY_GOTO(mcs_file_commit(&out), st, done);
done:
    mcs_file_abort(&out);
    free(text);
    free(sorted);
    return st;
}

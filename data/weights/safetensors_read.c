/* safetensors: named arrays behind a JSON header. https://github.com/huggingface/safetensors (format section)
 *
 *     8 bytes: length of the header, little endian | the header, JSON | the arrays' bytes, little endian, without gaps
 */
#include "data/io/json.h"
#include "data/weights/weight_parts.h"
#include "engine/base/input.h"
#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

static const int64_t MAX_HEADER_BYTES = 100 * 1000 * 1000; /* the format's limit */

static enum mcs_status whole_number(const struct weight_file *f, const char *name, const char *what, const json_t *v,
                                    int64_t *dst)
{
    MCS_REQUIRE(json_is_integer(v) && json_integer_value(v) >= 0, MCS_E_DATA,
                "%s: array %s: its %s should be whole numbers from 0 to 2^63-1", f->path, name, what);
    *dst = json_integer_value(v);
    return MCS_OK;
}

/* data, data_bytes: where the arrays lie in the file. */
static enum mcs_status parse_array(const struct weight_file *f, const char *name, const json_t *entry, int64_t data,
                                   int64_t data_bytes, struct weight_tensor *t)
{
    const char *word = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    int64_t begin = 0, end = 0;

    t->name = name;
    MCS_REQUIRE(json_is_object(entry) && word && json_is_array(shape) && json_is_array(offsets), MCS_E_DATA,
                "%s: array %s: want dtype, shape and data_offsets", f->path, name);
    MCS_REQUIRE(json_array_size(shape) <= MCS_ARRAY_MAX_ND, MCS_E_DATA,
                "%s: array %s: %zu dimensions, at most %d are read", f->path, name, json_array_size(shape),
                MCS_ARRAY_MAX_ND);
    t->nd = (int)json_array_size(shape);
    for (int i = 0; i < t->nd; i++)
        MCS_TRY(whole_number(f, name, "sizes", json_array_get(shape, (size_t)i), &t->dims[i]));

    MCS_REQUIRE(json_array_size(offsets) == 2, MCS_E_DATA, "%s: array %s: want two data_offsets", f->path, name);
    MCS_TRY(whole_number(f, name, "offsets", json_array_get(offsets, 0), &begin));
    MCS_TRY(whole_number(f, name, "offsets", json_array_get(offsets, 1), &end));
    MCS_REQUIRE(begin <= end && end <= data_bytes, MCS_E_DATA,
                "%s: array %s: bytes %lld to %lld lie outside the file's %lld: truncated or damaged", f->path, name,
                (long long)begin, (long long)end, (long long)data_bytes);
    t->offset = data + begin;

    int type = 0;
    while (type < MCS_ARRAY_N_TYPES && strcmp(word, mcs_array_type_name((enum mcs_array_type)type)) != 0) type++;
    MCS_REQUIRE(type < MCS_ARRAY_N_TYPES, MCS_E_DATA, "%s: array %s: type %.16s is not read", f->path, name, word);
    t->type = (enum mcs_array_type)type;
    MCS_TRY(mcs_weight_sizes(f, t));
    MCS_REQUIRE(t->n_bytes == end - begin, MCS_E_DATA, "%s: array %s: %lld bytes for %lld values of type %s", f->path,
                name, (long long)(end - begin), (long long)t->n_values, word);
    return MCS_OK;
}

static enum mcs_status parse_metadata(struct weight_file *f, const json_t *entry)
{
    const char *key;
    json_t *value;
    MCS_REQUIRE(json_is_object(entry), MCS_E_DATA, "%s: __metadata__ is no JSON object", f->path);
    MCS_TRY(mcs_weight_alloc(f, (int64_t)json_object_size(entry) * (int64_t)sizeof *f->meta, &f->meta));
    json_object_foreach((json_t *)entry, key, value)
    {
        if (!json_is_string(value)) continue;
        f->meta[f->n_meta][0] = mcs_arena_strdup(&f->arena, key);
        f->meta[f->n_meta++][1] = mcs_arena_strdup(&f->arena, json_string_value(value));
    }
    return mcs_arena_status(&f->arena);
}

static int by_offset(const void *a, const void *b)
{
    const struct weight_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}

/* The arrays must tile the rest of the file: no overlaps (two names for one memory) and no gaps (hidden bytes). */
static enum mcs_status check_tiles(const struct weight_file *f, int64_t at)
{
    if (f->n) qsort(f->tensors, (size_t)f->n, sizeof *f->tensors, by_offset);
    for (int i = 0; i < f->n; i++) {
        const struct weight_tensor *t = &f->tensors[i];
        MCS_REQUIRE(t->offset == at, MCS_E_DATA, "%s: array %s: %s", f->path, t->name,
                    t->offset < at ? "overlaps another one" : "a hole lies before it");
        at += t->n_bytes;
    }
    MCS_REQUIRE(at == f->parts[0].n_bytes, MCS_E_DATA, "%s: %lld bytes after the last array", f->path,
                (long long)(f->parts[0].n_bytes - at));
    return MCS_OK;
}

static enum mcs_status parse(struct weight_file *f, json_t *root, int64_t data)
{
    const char *name;
    json_t *entry;
    MCS_REQUIRE(json_is_object(root), MCS_E_DATA, "%s: damaged safetensors header: no JSON object", f->path);
    MCS_TRY(mcs_weight_reserve(f, (int64_t)json_object_size(root)));
    json_object_foreach(root, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) {
            MCS_TRY(parse_metadata(f, entry));
            continue;
        }
        char *kept;
        const size_t n = strlen(name) + 1;
        MCS_TRY(mcs_weight_alloc(f, (int64_t)n, &kept));
        memcpy(kept, name, n);
        MCS_TRY(parse_array(f, kept, entry, data, f->parts[0].n_bytes - data, &f->tensors[f->n]));
        f->n++;
    }
    return check_tiles(f, data);
}

enum mcs_status mcs_weight_safetensors(struct weight_file *f)
{
    json_error_t error;
    uint64_t header_bytes = 0;
    const struct weight_part *file = &f->parts[0];
    enum mcs_status st = MCS_OK;
    json_t *root = NULL;

    MCS_REQUIRE(file->n_bytes >= 8, MCS_E_DATA, "%s: %lld bytes are too few for a safetensors file", f->path,
                (long long)file->n_bytes);
    MCS_TRY(mcs_input_read(file->fd, f->path, &header_bytes, 8, 0));
    MCS_REQUIRE(header_bytes <= (uint64_t)MAX_HEADER_BYTES, MCS_E_DATA,
                "%s: no file of weights: as safetensors its header would have %llu bytes, and a file of torch.save "
                "begins with PK; ONNX, TensorFlow and Flax files are not read: take the model's safetensors or PyTorch "
                "file",
                f->path, (unsigned long long)header_bytes);
    MCS_REQUIRE((int64_t)header_bytes <= file->n_bytes - 8, MCS_E_DATA,
                "%s: truncated: a header of %llu bytes in a file of %lld", f->path, (unsigned long long)header_bytes,
                (long long)file->n_bytes);
    MCS_TRY(mcs_memory_check((int64_t)header_bytes, "%s", f->path));
    char *text = malloc(header_bytes + 1);
    MCS_REQUIRE(text, MCS_E_NOMEM, "%s: no memory for its header", f->path);
    MCS_TRY_GOTO(mcs_input_read(file->fd, f->path, text, (int64_t)header_bytes, 8), st, done);
    text[header_bytes] = 0;
    MCS_TRY_GOTO(mcs_json_check_size(f->path, text, (int64_t)header_bytes), st, done);
    root = json_loadb(text, header_bytes, JSON_REJECT_DUPLICATES, &error);
    MCS_REQUIRE_GOTO(root, MCS_E_DATA, st, done, "%s: damaged safetensors header: %.200s", f->path, error.text);
    MCS_TRY_GOTO(parse(f, root, 8 + (int64_t)header_bytes), st, done);
done:
    json_decref(root);
    free(text);
    return st;
}

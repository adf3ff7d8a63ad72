#include "data/io/json.h"

#include "data/io/file.h"
#include "engine/base/escape.h"
#include "engine/base/memory.h"
#include "engine/base/path.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_DEPTH = 64,
    /* Upper bounds for jansson 2.13 and 2.14 on a 64-bit system, with the allocator's overhead;
       tests/data/test_memory_readers.c measures them. A value: its structure, and its place in the array (which
       doubles, so old and new are held at once) or the object's table with its key. */
    VALUE_BYTES = 160,
    TEXT_FACTOR = 4, /* a text is held in a buffer that doubles, and copied */
};

/* Each value but the first follows one of [ { , : (counted inside of texts too). */
int64_t mcs_json_memory(const char *bytes, int64_t n_bytes)
{
    int64_t n_values = 1;
    for (int64_t i = 0; i < n_bytes; i++)
        n_values += bytes[i] == '[' || bytes[i] == '{' || bytes[i] == ',' || bytes[i] == ':';
    return TEXT_FACTOR * n_bytes + n_values * VALUE_BYTES;
}

enum mcs_status mcs_json_check_size(const char *path, const char *bytes, int64_t n_bytes)
{
    int64_t depth = 0;
    int in_text = 0, line = 1;
    for (int64_t i = 0; i < n_bytes; i++) {
        const char c = bytes[i];
        line += c == '\n';
        if (in_text) {
            if (c == '\\')
                i++;
            else
                in_text = c != '"';
            continue;
        }
        in_text = c == '"';
        depth += (c == '[' || c == '{') - (c == ']' || c == '}');
        MCS_REQUIRE(depth <= MAX_DEPTH, MCS_E_DATA, "%s:%d: JSON nested more than %d deep", path, line, MAX_DEPTH);
    }
    return mcs_memory_check(mcs_json_memory(bytes, n_bytes), "%s: its values of JSON", path);
}

enum mcs_status mcs_json_parse(const char *path, const char *bytes, int64_t n_bytes, size_t flags, json_t **root)
{
    json_error_t error;
    *root = NULL;
    MCS_TRY(mcs_json_check_size(path, bytes, n_bytes));
    *root = json_loadb(bytes, (size_t)n_bytes, flags, &error);
    MCS_REQUIRE(*root, MCS_E_DATA, "%s:%d: not JSON: %s", path, error.line, error.text);
    return MCS_OK;
}

enum mcs_status mcs_json_read(const char *path, int64_t max_bytes, size_t flags, json_t **root)
{
    char *text;
    int64_t n_bytes;
    *root = NULL;
    MCS_TRY(mcs_file_read(path, max_bytes, &text, &n_bytes));
    const enum mcs_status st = mcs_json_parse(path, text, n_bytes, flags, root);
    free(text);
    MCS_TRY(st);
    return MCS_OK;
}

enum mcs_status mcs_json_write(json_t *root, size_t flags, const char *fmt, ...)
{
    char path[MCS_PATH_BYTES];
    va_list args;
    va_start(args, fmt);
    const enum mcs_status fits = mcs_vpath(path, fmt, args);
    va_end(args);
    char *text = root && fits == MCS_OK ? json_dumps(root, flags) : NULL;
    json_decref(root);
    MCS_TRY(fits);
    MCS_REQUIRE(text, MCS_E_DATA, "%s cannot be made: a name in it is not UTF-8, or a number not finite", path);
    const enum mcs_status st = mcs_file_write(path, text, (int64_t)strlen(text));
    free(text);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

json_t *mcs_json_text(const char *text)
{
    struct arena a = {0};
    const char *stored = text ? mcs_text_encode(&a, text) : NULL;
    json_t *value = a.failed ? NULL : stored ? json_string(stored) : json_null();
    mcs_arena_free(&a);
    return value;
}

int mcs_json_put(json_t *object, const char *name, json_t *value)
{
    struct arena a = {0};
    const char *stored = mcs_text_encode(&a, name);
    if (a.failed) {
        json_decref(value);
        mcs_arena_free(&a);
        return -1;
    }
    const int failed = json_object_set_new(object, stored, value);
    mcs_arena_free(&a);
    return failed;
}

const char *mcs_json_name(struct arena *a, const char *text)
{
    return text ? mcs_text_decode(a, text) : NULL;
}

json_t *mcs_json_number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

/* Writes safetensors; the format is in safetensors_read.c. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/weights/weight_write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int out_by_name(const void *a, const void *b)
{
    return strcmp((*(const struct weight_out *const *)a)->name, (*(const struct weight_out *const *)b)->name);
}

static json_t *entry_make(const struct weight_out *a, int64_t begin, int64_t end)
{
    json_t *shape = json_array();
    for (int i = 0; i < a->nd; i++) json_array_append_new(shape, json_integer(a->dims[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", mcs_array_type_name(a->type), "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)end);
}

/* The header as text, padded with blanks so that the arrays start at a multiple of 8. */
static enum mcs_status header_make(const char *path, int n, const struct weight_out *const *sorted, int n_meta,
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
        const struct weight_out *a = sorted[i];
        int64_t count = mcs_array_count(a->nd, a->dims);
        MCS_TRY_GOTO(mcs_weight_out_check(path, a), st, done);
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

enum mcs_status mcs_safetensors_write(const char *path, int n, const struct weight_out *arrays, int n_meta,
                                      const char *const (*meta)[2])
{
    enum mcs_status st = MCS_OK;
    struct mcs_new_file out = MCS_NEW_FILE;
    char *text = NULL;
    uint64_t text_bytes = 0;
    FILE *f = NULL;
    const struct weight_out **sorted = calloc((size_t)n + 1, sizeof *sorted);

    MCS_REQUIRE(sorted, MCS_E_NOMEM, "%s: no memory for the list of arrays", path);
    for (int i = 0; i < n; i++) sorted[i] = &arrays[i];
    qsort(sorted, (size_t)n, sizeof *sorted, out_by_name);
    MCS_TRY_GOTO(header_make(path, n, sorted, n_meta, meta, &text, &text_bytes), st, done);
    MCS_TRY_GOTO(mcs_file_begin(path, &out), st, done);
    f = fopen(out.path, "wbe");
    MCS_REQUIRE_GOTO(f, MCS_E_IO, st, done, "%s: cannot write: %s", path, strerror(errno));
    int good = fwrite(&text_bytes, 8, 1, f) == 1 && fwrite(text, 1, (size_t)text_bytes, f) == text_bytes;
    int error = errno;
    for (int i = 0; i < n && good && st == MCS_OK; i++) st = mcs_weight_out_put(f, path, sorted[i], NULL);
    if (fclose(f) != 0 && good) {
        good = 0;
        error = errno;
    }
    if (st != MCS_OK) goto done;
    MCS_REQUIRE_GOTO(good, MCS_E_IO, st, done, "%s: cannot write: %s", path, mcs_file_write_error(error));
    MCS_TRY_GOTO(mcs_file_commit(&out), st, done);
done:
    mcs_file_abort(&out);
    free(text);
    free(sorted);
    return st;
}

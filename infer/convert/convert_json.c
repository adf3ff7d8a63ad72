/* Reading, checking and writing the JSON files of a conversion. */
#include "data/io/file.h"
#include "infer/convert/convert_parts.h"

#include <stdio.h>
#include <string.h>

int mcs_convert_size(const struct convert_job *job, const char *name, int d)
{
    const struct weight_tensor *t = mcs_weight_file_find(job->model, name);
    return t && d < t->nd && t->dims[d] <= 1 << 20 ? (int)t->dims[d] : 0;
}

enum mcs_status mcs_convert_json(const struct convert_job *job, const char *name, const char **path, json_t **root)
{
    *root = NULL;
    *path = mcs_arena_printf(job->arena, "%s/%s", job->src_folder, name);
    MCS_TRY(mcs_arena_status(job->arena));
    if (!mcs_file_exists(*path)) return MCS_OK;
    MCS_TRY(mcs_json_read(*path, 1 << 20, 0, root));
    if (json_is_object(*root)) return MCS_OK;
    json_decref(*root);
    *root = NULL;
    return MCS_FAIL(MCS_E_DATA, "%s: want a JSON object", *path);
}

enum mcs_status mcs_convert_put(struct convert_job *job, json_t *root, const char *name)
{
    struct convert_result *r = job->result;
    if (r->n_files < CONVERT_MAX_FILES) r->files[r->n_files++] = name;
    if (!job->options->dry_run)
        return mcs_json_write(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9), "%s/%s", job->dst_folder, name);
    json_decref(root);
    return MCS_OK;
}

enum mcs_status mcs_convert_int(const char *path, const char *group, const json_t *object, const char *key, int *dst)
{
    const json_t *v = json_object_get(object, key);
    if (!v || json_is_null(v)) return MCS_OK;
    const json_int_t n = json_integer_value(v);
    MCS_REQUIRE(json_is_integer(v) && n >= 1 && n <= 1 << 16, MCS_E_DATA,
                "%s: %s.%s: want a whole number from 1 to 65536", path, group, key);
    *dst = (int)n;
    return MCS_OK;
}

enum mcs_status mcs_convert_agree(const char *path, const char *group, const json_t *object, const char *key, int size)
{
    int said = size;
    MCS_TRY(mcs_convert_int(path, group, object, key, &said));
    MCS_REQUIRE(said == size, MCS_E_DATA, "%s: %s.%s is %d, but the tensors have %d", path, group, key, said, size);
    return MCS_OK;
}

enum mcs_status mcs_convert_only(const char *path, const char *group, const json_t *object, const char *key,
                                 const char *accepts)
{
    const json_t *v = json_object_get(object, key);
    char value[96];
    if (!v) return MCS_OK;
    const size_t n = json_dumpb(v, value, sizeof value - 1, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    value[n < sizeof value ? n : 0] = '\0';
    for (const char *at = accepts; at && *value; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
        const size_t len = strcspn(at, "|");
        if (len == strlen(value) && !strncmp(at, value, len)) return MCS_OK;
    }
    return MCS_FAIL(MCS_E_DATA, "%s: %s.%s is %s; for a conversion want %s", path, group, key,
                    *value ? value : "a long value", accepts);
}

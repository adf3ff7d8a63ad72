/* Reading and writing the JSON files of a conversion. */
#include "data/io/file.h"
#include "infer/convert/convert_parts.h"

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

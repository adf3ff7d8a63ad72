/* Shared by the files of the conversion. */
#ifndef MCS_CONVERT_PARTS_H
#define MCS_CONVERT_PARTS_H

#include "data/io/json.h"
#include "infer/convert/convert.h"
#include "infer/json_keys.h"

struct convert_job {
    const struct convert_options *options;
    struct arena *arena;
    const struct weight_file *model;     /* a view in the reference names */
    const char *src_folder, *dst_folder; /* where the other files lie; dst_folder "" for a file */
    struct convert_result *result;
};

/* The configuration of the target, from that beside the weights and the tensors' sizes. Each checks that source and
 * tensors agree before anything is written. */
enum mcs_status mcs_convert_clip_config(struct convert_job *job);
enum mcs_status mcs_convert_sam_config(struct convert_job *job);

/* Size d of a tensor of the model; 0 where it is not there. */
int mcs_convert_size(const struct convert_job *job, const char *name, int d);
/* Reads FOLDER/name of the source; *root NULL where it has none. *path: for messages. */
enum mcs_status mcs_convert_json(const struct convert_job *job, const char *name, const char **path, json_t **root);
/* Writes a JSON file of the target, unless this is a dry run; releases root. */
enum mcs_status mcs_convert_put(struct convert_job *job, json_t *root, const char *name);

#endif

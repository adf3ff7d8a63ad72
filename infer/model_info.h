/* Which model a file of weights belongs to, and how its tensors differ from that model's. For `mcsam info`. */
#ifndef MCS_MODEL_INFO_H
#define MCS_MODEL_INFO_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

struct weight_file;

struct name_list {
    int n;
    const char **v;
};

/* Everything is owned by the arena that was passed in. */
struct model_info {
    const char *name; /* "BiomedCLIP", "SAM ViT-B (segment-anything's or MedSAM's)"; NULL: not known */
    const char *note; /* which verbs take the file, or why none does; NULL */
    int hugging_face; /* the file has transformers' names */
    int compared;     /* the lists are filled: the model's tensors are known */
    struct name_list missing, misshapen, extra; /* misshapen: with both shapes; extra: names of the file */
};

/* By the names and shapes of the tensors, and the configuration beside the file (open_clip_config.json,
 * sam_config.json, plans.json) where there is one. A configuration that is refused is told in the note, but SAM's is
 * E_DATA; E_NOMEM. */
enum mcs_status mcs_model_recognise(const struct weight_file *file, struct arena *a, struct model_info *info);

#endif

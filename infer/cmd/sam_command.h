/* The verb sam: its options and its folder mode (sam_folder.c), used by cmd_sam.c. */
#ifndef MCS_SAM_COMMAND_H
#define MCS_SAM_COMMAND_H

#include "engine/cli/config.h"
#include "infer/sam/sam_prompts.h"

#include <jansson.h>

struct sam_command {
    struct mcs_common common;
    const char *window;
    const char *model, *input, *output, *mask, *prompts_from, *preprocess;
    struct mcs_strings box, point;
    struct sam_embeddings embeddings;
    int64_t grow, keep;
    int multimask, prompts, boxes;
};

/* The first members of sam.json. */
json_t *mcs_sam_json_head(const struct sam_command *c, const struct sam_model *m, struct arena *a);
/* Segments a folder of images with the prompts of a boxes.json (c->prompts_from); writes masks, sam.json, config.yaml
 * and failures.csv. E_PARTIAL: some images failed; E_DATA: all failed; E_STOPPED. */
enum mcs_status mcs_sam_folder(const struct sam_command *c, struct sam_model *m);

#endif

/* What the two halves of the verb sam share: its options, and its folder half. */
#ifndef MCS_SAM_COMMAND_H
#define MCS_SAM_COMMAND_H

#include "engine/cli/config.h"
#include "infer/sam/sam_prompts.h"

#include <jansson.h>

#define SAM_ENDINGS ".png;.jpg;.jpeg" /* of the images of a folder */

struct sam_command {
    struct mcs_common common;
    const char *model, *input, *output, *mask, *prompts_from;
    struct mcs_strings box, point;
    int64_t grow, keep;
    int multimask, prompts, boxes;
};

/* How sam.json begins. */
json_t *mcs_sam_json_head(const struct sam_command *c, const struct sam_model *m, struct arena *a);
/* Masks of a folder of images by boxes.json (c->prompts_from), with sam.json, config.yaml and failures.csv. E_PARTIAL:
 * some failed; E_DATA: all did; E_STOPPED. */
enum mcs_status mcs_sam_folder(const struct sam_command *c, struct sam_model *m);

#endif

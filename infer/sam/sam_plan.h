/* Shared by the files of a SAM model: compiled graphs, and its configuration's file. */
#ifndef MCS_SAM_PLAN_H
#define MCS_SAM_PLAN_H

#include "infer/sam/sam_model.h"

/* A compiled encoder for n images, or a decoder for n prompts of `tokens` sparse tokens each. */
struct sam_plan {
    struct sam_plan *next; /* most recently used first */
    int decoder, with_mask;
    int64_t n, tokens;
    struct graph *graph;
    struct exec *exec;
    struct tensor *image, *embedding, *image_of;
    struct sam_prompt prompt;
    struct sam_output out;
};
/* Returns the compiled graph for these sizes, compiling it if it is not among the plans last used. */
enum mcs_status mcs_sam_plan_get(struct sam_model *m, int decoder, int64_t n, int64_t tokens, int with_mask,
                                 struct sam_plan **plan);
void mcs_sam_plan_free(struct sam_plan *p);

/* E_DATA: impossible sizes; the message begins with path. */
enum mcs_status mcs_sam_config_check(const char *path, const struct sam_config *c);
enum mcs_status mcs_sam_config_write(const char *path, const struct sam_config *c);

#endif

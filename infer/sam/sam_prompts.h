/* SAM masks from the components of coarse masks (boxes.json, infer/coarse/coarse.h): makes the prompts, segments
 * several images per batch and combines the components' masks.
 *
 * Form paper: the union of one mask per component, prompted by its box, its points or both; multimask uses the mask
 * with the greatest predicted IoU. Form release, as the released prompt_sam.py: every box is combined with the points
 * of all components (without boxes: one prompt with all points), the masks are summed and clipped, and the result keeps
 * as many 8-connected components, by area, as the coarse mask has; multimask sums the three masks, each averaged over
 * the boxes. */
#ifndef MCS_SAM_PROMPTS_H
#define MCS_SAM_PROMPTS_H

#include "engine/base/form.h"
#include "infer/coarse/boxes.h"
#include "infer/sam/sam_embedding.h"

enum sam_prompt_kind { SAM_BOXES, SAM_POINTS, SAM_BOTH };

struct sam_options {
    enum mcs_form form;
    enum sam_prompt_kind kind;
    int merge_boxes; /* one box around all components */
    int grow_px;     /* pixels added to each side of a box, clipped to the image; negative shrinks */
    int multimask;
    struct sam_embeddings embeddings; /* files of the images' embeddings, by the stem of the name in boxes.json */
    int keep; /* components of the mask kept, by area; 0: all (paper), as many as the coarse mask has (release) */
};
struct sam_options mcs_sam_defaults(enum mcs_form form); /* boxes, not merged, not grown, single mask, keep 0 */

struct sam_case {
    const struct image *image;
    const struct box_case *prompts; /* in pixels of that image */
};
struct sam_prompt_result {
    double box[4];        /* as passed to SAM; 0 without a box */
    int n_points, chosen; /* chosen: index of the mask used, 0 to 3; -1 = multimask's sum (release) */
    float iou;            /* predicted IoU of the chosen mask; the greatest of the three for a sum */
    double stability;
};
struct sam_result {
    uint8_t *mask; /* (height,width) 0 or 1; NULL after an error */
    int n_prompts; /* 0: the case has no components, so the mask is empty; to be reported, but no error */
    struct sam_prompt_result *prompts;
    int area;
};

/* E_DATA: boxes for another image size; a component without points if kind is points or both (the message names the
 * image). */
enum mcs_status mcs_sam_case_check(const struct sam_options *o, const struct sam_case *c);
/* n cases -> results[0..n), each to be released with mcs_sam_result_free, also after an error. A case that
 * mcs_sam_case_check refuses ends the call. */
enum mcs_status mcs_sam_segment(struct sam_model *m, const struct sam_options *o, const struct sam_case *cases, int n,
                                struct sam_result *results);
void mcs_sam_result_free(struct sam_result *r);

#endif

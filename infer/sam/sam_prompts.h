/* From components (boxes.json, infer/coarse/coarse.h) to masks by SAM: prompts, several images at once, the union of
 * the components' masks.
 *
 * Form paper: a mask for each component from its box, its points or both; the union. Form release, the released
 * prompt_sam.py: the points of all components go with every box (or, without boxes, into one
 * prompt), masks are summed and clipped, and of the result as many 8-connected components stay, by area, as the coarse
 * mask had; multimask adds the three masks, each averaged over the boxes, where the paper's form takes the one with the
 * greatest predicted IoU. */
#ifndef MCS_SAM_PROMPTS_H
#define MCS_SAM_PROMPTS_H

#include "engine/cli/config.h"
#include "infer/coarse/boxes.h"
#include "infer/sam/sam_model.h"

enum sam_prompt_kind { SAM_BOXES, SAM_POINTS, SAM_BOTH };

struct sam_options {
    enum mcs_form form;
    enum sam_prompt_kind kind;
    int merge_boxes; /* one box around all components */
    int grow_px;     /* boxes grown on each side, within the image; negative shrinks */
    int multimask;
    int keep; /* components of the mask that stay, by area; 0: all (paper), as many as the case has (release) */
};
struct sam_options mcs_sam_defaults(enum mcs_form form); /* boxes, not merged, not grown, single mask, keep 0 */

struct sam_case {
    const struct image *image;
    const struct box_case *prompts; /* in pixels of that image */
};
struct sam_prompt_result {
    double box[4];        /* as given to SAM; 0 without a box */
    int n_points, chosen; /* which of the four masks; -1 = multimask's sum (release) */
    float iou;            /* predicted, of the chosen mask; the greatest of the three for a sum */
    double stability;
};
struct sam_result {
    uint8_t *mask; /* (height,width) 0 or 1; NULL after an error */
    int n_prompts; /* 0: nothing to ask for, the mask is empty: a case to report, no error */
    struct sam_prompt_result *prompts;
    int area;
};

/* n cases -> results[0..n), each to be released with mcs_sam_result_free, also after an error. E_DATA: a case whose
 * boxes are of another image size; kind points or both and a component without points (told by image name). */
enum mcs_status mcs_sam_segment(struct sam_model *m, const struct sam_options *o, const struct sam_case *cases, int n,
                                struct sam_result *results);
void mcs_sam_result_free(struct sam_result *r);

#endif

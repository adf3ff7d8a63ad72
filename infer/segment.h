/* Zero-shot segmentation: text -> saliency -> coarse mask -> SAM's mask, in memory, for many cases at once.
 *
 *     struct segment_options o = mcs_segment_defaults(form);
 *     struct segment_case c = {.image = &img, .text = "a small bright lesion", .stem = "case_0001"};
 *     MCS_TRY(mcs_segment_run(&clip, &sam, &o, &c, 1, 1));
 *     ... c.mask (height, width) 0/1; c.coarse.state says why a mask is empty ...
 *     mcs_segment_case_free(&c); */
#ifndef MCS_SEGMENT_H
#define MCS_SEGMENT_H

#include "engine/base/form.h"
#include "infer/clip/saliency.h"
#include "infer/coarse/coarse.h"
#include "infer/sam/sam_prompts.h"

struct segment_options {
    struct saliency_options saliency;
    struct coarse_options coarse;
    struct sam_options sam;        /* its grow_px is added to coarse.grow_px: leave one of them 0 */
    const char *const *null_texts; /* prompts without a finding, for the presence score */
    int n_null;
};
/* Form paper: whole image, Otsu, components ranked by confidence, a box for each component. Form release: as the
 * released code. */
struct segment_options mcs_segment_defaults(const enum mcs_form form[MCS_FORM_STAGES]);

struct segment_case {
    const struct image *image; /* in: 8-bit, grey or RGB */
    const char *text, *stem;   /* in; the stem is the key of all random numbers of the case */
    struct map2 map;           /* saliency, of the image's size */
    float presence;            /* cosine(image, text) - mean cosine(image, null texts) */
    uint8_t *threshold_mask;   /* (height,width) 0/1: all pixels above the threshold */
    uint8_t *coarse_mask;      /* (height,width) 0/1: the components kept */
    struct coarse_result coarse;
    uint8_t *mask; /* SAM's; all 0 if the coarse mask is empty */
    float iou;     /* mean predicted IoU of SAM's masks; 0 without a mask */
};
void mcs_segment_case_free(struct segment_case *c);

/* sam NULL: stops after the coarse mask (mask stays NULL). progress: shows progress lines. */
enum mcs_status mcs_segment_run(struct clip_model *clip, struct sam_model *sam, const struct segment_options *o,
                                struct segment_case *cases, int n, int progress);
/* The SAM step only, for cases whose coarse results are set. */
enum mcs_status mcs_segment_sam(struct sam_model *sam, const struct segment_options *o, struct segment_case *cases,
                                int n, int progress);

/* Rank by text: the score of a component is the cosine between the prompt and the image with everything outside the
 * component (grown by 3 pixels) blurred, sigma 3/32 of the longer side. The `score` of a coarse_text_scorer whose
 * context is a struct text_rank. */
struct text_rank {
    struct clip_model *clip;
    const struct image *image;
    const char *text;
    enum clip_view view;
};
enum mcs_status mcs_text_rank_score(void *context, const char *stem, const struct component_list *list,
                                    const int32_t *labels, int width, int height, float *scores);

#endif

/* Zero-shot segmentation: text -> saliency -> coarse mask -> SAM's mask, in memory, for many cases at once.
 *
 *     struct segment_options o = mcs_segment_defaults(form);
 *     struct segment_session s;
 *     MCS_TRY(mcs_segment_open(&s, &clip, &sam, &o));             // plans the graphs, for all runs
 *     struct segment_case c = {.image = &img, .text = "a small bright lesion", .stem = "case_0001"};
 *     MCS_TRY_GOTO(mcs_segment_run(&s, &c, 1, NULL, 1), st, done);
 *     ... c.mask (height, width) 0/1; c.coarse.state says why a mask is empty ...
 *     done: mcs_segment_case_free(&c); mcs_segment_close(&s); */
#ifndef MCS_SEGMENT_H
#define MCS_SEGMENT_H

#include "engine/base/form.h"
#include "infer/clip/saliency.h"
#include "infer/coarse/coarse.h"
#include "infer/sam/sam_prompts.h"

struct segment_options {
    struct saliency_options saliency;
    struct coarse_options coarse;
    struct sam_options sam; /* its grow_px is added to coarse.grow_px: leave one of them 0 */
    float min_presence; /* a case whose presence is lower gets empty masks, state MCS_MASK_ABSENT; -INFINITY: none */
};
/* Form paper: whole image, Otsu, components ranked by confidence, a box for each component. Form release: as the
 * released code. */
struct segment_options mcs_segment_defaults(const enum mcs_form form[MCS_FORM_STAGES]);

struct segment_case {
    const struct image *image; /* in: 8-bit, grey or RGB */
    const char *text, *stem;   /* in; the stem is the key of all random numbers of the case */
    enum mcs_status status;    /* OK, or why the case failed; then the following are incomplete */
    struct map2 map;           /* saliency, of the image's size */
    float presence;            /* cosine(image, text) - mean cosine(image, null texts) */
    uint8_t *threshold_mask;   /* (height,width) 0/1: all pixels above the threshold */
    uint8_t *coarse_mask;      /* (height,width) 0/1: the components kept */
    struct coarse_result coarse;
    uint8_t *mask; /* SAM's; all 0 if the coarse mask is empty */
    float iou;     /* mean predicted IoU of SAM's masks; 0 without a mask */
};
void mcs_segment_case_free(struct segment_case *c);

/* A session; it must not be moved in memory while it is open. */
struct segment_session {
    struct clip_model *clip;
    struct sam_model *sam;
    struct segment_options o;
    struct saliency saliency;
    struct device_scratch scratch; /* of the coarse masks */
};
/* sam NULL: runs stop after the coarse mask (mask stays NULL). The models must outlive the session. */
enum mcs_status mcs_segment_open(struct segment_session *s, struct clip_model *clip, struct sam_model *sam,
                                 const struct segment_options *o);
/* Each stage runs once, over all cases that are left. A case that fails by its data gets its status and is added to
 * `failures`; NULL: it ends the run. progress: shows progress lines. */
enum mcs_status mcs_segment_run(struct segment_session *s, struct segment_case *cases, int n,
                                struct failure_list *failures, int progress);
void mcs_segment_close(struct segment_session *s);
/* The SAM step only, for cases whose coarse results are set. */
enum mcs_status mcs_segment_sam(struct sam_model *sam, const struct sam_options *o, struct segment_case *cases, int n,
                                struct failure_list *failures, int progress);

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

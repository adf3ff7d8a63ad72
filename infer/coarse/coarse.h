/* The coarse mask of a saliency map: threshold, 8-connected components, filters, the best components, and boxes and
 * points around them as prompts for SAM.
 *
 *     struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
 *     struct device_scratch scratch = {.device = &device};
 *     struct coarse_result r = {0};
 *     MCS_TRY(mcs_coarse_mask(&scratch, &map, "case_0001", &o, NULL, NULL, mask, &r));
 *     if (r.state != MCS_MASK_OK) ... the mask is empty and r.components.n is 0: to be reported, but no error
 *     mcs_coarse_free(&r); */
#ifndef MCS_COARSE_H
#define MCS_COARSE_H

#include "data/image/image.h"
#include "engine/base/form.h"
#include "engine/device_ops.h"
#include "engine/image/components.h"
#include "engine/image/threshold.h"
#include "infer/coarse/boxes.h"

enum mcs_coarse_threshold { MCS_COARSE_OTSU, MCS_COARSE_KMEANS, MCS_COARSE_FIXED };
/* Score that ranks the components. both: text + 2 confidence. */
enum mcs_coarse_rank { MCS_COARSE_CONFIDENCE, MCS_COARSE_AREA, MCS_COARSE_TEXT, MCS_COARSE_BOTH };

/* Form paper: Otsu on the float map, components filtered and ranked by confidence. Form release: as the released code,
 * 2-means or a fixed value on the 8-bit map, the components of largest area, one merged box whose right and lower edges
 * are one pixel outside, points drawn from the whole mask. */
struct coarse_options { /* defaults: paper; release */
    enum mcs_form form;
    enum mcs_coarse_threshold threshold; /* Otsu; 2-means */
    float threshold_value;               /* of the fixed threshold; 0.3 as in the released code */
    enum mcs_coarse_rank rank;           /* confidence; area */
    int keep;             /* 1; 1: number of components kept, 0 all. The released code's README uses 2 for lungs */
    float min_confidence; /* 0.5; 0. The paper does not state its value; 0.5 is a guess */
    int min_area;         /* 1; 1 pixel */
    int grow_px;          /* 0; 0: pixels added to each side of a box */
    int merge_boxes;      /* 0; 1: one box around everything instead of one for each component */
    int n_points;         /* 10; 10: points inside each component, at most one per pixel */
    int n_negative;       /* 0; 0: points outside the mask, the same for all components */
    uint64_t seed;        /* 0; 0: of the points */
};
struct coarse_options mcs_coarse_defaults(enum mcs_form form);
/* Parse "otsu", "kmeans" or a number into threshold and threshold_value; "confidence", "area", "text" or "both" into
 * rank. E_USAGE. */
enum mcs_status mcs_coarse_parse_threshold(const char *word, struct coarse_options *o);
enum mcs_status mcs_coarse_parse_rank(const char *word, struct coarse_options *o);

/* Computes scores (list->n) of the components in `list` for the ranks text and both; greater is better. labels (height,
 * width). */
struct coarse_text_scorer {
    enum mcs_status (*score)(void *context, const char *stem, const struct component_list *list, const int32_t *labels,
                             int width, int height, float *scores);
    void *context;
};

struct coarse_result {
    enum mcs_mask_state state;
    float threshold;
    int n_found; /* components before any filter */
    struct component_list components;
    int n_boxes; /* 1 where boxes are merged, else components.n */
    struct box_component *boxes;
    struct arena arena; /* holds the boxes and their points */
};

/* map -> mask (height, width), 0 or 1, and *result, to be released with mcs_coarse_free. `scratch`: memory of the
 * device that computes the mask. `stem` is the key of the points' random numbers, so points depend on the case and the
 * seed only. `scorer` may be NULL unless rank is text or both. above (height, width): receives the mask of all pixels
 * above the threshold, or NULL. Order: threshold, components, min_area, min_confidence, rank and keep. E_DATA NaN in
 * the map; E_USAGE impossible options; E_NOMEM. */
enum mcs_status mcs_coarse_mask(struct device_scratch *scratch, const struct map2 *map, const char *stem,
                                const struct coarse_options *o, const struct coarse_text_scorer *scorer, uint8_t *above,
                                uint8_t *mask, struct coarse_result *result);
void mcs_coarse_free(struct coarse_result *result);

/* Every STEM.h5 (dataset "saliency", (H, W) float32) or STEM.png (0..255 = 0..1) of a folder -> out/STEM.png (0 and
 * 255) and out/boxes.json. If a stem has both, the HDF5 file is read. run: records the cases and skips those recorded
 * before; NULL: all are computed. *n_cases and *n_empty may be NULL. E_PARTIAL: some cases failed and are listed in
 * out/failures.csv; E_NOINPUT no folder or nothing in it; E_DATA two images with one stem, or every case failed;
 * E_STOPPED after finishing the current case. */
struct run_folder;
enum mcs_status mcs_coarse_folder(struct device *d, const char *in, const char *out, const struct coarse_options *o,
                                  const struct coarse_text_scorer *scorer, struct run_folder *run, int *n_cases,
                                  int *n_empty);

#endif

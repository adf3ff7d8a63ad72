/* The coarse mask: threshold, 8-connected components, filter, the best few, and boxes and points around them for SAM.
 *
 *     struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
 *     struct coarse_result r = {0};
 *     MCS_TRY(mcs_coarse_mask(NULL, &map, "case_0001", &o, NULL, NULL, mask, &r));
 *     if (r.state != MCS_MASK_OK) ... the mask is empty and r.components.n is 0: a case to report, no error
 *     mcs_coarse_free(&r); */
#ifndef MCS_COARSE_H
#define MCS_COARSE_H

#include "data/image/image.h"
#include "engine/cli/config.h"
#include "engine/stage_ops.h"
#include "infer/coarse/boxes.h"
#include "infer/coarse/components.h"
#include "infer/coarse/threshold.h"

enum mcs_coarse_threshold { MCS_COARSE_OTSU, MCS_COARSE_KMEANS, MCS_COARSE_FIXED };
/* both: text + 2 confidence. On the demo's validation slabs it is the best of the four (docs/cli.md, coarse). */
enum mcs_coarse_rank { MCS_COARSE_CONFIDENCE, MCS_COARSE_AREA, MCS_COARSE_TEXT, MCS_COARSE_BOTH };

/* Form paper: Otsu on the float map, components filtered and ranked by confidence. Form release, the released code:
 * 2-means or a fixed value on the 8-bit map, the largest areas, one merged box whose right and lower edges lie one
 * pixel outside, points drawn from the whole mask. */
struct coarse_options { /* defaults: paper; release */
    enum mcs_form form;
    enum mcs_coarse_threshold threshold; /* Otsu; 2-means */
    float threshold_value;               /* 0.3, the released code's; for the fixed threshold */
    enum mcs_coarse_rank rank;           /* confidence; area */
    int keep;             /* 1; 1: how many components stay, 0 all. The released code's README says 2 for lungs */
    float min_confidence; /* 0.5; 0. The paper's value is not known, 0.5 is a second-hand guess */
    int min_area;         /* 1; 1 pixel */
    int grow_px;          /* 0; 0: boxes grown on each side */
    int merge_boxes;      /* 0; 1: one box around everything instead of one for each component */
    int n_points;         /* 10; 10: points in a component, fewer where there are fewer pixels */
    int n_negative;       /* 0; 0: points outside the mask, the same for all components */
    uint64_t seed;        /* 0; 0: of the points */
};
struct coarse_options mcs_coarse_defaults(enum mcs_form form);
/* "otsu", "kmeans" or a number into threshold and threshold_value; "confidence", "area", "text", "both" into
 * rank. E_USAGE. */
enum mcs_status mcs_coarse_parse_threshold(const char *word, struct coarse_options *o);
enum mcs_status mcs_coarse_parse_rank(const char *word, struct coarse_options *o);

/* The threshold alone: map (height, width) -> mask (height, width) 0 or 1, before components. *threshold and *state as
 * in the result of mcs_coarse_mask. */
enum mcs_status mcs_coarse_threshold(const float *map, int width, int height, const struct coarse_options *o,
                                     uint8_t *mask, float *threshold, enum mcs_mask_state *state);

/* Scores of the components in `list` for the ranks text and both, greater is better: scores (list->n). labels (height,
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

/* map -> mask (height, width) 0 or 1 and *result, to be released with mcs_coarse_free. `on`: memory of the device that
 * does it where it has stages, else, or NULL, it is done on the host. `stem` keys the points, so they depend on the
 * case and the seed alone. `scorer` may be NULL unless rank is text or both. above (height, width), or NULL: what lies
 * above the threshold. Order: threshold, components, min_area, min_confidence, rank and keep. E_DATA NaN in the map;
 * E_USAGE impossible options; E_NOMEM. */
enum mcs_status mcs_coarse_mask(struct stage_room *on, const struct map2 *map, const char *stem,
                                const struct coarse_options *o, const struct coarse_text_scorer *scorer, uint8_t *above,
                                uint8_t *mask, struct coarse_result *result);
void mcs_coarse_free(struct coarse_result *result);

/* Every STEM.h5 (dataset "saliency", (H, W) float32) or STEM.png (8 bits = 0..1) of a folder -> out/STEM.png (0 and
 * 255) and out/boxes.json. d or NULL: as `on` above. Where a stem has both, the HDF5 file is read. A bad case goes to
 * out/failures.csv and the rest goes on: E_PARTIAL. *n_cases and *n_empty may be NULL. E_NOINPUT no folder or nothing
 * in it; E_DATA two images with one stem, or no case done; E_STOPPED after the case at hand. run: records the cases,
 * and those that it has already are not made again; NULL: all are made. */
struct run_folder;
enum mcs_status mcs_coarse_folder(struct device *d, const char *in, const char *out, const struct coarse_options *o,
                                  const struct coarse_text_scorer *scorer, struct run_folder *run, int *n_cases,
                                  int *n_empty);

#endif

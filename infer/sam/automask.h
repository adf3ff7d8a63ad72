/* Masks of everything in an image, by segment-anything's SamAutomaticMaskGenerator: SAM is prompted by each point of a
 * grid, with three masks a point; masks of low predicted IoU or stability are dropped, and of masks with similar boxes
 * the one with the greatest predicted IoU stays. The same may be done on overlapping crops of the image.
 *
 *     struct automask_options o = mcs_automask_defaults();
 *     struct automask_list list;
 *     MCS_TRY(mcs_automask(&model, &o, &image, NULL, NULL, &list));
 *     ... list.v[i].rle, .box, .iou ...
 *     mcs_automask_free(&list);
 *
 * Masks without any pixel are dropped, which segment-anything keeps where stability_threshold is 0. */
#ifndef MCS_AUTOMASK_H
#define MCS_AUTOMASK_H

#include "engine/image/rle.h"
#include "infer/sam/sam_embedding.h"

/* The names and defaults of SamAutomaticMaskGenerator. */
struct automask_options {
    int points_per_side;       /* 32 */
    int points_per_batch;      /* 64; the result does not depend on it */
    double pred_iou_thresh;    /* 0.88: masks above stay; 0 or less: all */
    double stability_thresh;   /* 0.95: masks with at least this stability stay; 0 or less: all */
    double stability_offset;   /* 1: pixels with a logit above it, over those above its negative */
    double box_nms_thresh;     /* 0.7 */
    int crop_n_layers;         /* 0; layer i has 2^i x 2^i crops */
    double crop_nms_thresh;    /* 0.7 */
    double crop_overlap_ratio; /* 512 / 1500 of the shorter side, for the first layer of crops */
    int crop_points_downscale; /* 1: by which points_per_side is divided with each layer */
    int64_t min_region_area;   /* 0: smaller holes are filled and smaller islands removed */
};
struct automask_options mcs_automask_defaults(void);

struct automask {
    struct rle rle;
    int box[4];      /* x0, y0, x1, y1 of its pixels, inclusive */
    int64_t area;    /* pixels */
    float iou;       /* predicted */
    float stability; /* before min_region_area */
    double point[2]; /* x, y: the prompt */
    int crop[4];     /* x0, y0, x1, y1 of the crop, exclusive */
};
struct automask_list {
    int n;
    struct automask *v; /* by predicted IoU (without crops) */
};

/* embeddings, stem: files of the whole image's embedding (mcs_sam_embed), or NULL. E_USAGE: options out of range,
 * embeddings with crops; E_NOMEM and the errors of mcs_sam_embed. After a failure the list is empty. Release with
 * mcs_automask_free. */
enum mcs_status mcs_automask(struct sam_model *m, const struct automask_options *o, const struct image *img,
                             const struct sam_embeddings *embeddings, const char *stem, struct automask_list *list);
void mcs_automask_free(struct automask_list *list);
/* A label map (height,width): 0 background, i + 1 where mask i is, the smallest of several. E_USAGE: more than 65535
 * masks; E_NOMEM. */
enum mcs_status mcs_automask_labels(const struct automask_list *list, int width, int height, uint16_t *labels);

/* ---- parts, for tests ---- */

/* Crops (x0, y0, x1, y1) of an image, the whole image first; crops has room for all. Returns their number. layer: of
 * each. */
int mcs_automask_crops(const struct automask_options *o, int width, int height, int (*crops)[4], int *layer);
/* Fills 8-connected holes smaller than `area`, then removes such islands; if all are smaller, the largest stays.
 * *changed: 1 where the mask changed. E_NOMEM. */
enum mcs_status mcs_automask_clean(uint8_t *mask, int width, int height, int64_t area, int *changed);

#endif

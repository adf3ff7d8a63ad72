/* Connected components of a mask (8-connected) with the area, box, confidence, centroid and peak of each. */
#ifndef MCS_COMPONENTS_H
#define MCS_COMPONENTS_H

#include "engine/base/status.h"
#include "kernels/image/records.h"

#include <stdint.h>

/* Components on the heap; release with mcs_components_free. */
struct component_list {
    int n;
    struct component *items;
};

/* mask (height, width), foreground is not 0 -> labels (height, width): 0 background, 1.. components numbered in raster
 * order of their first pixel. map (height, width) or NULL. Two passes and a union-find (Rosenfeld and Pfaltz 1966).
 * E_SHAPE, E_NOMEM. */
enum mcs_status mcs_components_find(const uint8_t *mask, const float *map, int width, int height, int32_t *labels,
                                    struct component_list *list);
void mcs_components_free(struct component_list *list);

/* The filters remove items from the list and keep the order of the others. The label image is not changed; each item
 * keeps its label, and mcs_components_mask makes the mask of the remaining ones. This filter keeps area >= min_area. */
void mcs_components_min_area(struct component_list *list, int min_area);
/* Keeps confidence >= min_confidence. */
void mcs_components_min_confidence(struct component_list *list, float min_confidence);
/* Keeps every component at least as large as the `keep`-th largest, so ties may leave more than `keep`, as in the
 * released code. keep 0 keeps all. */
void mcs_components_keep_area(struct component_list *list, int keep);
/* Keeps the components with the `keep` greatest scores (list->n); ties go to the larger area, then to the first. keep 0
 * keeps all. E_NOMEM; E_DATA: a score is NaN. */
enum mcs_status mcs_components_keep_score(struct component_list *list, const float *scores, int keep);
/* mask (n_pixels) = 1 where the pixel's label is in the list. n_pixels = width * height. E_NOMEM. */
enum mcs_status mcs_components_mask(const struct component_list *list, const int32_t *labels, int64_t n_pixels,
                                    uint8_t *mask);

/* Grows an inclusive box {x0, y0, x1, y1} by px on each side, clipped to width x height. A negative px shrinks it, at
 * most to its centre. */
void mcs_box_grow(int box[4], int px, int width, int height);

#endif

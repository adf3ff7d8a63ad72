/* Connected components of a mask, 8-connected, with what is asked about each of them. */
#ifndef MCS_COMPONENTS_H
#define MCS_COMPONENTS_H

#include "engine/base/status.h"

#include <stdint.h>

struct component {
    int label;          /* 1 + its place in the list while nothing was dropped: raster order of the first pixel */
    int area;           /* pixels */
    int x0, y0, x1, y1; /* box, inclusive */
    float confidence;   /* mean of the map over its pixels; 0 without a map */
    float cx, cy;       /* centroid: mean of the pixels' x and y */
    int peak_x, peak_y; /* where the map is greatest (first in raster order); the first pixel without a map */
    float peak;
};

/* The components found, malloc'ed; release with mcs_components_free. */
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

/* The filters drop items from the list, keep the order of the rest and leave `labels` as they are: an item still knows
 * its label, and mcs_components_mask writes what is left. */
void mcs_components_min_area(struct component_list *list, int min_area);
/* Keeps confidence >= min_confidence. */
void mcs_components_min_confidence(struct component_list *list, float min_confidence);
/* Keeps every component whose area is among the `keep` largest, equal areas kept together, so that more than `keep` may
 * stay: the released code's rule. keep 0 keeps all. */
void mcs_components_keep_area(struct component_list *list, int keep);
/* Keeps the `keep` greatest scores; of equal ones the larger, then the first. scores (list->n). keep 0 keeps all.
 * E_NOMEM, E_DATA a score that is NaN. */
enum mcs_status mcs_components_keep_score(struct component_list *list, const float *scores, int keep);
/* mask = 1 where the label is still in the list. n_pixels = width * height. E_NOMEM. */
enum mcs_status mcs_components_mask(const struct component_list *list, const int32_t *labels, int64_t n_pixels,
                                    uint8_t *mask);

/* Grows an inclusive box by px on each side (negative shrinks, never below its middle), kept inside width x height. */
void mcs_box_grow(int box[4], int px, int width, int height);

#endif

/* From a saliency map to a binary mask: Otsu, 2-means and a fixed value, all exact and without random numbers.
 *
 * A map is (height, width) float32, row 0 on top. A mask is (height, width) uint8, 0 or 1. NaN or infinity in a map is
 * E_DATA. */
#ifndef MCS_THRESHOLD_H
#define MCS_THRESHOLD_H

#include "engine/base/status.h"

#include <stdint.h>

enum { MCS_THRESHOLD_BINS = 256 };

/* Why a mask is empty, or that it is not. */
enum mcs_mask_state {
    MCS_MASK_OK,       /* there is foreground */
    MCS_MASK_CONSTANT, /* every value is the same: there is nothing to separate, the mask is all 0 */
    MCS_MASK_NOTHING,  /* no value lies above the threshold */
    MCS_MASK_FILTERED  /* there was foreground, but no component passed the filters (infer/coarse/coarse.h) */
};
const char *mcs_mask_state_text(enum mcs_mask_state state);

/* Otsu (N. Otsu, "A threshold selection method from gray-level histograms", 1979): of the 255 cuts between 256 equal
 * bins between the map's least and greatest value, the one with the greatest variance between classes; the first of
 * equal ones. *threshold is the centre of the last bin below the cut and the mask is value > threshold (scikit-image's
 * convention). */
enum mcs_status mcs_threshold_otsu(const float *map, int64_t n, uint8_t *mask, float *threshold,
                                   enum mcs_mask_state *state);

/* 2-means on the same 256 bins, each with the mean of its own values: the least sum of squares of all 255 cuts, so no
 * start and no iteration. The mask is the upper class; *threshold is the mean of the two class means. */
enum mcs_status mcs_threshold_kmeans(const float *map, int64_t n, uint8_t *mask, float *threshold,
                                     enum mcs_mask_state *state);

/* The released code's 2-means: the map times 255, rounded to 8 bits (half to even, clamped), nearest-resized to 256 x
 * 256, split in two, the split nearest-resized back. The nearest source of cell i of n is floor(i * n_source / n), as
 * in the image library used there; both ways round down, so where 256 is no multiple of a side the mask may move by a
 * pixel. Its k-means from ten random starts is replaced by the exact search, which is the
 * least it can find. *threshold is the mean of the two class means, divided by 255. */
enum mcs_status mcs_threshold_kmeans_release(const float *map, int width, int height, uint8_t *mask, float *threshold,
                                             enum mcs_mask_state *state);

/* value > threshold. */
enum mcs_status mcs_threshold_fixed(const float *map, int64_t n, float threshold, uint8_t *mask,
                                    enum mcs_mask_state *state);

/* The map as 8 bits: round half to even of 255 value, clamped; what is written as STEM.png. */
void mcs_map_to_u8(const float *map, int64_t n, uint8_t *dst);

#endif

/* Thresholds that turn a saliency map into a binary mask: Otsu, 2-means and a fixed value; exact and deterministic.
 *
 * A map is (height, width) float32, row 0 on top. A mask is (height, width) uint8, 0 or 1. NaN or infinity in a map is
 * E_DATA. */
#ifndef MCS_THRESHOLD_H
#define MCS_THRESHOLD_H

#include "engine/base/status.h"
#include "kernels/image/records.h"

#include <stdint.h>

enum { MCS_THRESHOLD_BINS = 256 };

/* Whether a mask is empty, and why. */
enum mcs_mask_state {
    MCS_MASK_OK,       /* there is foreground */
    MCS_MASK_CONSTANT, /* all map values are equal; the mask is all 0 */
    MCS_MASK_NOTHING,  /* no value is above the threshold */
    MCS_MASK_FILTERED  /* no component passed the filters (infer/coarse/coarse.h) */
};
const char *mcs_mask_state_text(enum mcs_mask_state state);

/* N. Otsu, "A threshold selection method from gray-level histograms", 1979, on 256 equal bins between the map's minimum
 * and maximum: the cut with the greatest between-class variance, the first of equal ones. *threshold is the centre of
 * the last bin below the cut and the mask is value > threshold (scikit-image's convention). */
enum mcs_status mcs_threshold_otsu(const float *map, int64_t n, uint8_t *mask, float *threshold,
                                   enum mcs_mask_state *state);

/* Exact 2-means on the same 256 bins, each represented by the mean of its values: the cut with the least within-class
 * sum of squares of all 255, without initialisation or iteration. The mask is the upper class; *threshold is the mean
 * of the two class means. */
enum mcs_status mcs_threshold_kmeans(const float *map, int64_t n, uint8_t *mask, float *threshold,
                                     enum mcs_mask_state *state);

/* The released code's 2-means: the map times 255, rounded to 8 bits (half to even, clamped), resized to 256 x 256,
 * split into two classes, and the class image resized back. Both resizes are nearest with source index floor(i *
 * n_source / n), as in the image library of the released code; since both round down, the mask may shift by a pixel if
 * 256 is not a multiple of a side. The k-means with ten random starts is replaced by the exact search, whose sum of
 * squares is the least that k-means can reach. *threshold is the mean of the two class means, divided by 255. */
enum mcs_status mcs_threshold_kmeans_release(const float *map, int width, int height, uint8_t *mask, float *threshold,
                                             enum mcs_mask_state *state);

/* The threshold of this kind; `value` is read by the two fixed kinds. THRESHOLD_FIXED_RELEASE compares the 8-bit map
 * divided by 255 with it, in double, as the released code does. */
enum mcs_status mcs_threshold(enum threshold_kind kind, float value, const float *map, int width, int height,
                              uint8_t *mask, float *threshold, enum mcs_mask_state *state);
/* E_DATA: which value of the map is not finite. */
enum mcs_status mcs_threshold_check(const float *map, int64_t n);

/* value > threshold. */
enum mcs_status mcs_threshold_fixed(const float *map, int64_t n, float threshold, uint8_t *mask,
                                    enum mcs_mask_state *state);

/* The map as 8 bits, as in STEM.png: 255 * value rounded half to even, clamped to 0..255. */
void mcs_map_to_u8(const float *map, int64_t n, uint8_t *dst);

#endif

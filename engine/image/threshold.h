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
    MCS_MASK_FILTERED, /* no component passed the filters (infer/coarse/coarse.h) */
    MCS_MASK_ABSENT    /* the presence score is too low (infer/segment.h) */
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
 * split into two classes by scikit-learn 1.0.2's k-means with its ten random starts and its tolerance (see
 * kmeans_release.c), and the class image resized back; both resizes by mcs_nearest_index. *threshold is the mean of the
 * two class means, divided by 255. */
enum mcs_status mcs_threshold_kmeans_release(const float *map, int width, int height, uint8_t *mask, float *threshold,
                                             enum mcs_mask_state *state);
/* Its steps: map -> pixels (256, 256) in 8 bits; pixels -> *cut, the last level of the lower class, 255 where all
 * levels are equal, and *threshold. */
enum { MCS_RELEASE_SIDE = 256 };
void mcs_kmeans_release_reduce(const float *map, int width, int height, uint8_t *pixels);
void mcs_kmeans_release_cut(const uint8_t *pixels, int *cut, float *threshold);
/* Source index of destination index i in OpenCV's INTER_NEAREST, from n_src to n_dst: floor(i * (1 / (n_dst / n_src)))
 * in double, whose rounding makes it one less than floor(i * n_src / n_dst) for some sizes. */
int mcs_nearest_index(int i, int n_src, int n_dst);

/* The threshold of this kind; `value` is read by the two fixed kinds and by THRESHOLD_KMEANS_RELEASE, for which it is
 * the cut of mcs_kmeans_release_cut and *threshold is set to it / 255. THRESHOLD_FIXED_RELEASE compares the 8-bit map
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

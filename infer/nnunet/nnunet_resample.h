/* Resampling of volumes as nnU-Net does it by default (resample_data_or_seg_to_shape).
 *
 * Values: skimage.transform.resize without anti-aliasing, that is scipy.ndimage.zoom(mode="nearest", grid_mode=True) in
 * float64, then cut to the range of the input. Order 3: cubic B-splines after 12 repeated edge values; x = (i + .5) n /
 * m - .5. An axis much coarser than the others (3 times) is separate: its slices are resized on their own, each cut to
 * its own range, then the nearest slice is taken. Labels: the indicator of each label by order 1, the largest wins; of
 * equal ones the label of the nearest voxel if it is among them, else the smallest (batchgenerators 0.25.5).
 *
 * Sources: nnunetv2 2.6.2, scikit-image 0.26 resize, scipy ni_splines.c. */
#ifndef MCS_NNUNET_RESAMPLE_H
#define MCS_NNUNET_RESAMPLE_H

#include "engine/base/status.h"

#include <stdint.h>

enum { NNUNET_SEPARATE_AUTO = -1 };
/* The axis that is separate for these spacings (z y x), or -1. force: 0 never, 1 always, or NNUNET_SEPARATE_AUTO. */
int mcs_nnunet_separate_axis(const double current[3], const double target[3], int force);
/* round(current / target * size), halves to even. */
void mcs_nnunet_new_shape(const int64_t shape[3], const double current[3], const double target[3],
                          int64_t new_shape[3]);

/* src (shape) -> dst (new_shape). order: 1 or 3. separate: an axis or -1. E_NOMEM; lines in parallel. */
enum mcs_status mcs_nnunet_resample(const float *src, const int64_t shape[3], int order, int separate, float *dst,
                                    const int64_t new_shape[3]);
/* The same for labels from -1 on, order 1. */
enum mcs_status mcs_nnunet_resample_labels(const float *src, const int64_t shape[3], int separate, float *dst,
                                           const int64_t new_shape[3]);

#endif

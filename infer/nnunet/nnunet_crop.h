/* nnU-Net's crop to the voxels that are not 0, and the mask of the voxels outside of it. nnU-Net, crop_to_nonzero. */
#ifndef MCS_NNUNET_CROP_H
#define MCS_NNUNET_CROP_H

#include "engine/base/status.h"

#include <stdint.h>

struct nnunet_box {
    int64_t lo[3], hi[3]; /* z y x; hi is not included */
};
/* The box of the voxels that are not 0 in at least one of the channels (channels, z, y, x). Returns 0 where there is
 * none. */
int mcs_nnunet_box(const float *values, int channels, const int64_t shape[3], struct nnunet_box *box);
/* src (channels, shape) -> dst (channels, the box's shape), which may be src. */
void mcs_nnunet_crop(const float *src, int channels, const int64_t shape[3], const struct nnunet_box *box, float *dst);
/* inside (shape): 1 where a channel is not 0, and where a hole in such voxels is: one that has no way of face
 * neighbours to the border of the whole image, of which `values` is the crop. E_NOMEM. */
enum mcs_status mcs_nnunet_inside(const float *values, int channels, const int64_t shape[3], uint8_t *inside);

#endif

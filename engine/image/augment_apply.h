/* nnU-Net's augmentation of a training patch by parameters that are drawn already (struct augment_draw). Images are
 * (height, width, channels) float32, labels (height, width) int32 with -1 for "outside of the image". */
#ifndef MCS_AUGMENT_APPLY_H
#define MCS_AUGMENT_APPLY_H

#include "kernels/image/records.h"

#include <stddef.h>

struct augment_patch {
    int height, width, channels;
    float *image;   /* (height, width, channels) */
    int32_t *label; /* (height, width) */
};

/* Floats of scratch that mcs_augment_apply needs for one sample. */
size_t mcs_augment_scratch(const struct augment_patch *dst);
/* Applies the drawn transforms: src (the loader's patch, at least as large as dst) -> dst (the network's patch, in the
 * caller's buffers). Order: rotation and scaling, noise, then for each channel blur, brightness, contrast, low
 * resolution and gamma, then mirroring. Label -1 becomes 0. No heap. */
void mcs_augment_apply(const struct augment_draw *a, const struct augment_patch *src, const struct augment_patch *dst,
                       float *scratch);
/* Labels (batch, height, width) to a deep supervision target (batch, h, w) by nearest-exact resizing. */
void mcs_augment_target(const int32_t *labels, int batch, int height, int width, int h, int w, int32_t *dst);

/* The deterministic transforms. A plane is one channel x (height, width) with `stride` floats from pixel to pixel;
 * scratch as above. */
struct augment_plane {
    float *x;
    int height, width, stride;
};
/* Centre crop (matrix NULL), or resampling at centre + matrix (dy, dx): image bilinear with 0 outside; label with the
 * largest sum of bilinear weights, where outside counts as label -1 and ties go to the smallest label. */
void mcs_augment_spatial(const double matrix[2][2], const struct augment_patch *src, const struct augment_patch *dst);
/* Gaussian blur of radius ceil(3 sigma), at most 8; edges are reflected without repeating the edge pixel. */
void mcs_augment_blur(struct augment_plane p, double sigma_y, double sigma_x, float *scratch);
/* (x - mean) * factor + mean, clipped to the plane's old minimum and maximum. */
void mcs_augment_contrast(struct augment_plane p, double factor);
/* Resized to round(zoom * size) by nearest-exact and back by linear interpolation (half-pixel centres). */
void mcs_augment_lowres(struct augment_plane p, double zoom, float *scratch);
/* ((x - min) / range)^exponent * range + min, applied to -x if inverted; mean and standard deviation are then
 * restored. */
void mcs_augment_gamma(struct augment_plane p, double exponent, int inverted);

#endif

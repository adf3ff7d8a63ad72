/* nnU-Net's augmentation of training patches, in its order (nnUNetTrainer.get_training_transforms). Two dimensions
 * only: a volume is trained on slice by slice.
 *
 * The random numbers of a sample depend on its key (seed, site, sample, step) only, not on the batch, on threads or on
 * other samples. Images are (height, width, channels) float32, labels (height, width) int32 with -1 outside of the
 * image. */
#ifndef MCS_AUGMENT_H
#define MCS_AUGMENT_H

#include "engine/stage_ops.h"

#include <stddef.h>

/* p_X: probability of transform X per sample; if there is a p_X_channel, it is then drawn for each channel. */
struct augment_options {
    double p_rotation, rotation;        /* uniform in +-rotation radians */
    double p_scale, scale_lo, scale_hi; /* one factor for both axes; above 1 zooms out */
    double p_noise, noise_hi;           /* standard deviation uniform in 0..noise_hi */
    double p_blur, p_blur_channel;      /* Gaussian, for each axis sigma uniform in blur_lo..blur_hi pixels */
    double blur_lo, blur_hi;
    double p_brightness, p_contrast; /* a factor: with probability 1/2 in factor_lo..1, else in 1..factor_hi */
    double factor_lo, factor_hi;
    double p_lowres, p_lowres_channel, zoom_lo; /* downsample by a factor in zoom_lo..1 (nearest), upsample (linear) */
    double p_gamma_inverted, p_gamma;           /* exponent: as factor, in gamma_lo..1 or 1..gamma_hi */
    double gamma_lo, gamma_hi;
    double p_mirror; /* each axis */
};
/* nnU-Net's values for a network patch of this size: rotation by any angle, or by up to 15 degrees if one side is more
 * than 1.5 times the other. */
struct augment_options mcs_augment_nnunet(int height, int width);
/* No augmentation: a centre crop. */
struct augment_options mcs_augment_none(void);

/* Size of the patch to load so that a rotated and zoomed-out patch has image data up to its corners: for each axis the
 * larger of its length and its length after rotation (by at most 90 degrees), divided by .85, rounded down. The
 * network's patch size if o neither rotates nor scales. 512 x 512 -> 602 x 602. */
void mcs_augment_loader_size(const struct augment_options *o, int height, int width, int loader[2]);

struct augment_patch {
    int height, width, channels;
    float *image;   /* (height, width, channels) */
    int32_t *label; /* (height, width) */
};
/* Draws one sample's transforms from its key. channels: at most AUGMENT_MAX_CHANNELS. */
void mcs_augment_draw(const struct augment_options *o, struct mcs_rng key, int channels, struct augment_draw *a);

/* Scratch floats of one sample. */
size_t mcs_augment_scratch(const struct augment_patch *dst);
/* Applies the drawn transforms: src (the loader's patch, at least as large as dst) -> dst (the network's patch, in the
 * caller's buffers). Order: rotation and scaling, noise, then for each channel blur, brightness, contrast, low
 * resolution and gamma, then mirroring. Label -1 becomes 0. No heap. */
void mcs_augment_apply(const struct augment_draw *a, const struct augment_patch *src, const struct augment_patch *dst,
                       float *scratch);
/* mcs_augment_draw and mcs_augment_apply. */
void mcs_augment_sample(const struct augment_options *o, struct mcs_rng key, const struct augment_patch *src,
                        const struct augment_patch *dst, float *scratch);

/* The deterministic transforms. A plane is one channel x (height, width) with `stride` floats from pixel to pixel;
 * scratch as above. */
struct augment_plane {
    float *x;
    int height, width, stride;
};
/* Centre crop (matrix NULL), or resampling at centre + matrix (dy, dx): image bilinear with 0 outside; label with the
 * largest sum of bilinear weights, where outside counts as label -1 and ties go to the smallest label. */
void mcs_augment_spatial(const double matrix[2][2], const struct augment_patch *src, const struct augment_patch *dst);
/* Gaussian blur of radius ceil(3 sigma); edges are reflected without repeating the edge pixel. */
void mcs_augment_blur(struct augment_plane p, double sigma_y, double sigma_x, float *scratch);
/* (x - mean) * factor + mean, clipped to the range before. */
void mcs_augment_contrast(struct augment_plane p, double factor);
/* Resized to round(zoom * size) by nearest-exact and back by linear interpolation (half-pixel centres). */
void mcs_augment_lowres(struct augment_plane p, double zoom, float *scratch);
/* ((x - min) / range)^exponent * range + min, applied to -x if inverted; mean and standard deviation are then
 * restored. */
void mcs_augment_gamma(struct augment_plane p, double exponent, int inverted);

#endif

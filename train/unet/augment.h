/* nnU-Net's augmentation of training patches, in its order (nnUNetTrainer.get_training_transforms). Two dimensions
 * only: a volume is trained on slice by slice.
 *
 * The random numbers of a sample depend on its key (seed, site, sample, step) only, not on the batch, on threads or on
 * other samples. Images are (height, width, channels) float32, labels (height, width) int32 with -1 outside of the
 * image. */
#ifndef MCS_AUGMENT_H
#define MCS_AUGMENT_H

#include "engine/base/rng.h"
#include "engine/image/augment_apply.h"

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
 * larger of its length and its length after rotation (by at most 90 degrees), divided by .85, rounded down. .85 is the
 * constant of nnU-Net's trainer, although it zooms out by up to 1.4. The network's patch size if o neither rotates nor
 * scales. 512 x 512 -> 602 x 602. */
void mcs_augment_loader_size(const struct augment_options *o, int height, int width, int loader[2]);

/* Draws one sample's transforms from its key. channels: at most AUGMENT_MAX_CHANNELS. */
void mcs_augment_draw(const struct augment_options *o, struct mcs_rng key, int channels, struct augment_draw *a);

#endif

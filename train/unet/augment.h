/* nnU-Net's augmentation of training patches, in its order (nnUNetTrainer.get_training_transforms). Two dimensions
 * only: there are no volumes here, a volume's slices are patches like any other.
 *
 * A sample is drawn by its key alone (seed, site, sample, step), so it does not depend on the batch, on threads or on
 * what other samples drew. Images are (height, width, channels) float32, labels (height, width) int32 with -1 for
 * "outside of the image". */
#ifndef MCS_AUGMENT_H
#define MCS_AUGMENT_H

#include "engine/stage_ops.h"

#include <stddef.h>

/* Chances are by sample; those with a _channel beside them are then tossed for each channel. */
struct augment_options {
    double p_rotation, rotation;        /* uniform in +-rotation radians */
    double p_scale, scale_lo, scale_hi; /* one factor for both axes; above 1 shrinks what is seen */
    double p_noise, noise_hi;           /* standard deviation uniform in 0..noise_hi */
    double p_blur, p_blur_channel;      /* Gaussian, for each axis sigma uniform in blur_lo..blur_hi pixels */
    double blur_lo, blur_hi;
    double p_brightness, p_contrast; /* a factor: half the time in factor_lo..1, else in 1..factor_hi */
    double factor_lo, factor_hi;
    double p_lowres, p_lowres_channel, zoom_lo; /* to a share zoom_lo..1 of the size (nearest), and back (linear) */
    double p_gamma_inverted, p_gamma;           /* exponent: half the time in gamma_lo..1, else in 1..gamma_hi */
    double gamma_lo, gamma_hi;
    double p_mirror; /* each axis */
};
/* nnU-Net's own values for a network patch of this size: rotation by any angle, by 15 degrees where one side is more
 * than 1.5 times the other. */
struct augment_options mcs_augment_nnunet(int height, int width);
/* Nothing: a plain centre crop. */
struct augment_options mcs_augment_none(void);

/* Size of the patch to load, so that a turned and shrunk one finds image up to its corners: for each axis the larger of
 * its own and its turned length (at most a right angle), divided by .85 and cut; the patch itself where o neither turns
 * nor scales. 512 x 512 -> 602 x 602. */
void mcs_augment_loader_size(const struct augment_options *o, int height, int width, int loader[2]);

struct augment_patch {
    int height, width, channels;
    float *image;   /* (height, width, channels) */
    int32_t *label; /* (height, width) */
};
/* channels: at most AUGMENT_MAX_CHANNELS. */
void mcs_augment_draw(const struct augment_options *o, struct mcs_rng key, int channels, struct augment_draw *a);

/* Floats of scratch that one sample needs. */
size_t mcs_augment_scratch(const struct augment_patch *dst);
/* src (the loader's patch, at least as large as dst) -> dst (the network's patch, its buffers given), as drawn: turned,
 * noise, each channel's transforms in the order of struct augment_channel but brightness before contrast, mirrored. A
 * label -1 comes out as 0. No heap. */
void mcs_augment_apply(const struct augment_draw *a, const struct augment_patch *src, const struct augment_patch *dst,
                       float *scratch);
/* Both: draws and applies. */
void mcs_augment_sample(const struct augment_options *o, struct mcs_rng key, const struct augment_patch *src,
                        const struct augment_patch *dst, float *scratch);

/* The transforms by themselves, on one channel x (height, width) with `stride` floats from pixel to pixel; scratch as
 * above. Each is exact about what it says, and none draws anything. */
struct augment_plane {
    float *x;
    int height, width, stride;
};
/* Centre crop (matrix NULL), or sampling at centre + matrix (dy, dx): image bilinear with 0 outside; the label with the
 * largest bilinear weight, outside counting as -1, the smallest of equal ones. */
void mcs_augment_spatial(const double matrix[2][2], const struct augment_patch *src, const struct augment_patch *dst);
/* Gaussian of radius ceil(3 sigma), mirrored at the edges without repeating the edge. */
void mcs_augment_blur(struct augment_plane p, double sigma_y, double sigma_x, float *scratch);
/* (x - mean) factor + mean, clipped to the old range. */
void mcs_augment_contrast(struct augment_plane p, double factor);
/* Nearest-exact to round(zoom size) and linear (half-pixel centres) back. */
void mcs_augment_lowres(struct augment_plane p, double zoom, float *scratch);
/* ((x - min) / range)^exponent on the range, of -x where inverted; mean and standard deviation are put back. */
void mcs_augment_gamma(struct augment_plane p, double exponent, int inverted);

#endif

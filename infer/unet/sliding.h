/* Sliding-window prediction in two dimensions as in nnU-Net's nnUNetPredictor: half overlapping windows of the training
 * patch's size, weighted by a Gaussian; logits are averaged over each window and its mirror images. */
#ifndef MCS_SLIDING_H
#define MCS_SLIDING_H

#include "engine/device_ops.h"
#include "infer/unet/unet_model.h"

struct sliding_options {
    double step;   /* distance between windows as a fraction of their size, 0..1 */
    int mirror;    /* also predict mirrored along rows, columns and both */
    int64_t batch; /* windows per forward pass, at most */
};
struct sliding_options mcs_sliding_defaults(void); /* .5, mirrored, 8 */

/* Window starts along an axis of `size` >= patch: ceil((size - patch) / (patch step)) + 1 of them, evenly spaced, each
 * rounded half to even. Returns their number, or -1 if it exceeds max, the capacity of start. */
int mcs_sliding_starts(int64_t size, int64_t patch, double step, int64_t *start, int max);
/* Weights (height, width): a Gaussian with sigma patch/8 centred at patch/2, scaled to a maximum of 10 and rounded to
 * float16; zeros are replaced by the smallest positive weight. */
void mcs_sliding_gaussian(int64_t height, int64_t width, float *weight);

/* Windows of n images of one size, prepared once and then run with one set of the model's weights after another. The
 * arrays below except the starts are memory of the model's device, which windows never leave. */
struct sliding {
    struct unet_model *model;
    struct sliding_options o;
    int64_t n, capacity, height, width; /* n <= capacity images of one size */
    int64_t padded[2], before[2]; /* size after zero padding to at least a patch, and the padding before the image */
    int64_t *start_y, *start_x;   /* (n_y), (n_x): the windows' first rows and columns in the padded image */
    int n_y, n_x;
    float *gaussian;             /* (patch) weights within a window */
    float *images;               /* (n, padded, channels) */
    float *sums, *weights;       /* (n, padded, classes) weighted logits; (padded) the windows' Gaussians, summed */
    int64_t batch;               /* windows per forward pass */
    struct sliding_window *list; /* every window of every image, with its mirrorings */
    float *logits;               /* (n, height, width, classes) */
    uint32_t *bad;               /* one flag, 1: a logit is not finite */
};
/* images (n, height, width, channels), normalised. If the model's graph is compiled for a larger batch that o allows,
 * it is used as it is. E_USAGE: options out of range. Freed with mcs_sliding_close. */
enum mcs_status mcs_sliding_open(struct sliding *s, struct unet_model *m, const struct sliding_options *o,
                                 const float *images, int64_t n, int64_t height, int64_t width);
/* Replaces the images by n others of their size; n <= s->capacity, the number at opening. */
enum mcs_status mcs_sliding_load(struct sliding *s, const float *images, int64_t n);
/* Predicts with the model's current weights: logits (n, height, width, classes). E_DATA: a logit that is not finite. */
enum mcs_status mcs_sliding_run(struct sliding *s, float *logits);
/* The same into s->logits, without waiting; the caller then calls mcs_sliding_check. */
enum mcs_status mcs_sliding_enqueue(struct sliding *s);
/* Waits. E_DATA: since the images were loaded a logit was not finite. */
enum mcs_status mcs_sliding_check(struct sliding *s);
void mcs_sliding_close(struct sliding *s);

#endif

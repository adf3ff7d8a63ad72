/* Sliding-window prediction in two dimensions as nnU-Net's nnUNetPredictor does it: windows of the training
 * patch, half overlapping, weighted by a Gaussian; each window seen as it is and mirrored, logits averaged. */
#ifndef MCS_SLIDING_H
#define MCS_SLIDING_H

#include "engine/stage_ops.h"
#include "infer/unet/unet_model.h"

struct sliding_options {
    double step;   /* distance of windows as a share of their size, 0..1 */
    int mirror;    /* also mirrored along rows, columns and both */
    int64_t batch; /* windows at once, at most */
};
struct sliding_options mcs_sliding_defaults(void); /* .5, mirrored, 8 */

/* Starts of the windows along an axis of `size` >= patch: ceil((size - patch) / (patch step)) + 1 of them, evenly, each
 * rounded half to even. Returns how many; start has room for max (more is an error of the caller: -1). */
int mcs_sliding_starts(int64_t size, int64_t patch, double step, int64_t *start, int max);
/* Weights (height, width): a Gaussian of sigma patch/8 around patch/2, 10 at its greatest, rounded to float16, where it
 * is 0 the smallest that is not. */
void mcs_sliding_gaussian(int64_t height, int64_t width, float *weight);

/* Windows of n images of one size, cut once and then run with any number of weights. On a device with stages
 * (engine/stage_ops.h) images, gaussian, sums and weights are its memory, and windows never leave it. */
struct sliding {
    struct unet_model *model;
    struct sliding_options o;
    int64_t n, height, width;     /* of the images */
    int64_t padded[2], before[2]; /* with the zeros that fill up to a patch, and how many lie before the image */
    int64_t *start_y, *start_x;
    int n_y, n_x;
    float *gaussian;          /* (patch) */
    float *images;            /* (n, padded, channels) */
    float *windows, *outputs; /* (batch, patch, channels), (batch, patch, classes) */
    float *sums, *weights;    /* (n, padded, classes), (padded) */
    int64_t batch;            /* planned */
    /* On such a device alone, else NULL: */
    const struct stage_ops *stages;
    stage_window *list; /* every window */
    float *logits;      /* (n, height, width, classes) */
    uint32_t *bad;      /* a logit is not finite */
};
/* images (n, height, width, channels), normalised. E_USAGE: options that cannot be. Freed with mcs_sliding_close. */
enum mcs_status mcs_sliding_open(struct sliding *s, struct unet_model *m, const struct sliding_options *o,
                                 const float *images, int64_t n, int64_t height, int64_t width);
/* The model's present weights -> logits (n, height, width, classes). E_DATA: a logit that is not finite. */
enum mcs_status mcs_sliding_run(struct sliding *s, float *logits);
/* The same into s->logits on a device with stages, without waiting; the check is to be asked for. */
enum mcs_status mcs_sliding_enqueue(struct sliding *s);
enum mcs_status mcs_sliding_check(struct sliding *s); /* waits; E_DATA: a logit of a run since the opening is bad */
void mcs_sliding_close(struct sliding *s);

#endif

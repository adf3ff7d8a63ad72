/* Several checkpoints of a network as an ensemble: the mean of their softmax probabilities, in one pass over the
 * images, with groups of checkpoints (the last one, the last cycle, all) side by side. */
#ifndef MCS_ENSEMBLE_H
#define MCS_ENSEMBLE_H

#include "engine/cli/config.h"
#include "infer/unet/sliding.h"

enum ensemble_choice { ENSEMBLE_ALL, ENSEMBLE_LAST, ENSEMBLE_LAST_CYCLE };

struct ensemble {
    struct unet_model model;
    int n;
    struct unet_checkpoint *checkpoint; /* by step */
    float **weights;                    /* of each, flat as params->data, on the host */
};
/* Reads a run folder with the checkpoints that one of `n_choices` takes; others are not read. E_NOINPUT, E_DATA. Freed
 * with mcs_ensemble_close. */
enum mcs_status mcs_ensemble_open(const char *run, const enum ensemble_choice *choices, int n_choices, struct device *d,
                                  struct ensemble *e);
void mcs_ensemble_close(struct ensemble *e);
/* Is checkpoint i of those that were read part of the group? */
int mcs_ensemble_takes(const struct ensemble *e, enum ensemble_choice choice, int i);

/* images (n, height, width, channels), normalised (mcs_ensemble_normalise) -> for each choice g its mean probabilities
 * prob[g] (n, classes, height, width). Each image is cut once; each checkpoint runs once whatever the choices. */
enum mcs_status mcs_ensemble_predict(struct ensemble *e, const struct sliding_options *o, const float *images,
                                     int64_t n, int64_t height, int64_t width, const enum ensemble_choice *choices,
                                     int n_choices, float *const *prob);

/* What is made of a choice's mean probabilities, in the same pass; NULL: not wanted. On a device with stages
 * (engine/stage_ops.h) only what is wanted leaves it. */
struct ensemble_maps {
    float *prob;     /* (n, classes, height, width) */
    float *bits;     /* (n, height, width), their entropy: mcs_entropy_map */
    uint8_t *labels; /* (n, height, width), mcs_ensemble_labels with the threshold */
};
enum { ENSEMBLE_MAX_CHOICES = 3 };
enum mcs_status mcs_ensemble_run(struct ensemble *e, const struct sliding_options *o, const float *images, int64_t n,
                                 int64_t height, int64_t width, const enum ensemble_choice *choices, int n_choices,
                                 double threshold, const struct ensemble_maps *maps);

/* nnU-Net's z-score over n_pixels pixels, each channel by itself: minus mean, over max(deviation, 1e-8). src: bytes, or
 * values where it is NULL; both (n_pixels, channels). */
void mcs_ensemble_normalise(const uint8_t *bytes, const float *values, int64_t n_pixels, int channels, float *dst);
/* prob (classes, n) -> the class with the greatest probability (the first of equal ones); with a threshold above 0 and
 * two classes: 1 where the foreground's is greater than it. */
void mcs_ensemble_labels(const float *prob, int classes, int64_t n, double threshold, uint8_t *labels);

#endif

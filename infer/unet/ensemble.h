/* An ensemble of a network's checkpoints: the mean of their softmax probabilities. One pass over the images evaluates
 * several choices of checkpoints (the last one, those of the last cycle, all) together. */
#ifndef MCS_ENSEMBLE_H
#define MCS_ENSEMBLE_H

#include "infer/unet/sliding.h"

enum ensemble_choice { ENSEMBLE_ALL, ENSEMBLE_LAST, ENSEMBLE_LAST_CYCLE };

struct ensemble {
    struct unet_model model;
    int n;                              /* checkpoints */
    struct unet_checkpoint *checkpoint; /* in order of their steps */
    float **weights;                    /* of each checkpoint, laid out as params->data, on the host */
    struct sliding sliding;             /* the windows of the last run, kept while the size of the images stays */
    struct device_scratch results;
};
/* Reads a run folder and the checkpoints that at least one of the choices includes. E_NOINPUT, E_DATA. Freed with
 * mcs_ensemble_close. */
enum mcs_status mcs_ensemble_open(const char *run, const enum ensemble_choice *choices, int n_choices, struct device *d,
                                  struct ensemble *e);
void mcs_ensemble_close(struct ensemble *e);
/* 1 if checkpoint i of e->checkpoint belongs to the choice. */
int mcs_ensemble_includes(const struct ensemble *e, enum ensemble_choice choice, int i);

/* images (n, height, width, channels), normalised (mcs_ensemble_normalise) -> mean probabilities prob[g] (n, classes,
 * height, width) of each choice g. Each checkpoint runs once even if several choices include it. */
enum mcs_status mcs_ensemble_predict(struct ensemble *e, const struct sliding_options *o, const float *images,
                                     int64_t n, int64_t height, int64_t width, const enum ensemble_choice *choices,
                                     int n_choices, float *const *prob);

/* Results of a choice, computed from its mean probabilities in the same pass; NULL: not wanted. Only the
 * wanted ones are downloaded. */
struct ensemble_maps {
    float *prob;     /* (n, classes, height, width) */
    float *bits;     /* (n, height, width), their entropy: mcs_entropy_map */
    uint8_t *labels; /* (n, height, width), mcs_prob_labels with the threshold */
};
enum { ENSEMBLE_MAX_CHOICES = 3 };
enum mcs_status mcs_ensemble_run(struct ensemble *e, const struct sliding_options *o, const float *images, int64_t n,
                                 int64_t height, int64_t width, const enum ensemble_choice *choices, int n_choices,
                                 double threshold, const struct ensemble_maps *maps);

/* nnU-Net's z-score of each channel over n_pixels pixels: (x - mean) / max(standard deviation, 1e-8). The source is
 * bytes, or values if bytes is NULL; both (n_pixels, channels). */
void mcs_ensemble_normalise(const uint8_t *bytes, const float *values, int64_t n_pixels, int channels, float *dst);

#endif

/* Uncertainty of a prediction from the mean probabilities of an ensemble: entropy map, score of a case, and AUROC of
 * the entropy as a detector of wrong pixels. */
#ifndef MCS_UNCERTAINTY_H
#define MCS_UNCERTAINTY_H

#include "engine/base/form.h"
#include "engine/base/status.h"

#include <stdint.h>

/* A case's score, higher is less certain: 100 sum(entropy) / edge. The edge is the number of pixels that a 3 x 3
 * dilation adds to the predicted mask. Paper: at least 1, so that an empty mask has a finite score. Release: the
 * released code's 8-bit subtraction counts each edge pixel as 255, so the score is 1/255 of the paper's; without an
 * edge it is infinite, or NaN if the entropy is 0 too. mask, bits (height, width). */
double mcs_uncertainty_score(const float *bits, const uint8_t *mask, int width, int height, enum mcs_form form);
/* Alternative score per area instead of edge: 100 sum(entropy) / max(area, 1). */
double mcs_uncertainty_score_area(const float *bits, const uint8_t *mask, int64_t n);

/* Pixels of several cases with their entropy and whether they are wrong. Start with {0}; add cases, compute statistics,
 * free. */
struct error_pool {
    int64_t n, capacity;
    float *bits;    /* owned */
    uint8_t *flags; /* owned: 1 wrong, 2 outside the band */
};
struct error_statistics {
    int64_t n_pixels, n_wrong, n_outside, n_wrong_outside;
    double right, wrong;              /* mean entropy in bits of right and wrong pixels; NaN if there are none */
    double auroc, auroc_outside_band; /* entropy as score for wrong pixels; NaN if all are right or all are wrong */
};
/* Adds a case. A pixel is wrong if pred and ref differ. It is outside the band if the nearest pixel of the other class
 * in pred is more than band_px away: a band of 2 covers two pixels on each side of the predicted border, and without a
 * border all pixels are outside. bits, pred, ref (height, width). E_NOMEM, E_DATA an entropy that is NaN. */
enum mcs_status mcs_error_pool_add(struct error_pool *p, const float *bits, const uint8_t *pred, const uint8_t *ref,
                                   int width, int height, double band_px);
enum mcs_status mcs_error_pool_statistics(const struct error_pool *p, struct error_statistics *s);
void mcs_error_pool_free(struct error_pool *p);

#endif

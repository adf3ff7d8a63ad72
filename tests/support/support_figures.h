/* Brute-force scores and statistics from their definitions, which share no code with infer/. Tests use them to
 * recompute reported numbers from the files of a run. Masks are uint8, nonzero is foreground. */
#ifndef MCS_SUPPORT_FIGURES_H
#define MCS_SUPPORT_FIGURES_H

#include <stdint.h>

/* 2 |A and B| / (|A| + |B|) and |A and B| / |A or B|; NaN if both are empty. */
double figure_dice(const uint8_t *a, const uint8_t *b, int64_t n);
double figure_iou(const uint8_t *a, const uint8_t *b, int64_t n);
/* Share of both contours' length within `tolerance` pixels of the other contour (normalised surface distance, Nikolov
 * et al. 2018, 2-D). Contour elements are the corners of the pixel grid whose four pixels are not all equal; the
 * outside is background. NaN if both masks are empty. Quadratic time: for a few thousand elements at most. */
double figure_nsd(const uint8_t *a, const uint8_t *b, int width, int height, double tolerance);

/* Mean of the finite values and the half width of its 95 % interval by Student's t (NaN for one value); 1 to 10
 * values. */
void figure_mean(const double *values, int n, double *mean, double *half_width);
/* Area under the ROC curve: the share of (positive, negative) pairs in which the positive scores higher, ties count one
 * half. NaN without positives or negatives. Sorts, so it can be used for millions of scores. */
double figure_auroc(const float *score, const uint8_t *positive, int64_t n);
/* Spearman's rank correlation, ties get their mean rank; quadratic time. */
double figure_spearman(const double *x, const double *y, int n);
/* outside (height, width): 1 if no pixel of the other class is within `band` pixels, centre to centre. */
void figure_outside_band(const uint8_t *mask, int width, int height, double band, uint8_t *outside);

#endif

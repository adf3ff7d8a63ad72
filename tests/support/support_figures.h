/* Scores and statistics written from their definitions, by brute force: they share no code with infer/, so that a test
 * can recompute from the files of a run the figures that the program reported. Masks are uint8, foreground is not 0. */
#ifndef MCS_SUPPORT_FIGURES_H
#define MCS_SUPPORT_FIGURES_H

#include <stdint.h>

/* 2 |A and B| / (|A| + |B|) and |A and B| / |A or B|; NaN where both are empty. */
double figure_dice(const uint8_t *a, const uint8_t *b, int64_t n);
double figure_iou(const uint8_t *a, const uint8_t *b, int64_t n);
/* Share of both contours' length that lies within `tolerance` pixels of the other contour (normalised surface distance,
 * Nikolov et al. 2018, 2-D): contour elements are the corners of the pixel grid whose four pixels differ, background
 * outside. NaN where both masks are empty. All pairs: a few thousand elements at most. */
double figure_nsd(const uint8_t *a, const uint8_t *b, int width, int height, double tolerance);

/* Mean of the finite values and the half width of its 95 % interval by Student's t (NaN for one value); 2 to 10 values,
 * or 1. */
void figure_mean(const double *values, int n, double *mean, double *half_width);
/* Area under the ROC curve: the share of (positive, negative) pairs in which the positive scores higher, ties one half.
 * NaN where one kind is missing. Sorts: good for millions of scores. */
double figure_auroc(const float *score, const uint8_t *positive, int64_t n);
/* Spearman's rank correlation, ties at their mean rank; all pairs. */
double figure_spearman(const double *x, const double *y, int n);
/* outside (height, width): 1 where no pixel of the other class lies within `band` pixels, centre to centre. */
void figure_outside_band(const uint8_t *mask, int width, int height, double band, uint8_t *outside);

#endif

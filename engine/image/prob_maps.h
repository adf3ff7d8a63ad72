/* Maps made of class probabilities: entropy and labels. */
#ifndef MCS_PROB_MAPS_H
#define MCS_PROB_MAPS_H

#include "engine/base/status.h"

#include <stdint.h>

/* bits (n): entropy in bits of prob (n_classes, n), 0 log 0 = 0, at most log2(n_classes). n_classes 1: prob is the
 * foreground's and the background's is 1 - p. E_DATA: a value is NaN or outside [0, 1] by more than 1e-4. */
enum mcs_status mcs_entropy_map(const float *prob, int n_classes, int64_t n, float *bits);

/* prob (classes, n) -> labels (n): the class with the greatest probability (the first of equal ones); with two classes
 * and a threshold above 0, 1 where the foreground's probability exceeds the threshold. */
void mcs_prob_labels(const float *prob, int classes, int64_t n, double threshold, uint8_t *labels);

#endif

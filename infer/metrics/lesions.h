/* Detection of lesions: the connected components of the reference, each found or missed by those of the prediction. */
#ifndef MCS_LESIONS_H
#define MCS_LESIONS_H

#include "engine/base/status.h"

#include <stdint.h>

/* A pair of lesions matches where its IoU is above 0 and at least min_iou; each lesion is in one pair at most, pairs of
 * the greatest IoU first (greedy matching by mask IoU: Maier-Hein et al., "Metrics reloaded", Nature Methods 21, 2024,
 * instance detection). */
struct lesion_counts {
    int64_t n_ref, n_pred, n_matched;
    double dice; /* mean Dice of the matched pairs; NaN: none */
};

/* pred, ref (nz, ny, nx) of sizes n {x, y, z}, values 0 and 1. Components are joined over faces, edges and corners (8
 * neighbours on a plane, 26 in a volume). E_NOMEM. */
enum mcs_status mcs_lesions_match(const uint8_t *pred, const uint8_t *ref, const int n[3], double min_iou,
                                  struct lesion_counts *counts);

#endif

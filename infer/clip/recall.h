/* Recall at 1 and 2 of images and texts retrieving each other within batches. */
#ifndef MCS_RECALL_H
#define MCS_RECALL_H

#include "engine/base/status.h"
#include "infer/metrics/statistics.h"

#include <stdint.h>

struct recall_options {
    int batch;  /* candidates: 50, the published protocol */
    int n_runs; /* 0: one run in the given order; else the number of runs, each in another shuffled order (published: 5)
                 */
    uint64_t seed; /* of the shuffles */
    const int32_t
        *group; /* NULL, or (n): pairs of one group share their text or image, so each other's count as correct */
};
struct recall_options mcs_recall_defaults(void); /* batch 50, one run in the given order, no groups */

/* Recall (0..1) as the mean over batches with its 95 % interval (NaN with a single batch). */
struct recall_result {
    struct mean_interval image_to_text[2], text_to_image[2]; /* at 1, at 2 */
    int n_batches, n_left_out; /* batches of all runs; pairs of one run that do not fill a batch */
};

/* images, texts (n, dim) float32, L2-normalised; image i and text i are a pair.
 * - A query is correct at k if fewer than k other candidates of its batch are at least as similar as its partner: a tie
 *   counts as wrong, so that equal embeddings score 0 and not 1.
 * - The remainder n mod batch is left out, because fewer candidates make it easier; with n < batch all n are one batch.
 * E_SHAPE n < 2 or batch < 2; E_DATA an embedding that is not finite; E_NOMEM. */
enum mcs_status mcs_recall(const float *images, const float *texts, int n, int dim, const struct recall_options *o,
                           struct recall_result *r);

#endif

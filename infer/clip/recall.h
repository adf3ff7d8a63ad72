/* Retrieval: does an image find its text, and a text its image, among the others of its batch? */
#ifndef MCS_RECALL_H
#define MCS_RECALL_H

#include "engine/base/status.h"
#include "infer/metrics/statistics.h"

#include <stdint.h>

struct recall_options {
    int batch;  /* candidates: 50, the published protocol */
    int n_runs; /* 0: one run in the order given; otherwise so many runs, each in its own shuffled order (published: 5)
                 */
    uint64_t seed; /* of the shuffles */
    const int32_t
        *group; /* NULL, or (n): pairs with one number share their text or image, and a partner's counts as one's own */
};
struct recall_options mcs_recall_defaults(void); /* batch 50, one run in the order given, no groups */

/* Shares of queries in 0..1, as means over batches with their 95 % interval (NaN with a single batch). */
struct recall_result {
    struct mean_interval image_to_text[2], text_to_image[2]; /* at 1, at 2 */
    int n_batches, n_left_out;                               /* over all runs; pairs of a run that fill no batch */
};

/* images, texts (n, dim) float32, L2-normalised; row i of one belongs to row i of the other.
 * - A query is found at k when fewer than k candidates of its batch are at least as similar as its own: a tie counts
 * against it, so that equal embeddings score 0 and not 1.
 * - The remainder n mod batch is left out, because fewer candidates make it easier; with n < batch all n are one batch.
 * E_SHAPE n < 2 or batch < 2; E_DATA an embedding that is not finite; E_NOMEM. */
enum mcs_status mcs_recall(const float *images, const float *texts, int n, int dim, const struct recall_options *o,
                           struct recall_result *r);

#endif

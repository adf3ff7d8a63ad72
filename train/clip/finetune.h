/* Fine-tuning CLIP on image-caption pairs: the source of batches. */
#ifndef MCS_FINETUNE_H
#define MCS_FINETUNE_H

#include "data/text/pairs.h"
#include "infer/clip/retrieve.h"
#include "train/clip/clip_train.h"

/* Images of pairs, decoded once where they fit in memory. An image is prepared anew for each epoch: a crop of area
 * U(crop_low,1) and aspect U(3/4,4/3) in the logarithm, resized bicubically (torchvision's RandomResizedCrop; crop_low
 * 1: the whole image stretched), keyed by (seed, image, epoch). */
struct pair_source {
    const struct pairs *pairs;
    const struct clip_config *config;
    int64_t batch;
    double crop_low;
    uint64_t seed;
    struct image *cached; /* (n); pixels NULL: read again each time */
    uint32_t *order;      /* permutation of the epoch at hand */
    int64_t order_epoch;
};
/* E_USAGE where there are fewer pairs than one batch. An image that cannot be read is an error naming it. */
enum mcs_status mcs_pair_source_open(struct pair_source *s, const struct pairs *pairs, const struct clip_config *c,
                                     int64_t batch, double crop_low, uint64_t seed);
void mcs_pair_source_close(struct pair_source *s);
/* Batch `step`: pairs in a new random order each epoch, the remainder of an epoch dropped. */
enum mcs_status mcs_pair_source_fill(void *source, int64_t step, struct clip_batch *b);
int64_t mcs_pair_source_steps_per_epoch(const struct pair_source *s);
/* The most caption tokens that one of `ranks` ranks holds in any of the first `steps` batches; of a very long run (more
 * than 2^26 pairs drawn) those of the longest captions that it could hold at once. E_DATA: a caption is not UTF-8. */
enum mcs_status mcs_pair_source_max_rows(struct pair_source *s, const struct tokenizer *tokenizer, int64_t steps,
                                         int ranks, int64_t *rows);

#endif

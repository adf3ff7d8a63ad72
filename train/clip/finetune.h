/* Source of batches for fine-tuning CLIP on image-caption pairs. */
#ifndef MCS_FINETUNE_H
#define MCS_FINETUNE_H

#include "data/text/pairs.h"
#include "infer/clip/retrieve.h"
#include "train/clip/clip_train.h"

/* Images of pairs. The first ones, up to 1 GiB of decoded pixels, are cached, the others decoded in each epoch. Each
 * epoch uses another random crop of an image (torchvision's RandomResizedCrop): relative area uniform in crop_low..1,
 * aspect ratio log-uniform in 3/4..4/3, bicubic resize, keyed by (seed, image, epoch). crop_low 1: the whole image
 * stretched. */
struct pair_source {
    const struct pairs *pairs;
    const struct clip_config *config;
    int64_t batch;
    double crop_low;
    uint64_t seed;
    struct image *cached; /* (n); pixels NULL: not cached, read in each epoch */
    uint32_t *order;      /* (n): permutation of epoch order_epoch */
    int64_t order_epoch;  /* -1: none yet */
};
/* E_USAGE: fewer pairs than one batch. An image that cannot be read is an error that names it. */
enum mcs_status mcs_pair_source_open(struct pair_source *s, const struct pairs *pairs, const struct clip_config *c,
                                     int64_t batch, double crop_low, uint64_t seed);
void mcs_pair_source_close(struct pair_source *s);
/* Batch `step`: a new random order of the pairs in each epoch; an incomplete last batch of an epoch is dropped. */
enum mcs_status mcs_pair_source_fill(void *source, int64_t step, struct clip_batch *b);
int64_t mcs_pair_source_steps_per_epoch(const struct pair_source *s);
/* The maximum number of caption tokens of one of `ranks` ranks over the first `steps` batches. For very long runs (more
 * than 2^26 pairs drawn) the upper bound, the tokens of the longest captions, is returned. E_DATA: a caption is not
 * UTF-8. */
enum mcs_status mcs_pair_source_max_rows(struct pair_source *s, const struct tokenizer *tokenizer, int64_t steps,
                                         int ranks, int64_t *rows);

#endif

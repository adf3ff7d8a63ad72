/* Fine-tuning on captions of realistic length, for tests: 20,000 captions of log-normal length, mean 58 and standard
 * deviation 46 tokens, truncated to the context of 256; calls the same functions as `mcsam finetune`. */
#ifndef MCS_SUPPORT_CAPTIONS_H
#define MCS_SUPPORT_CAPTIONS_H

#include "train/clip/finetune.h"

enum { CAPTION_CONTEXT = 256, CAPTION_RANKS = 4 };

/* Towers of one block of width 8 on 8 x 8 pixels, with CAPTION_CONTEXT tokens: a step takes about a millisecond. */
struct clip_config caption_towers(void);

/* n pairs in memory, all of one image. Release with caption_pairs_free. */
struct pairs caption_pairs(int n, const char *image);
void caption_pairs_free(struct pairs *p);
int caption_tokens(const struct pairs *p, int i);

/* A caption of n tokens, [CLS] and [SEP] included, 3 to CAPTION_CONTEXT; never freed. */
const char *caption_of(int n);

/* A training and the measurements of each rank. */
struct caption_run {
    struct clip_config config; /* vocab 0: as many entries as vocabulary has */
    const char *vocabulary, *folder;
    const struct pairs *pairs;
    int64_t batch, steps, early; /* resident memory is measured at step `early` and at the last step */
    int64_t planned[CAPTION_RANKS], taken[CAPTION_RANKS]; /* device bytes: printed by the dry run; peak of the run */
    int64_t max_rows[CAPTION_RANKS];                      /* upper bound of the token rows (max_rows of the options) */
    int64_t most_rows[CAPTION_RANKS];                     /* largest number of token rows that occurred */
    int allocations[CAPTION_RANKS];                       /* device allocations after the first step */
    double early_mib, last_mib;                           /* resident anonymous memory of the process */
};
enum mcs_status caption_run(struct caption_run *run, int ranks);

#endif

/* The compiled graphs of a CLIP training step: one for each of a few numbers of token rows ("buckets"), which share
 * device memory. Captions are packed without padding between them, so a batch has as many token rows as tokens. It runs
 * in the smallest bucket that holds them. Padding rows have id -1 and are outside of every range that attention reads,
 * so the result is the same in every bucket up to rounding. */
#ifndef MCS_CLIP_SESSIONS_H
#define MCS_CLIP_SESSIONS_H

#include "engine/dist/data_parallel.h"
#include "train/clip/clip_train.h"

enum { CLIP_BUCKET_STEP = 64 }; /* token rows; small buckets that round to the same number become one */

/* The buckets' numbers of token rows in ascending order; returns the number of buckets, at least 1. The last holds
 * max_rows >= 1 rows, the others max_rows / 2^(k/4) with k = 1 to CLIP_MAX_BUCKETS - 1, all rounded up to a multiple of
 * CLIP_BUCKET_STEP. So the padding is less than 19 % (2^(1/4)) of a batch's tokens plus CLIP_BUCKET_STEP rows; batches
 * of less than max_rows / 6.7 (2^(11/4)) tokens are padded to that number. */
int mcs_clip_buckets(int64_t max_rows, int64_t rows[CLIP_MAX_BUCKETS]);

struct clip_train_session {
    struct graph *graph;
    struct exec *exec;
    struct data_parallel data_parallel;
    struct tensor *images;                   /* input (n,S,S,3), n pairs of this rank */
    struct tensor *image_out, *text_out;     /* normalised embeddings of all ranks, (batch,embed) */
    struct clip_text text;                   /* inputs */
    struct tensor *loss[1 + CLIP_MAX_EXTRA]; /* 0: the contrastive loss, then those of clip_extra */
    float weight[1 + CLIP_MAX_EXTRA];
    const char *loss_name[1 + CLIP_MAX_EXTRA];
    int n_losses;
};

struct clip_sessions {
    int n;
    int64_t rows[CLIP_MAX_BUCKETS]; /* token rows of session i */
    struct clip_train_session session[CLIP_MAX_BUCKETS];
    struct exec_memory memory;
};

/* Pairs per rank in a batch. */
int64_t mcs_clip_own_batch(const struct clip_train_options *o);

/* Records and compiles the graphs of one rank without allocating device memory (mcs_exec_memory_plan tells its size).
 * extra may be NULL. Release with mcs_clip_sessions_free, also after a failure. */
enum mcs_status mcs_clip_sessions_make(struct clip_sessions *p, struct clip_model *m,
                                       const struct clip_train_options *o, const struct clip_extra *extra);
/* Allocates the device memory; called after the parameters have gradients. alone: as in mcs_data_parallel_attach; must
 * outlive the sessions. */
enum mcs_status mcs_clip_sessions_alloc(struct clip_sessions *p, const char *const *alone);
void mcs_clip_sessions_free(struct clip_sessions *p);
/* The session for a batch of n_rows token rows: the smallest that holds them, or -1. */
int mcs_clip_sessions_find(const struct clip_sessions *p, int64_t n_rows);

#endif

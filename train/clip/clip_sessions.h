/* The planned graphs of a CLIP training step: one for each of a few numbers of token rows ("buckets"), over one set of
 * device memory. Captions are packed without padding between them, so a batch has as many token rows as its captions
 * have tokens; it runs in the smallest bucket that holds them, and the rows left over belong to no caption (id -1, and
 * outside every range that attention reads), so that the result is the same in every bucket, to rounding. */
#ifndef MCS_CLIP_PLANS_H
#define MCS_CLIP_PLANS_H

#include "engine/dist/joint.h"
#include "train/clip/clip_train.h"

enum { CLIP_BUCKET_STEP = 64 };

/* Ascending numbers of token rows, of which the last is at least max_rows: each is its successor over 2^(1/4), rounded
 * up to a multiple of CLIP_BUCKET_STEP. So a batch is padded by less than 19 % of its tokens and CLIP_BUCKET_STEP rows;
 * one of less than max_rows / 6.7 tokens to that number. Returns how many, at least 1; max_rows at least 1. */
int mcs_clip_buckets(int64_t max_rows, int64_t rows[CLIP_MAX_BUCKETS]);

struct clip_train_plan {
    struct graph *graph;
    struct exec *exec;
    struct joint joint;
    struct tensor *images, *image_out, *text_out; /* (n,S,S,3); the embeddings of all ranks, (batch,embed) */
    struct clip_text text;
    struct tensor *loss[1 + CLIP_MAX_EXTRA];
    float weight[1 + CLIP_MAX_EXTRA];
    const char *loss_name[1 + CLIP_MAX_EXTRA];
    int n_losses;
};

struct clip_plans {
    int n;
    int64_t rows[CLIP_MAX_BUCKETS]; /* token rows of plan i */
    struct clip_train_plan plan[CLIP_MAX_BUCKETS];
    struct exec_memory memory;
};

/* Pairs of a batch that one rank holds. */
int64_t mcs_clip_own_batch(const struct clip_train_options *o);

/* Records and plans all of them for one rank; no device memory is taken (mcs_exec_memory_bytes tells how much will be).
 * extra may be NULL. Release with mcs_clip_plans_free, also after a failure. */
enum mcs_status mcs_clip_plans_make(struct clip_plans *p, struct clip_model *m, const struct clip_train_options *o,
                                    const struct clip_extra *extra);
/* Gives them memory, once the parameters have gradients. alone: as in mcs_joint_attach; must outlive the plans. */
enum mcs_status mcs_clip_plans_alloc(struct clip_plans *p, const char *const *alone);
void mcs_clip_plans_free(struct clip_plans *p);
/* The plan for a batch of n_rows token rows: the smallest that holds them, -1 where none does. */
int mcs_clip_plans_find(const struct clip_plans *p, int64_t n_rows);

#endif

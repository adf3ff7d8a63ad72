/* Training a CLIP model with a contrastive loss: one loop for fine-tuning on pairs and for making the demo's starting
 * weights. */
#ifndef MCS_CLIP_TRAIN_H
#define MCS_CLIP_TRAIN_H

#include "engine/dist/comm.h"
#include "infer/clip/clip_model.h"
#include "train/run/memory_table.h"

/* Where batches come from. Everything must depend on (step, i) alone, never on what was asked before. A rank asks for
 * its part of the batch alone: items first to first + n - 1, which come to places 0 to n - 1. */
struct clip_batch {
    int64_t first, n;
    float *images;      /* (n,S,S,3) */
    const char **texts; /* n; must stay valid until the next fill */
    int32_t *sample;    /* n: names each pair for ever (dropout's key) */
};
struct clip_source {
    enum mcs_status (*fill)(void *ctx, int64_t step, struct clip_batch *b);
    void *ctx;
};

/* Extra losses on the same towers (the starting weights' dense heads); all optional. */
struct clip_nodes {
    struct tensor *image_embedding; /* (B,embed), raw */
    struct tensor *tokens;          /* (B,T,width), output of block depth-2 */
    struct tensor *qkv[2];          /* of the last two blocks, (B,T,3 width) */
};
enum { CLIP_MAX_EXTRA = 4, CLIP_MAX_BUCKETS = 12 };
struct clip_extra {
    /* Records losses and their weights; returns how many. */
    int (*build)(void *ctx, struct graph *g, const struct clip_nodes *n, struct tensor *loss[CLIP_MAX_EXTRA],
                 float weight[CLIP_MAX_EXTRA], const char *name[CLIP_MAX_EXTRA]);
    /* Fills the inputs that build made, for the batch just filled by the source. `plan` is a number for the graph that
     * is about to run: build is called once a plan, in order from 0, at most CLIP_MAX_BUCKETS times, before the first
     * step. */
    enum mcs_status (*fill)(void *ctx, int plan, struct exec *e);
    void *ctx;
};

struct clip_train_options {
    int64_t batch, steps, warmup, checkpoint_every;
    double lr, weight_decay, clip_norm; /* AdamW, betas .9 .98, eps 1e-6 as open_clip for ViTs; clip_norm 0: none */
    struct contrastive_attr loss;       /* inv_tau 0: learned temperature */
    uint64_t seed;
    int diagnose;       /* log the share of negatives that each form attracts */
    const char *run;    /* folder: checkpoint.h5, metrics.jsonl, events; made here */
    const char *config; /* resolved options as YAML, kept in the checkpoint; a checkpoint of other options is refused */
    const char *const *frozen; /* prefixes of parameter names, NULL-ended, or NULL */
    struct comm *comm;         /* the ranks that share each batch, NULL: one; their number must divide it */
    int64_t max_rows; /* no rank's part of a batch has more caption tokens than this; 0: every caption may be as long as
                         the context. Bounds the memory that is taken */
};

/* Several ranks train as one would on the whole batch, to rounding: the loss is over all embeddings, the gradients are
 * summed; rank 0 alone reads and writes the run's folder. extra must then be NULL.
 * Trains m in place, resuming from RUN/checkpoint.h5 where there is one. E_STOPPED after SIGTERM / SIGUSR1, with a
 * checkpoint; E_DATA when the loss is not finite (with step and last checkpoint). */
enum mcs_status mcs_clip_train(struct clip_model *m, const struct clip_train_options *o,
                               const struct clip_source *source, const struct clip_extra *extra);

/* The device memory that mcs_clip_train takes on each rank. Of o->comm only the size is read, so that a dry run can ask
 * for ranks that are not there. */
enum mcs_status mcs_clip_train_memory(struct clip_model *m, const struct clip_train_options *o,
                                      struct train_memory *memory);

/* What a form of DHN-NCE does to negatives (i != j) whose similarity its gradient wants to raise: their share of all,
 * and their share of the summed size of the gradient on negatives. With a low temperature the paper's form lets go of
 * many easy ones, hardly at all; the released form pulls the hardest. */
struct attraction {
    double share, pull;
};
/* On a batch of L2-normalised embeddings, (batch, width). */
void mcs_clip_attracted(const float *image, const float *text, int batch, int width, double inv_tau, double beta_image,
                        double beta_text, struct attraction *paper, struct attraction *released);

#endif

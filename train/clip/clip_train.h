/* Training of a CLIP model with a contrastive loss, for fine-tuning on pairs and for the demo's starting weights. */
#ifndef MCS_CLIP_TRAIN_H
#define MCS_CLIP_TRAIN_H

#include "engine/dist/comm.h"
#include "infer/clip/clip_model.h"
#include "train/run/memory_table.h"

/* A source of batches. Item i of a batch must depend on (step, i) only, not on earlier calls; step counts from 0. A
 * rank requests only its share of the batch: items first to first + n - 1, stored at 0 to n - 1. */
struct clip_batch {
    int64_t first, n;
    float *images;      /* (n,S,S,3) */
    const char **texts; /* n; must stay valid until the next fill */
    int32_t *sample;    /* n: permanent id of each pair, below 2^21 (key of dropout, see mcs_clip_pack_texts) */
};
struct clip_source {
    enum mcs_status (*fill)(void *ctx, int64_t step, struct clip_batch *b);
    void *ctx;
};

/* Tensors of the image tower for auxiliary losses (clip_extra), such as the dense heads of the demo's starting weights.
 * T: the class token and the patches. */
struct clip_nodes {
    struct tensor *image_embedding; /* (B,embed), before L2 normalisation */
    struct tensor *tokens;          /* (B,T,width), output of block depth-2 */
    struct tensor *qkv[2];          /* of the last two blocks, (B,T,3 width) */
};
enum { CLIP_MAX_EXTRA = 4, CLIP_MAX_BUCKETS = 12 };
/* Auxiliary losses, added to the contrastive loss. fill may be NULL. */
struct clip_extra {
    /* Records losses and their weights; returns their number. */
    int (*build)(void *ctx, struct graph *g, const struct clip_nodes *n, struct tensor *loss[CLIP_MAX_EXTRA],
                 float weight[CLIP_MAX_EXTRA], const char *name[CLIP_MAX_EXTRA]);
    /* Sets the inputs that build made, for the batch that the source filled last. session: index of the graph that runs
     * next; build is called once for each session, in order from 0, at most CLIP_MAX_BUCKETS times, before the first
     * step. */
    enum mcs_status (*fill)(void *ctx, int session, struct exec *e);
    void *ctx;
};

struct clip_train_options {
    int64_t batch, steps, warmup, checkpoint_every;
    double lr, weight_decay, clip_norm; /* AdamW, betas .9 .98, eps 1e-6 as in open_clip for ViTs; clip_norm 0: none */
    struct contrastive_attr loss;       /* inv_tau 0: learned temperature */
    int mean_directions; /* the loss is the mean of image -> text and text -> image, as open_clip's; 0: their sum */
    uint64_t seed;
    int diagnose;       /* log the share of negatives that each form attracts */
    const char *run;    /* folder: checkpoint.h5, metrics.jsonl, events; created if necessary */
    const char *config; /* resolved options as YAML, kept in the checkpoint; a checkpoint of other options is refused */
    const char *const *frozen; /* prefixes of parameter names, NULL-terminated, or NULL */
    struct comm *comm;         /* the ranks that share each batch, NULL: one; their number must divide the batch size */
    int64_t max_rows; /* upper bound of the caption tokens in one rank's share of a batch, which bounds the memory; 0:
                         captions may fill the context */
};

/* Trains m in place, resuming from RUN/checkpoint.h5 if there is one. Several ranks give the result of one rank on the
 * whole batch up to rounding: the loss is over all embeddings, the gradients are summed. Only rank 0 reads and writes
 * the run's folder. extra must be NULL for several ranks. E_STOPPED after SIGTERM / SIGUSR1, with a checkpoint written;
 * E_DATA: the loss is not finite (the message names step and last checkpoint). */
enum mcs_status mcs_clip_train(struct clip_model *m, const struct clip_train_options *o,
                               const struct clip_source *source, const struct clip_extra *extra);

/* Device memory of mcs_clip_train on each rank. Only the size of o->comm is read, so that a dry run can use a
 * communicator without ranks. */
enum mcs_status mcs_clip_train_memory(struct clip_model *m, const struct clip_train_options *o,
                                      struct train_memory *memory);

/* Negatives (i != j) that a form of DHN-NCE attracts, i.e. whose similarity gradient descent increases: their share of
 * all negatives, and their share of the summed magnitude of the negatives' gradients ("pull"). At low temperatures the
 * paper's form attracts many easy negatives very weakly; the released form attracts the hardest. */
struct attraction {
    double share, pull;
};
/* Computes both forms on a batch of L2-normalised embeddings (batch, width). */
enum mcs_status mcs_clip_attracted(const float *image, const float *text, int batch, int width, double inv_tau,
                                   double beta_image, double beta_text, struct attraction *paper,
                                   struct attraction *released);

#endif

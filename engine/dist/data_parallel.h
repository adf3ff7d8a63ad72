/* What the ranks do together in one graph's run, by the step after which they do it: embeddings gathered for a loss
 * over the global batch, a Dice loss's sums added up, gradient buckets summed while the backward pass goes on. The
 * gradient is then that of one device on the whole batch, on every rank.
 *
 *     struct data_parallel dp;
 *     mcs_data_parallel_begin(&dp, comm, graph);                       // comm NULL: one rank, and all that follows does nothing
 *     struct tensor *all = mcs_data_parallel_gather(&dp, image_out);   // while recording
 *     ... mcs_grad, mcs_exec_new ...
 *     MCS_TRY(mcs_data_parallel_attach(&dp, exec, frozen, 0));
 *     MCS_TRY(mcs_exec_run(exec));                            // gradients are enqueued, summed
 *     mcs_data_parallel_end(&dp);
 */
#ifndef MCS_DATA_PARALLEL_H
#define MCS_DATA_PARALLEL_H

#include "engine/dist/buckets.h"

enum { DATA_PARALLEL_MAX = 24 };
struct data_parallel_dice;
struct data_parallel {
    struct comm *comm;
    struct graph *graph;
    struct buckets buckets;
    int n_rows, n_dice;
    struct tensor *rows[DATA_PARALLEL_MAX];         /* outputs of the steps that mcs_data_parallel_gather recorded */
    const struct tensor *source[DATA_PARALLEL_MAX]; /* what they gather */
    struct data_parallel_dice *dice[DATA_PARALLEL_MAX];
};

void mcs_data_parallel_begin(struct data_parallel *dp, struct comm *c, struct graph *g);
void mcs_data_parallel_end(struct data_parallel *dp);

/* x (n,D) of each rank -> (size n,D) on all, rank 0's rows first. Recorded as a gather of the own rows with zeros for
 * the rest, which the others' then replace; so its gradient is the own rows' alone. One rank: x. */
struct tensor *mcs_data_parallel_gather(struct data_parallel *dp, struct tensor *x);

/* Makes dice_ce's loss the global batch's. The mean over samples and voxels is over all ranks': with batch Dice the
 * sums that the backward pass reads are added up over the ranks (they are all that it reads of the batch), else the
 * loss's gradient is 1/size of what it is on one rank: *weight *= that. Every rank must then have as many valid voxels
 * as the others; mcs_data_parallel_dice_loss checks it. loss: output 0 of a dice_ce step. */
enum mcs_status mcs_data_parallel_dice(struct data_parallel *dp, const struct tensor *loss, float *weight);
/* The loss that one device would see, after a run; waits. `which` counts mcs_data_parallel_dice's calls. One rank:
 * false use.
 */
enum mcs_status mcs_data_parallel_dice_loss(struct data_parallel *dp, int which, double *loss);

/* Hooks all this to the executor of the graph. alone: prefixes of parameters whose gradient every rank has whole, or
 * that are frozen, NULL-ended. bucket_bytes: 0 for the default. The gradients are summed once the run is over on the
 * device. */
enum mcs_status mcs_data_parallel_attach(struct data_parallel *dp, struct exec *e, const char *const *alone,
                                         int64_t bucket_bytes);

#endif

/* Data parallelism within one graph's run: collectives that run after certain steps. Embeddings are gathered for a loss
 * over the global batch, a Dice loss's sums are added over the ranks, and gradient buckets are summed during the
 * backward pass. On every rank the gradient is then that of one device on the whole batch.
 *
 *     struct data_parallel dp;
 *     mcs_data_parallel_begin(&dp, comm, graph);                            // comm NULL: the calls below do nothing
 *     struct tensor *all = mcs_data_parallel_gather(&dp, image_out);        // while the graph is recorded
 *     ... mcs_grad, mcs_exec_new ...
 *     MCS_TRY(mcs_data_parallel_attach(&dp, exec, frozen, 0));
 *     MCS_TRY(mcs_exec_run(exec));                                          // the summed gradients are enqueued
 *     mcs_data_parallel_end(&dp); */
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
    const struct tensor *source[DATA_PARALLEL_MAX]; /* the local rows that each gathers */
    struct data_parallel_dice *dice[DATA_PARALLEL_MAX];
};

void mcs_data_parallel_begin(struct data_parallel *dp, struct comm *c, struct graph *g);
void mcs_data_parallel_end(struct data_parallel *dp);

/* x (n,D) of each rank -> (size n,D) on all, rank 0's rows first. Recorded as a `gather` op of the rank's rows with
 * zeros elsewhere, followed by a collective that fills in the other ranks' rows; so its gradient is that of the rank's
 * rows only. One rank: returns x. */
struct tensor *mcs_data_parallel_gather(struct data_parallel *dp, struct tensor *x);

/* Makes a dice_ce loss that of the global batch, with means over the samples and voxels of all ranks. With batch Dice,
 * the sums that backward reads are added over the ranks (backward reads nothing else of the batch). Without, each
 * rank's gradient counts 1/size: *weight is divided by the number of ranks. Then every rank must have the same number
 * of valid voxels; mcs_data_parallel_dice_loss checks it. loss: output 0 of a dice_ce step. */
enum mcs_status mcs_data_parallel_dice(struct data_parallel *dp, const struct tensor *loss, float *weight);
/* After a run, the loss of the global batch, as one device would compute it; waits. `which` counts the calls of
 * mcs_data_parallel_dice. Not for one rank. */
enum mcs_status mcs_data_parallel_dice_loss(struct data_parallel *dp, int which, double *loss);

/* Attaches all this to the graph's executor. alone: prefixes of the names of parameters that are not summed, because
 * every rank has their whole gradient or they are frozen; NULL-ended. bucket_bytes: 0 for the default. The gradients
 * are summed when the run has finished on the device. */
enum mcs_status mcs_data_parallel_attach(struct data_parallel *dp, struct exec *e, const char *const *alone,
                                         int64_t bucket_bytes);

#endif

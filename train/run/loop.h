/* The training loop of CLIP, SAM and the U-Net. It resumes from RUN/checkpoint.h5, prefetches the next batch while the
 * device computes, writes log lines and checkpoints, and stops on request. All ranks take the same decisions; only rank
 * 0 reads and writes the run's folder.
 *
 *     static const struct training_task task = {.name = "train SAM", .log_every = 10, .begin = begin_step, ...};
 *     struct training t = {.task = &task, .ctx = &trainer, .steps = 1000, .run = "out", .optim = trainer.optim};
 *     MCS_TRY(mcs_training_run(&t)); */
#ifndef MCS_LOOP_H
#define MCS_LOOP_H

#include "engine/dist/comm.h"
#include "engine/optim.h"
#include "train/run/run_log.h"

/* One optimizer step. */
struct training_step {
    int64_t step;  /* from 0 */
    double lr;     /* set by begin; the rest by end */
    double loss;   /* of the whole batch, over all ranks */
    double norm;   /* of the gradient, before clipping */
    char note[32]; /* follows the loss in the progress line, such as " IoU 0.812"; may stay empty */
};

/* One kind of training. The functions get struct training's ctx and are called on every rank, if not said otherwise. */
struct training_task {
    const char *name;  /* in the progress line */
    int64_t log_every; /* steps between log lines; the first and the last step are always logged */
    /* Rank 0, before the first step and after the checkpoint was read: files that describe the run. NULL: none. */
    enum mcs_status (*start)(void *ctx);
    /* Sets the inputs of a step. The device may still run the previous step, whose inputs stream order protects. After
     * an error the previous step is still finished, logged and, if a checkpoint is due, saved. */
    enum mcs_status (*prefetch)(void *ctx, int64_t step);
    /* Enqueues the step whose inputs are set and its update; on an asynchronous device it does not wait. */
    enum mcs_status (*begin)(void *ctx, struct training_step *s);
    /* Waits for the step. E_DATA: the loss is not finite; the weights are unchanged. */
    enum mcs_status (*end)(void *ctx, struct training_step *s);
    /* Rank 0: adds the fields of a line of the log. */
    enum mcs_status (*log)(void *ctx, const struct training_step *s, struct run_log *log);
    /* After each step, before its checkpoint: validation, or weights kept beside the checkpoint. NULL: nothing. */
    enum mcs_status (*after_step)(void *ctx, int64_t steps_done);
};

struct training {
    const struct training_task *task;
    void *ctx;
    int64_t steps;
    int64_t checkpoint_every; /* steps between checkpoints; 0: only at the end and when stopped */
    const char *run;          /* folder: checkpoint.h5, metrics.jsonl, events; created if necessary */
    const char *config;       /* resolved options, kept in the checkpoint; one of other options is refused */
    struct optim *optim;      /* with the parameters that it updates */
    struct comm *comm;        /* NULL: one rank */
    /* Set by mcs_training_run; 0 before. */
    int64_t first, step, saved; /* steps done at the start, now, at the last checkpoint */
    char checkpoint[MCS_PATH_BYTES];
    struct run_log log;
};

/* Runs the steps that the run's checkpoint does not have. E_STOPPED after SIGTERM / SIGUSR1, with a checkpoint written;
 * E_DATA: a checkpoint that is damaged or of other options, or as `end` returns it; E_IO. The message of an error in a
 * step names the last checkpoint. */
enum mcs_status mcs_training_run(struct training *t);

#endif

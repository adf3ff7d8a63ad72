/* Cyclic training: several cycles of a falling learning rate in one run, with a few late checkpoints of each cycle kept
 * as members of an ensemble (Zhao et al., "Efficient Bayesian Uncertainty Estimation for nnU-Net", 2022). Two forms:
 *
 * paper    the rate restarts in each cycle and falls to 0 within it, step by step; the checkpoints are spread evenly
 *          over the last share `late` of a cycle, its last step among them.
 * release  what the released code computes, by epoch: the rate falls over all epochs instead of a cycle's, so it hardly
 *          cycles; the last epoch of a cycle is not kept, and a second, sparse rule keeps a few more. */
#ifndef MCS_CYCLE_H
#define MCS_CYCLE_H

#include "engine/cli/config.h"

struct cycle_options {
    enum mcs_form form;
    int64_t epochs, iterations; /* in all; optimizer steps an epoch. A run has epochs * iterations steps */
    int64_t cycles;             /* epochs must divide by it */
    int64_t checkpoints;        /* paper: kept a cycle */
    double late;                /* paper: share of a cycle over which they are spread; .2 with 3: after 80, 90, 100 % */
    double lr, restart_lr;      /* first cycle; later ones (0: the same). release knows lr alone */
    double gamma;               /* release: share of a cycle after which the rate stays */
};

/* What a finished step leaves behind. */
struct cycle_checkpoint {
    int64_t cycle, index; /* from 1; index counts a cycle's files by time */
    int64_t step;         /* steps done */
    char file[64]; /* "cycle_1_checkpoint_3.safetensors"; release: "checkpoint_89.safetensors", and the sparse rule's
                      "e_checkpoint_61.safetensors" */
};
enum { CYCLE_MAX_AT_ONCE = 3 }; /* release: late, sparse and final can fall on one step */

/* E_USAGE: no steps, cycles that do not divide the epochs, more checkpoints than steps to keep them at. */
enum mcs_status mcs_cycle_check(const struct cycle_options *o);
/* Rate of step `step`, which counts from 0.
 * paper: base (1 - t/L)^.9, t the step within its cycle of L steps. release: .9 power of 1 - min(t, int(gamma Tc)) / E
 * with t the epoch within its cycle of Tc epochs and E all epochs; with one cycle 1 - e/E. */
double mcs_cycle_lr(const struct cycle_options *o, int64_t step);
/* Which files the state after `steps_done` steps is kept as; returns how many, 0 mostly. release: late where
 * n = (e + 1) mod Tc >= Tc - 10 (never n = 0), sparse where n is in linspace(int(.7 (Tc - 10)), E + 1, 7) cut to
 * integers, and checkpoint_final after the last step. */
int mcs_cycle_checkpoints(const struct cycle_options *o, int64_t steps_done,
                          struct cycle_checkpoint found[CYCLE_MAX_AT_ONCE]);

#endif

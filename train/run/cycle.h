/* Cyclic training: several cycles of a decaying learning rate in one run, with a few late checkpoints of each cycle
 * kept as members of an ensemble (Zhao et al., "Efficient Bayesian Uncertainty Estimation for nnU-Net", 2022). There
 * are two forms.
 *
 * MCS_PAPER: the rate restarts in each cycle and decays to 0 within it, step by step; the checkpoints are spread evenly
 * over the last share `late` of a cycle, including its last step.
 *
 * MCS_RELEASE, as in the released code, by epoch: the rate decays over all epochs instead of a cycle's, so it hardly
 * cycles; the last epoch of a cycle is not kept, and a second, sparse rule keeps a few more checkpoints. */
#ifndef MCS_CYCLE_H
#define MCS_CYCLE_H

#include "engine/base/form.h"
#include "engine/base/status.h"

#include <stdint.h>

struct cycle_options {
    enum mcs_form form;
    int64_t epochs, iterations; /* all epochs; optimizer steps per epoch. A run has epochs * iterations steps */
    int64_t cycles;             /* must divide epochs */
    int64_t checkpoints;        /* paper: number kept per cycle */
    double late;                /* paper: share of a cycle over which they are spread; .2 with 3: at 80, 90, 100 % */
    double lr, restart_lr;      /* first cycle; later cycles (0: the same; release ignores it) */
    double gamma;               /* release: share of a cycle after which the rate is constant */
};

/* A checkpoint that is kept after a step. */
struct cycle_checkpoint {
    int64_t cycle, index; /* from 1; index counts the cycle's checkpoints in order of time */
    int64_t step;         /* steps done */
    char file[64]; /* "cycle_1_checkpoint_3.safetensors"; release: "checkpoint_89.safetensors", and the sparse rule's
                      "e_checkpoint_61.safetensors" */
};
enum { CYCLE_MAX_AT_ONCE = 3 }; /* release: late, sparse and final checkpoint may fall on one step */

/* E_USAGE: no steps, cycles that do not divide the epochs, more checkpoints than late steps. */
enum mcs_status mcs_cycle_check(const struct cycle_options *o);
/* Learning rate of step `step`, which counts from 0.
 * paper: base (1 - t/L)^.9, t the step within its cycle of L steps. release: base (1 - min(t, int(gamma Tc)) / E)^.9
 * with t the epoch within its cycle of Tc epochs and E all epochs; with one cycle base (1 - e/E)^.9. */
double mcs_cycle_lr(const struct cycle_options *o, int64_t step);
/* The checkpoints to keep after `steps_done` steps; returns their number, mostly 0. release: late if n = (e + 1) mod Tc
 * >= Tc - 10 (never n = 0), sparse if n is in linspace(int(.7 (Tc - 10)), E + 1, 7) truncated to integers, and
 * checkpoint_final after the last step. */
int mcs_cycle_checkpoints(const struct cycle_options *o, int64_t steps_done,
                          struct cycle_checkpoint found[CYCLE_MAX_AT_ONCE]);

#endif

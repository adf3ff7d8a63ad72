/* Training of a segmentation network on masks with a cyclic learning rate: nnU-Net's loss, sampling, augmentation and
 * optimizer (nnunetv2's nnUNetTrainer), with the checkpoints of train/run/cycle.h. */
#ifndef MCS_UNET_TRAIN_H
#define MCS_UNET_TRAIN_H

#include "engine/dist/data_parallel.h"
#include "engine/optim.h"
#include "infer/unet/unet_model.h"
#include "train/run/cycle.h"
#include "train/unet/unet_data.h"

struct unet_train_options {
    struct cycle_options cycle; /* learning rate, steps, checkpoints */
    struct optim_options optim; /* mcs_unet_nnunet_sgd, mcs_unet_adamw */
    int deep_supervision;       /* losses at every level but the lowest, weights 1, 1/2, ... normalised */
    double foreground;          /* share of a batch whose patches must contain foreground: .33 */
    struct augment_options augment;
    uint64_t seed;
    int64_t checkpoint_every; /* steps between checkpoints, 0: only at the end and when stopped */
    const char *run;          /* folder: plans.json, dataset.json, checkpoints.json, weights, checkpoint.h5, metrics */
    const char *config;       /* resolved options as YAML; a checkpoint of other options is refused */
    struct comm *comm;        /* the ranks that share each batch, NULL: one; their number must divide the batch size */
};
/* SGD with Nesterov momentum .99, weight decay 3e-5 on all parameters, gradient norm clipped to 12. */
struct optim_options mcs_unet_nnunet_sgd(void);
/* AdamW with betas .9 and .999, eps 1e-8, weight decay .01 on all parameters, gradient norm clipped to 12. */
struct optim_options mcs_unet_adamw(void);

/* Trains m (patch, batch and topology from its plans) in place on the cases. Resumes from RUN/checkpoint.h5 if there is
 * one; the result is bit-identical to a run without interruption. Writes each cycle's checkpoints as the cycle options
 * say. Several ranks give the result of one rank on the whole batch up to rounding: batch Dice is over the whole batch,
 * the gradients are summed. Only rank 0 reads and writes the run's folder. E_STOPPED after SIGTERM or SIGUSR1, with a
 * checkpoint written; E_DATA: the loss is not finite. */
enum mcs_status mcs_unet_train(struct unet_model *m, const struct unet_cases *cases,
                               const struct unet_train_options *o);

/* The training graph and its single step, for the training loop, tests and benchmarks. A step allocates no heap
 * memory. */
struct unet_trainer {
    struct unet_model *model;
    const struct unet_train_options *o;
    struct unet_loader loader;
    struct graph *graph;
    struct exec *exec;
    struct data_parallel data_parallel;
    struct optim *optim;
    struct tensor *image, *loss[UNET_MAX_STAGES], *target[UNET_MAX_STAGES];
    float weight[UNET_MAX_STAGES];
    int n_losses;
    const char *frozen[UNET_MAX_STAGES]; /* heads without a loss, neither trained nor decayed; NULL-terminated */
    char frozen_name[UNET_MAX_STAGES][32];
    double fill_seconds, run_seconds; /* sums over steps */
};
enum mcs_status mcs_unet_trainer_open(struct unet_trainer *t, struct unet_model *m, const struct unet_cases *cases,
                                      const struct unet_train_options *o);
/* loss: weighted sum over the levels, as nnU-Net logs it; norm: the gradient's norm, or NULL. E_DATA: the loss is not
 * finite; the weights are unchanged. */
enum mcs_status mcs_unet_trainer_step(struct unet_trainer *t, int64_t step, double *loss, double *norm);
void mcs_unet_trainer_close(struct unet_trainer *t);

#endif

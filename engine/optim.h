/* Optimizers over the flat arrays of a struct params: AdamW (Loshchilov and Hutter 2019) and SGD with Nesterov
 * momentum, both as torch.optim computes them, after clipping the gradient by its global norm
 * (torch.nn.utils.clip_grad_norm_). Frozen parameters and buffers are not changed. */
#ifndef MCS_OPTIM_H
#define MCS_OPTIM_H

#include "engine/tape/graph.h"

enum optim_kind { OPTIM_ADAMW, OPTIM_SGD };
struct optim_options {
    enum optim_kind kind;
    float beta1, beta2, eps; /* AdamW */
    float momentum;          /* SGD: Nesterov */
    float weight_decay;      /* AdamW: decoupled; SGD: added to the gradient */
    int decay_all;   /* 0: as open_clip, none on tensors of fewer than 2 dimensions and logit_scale; 1: on everything
                        (nnU-Net) */
    float clip_norm; /* 0: none */
};

/* For backends: floats [first, first + n) of the flat arrays with their weight decay, and one update of such ranges. g
 * is multiplied by min(1, clip_norm / (norm + 1e-6)) before use; 1e-6 is torch's guard against 0/0. `step` counts
 * from 1. */
struct optim_range {
    int64_t first, n;
    float decay;
};
struct optim_update {
    const struct optim_options *o;
    const struct optim_range *ranges;
    int n_ranges;
    float *w, *m, *v;
    const float *g;
    double lr;
    int64_t step;
};

/* The decimal number that an option was written as (0.999 for 0.999f), by rounding to 7 places. 1 - 0.999f differs from
 * 0.001 by a relative 1.3e-5, which would also be the second moment's error. */
double mcs_optim_decimal(float x);

struct optim {
    struct optim_options o;
    struct params *params;
    uint8_t *trained; /* by parameter: 1 where it is updated */
    float *m, *v; /* flat, on the device, like params->data: first moment or momentum; second moment (NULL for SGD) */
    int64_t step; /* updates done; saved in and restored from checkpoints */
    void *state;  /* struct ranges of optim.c */
};

/* frozen: prefixes of the names of parameters that are not updated, NULL-ended, or NULL. The params must have memory
 * and gradients. */
enum mcs_status mcs_optim_new(struct params *p, const struct optim_options *options, const char *const *frozen,
                              struct optim **o);
void mcs_optim_free(struct optim *o);
/* One update with params->grad, in two halves: begin enqueues it, end waits for it and returns the gradient's norm
 * before clipping (norm may be NULL). Between them the host may prepare the next step. Sums have a fixed order: the
 * same bits for any number of threads. No heap allocation. E_DATA from end when the norm is not finite; then nothing
 * was changed. */
enum mcs_status mcs_optim_begin(struct optim *o, double lr);
enum mcs_status mcs_optim_end(struct optim *o, double *norm);
/* Begin and end. */
enum mcs_status mcs_optim_step(struct optim *o, double lr, double *norm);

#endif

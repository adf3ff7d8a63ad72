/* Optimizer updates over flat float arrays (engine/optim.h), and gradient norm with clipping, without host
 * synchronisation between backward and update: a step's parameters are in a struct k_optim_state in device memory. Each
 * step: k_optim_set with its rates; then k_grad_norm and k_adamw or k_sgd_nesterov, which may be in a captured graph.
 * The host may read norm and finite later. */
#ifndef MCS_KERNELS_OPTIMIZERS_H
#define MCS_KERNELS_OPTIMIZERS_H

#include "kernels/common/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Floats [first, first + n) of the arrays, with their weight decay. */
struct k_range {
    int64_t first, n;
    float decay;
};

struct k_optim_state {
    double lr;
    float step, rbias; /* AdamW, at step t: lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t) */
    double squares;    /* the sum that k_sum_squares and k_grad_norm write */
    double norm;       /* sqrt(squares) */
    float scale;       /* min(1, clip_norm / (norm + 1e-6)); 1 without clipping */
    int32_t finite;    /* 0: the norm is not finite, updates do nothing */
};

/* *state = value, in stream order. */
cudaError_t k_optim_set(struct k_optim_state value, struct k_optim_state *state, cudaStream_t s);

/* state->squares = sum of squares over the ranges of x, in an order that depends on the ranges alone. ranges: host
 * memory, read by the call. workspace: K_SQUARES_BYTES of device memory. */
enum { K_SQUARES_BYTES = 1024 * 8 };
cudaError_t k_sum_squares(const float *x, const struct k_range *ranges, int n_ranges, void *workspace,
                          struct k_optim_state *state, cudaStream_t s);
/* The same, then norm, scale and finite. clip_norm 0: no clipping. */
cudaError_t k_grad_norm(const float *g, const struct k_range *ranges, int n_ranges, float clip_norm, void *workspace,
                        struct k_optim_state *state, cudaStream_t s);

/* One update of the ranges of w, m (and v) with the gradient g times the state's scale. */
struct k_optim {
    const struct k_range *ranges; /* host memory, read by the call */
    int n_ranges;
    float *w, *m, *v;
    const float *g;
    float beta2, one1, one2, eps; /* AdamW: beta2, 1 - beta1, 1 - beta2 */
    float momentum;               /* SGD */
    const struct k_optim_state *state;
};
cudaError_t k_adamw(const struct k_optim *a, cudaStream_t s);
cudaError_t k_sgd_nesterov(const struct k_optim *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif

/* mse and bce on the device; they differ only in the kernel. */
#include "engine/cuda/cuda.h"

static struct k_point_loss args(const struct step *s)
{
    return (struct k_point_loss){
        .n = mcs_count(s->in[0]),
        .x = mcs_f32(s->in[0]),
        .target = mcs_f32(s->in[1]),
        .weight = mcs_f32(s->in[2]),
        .workspace = s->workspace,
    };
}

static enum mcs_status prepare(struct step *s)
{
    if (!s->backward) s->workspace_bytes = k_point_loss_fwd_bytes(mcs_count(s->in[0]));
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_point_loss a = args(s);
    a.loss = mcs_f32(s->out[0]);
    return MCS_CUDA_STATUS(s->op == OP_mse ? k_mse_fwd(&a, mcs_cuda_stream(s)) : k_bce_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    struct k_point_loss a = args(s);
    a.dloss = mcs_f32(s->dout[0]);
    a.dx = mcs_f32(s->din[0]);
    a.beta = s->beta[0];
    return MCS_CUDA_STATUS(s->op == OP_mse ? k_mse_bwd(&a, mcs_cuda_stream(s)) : k_bce_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_mse = {prepare, fwd, bwd, NULL};
const struct op_impl mcs_cuda_bce = {prepare, fwd, bwd, NULL};

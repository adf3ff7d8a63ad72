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

static enum mcs_status prepare(struct step *s, struct device *d)
{
    (void)d;
    if (!s->backward) s->workspace_bytes = k_point_loss_fwd_bytes(mcs_count(s->in[0]));
    return MCS_OK;
}

typedef cudaError_t (*launcher)(const struct k_point_loss *a, cudaStream_t s);

static enum mcs_status forward(const struct step *s, launcher run)
{
    struct k_point_loss a = args(s);
    a.loss = mcs_f32(s->out[0]);
    MCS_CUDA(run(&a, mcs_cuda_stream(s)));
    return MCS_OK;
}

static enum mcs_status backward(const struct step *s, launcher run)
{
    struct k_point_loss a = args(s);
    a.dloss = mcs_f32(s->dout[0]);
    a.dx = mcs_f32(s->din[0]);
    a.beta = s->beta[0];
    MCS_CUDA(run(&a, mcs_cuda_stream(s)));
    return MCS_OK;
}

static enum mcs_status mse_fwd(const struct step *s)
{
    return forward(s, k_mse_fwd);
}
static enum mcs_status mse_bwd(const struct step *s)
{
    return backward(s, k_mse_bwd);
}
static enum mcs_status bce_fwd(const struct step *s)
{
    return forward(s, k_bce_fwd);
}
static enum mcs_status bce_bwd(const struct step *s)
{
    return backward(s, k_bce_bwd);
}

const struct op_impl mcs_cuda_mse = {prepare, mse_fwd, mse_bwd, NULL};
const struct op_impl mcs_cuda_bce = {prepare, bce_fwd, bce_bwd, NULL};

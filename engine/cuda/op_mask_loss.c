/* mask_loss on the device. */
#include "engine/cuda/cuda.h"

static struct k_mask_loss args(const struct step *s)
{
    const struct mask_loss_attr *a = s->attr;
    const struct tensor *x = s->in[0];
    return (struct k_mask_loss){
        .b = x->dim[0],
        .n = x->dim[1],
        .focal = a->focal,
        .dice = a->dice,
        .bce = a->bce,
        .gamma = a->focal_gamma,
        .alpha = a->focal_alpha,
        .logits = mcs_f32(x),
        .target = mcs_f32(s->in[1]),
        .weight = mcs_f32(s->in[2]),
        .sums = mcs_f32(s->out[2]),
        .workspace = s->workspace,
    };
}

static enum mcs_status prepare(struct step *s)
{
    if (!s->backward) s->workspace_bytes = k_mask_loss_fwd_bytes(s->in[0]->dim[0], s->in[0]->dim[1]);
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_mask_loss a = args(s);
    a.loss = mcs_f32(s->out[0]);
    a.iou = mcs_f32(s->out[1]);
    return MCS_CUDA_STATUS(k_mask_loss_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    struct k_mask_loss a = args(s);
    if (!s->dout[0]) return MCS_OK; /* the IoU has no gradient */
    a.dloss = mcs_f32(s->dout[0]);
    a.dlogits = mcs_f32(s->din[0]);
    a.beta = s->beta[0];
    return MCS_CUDA_STATUS(k_mask_loss_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_mask_loss = {prepare, fwd, bwd, NULL};

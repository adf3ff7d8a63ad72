/* attn_guide on the device. */
#include "engine/cuda/cuda.h"

static struct k_attn_guide args(const struct step *s)
{
    const struct guide_attr *a = s->attr;
    const struct tensor *x = s->in[0];
    return (struct k_attn_guide){.dtype = mcs_cuda_dtype(x),
                                 .batch = (int)x->dim[0],
                                 .tokens = (int)x->dim[1],
                                 .heads = a->heads,
                                 .head_dim = a->head_dim,
                                 .heads_used = a->heads_used,
                                 .qkv = x->data,
                                 .coverage = mcs_f32(s->in[1]),
                                 .weight = mcs_f32(s->in[2]),
                                 .attention = mcs_f32(s->out[1]),
                                 .workspace = s->workspace};
}

static enum mcs_status prepare(struct step *s)
{
    const struct k_attn_guide a = args(s);
    s->workspace_bytes = k_attn_guide_bytes(&a);
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_attn_guide a = args(s);
    a.loss = mcs_f32(s->out[0]);
    return MCS_CUDA_STATUS(k_attn_guide_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    struct k_attn_guide a = args(s);
    if (!s->din[0] || !s->dout[0]) return MCS_OK;
    a.dloss = mcs_f32(s->dout[0]);
    a.dqkv = s->din[0]->data;
    a.beta = s->beta[0];
    return MCS_CUDA_STATUS(k_attn_guide_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_attn_guide = {prepare, fwd, bwd, NULL};

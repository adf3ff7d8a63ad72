/* layernorm on the device. */
#include "engine/cuda/cuda.h"

static struct k_layernorm args(const struct step *s)
{
    const struct tensor *x = s->in[0];
    return (struct k_layernorm){.dtype = mcs_cuda_dtype(x),
                                .rows = mcs_rows(x),
                                .n = (int)mcs_last(x),
                                .eps = ((const struct norm_attr *)s->attr)->eps,
                                .x = x->data,
                                .w = mcs_f32(s->in[1]),
                                .b = mcs_f32(s->in[2]),
                                .stats = mcs_f32(s->out[1]),
                                .workspace = s->workspace};
}

static enum mcs_status prepare(struct step *s)
{
    if (s->backward && (s->din[1] || s->din[2]))
        s->workspace_bytes = k_layernorm_bwd_bytes(mcs_rows(s->in[0]), (int)mcs_last(s->in[0]));
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_layernorm a = args(s);
    a.y = s->out[0]->data;
    return MCS_CUDA_STATUS(k_layernorm_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    struct k_layernorm a = args(s);
    a.dy = s->dout[0]->data;
    a.dx = mcs_cuda_data(s->din[0]);
    a.dw = mcs_f32(s->din[1]);
    a.db = mcs_f32(s->din[2]);
    a.beta_x = s->beta[0];
    a.beta_w = s->beta[1];
    a.beta_b = s->beta[2];
    return MCS_CUDA_STATUS(k_layernorm_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_layernorm = {prepare, fwd, bwd, NULL};

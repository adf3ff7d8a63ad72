/* add on the device: y = a + b, b broadcast over the leading dimensions of a. */
#include "engine/cuda/cuda.h"

static enum mcs_status prepare(struct step *s)
{
    if (s->backward && s->din[1]) s->workspace_bytes = k_add_bwd_bytes(mcs_count(s->dout[0]), mcs_count(s->din[1]));
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    const struct k_add a = {.dtype = mcs_cuda_dtype(s->out[0]),
                            .n = mcs_count(s->in[0]),
                            .period = mcs_count(s->in[1]),
                            .a = s->in[0]->data,
                            .b = s->in[1]->data,
                            .y = s->out[0]->data};
    return MCS_CUDA_STATUS(k_add_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    const struct k_add a = {.dtype = mcs_cuda_dtype(s->dout[0]),
                            .n = mcs_count(s->dout[0]),
                            .period = s->din[1] ? mcs_count(s->din[1]) : 1,
                            .dy = s->dout[0]->data,
                            .da = mcs_cuda_data(s->din[0]),
                            .db = mcs_cuda_data(s->din[1]),
                            .beta_a = s->beta[0],
                            .beta_b = s->beta[1],
                            .workspace = s->workspace};
    return MCS_CUDA_STATUS(k_add_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_add = {prepare, fwd, bwd, NULL};

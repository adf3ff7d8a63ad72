/* relu on the device. */
#include "engine/cuda/cuda.h"

static enum mcs_status fwd(const struct step *s)
{
    const struct k_relu a = {
        .dtype = mcs_cuda_dtype(s->in[0]), .n = mcs_count(s->in[0]), .x = s->in[0]->data, .y = s->out[0]->data};
    return MCS_CUDA_STATUS(k_relu_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    const struct k_relu a = {.dtype = mcs_cuda_dtype(s->out[0]),
                             .n = mcs_count(s->out[0]),
                             .dy = s->dout[0]->data,
                             .y = s->out[0]->data,
                             .dx = mcs_cuda_data(s->din[0]),
                             .beta = s->beta[0]};
    return MCS_CUDA_STATUS(k_relu_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_relu = {NULL, fwd, bwd, NULL};

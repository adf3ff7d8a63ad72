/* softmax over the last axis on the device. */
#include "engine/cuda/cuda.h"

static struct k_softmax args(const struct tensor *y)
{
    return (struct k_softmax){.dtype = mcs_cuda_dtype(y), .rows = mcs_rows(y), .n = (int)mcs_last(y), .y = y->data};
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_softmax a = args(s->out[0]);
    a.x = s->in[0]->data;
    return MCS_CUDA_STATUS(k_softmax_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    struct k_softmax a = args(s->out[0]);
    a.dy = s->dout[0]->data;
    a.dx = mcs_cuda_data(s->din[0]);
    a.beta = s->beta[0];
    return MCS_CUDA_STATUS(k_softmax_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_softmax = {NULL, fwd, bwd, NULL};

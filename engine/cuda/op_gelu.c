/* gelu, exact, and quick_gelu on the device. */
#include "engine/cuda/cuda.h"

static struct k_gelu args(const struct step *s)
{
    const struct tensor *x = s->in[0];
    return (struct k_gelu){
        .dtype = mcs_cuda_dtype(x), .quick = s->op == OP_quick_gelu, .n = mcs_count(x), .x = x->data};
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_gelu a = args(s);
    a.y = s->out[0]->data;
    return MCS_CUDA_STATUS(k_gelu_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    struct k_gelu a = args(s);
    if (!s->din[0]) return MCS_OK;
    a.dy = s->dout[0]->data;
    a.dx = s->din[0]->data;
    a.beta = s->beta[0];
    return MCS_CUDA_STATUS(k_gelu_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_gelu = {NULL, fwd, bwd, NULL};
const struct op_impl mcs_cuda_quick_gelu = {NULL, fwd, bwd, NULL};

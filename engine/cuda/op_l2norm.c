/* l2norm on the device: y = x / |x| by row. */
#include "engine/cuda/cuda.h"

static struct k_l2norm args(const struct step *s)
{
    const struct tensor *y = s->out[0];
    return (struct k_l2norm){.dtype = mcs_cuda_dtype(y),
                             .rows = mcs_rows(y),
                             .n = (int)mcs_last(y),
                             .y = y->data,
                             .norm = mcs_f32(s->out[1])};
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_l2norm a = args(s);
    a.x = s->in[0]->data;
    return MCS_CUDA_STATUS(k_l2norm_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    struct k_l2norm a = args(s);
    a.dy = s->dout[0]->data;
    a.dx = mcs_cuda_data(s->din[0]);
    a.beta = s->beta[0];
    return MCS_CUDA_STATUS(k_l2norm_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_l2norm = {NULL, fwd, bwd, NULL};

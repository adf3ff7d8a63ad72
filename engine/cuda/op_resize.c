/* resize on the device: bilinear, half-pixel centres. */
#include "engine/cuda/cuda.h"

static struct k_resize args(const struct tensor *x, const struct tensor *y)
{
    return (struct k_resize){.dtype = mcs_cuda_dtype(x),
                             .n = x->dim[0],
                             .in_h = x->dim[1],
                             .in_w = x->dim[2],
                             .out_h = y->dim[1],
                             .out_w = y->dim[2],
                             .c = x->dim[3]};
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_resize a = args(s->in[0], s->out[0]);
    a.x = s->in[0]->data;
    a.y = s->out[0]->data;
    return MCS_CUDA_STATUS(k_resize_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    if (!s->din[0]) return MCS_OK;
    struct k_resize a = args(s->din[0], s->dout[0]);
    a.dy = s->dout[0]->data;
    a.dx = s->din[0]->data;
    a.beta = s->beta[0];
    return MCS_CUDA_STATUS(k_resize_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_resize = {NULL, fwd, bwd, NULL};

/* bottleneck on the device. */
#include "engine/cuda/cuda.h"

static struct k_bottleneck args(const struct step *s)
{
    const struct tensor *x = s->in[0], *noise = s->in[2];
    return (struct k_bottleneck){
        .p = x->dim[0],
        .copies = noise->dim[0] / x->dim[0],
        .t = x->dim[1],
        .c = (int)x->dim[2],
        .x = mcs_f32(x),
        .alpha = mcs_f32(s->in[1]),
        .noise = mcs_f32(noise),
    };
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_bottleneck a = args(s);
    a.y = mcs_f32(s->out[0]);
    a.kl = mcs_f32(s->out[1]);
    a.map = mcs_f32(s->out[2]);
    return MCS_CUDA_STATUS(k_bottleneck_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    struct k_bottleneck a = args(s);
    a.dy = mcs_f32(s->dout[0]);
    a.dkl = mcs_f32(s->dout[1]);
    a.dalpha = mcs_f32(s->din[1]);
    a.beta = s->beta[1];
    return MCS_CUDA_STATUS(k_bottleneck_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_bottleneck = {NULL, fwd, bwd, NULL};

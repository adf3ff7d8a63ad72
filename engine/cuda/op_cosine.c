/* cosine on the device: cosine similarity of rows. */
#include "engine/cuda/cuda.h"

static struct k_cosine args(const struct step *s)
{
    const struct tensor *a = s->in[0], *b = s->in[1];
    return (struct k_cosine){
        .rows = a->dim[0],
        .each = a->dim[0] / b->dim[0],
        .n = (int)a->dim[1],
        .a = mcs_f32(a),
        .b = mcs_f32(b),
        .y = mcs_f32(s->out[0]),
        .norms = mcs_f32(s->out[1]),
    };
}

static enum mcs_status fwd(const struct step *s)
{
    const struct k_cosine a = args(s);
    return MCS_CUDA_STATUS(k_cosine_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    struct k_cosine a = args(s);
    a.dy = mcs_f32(s->dout[0]);
    a.da = mcs_f32(s->din[0]);
    a.beta = s->beta[0];
    return MCS_CUDA_STATUS(k_cosine_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_cosine = {NULL, fwd, bwd, NULL};

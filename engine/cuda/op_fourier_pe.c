/* fourier_pe on the device: SAM's positional encoding. */
#include "engine/cuda/cuda.h"

static enum mcs_status fwd(const struct step *s)
{
    const struct k_fourier_pe a = {.n = s->in[0]->dim[0],
                                   .f = s->in[2]->dim[1],
                                   .coords = mcs_f32(s->in[0]),
                                   .labels = mcs_i32(s->in[1]),
                                   .g = mcs_f32(s->in[2]),
                                   .y = mcs_f32(s->out[0])};
    return MCS_CUDA_STATUS(k_fourier_pe_fwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_fourier_pe = {NULL, fwd, NULL, NULL};

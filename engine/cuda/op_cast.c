/* cast on the device: converts between float types. */
#include "engine/cuda/cuda.h"

static enum mcs_status run(const struct step *s)
{
    const struct tensor *src = s->backward ? s->dout[0] : s->in[0], *dst = s->backward ? s->din[0] : s->out[0];
    const float beta = s->backward ? s->beta[0] : 0;
    if (!dst) return MCS_OK;
    const struct k_cast a = {mcs_cuda_dtype(src), mcs_cuda_dtype(dst), mcs_count(dst), src->data, dst->data, beta};
    return MCS_CUDA_STATUS(k_cast(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_cast = {NULL, run, run, NULL};

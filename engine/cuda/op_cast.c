/* cast on the device: converts between float types. */
#include "engine/cuda/cuda.h"

static enum mcs_status convert(const struct step *s, const struct tensor *src, float beta, const struct tensor *dst)
{
    const struct k_cast a = {mcs_cuda_dtype(src), mcs_cuda_dtype(dst), mcs_count(dst), src->data, dst->data, beta};
    MCS_CUDA(k_cast(&a, mcs_cuda_stream(s)));
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    return convert(s, s->in[0], 0, s->out[0]);
}

static enum mcs_status bwd(const struct step *s)
{
    return s->din[0] ? convert(s, s->dout[0], s->beta[0], s->din[0]) : MCS_OK;
}

const struct op_impl mcs_cuda_cast = {NULL, fwd, bwd, NULL};

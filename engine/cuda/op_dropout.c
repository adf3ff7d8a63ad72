/* dropout on the device. The mask is not stored: forward and backward each draw it from the run's seed and step, which
 * lie in device memory. */
#include "engine/cuda/cuda.h"

static enum mcs_status drop(const struct step *s, const struct tensor *src, float beta, const struct tensor *dst)
{
    const struct dropout_attr *a = s->attr;
    const struct k_dropout k = {.dtype = mcs_cuda_dtype(dst),
                                .rows = mcs_rows(dst),
                                .n = mcs_last(dst),
                                .p = a->p,
                                .site = a->site,
                                .run = mcs_cuda_run(s),
                                .sample = mcs_i32(s->in[1]),
                                .x = src->data,
                                .y = dst->data,
                                .beta = beta};
    MCS_CUDA(k_dropout(&k, mcs_cuda_stream(s)));
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    return drop(s, s->in[0], 0, s->out[0]);
}

static enum mcs_status bwd(const struct step *s)
{
    return s->din[0] ? drop(s, s->dout[0], s->beta[0], s->din[0]) : MCS_OK;
}

const struct op_impl mcs_cuda_dropout = {NULL, fwd, bwd, NULL};

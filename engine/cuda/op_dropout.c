/* dropout on the device. The mask is not stored: forward and backward each draw it from the run's seed and step, which
 * lie in device memory. */
#include "engine/cuda/cuda.h"

static enum mcs_status run(const struct step *s)
{
    const struct tensor *src = s->backward ? s->dout[0] : s->in[0], *dst = s->backward ? s->din[0] : s->out[0];
    if (!dst) return MCS_OK;
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
                                .beta = s->backward ? s->beta[0] : 0};
    return MCS_CUDA_STATUS(k_dropout(&k, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_dropout = {NULL, run, run, NULL};

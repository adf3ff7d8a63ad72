/* window and unwindow on the device: each is the other's gradient. */
#include "engine/cuda/cuda.h"

static enum mcs_status run(const struct step *s)
{
    const int split = (s->op == OP_window) == !s->backward;
    const struct tensor *src = s->backward ? s->dout[0] : s->in[0], *dst = s->backward ? s->din[0] : s->out[0];
    const struct tensor *image = split ? src : dst;
    if (!dst) return MCS_OK;
    const struct k_partition a = {.dtype = mcs_cuda_dtype(dst),
                                  .images = image->dim[0],
                                  .h = image->dim[1],
                                  .w = image->dim[2],
                                  .c = image->dim[3],
                                  .win = ((const struct window_attr *)s->attr)->win,
                                  .x = src->data,
                                  .y = dst->data,
                                  .beta = s->backward ? s->beta[0] : 0};
    return MCS_CUDA_STATUS((split ? k_partition_split : k_partition_join)(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_window = {NULL, run, run, NULL};
const struct op_impl mcs_cuda_unwindow = {NULL, run, run, NULL};

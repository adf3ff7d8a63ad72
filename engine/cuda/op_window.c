/* window and unwindow on the device: each is the other's gradient. */
#include "engine/cuda/cuda.h"

static struct k_partition args(const struct step *s, const struct tensor *image, const struct tensor *x, float beta,
                               const struct tensor *y)
{
    return (struct k_partition){.dtype = mcs_cuda_dtype(y),
                                .images = image->dim[0],
                                .h = image->dim[1],
                                .w = image->dim[2],
                                .c = image->dim[3],
                                .win = ((const struct window_attr *)s->attr)->win,
                                .x = x->data,
                                .y = y->data,
                                .beta = beta};
}

static enum mcs_status window_fwd(const struct step *s)
{
    const struct k_partition a = args(s, s->in[0], s->in[0], 0, s->out[0]);
    MCS_CUDA(k_partition_split(&a, mcs_cuda_stream(s)));
    return MCS_OK;
}

static enum mcs_status window_bwd(const struct step *s)
{
    if (!s->din[0]) return MCS_OK;
    const struct k_partition a = args(s, s->din[0], s->dout[0], s->beta[0], s->din[0]);
    MCS_CUDA(k_partition_join(&a, mcs_cuda_stream(s)));
    return MCS_OK;
}

static enum mcs_status unwindow_fwd(const struct step *s)
{
    const struct k_partition a = args(s, s->out[0], s->in[0], 0, s->out[0]);
    MCS_CUDA(k_partition_join(&a, mcs_cuda_stream(s)));
    return MCS_OK;
}

static enum mcs_status unwindow_bwd(const struct step *s)
{
    if (!s->din[0]) return MCS_OK;
    const struct k_partition a = args(s, s->dout[0], s->dout[0], s->beta[0], s->din[0]);
    MCS_CUDA(k_partition_split(&a, mcs_cuda_stream(s)));
    return MCS_OK;
}

const struct op_impl mcs_cuda_window = {NULL, window_fwd, window_bwd, NULL};
const struct op_impl mcs_cuda_unwindow = {NULL, unwindow_fwd, unwindow_bwd, NULL};

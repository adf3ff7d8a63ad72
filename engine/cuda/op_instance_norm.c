/* instance_norm + leaky ReLU on the device. Directly after a convolution, which then stores the moments of its output
 * (the norm's input), it reads them from the start of the workspace. */
#include "engine/cuda/cuda.h"

static struct k_instance_norm args(const struct step *s)
{
    const struct norm_attr *a = s->attr;
    const struct tensor *x = s->in[0];
    return (struct k_instance_norm){.dtype = mcs_cuda_dtype(x),
                                    .n = x->dim[0],
                                    .sp = mcs_rows(x) / x->dim[0],
                                    .c = mcs_last(x),
                                    .eps = a->eps,
                                    .slope = a->slope,
                                    .x = x->data,
                                    .w = mcs_f32(s->in[1]),
                                    .b = mcs_f32(s->in[2]),
                                    .stats = mcs_f32(s->out[1]),
                                    .workspace = s->workspace};
}

static enum mcs_status prepare(struct step *s)
{
    const struct k_instance_norm a = args(s);
    int part_rows;
    s->workspace_bytes = k_instance_norm_bytes(a.n, a.sp, a.c, s->backward);
    if (!s->backward) s->workspace_bytes += mcs_cuda_moments_bytes(s->before, &part_rows);
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_instance_norm a = args(s);
    const size_t moments = mcs_cuda_moments_bytes(s->before, &a.part_rows);
    if (moments) a.moments = s->workspace, a.workspace = (float *)((char *)s->workspace + moments);
    a.y = s->out[0]->data;
    return MCS_CUDA_STATUS(k_instance_norm_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    struct k_instance_norm a = args(s);
    a.dy = s->dout[0]->data;
    a.dx = mcs_cuda_data(s->din[0]);
    a.dw = mcs_f32(s->din[1]);
    a.db = mcs_f32(s->din[2]);
    a.beta_x = s->beta[0];
    a.beta_w = s->beta[1];
    a.beta_b = s->beta[2];
    return MCS_CUDA_STATUS(k_instance_norm_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_instance_norm = {prepare, fwd, bwd, NULL};

/* gather on the device. The row indices lie in device memory and are not checked before the launch: an index outside
 * the table yields a row of NaN. */
#include "engine/cuda/cuda.h"

static enum mcs_status prepare(struct step *s)
{
    if (s->backward && s->din[0]) s->workspace_bytes = k_gather_bwd_bytes(mcs_count(s->in[1]));
    return MCS_OK;
}

static struct k_gather args(const struct step *s, const struct tensor *table)
{
    return (struct k_gather){.dtype = mcs_cuda_dtype(table),
                             .rows = mcs_rows(table),
                             .width = mcs_last(table),
                             .n = mcs_count(s->in[1]),
                             .index = mcs_i32(s->in[1])};
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_gather a = args(s, s->in[0]);
    a.x = s->in[0]->data;
    a.y = s->out[0]->data;
    return MCS_CUDA_STATUS(k_gather_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    if (!s->din[0]) return MCS_OK;
    struct k_gather a = args(s, s->din[0]);
    a.dy = s->dout[0]->data;
    a.dx = s->din[0]->data;
    a.workspace = s->workspace;
    a.beta = s->beta[0];
    return MCS_CUDA_STATUS(k_gather_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_gather = {prepare, fwd, bwd, NULL};

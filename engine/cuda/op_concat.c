/* concat on the device: an input whose dimensions before the axis multiply to 1 is repeated for each row. */
#include "engine/cuda/cuda.h"

/* like: tensors of the inputs' shapes; y: of the output's shape. */
static struct k_concat args(const struct step *s, const struct tensor *const *like, const struct tensor *y)
{
    const int axis = ((const struct axis_attr *)s->attr)->axis;
    struct k_concat a = {.dtype = mcs_cuda_dtype(y), .rows = 1};
    for (int d = 0; d < axis; d++) a.rows *= y->dim[d];
    for (int k = 0; k < 4 && like[k]; k++, a.inputs++) {
        int64_t rows = 1;
        for (int d = 0; d < axis; d++) rows *= like[k]->dim[d];
        a.width[k] = mcs_count(like[k]) / rows;
        a.repeated[k] = rows == 1 && a.rows > 1;
    }
    return a;
}

static struct k_concat backward_args(const struct step *s)
{
    struct k_concat a = args(s, s->like, s->dout[0]);
    for (int k = 0; k < a.inputs; k++) {
        a.dx[k] = mcs_cuda_data(s->din[k]);
        a.beta[k] = s->beta[k];
    }
    return a;
}

static enum mcs_status prepare(struct step *s)
{
    if (!s->backward) return MCS_OK;
    const struct k_concat a = backward_args(s);
    s->workspace_bytes = k_concat_bwd_bytes(&a);
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_concat a = args(s, (const struct tensor *const *)s->in, s->out[0]);
    for (int k = 0; k < a.inputs; k++) a.x[k] = s->in[k]->data;
    a.y = s->out[0]->data;
    return MCS_CUDA_STATUS(k_concat_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    struct k_concat a = backward_args(s);
    a.dy = s->dout[0]->data;
    a.workspace = s->workspace;
    return MCS_CUDA_STATUS(k_concat_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_concat = {prepare, fwd, bwd, NULL};

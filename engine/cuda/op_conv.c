/* conv and conv_transpose on the device. */
#include "engine/cuda/cuda.h"

static struct k_conv args(const struct step *s)
{
    const int transposed = s->op == OP_conv_transpose;
    const struct conv_attr *attr = s->attr;
    const struct tensor *x = s->like[0] ? s->like[0] : s->in[0], *w = s->like[1] ? s->like[1] : s->in[1];
    const struct tensor *y = s->backward ? s->dout[0] : s->out[0];
    struct k_conv a = {.dtype = mcs_cuda_dtype(y),
                       .n = x->dim[0],
                       .c = mcs_last(x),
                       .o = mcs_last(y),
                       .x = mcs_cuda_data(s->in[0]),
                       .w = mcs_f32(s->in[1]),
                       .workspace = s->workspace};
    for (int i = 0; i < 3; i++) {
        const int at = i - (3 - attr->nsp); /* spatial axis of the op */
        a.src[i] = at < 0 ? 1 : (int)x->dim[1 + at];
        a.dst[i] = at < 0 ? 1 : (int)y->dim[1 + at];
        a.k[i] = at < 0 ? 1 : (int)w->dim[2 + at];
        a.stride[i] = at < 0 ? 1 : transposed ? a.k[i] : (int)attr->stride[at];
        a.pad[i] = at < 0 || transposed ? 0 : (int)attr->pad[at];
    }
    if (s->backward) {
        a.dy = s->dout[0]->data;
        a.beta_x = s->beta[0], a.beta_w = s->beta[1], a.beta_b = s->beta[2];
    }
    return a;
}

/* Sets dx, dw and db where the step wants them. In prepare they have no memory yet: `unplaced` stands for any non-NULL
 * pointer. */
static void gradients(const struct step *s, struct k_conv *a, void *unplaced)
{
    a->dx = s->din[0] ? (s->din[0]->data ? s->din[0]->data : unplaced) : NULL;
    a->dw = s->din[1] ? (s->din[1]->data ? mcs_f32(s->din[1]) : unplaced) : NULL;
    a->db = s->din[2] ? (s->din[2]->data ? mcs_f32(s->din[2]) : unplaced) : NULL;
}

/* Depends on the tape and its shapes only, so the convolution and the norm agree on it, in prepare and in each run. */
size_t mcs_cuda_moments_bytes(const struct step *s, int *part_rows)
{
    const struct step *norm = s ? s->after : NULL;
    if (!norm || s->op != OP_conv || s->backward) return 0;
    if (norm->op != OP_instance_norm || norm->backward || norm->in[0] != s->out[0]) return 0;
    const struct k_conv a = args(s);
    if (k_conv_is_split(&a)) return 0;
    *part_rows = k_conv_part_rows(&a);
    const int64_t positions = (int64_t)a.dst[0] * a.dst[1] * a.dst[2];
    const int64_t parts = (positions + *part_rows - 1) / *part_rows;
    return mcs_cuda_round((size_t)(a.n * parts * a.o * 2) * sizeof(float));
}

static enum mcs_status prepare(struct step *s)
{
    const int transposed = s->op == OP_conv_transpose;
    if (s->backward && !s->dout[0]) return MCS_OK;
    struct k_conv a = args(s);
    float unplaced = 0;
    a.workspace = NULL;
    if (s->backward) {
        gradients(s, &a, &unplaced);
        s->workspace_bytes = transposed ? k_conv_transpose_bwd_bytes(&a) : k_conv_bwd_bytes(&a);
    } else {
        int part_rows;
        const size_t moments = mcs_cuda_moments_bytes(s, &part_rows);
        if (moments) a.moments = &unplaced;
        s->workspace_bytes = moments + (transposed ? k_conv_transpose_fwd_bytes(&a) : k_conv_fwd_bytes(&a));
    }
    return MCS_OK;
}

static enum mcs_status run(const struct step *s)
{
    const int transposed = s->op == OP_conv_transpose;
    if (s->backward && !s->dout[0]) return MCS_OK;
    struct k_conv a = args(s);
    const cudaStream_t stream = mcs_cuda_stream(s);
    if (s->backward) {
        gradients(s, &a, NULL);
        return MCS_CUDA_STATUS(transposed ? k_conv_transpose_bwd(&a, stream) : k_conv_bwd(&a, stream));
    }
    int part_rows;
    const size_t moments = mcs_cuda_moments_bytes(s, &part_rows);
    if (moments) a.moments = s->workspace, a.workspace = (char *)s->workspace + moments;
    a.y = s->out[0]->data;
    a.bias = mcs_f32(s->in[2]);
    return MCS_CUDA_STATUS(transposed ? k_conv_transpose_fwd(&a, stream) : k_conv_fwd(&a, stream));
}

/* s->op and s->backward tell the four passes apart. */
const struct op_impl mcs_cuda_conv = {prepare, run, run, NULL};
const struct op_impl mcs_cuda_conv_transpose = {prepare, run, run, NULL};

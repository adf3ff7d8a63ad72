/* bmm_nt on the device: y[b] = a[b] b[b]^T. */
#include "engine/cuda/cuda.h"

/* Matmul of the gradient of input `slot` (0: da, 1: db), or of the forward pass (-1), without its pointers. */
static struct k_matmul product(const struct step *s, int slot)
{
    const struct tensor *a = s->like[0] ? s->like[0] : s->in[0], *b = s->like[1] ? s->like[1] : s->in[1];
    const enum k_dtype t = mcs_cuda_dtype(s->backward ? s->dout[0] : s->out[0]);
    const int64_t m = a->dim[1], n = b->dim[1], k = a->dim[2];
    struct k_matmul p = {.dtype = t, .dtype_y = t, .batch = a->dim[0], .m = m, .n = n, .k = k};
    p.form = slot < 0 ? K_MATMUL_NT : slot ? K_MATMUL_TN : K_MATMUL_NN;
    if (slot == 0) p.n = k, p.k = n;          /* da = dy b */
    if (slot == 1) p.m = n, p.n = k, p.k = m; /* db = dy^T a */
    return p;
}

static enum mcs_status prepare(struct step *s)
{
    if (s->backward && !s->dout[0]) return MCS_OK;
    for (int slot = s->backward ? 0 : -1; slot < (s->backward ? 2 : 0); slot++) {
        const struct k_matmul p = product(s, slot);
        const size_t bytes = slot < 0 || s->din[slot] ? k_matmul_bytes(&p) : 0;
        if (bytes > s->workspace_bytes) s->workspace_bytes = bytes;
    }
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_matmul p = product(s, -1);
    p.a = s->in[0]->data, p.b = s->in[1]->data, p.y = s->out[0]->data, p.workspace = s->workspace;
    return MCS_CUDA_STATUS(k_matmul_run(&p, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    for (int slot = 0; slot < 2; slot++) {
        if (!s->din[slot] || !s->dout[0]) continue;
        struct k_matmul p = product(s, slot);
        p.a = s->dout[0]->data, p.b = s->in[1 - slot]->data, p.y = s->din[slot]->data;
        p.beta = s->beta[slot], p.workspace = s->workspace;
        MCS_CUDA(k_matmul_run(&p, mcs_cuda_stream(s)));
    }
    return MCS_OK;
}

const struct op_impl mcs_cuda_bmm_nt = {prepare, fwd, bwd, NULL};

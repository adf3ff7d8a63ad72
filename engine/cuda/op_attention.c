/* attention on the device. Sequence offsets outside the tensors, an error on the CPU, are clamped here: they lie in
 * device memory, and the host does not read them. */
#include "engine/cuda/cuda.h"

static struct k_attention args(const struct step *s)
{
    const struct attention_attr *a = s->attr;
    const struct tensor *q = s->in[0], *k = s->in[1], *v = s->in[2];
    const int64_t each = q->dt == MCS_BF16 ? 2 : 4;
    const int64_t n_seq = s->in[3] ? mcs_count(s->in[3]) - 1 : a->q_len ? mcs_rows(q) / a->q_len : 0;
    return (struct k_attention){.dtype = mcs_cuda_dtype(q),
                                .heads = a->heads,
                                .head_dim = a->head_dim,
                                .n_seq = (int)n_seq,
                                .q_rows = (int)mcs_rows(q),
                                .k_rows = (int)mcs_rows(k),
                                .q_len = s->in[3] ? 0 : (int)a->q_len,
                                .k_len = s->in[3] ? 0 : (int)a->k_len,
                                .q_off = mcs_i32(s->in[3]),
                                .k_off = mcs_i32(s->in[4]),
                                .q = (const char *)q->data + a->q_col * each,
                                .k = (const char *)k->data + a->k_col * each,
                                .v = (const char *)v->data + a->v_col * each,
                                .q_ld = mcs_last(q),
                                .k_ld = mcs_last(k),
                                .v_ld = mcs_last(v),
                                .rel_h = mcs_f32(s->in[5]),
                                .rel_w = mcs_f32(s->in[6]),
                                .grid_h = a->grid_h,
                                .grid_w = a->grid_w,
                                .scale = a->scale,
                                .dropout_p = a->dropout_p,
                                .site = a->site,
                                .causal = a->causal,
                                .first_seq = a->first_seq,
                                .run = mcs_cuda_run(s),
                                .y = mcs_cuda_data(s->out[0]),
                                .lse = mcs_f32(s->out[1]),
                                .workspace = s->workspace};
}

static enum mcs_status prepare(struct step *s)
{
    const struct attention_attr *a = s->attr;
    MCS_REQUIRE(a->head_dim <= 128, MCS_E_SHAPE,
                "%s: attention: heads of %d columns; the device's kernels take up to 128", s->scope, a->head_dim);
    MCS_REQUIRE(!s->in[5] || a->dropout_p <= 0 || s->in[0]->dt == MCS_F32 || a->head_dim <= 80, MCS_E_SHAPE,
                "%s: attention: relative positions with dropout in bf16 take heads of up to 80 columns, not %d",
                s->scope, a->head_dim);
    MCS_REQUIRE(mcs_rows(s->in[0]) < INT32_MAX / 2 && mcs_rows(s->in[1]) < INT32_MAX / 2 && a->heads < 65536,
                MCS_E_SHAPE, "%s: attention: too many rows or heads for one launch", s->scope);
    const struct k_attention k = args(s);
    s->workspace_bytes = s->backward ? k_attention_bwd_bytes(&k) : k_attention_fwd_bytes(&k);
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    const struct k_attention a = args(s);
    return MCS_CUDA_STATUS(k_attention_fwd(&a, mcs_cuda_stream(s)));
}

static void *columns(const struct tensor *t, int64_t col)
{
    return t ? (char *)t->data + col * (t->dt == MCS_BF16 ? 2 : 4) : NULL;
}

/* With beta 0 a gradient must be written completely, but the kernels write neither rows that belong to no sequence nor
 * columns that belong to no head: zero such a gradient first. Packed q, k, v share one gradient, which is zeroed
 * once. */
static enum mcs_status clear(const struct step *s)
{
    const struct attention_attr *a = s->attr;
    for (int i = 0; i < 3; i++) {
        int first = s->din[i] != NULL && s->beta[i] == 0, shares = 0;
        for (int j = 0; j < 3; j++) {
            if (j < i) first = first && s->din[j] != s->din[i];
            shares += s->din[j] == s->din[i];
        }
        if (first && (s->in[3] || shares * (int64_t)a->heads * a->head_dim < mcs_last(s->din[i])))
            MCS_CUDA(cudaMemsetAsync(s->din[i]->data, 0, (size_t)mcs_bytes(s->din[i]), mcs_cuda_stream(s)));
    }
    return MCS_OK;
}

static enum mcs_status bwd(const struct step *s)
{
    const struct attention_attr *at = s->attr;
    struct k_attention a = args(s);
    MCS_TRY(clear(s));
    a.dy = s->dout[0]->data;
    a.dlse = mcs_f32(s->dout[1]);
    a.dq = columns(s->din[0], at->q_col);
    a.dk = columns(s->din[1], at->k_col);
    a.dv = columns(s->din[2], at->v_col);
    a.drel_h = mcs_f32(s->din[5]);
    a.drel_w = mcs_f32(s->din[6]);
    a.beta_q = s->beta[0];
    a.beta_k = s->beta[1];
    a.beta_v = s->beta[2];
    a.beta_rel_h = s->beta[5];
    a.beta_rel_w = s->beta[6];
    return MCS_CUDA_STATUS(k_attention_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_attention = {prepare, fwd, bwd, NULL};

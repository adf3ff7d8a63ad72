/* linear: y = x w^T + b, by oneDNN's sgemm. */
#include "engine/backend.h"
#include "engine/cpu/onednn.h"
#include "engine/cpu/rowops.h"

struct shape {
    int64_t m, n, k, w0; /* rows, outputs, inputs; first row of the weight */
};

static struct shape shape_of(const struct tensor *w, const struct tensor *y, const struct linear_attr *a)
{
    return (struct shape){
        .m = mcs_rows(y), .n = mcs_last(y), .k = mcs_last(w), .w0 = a && a->w_rows > 0 ? a->w_row : 0};
}

static enum mcs_status prepare(struct step *s)
{
    if (s->backward && s->din[2] && s->dout[0])
        s->workspace_bytes = mcs_rows_sum_workspace(mcs_rows(s->dout[0]), mcs_last(s->dout[0]));
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    const struct shape d = shape_of(s->in[1], s->out[0], s->attr);
    float *y = mcs_f32(s->out[0]);
    MCS_TRY(
        mcs_sgemm('N', 'T', d.m, d.n, d.k, 1, mcs_f32(s->in[0]), d.k, mcs_f32(s->in[1]) + d.w0 * d.k, d.k, 0, y, d.n));
    if (s->in[2]) mcs_rows_add_bias(y, mcs_f32(s->in[2]) + d.w0, d.m, d.n);
    return MCS_OK;
}

/* dx = dy w, dw = dy^T x, db = sum of dy. A weight of which only some rows are used is frozen (op.h). */
static enum mcs_status bwd(const struct step *s)
{
    const struct shape d = shape_of(s->in[1], s->dout[0], s->attr);
    const float *dy = mcs_f32(s->dout[0]);
    if (s->din[0])
        MCS_TRY(mcs_sgemm('N', 'N', d.m, d.k, d.n, 1, dy, d.n, mcs_f32(s->in[1]) + d.w0 * d.k, d.k, s->beta[0],
                          mcs_f32(s->din[0]), d.k));
    if (s->din[1])
        MCS_TRY(mcs_sgemm('T', 'N', d.n, d.k, d.m, 1, dy, d.n, mcs_f32(s->in[0]), d.k, s->beta[1], mcs_f32(s->din[1]),
                          d.k));
    if (s->din[2]) mcs_rows_sum(dy, d.m, d.n, s->beta[2], mcs_f32(s->din[2]), s->workspace);
    return MCS_OK;
}

const struct op_impl mcs_cpu_linear = {prepare, fwd, bwd, NULL};

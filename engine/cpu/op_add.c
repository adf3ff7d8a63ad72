/* a + b, b broadcast over the leading dimensions of a. */
#include "engine/cpu/op_common.h"

MCS_CLONES static void add(const float *restrict a, const float *restrict b, float *restrict y, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

/* Elements [lo, hi) of the flat output; b repeats every `period` elements. */
static void piece(const float *a, const float *b, float *y, int64_t lo, int64_t hi, int64_t period)
{
    for (int64_t n; lo < hi; lo += n) {
        const int64_t at = lo % period;
        n = op_min(hi - lo, period - at);
        add(a + lo, b + at, y + lo, n);
    }
}

static enum mcs_status fwd(const struct step *s)
{
    const int64_t n = mcs_count(s->in[0]), period = mcs_count(s->in[1]);
    const float *a = mcs_f32(s->in[0]), *b = mcs_f32(s->in[1]);
    float *y = mcs_f32(s->out[0]);
#pragma omp parallel for schedule(static) if (n >= MCS_PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += MCS_CHUNK) piece(a, b, y, i, op_min(i + MCS_CHUNK, n), period);
    return MCS_OK;
}

static enum mcs_status prepare(struct step *s)
{
    if (s->backward && s->din[1]) {
        const int64_t cols = mcs_count(s->din[1]);
        s->workspace_bytes = op_sum_rows_bytes(mcs_count(s->dout[0]) / cols, cols);
    }
    return MCS_OK;
}

static enum mcs_status bwd(const struct step *s)
{
    const float *dy = mcs_f32(s->dout[0]);
    const int64_t n = mcs_count(s->dout[0]);
    if (s->din[0]) op_accumulate(dy, n, s->beta[0], mcs_f32(s->din[0]));
    if (s->din[1]) {
        const int64_t cols = mcs_count(s->din[1]);
        const float beta = s->beta[1];
        if (cols == n)
            op_accumulate(dy, n, beta, mcs_f32(s->din[1]));
        else
            op_sum_rows(dy, n / cols, cols, cols, beta, mcs_f32(s->din[1]), s->workspace);
    }
    return MCS_OK;
}

const struct op_impl mcs_cpu_add = {prepare, fwd, bwd, NULL};

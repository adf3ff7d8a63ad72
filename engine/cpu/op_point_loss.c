/* Elementwise losses: squared error and binary cross-entropy of logits, weighted, divided by the number of elements. */
#include "engine/cpu/op_common.h"

MCS_CLONES static double mse_sum(const float *restrict x, const float *restrict t, const float *restrict w, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)x[i] - t[i];
        sum += (w ? w[i] : 1.0) * d * d;
    }
    return sum;
}

MCS_CLONES static void mse_grad(const float *restrict x, const float *restrict t, const float *restrict w, float scale,
                                float beta, float *restrict dx, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dx[i] = op_blend(beta, dx[i], 2 * scale * (w ? w[i] : 1.0f) * (x[i] - t[i]));
}

/* BCE = softplus(x) - t x; for x > 0 softplus(-x) + (1-t) x, which does not cancel for a target of 0 or 1. */
MCS_CLONES static double bce_sum(const float *restrict x, const float *restrict t, const float *restrict w, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        const float a = x[i] < 0 ? -x[i] : x[i], u = x[i] < 0 ? t[i] : 1.0f - t[i];
        sum += (double)((w ? w[i] : 1.0f) * (mcs_log1pf01(mcs_expf(-a)) + u * a));
    }
    return sum;
}

MCS_CLONES static void bce_grad(const float *restrict x, const float *restrict t, const float *restrict w, float scale,
                                float beta, float *restrict dx, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dx[i] = op_blend(beta, dx[i], scale * (w ? w[i] : 1.0f) * (mcs_sigmoidf(x[i]) - t[i]));
}

/* One double per chunk, added in order. */
static enum mcs_status prepare(struct step *s)
{
    if (!s->backward) s->workspace_bytes = (size_t)op_div_up(mcs_count(s->in[0]), MCS_CHUNK) * sizeof(double);
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    const int64_t n = mcs_count(s->in[0]), chunks = op_div_up(n, MCS_CHUNK);
    const float *x = mcs_f32(s->in[0]), *t = mcs_f32(s->in[1]), *w = mcs_f32(s->in[2]);
    double (*const sum_of)(const float *, const float *, const float *, int64_t) = s->op == OP_mse ? mse_sum : bce_sum;
    double *part = s->workspace, sum = 0;
#pragma omp parallel for schedule(static) if (n >= MCS_PARALLEL_MIN)
    for (int64_t k = 0; k < chunks; k++) {
        const int64_t i = k * MCS_CHUNK;
        part[k] = sum_of(x + i, t + i, w ? w + i : NULL, op_min(MCS_CHUNK, n - i));
    }
    for (int64_t k = 0; k < chunks; k++) sum += part[k];
    mcs_f32(s->out[0])[0] = (float)(sum / (double)n);
    return MCS_OK;
}

static enum mcs_status bwd(const struct step *s)
{
    const int64_t n = mcs_count(s->in[0]);
    const float *x = mcs_f32(s->in[0]), *t = mcs_f32(s->in[1]), *w = mcs_f32(s->in[2]);
    const float scale = mcs_f32(s->dout[0])[0] / (float)n, beta = s->beta[0];
    void (*const add_grad)(const float *, const float *, const float *, float, float, float *, int64_t) =
        s->op == OP_mse ? mse_grad : bce_grad;
    float *dx = mcs_f32(s->din[0]);
    if (!dx) return MCS_OK;
#pragma omp parallel for schedule(static) if (n >= MCS_PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += MCS_CHUNK)
        add_grad(x + i, t + i, w ? w + i : NULL, scale, beta, dx + i, op_min(MCS_CHUNK, n - i));
    return MCS_OK;
}

const struct op_impl mcs_cpu_mse = {prepare, fwd, bwd, NULL};
const struct op_impl mcs_cpu_bce = {prepare, fwd, bwd, NULL};

/* Activations: GELU (exact), QuickGELU and ReLU. */
#include "engine/cpu/op_common.h"

MCS_CLONES static void gelu_fwd(const float *restrict x, float *restrict y, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float density;
        y[i] = x[i] * mcs_normal_cdf(x[i], &density);
    }
}

/* y' = cdf + x density */
MCS_CLONES static void gelu_bwd(const float *restrict x, const float *restrict dy, float beta, float *restrict dx,
                                int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float density;
        const float cdf = mcs_normal_cdf(x[i], &density);
        dx[i] = op_blend(beta, dx[i], dy[i] * (cdf + x[i] * density));
    }
}

/* sigmoid(v) and sigmoid(-v): both without cancellation, so that both keep their relative precision. */
MCS_INLINE float sigmoid_pair(float v, float *of_minus)
{
    const float z = mcs_expf(v < 0 ? v : -v), large = 1.0f / (1.0f + z), small = z * large;
    *of_minus = v < 0 ? large : small;
    return v < 0 ? small : large;
}

/* y = x sigmoid(1.702 x) */
MCS_CLONES static void quick_gelu_fwd(const float *restrict x, float *restrict y, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float rest;
        y[i] = x[i] * sigmoid_pair(1.702f * x[i], &rest);
    }
}

/* y' = s (1 + v (1 - s)), v = 1.702 x, s = sigmoid(v) */
MCS_CLONES static void quick_gelu_bwd(const float *restrict x, const float *restrict dy, float beta, float *restrict dx,
                                      int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float rest;
        const float v = 1.702f * x[i], s = sigmoid_pair(v, &rest);
        dx[i] = op_blend(beta, dx[i], dy[i] * (s + v * s * rest));
    }
}

MCS_CLONES static void relu_fwd(const float *restrict x, float *restrict y, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = x[i] < 0 ? 0 : x[i]; /* NaN stays NaN */
}

MCS_CLONES static void relu_bwd(const float *restrict y, const float *restrict dy, float beta, float *restrict dx,
                                int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dx[i] = op_blend(beta, dx[i], y[i] > 0 ? dy[i] : 0);
}

static enum mcs_status fwd(const struct step *s)
{
    const int64_t n = mcs_count(s->in[0]);
    const float *x = mcs_f32(s->in[0]);
    void (*const f)(const float *, float *, int64_t) = s->op == OP_relu         ? relu_fwd
                                                       : s->op == OP_quick_gelu ? quick_gelu_fwd
                                                                                : gelu_fwd;
    float *y = mcs_f32(s->out[0]);
#pragma omp parallel for schedule(static) if (n >= MCS_PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += MCS_CHUNK) f(x + i, y + i, op_min(MCS_CHUNK, n - i));
    return MCS_OK;
}

static enum mcs_status bwd(const struct step *s)
{
    const int64_t n = mcs_count(s->dout[0]);
    const float *kept = mcs_f32(s->op == OP_relu ? s->out[0] : s->in[0]), *dy = mcs_f32(s->dout[0]), beta = s->beta[0];
    void (*const f)(const float *, const float *, float, float *, int64_t) = s->op == OP_relu         ? relu_bwd
                                                                             : s->op == OP_quick_gelu ? quick_gelu_bwd
                                                                                                      : gelu_bwd;
    float *dx = mcs_f32(s->din[0]);
    if (!dx) return MCS_OK;
#pragma omp parallel for schedule(static) if (n >= MCS_PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += MCS_CHUNK) f(kept + i, dy + i, beta, dx + i, op_min(MCS_CHUNK, n - i));
    return MCS_OK;
}

const struct op_impl mcs_cpu_gelu = {NULL, fwd, bwd, NULL};
const struct op_impl mcs_cpu_quick_gelu = {NULL, fwd, bwd, NULL};
const struct op_impl mcs_cpu_relu = {NULL, fwd, bwd, NULL};

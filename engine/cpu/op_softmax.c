/* Softmax over the last axis. */
#include "engine/cpu/op_common.h"

enum { ROW_BLOCK = 16 };

MCS_CLONES static void fwd_rows(const float *restrict x, float *restrict y, int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r++, x += n, y += n) {
        float top = x[0], s = 0;
#pragma omp simd reduction(max : top)
        for (int64_t i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
#pragma omp simd reduction(+ : s)
        for (int64_t i = 0; i < n; i++) {
            y[i] = mcs_expf(x[i] - top);
            s += y[i];
        }
        const float inv = 1.0f / s;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] *= inv;
    }
}

/* dx = y (dy - sum y dy) */
MCS_CLONES static void bwd_rows(const float *restrict y, const float *restrict dy, float beta, float *restrict dx,
                                int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r++, y += n, dy += n, dx += n) {
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t i = 0; i < n; i++) s += y[i] * dy[i];
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dx[i] = op_blend(beta, dx[i], y[i] * (dy[i] - s));
    }
}

static enum mcs_status fwd(const struct step *s)
{
    const int64_t n = mcs_last(s->in[0]), rows = mcs_rows(s->in[0]);
    const float *x = mcs_f32(s->in[0]);
    float *y = mcs_f32(s->out[0]);
#pragma omp parallel for schedule(static) if (rows * n >= MCS_PARALLEL_MIN)
    for (int64_t r = 0; r < rows; r += ROW_BLOCK) fwd_rows(x + r * n, y + r * n, op_min(ROW_BLOCK, rows - r), n);
    return MCS_OK;
}

static enum mcs_status bwd(const struct step *s)
{
    const int64_t n = mcs_last(s->dout[0]), rows = mcs_rows(s->dout[0]);
    const float *y = mcs_f32(s->out[0]), *dy = mcs_f32(s->dout[0]), beta = s->beta[0];
    float *dx = mcs_f32(s->din[0]);
    if (!dx) return MCS_OK;
#pragma omp parallel for schedule(static) if (rows * n >= MCS_PARALLEL_MIN)
    for (int64_t r = 0; r < rows; r += ROW_BLOCK)
        bwd_rows(y + r * n, dy + r * n, beta, dx + r * n, op_min(ROW_BLOCK, rows - r), n);
    return MCS_OK;
}

const struct op_impl mcs_cpu_softmax = {NULL, fwd, bwd, NULL};

/* Rows normalised to length one, and the cosine of pairs of rows. Sums of squares are double, so that they neither
 * overflow nor underflow. */
#include <math.h>

#include "engine/cpu/op_common.h"

static const float l2_floor = 1e-12f, cosine_floor = 1e-6f;

MCS_CLONES static double dot(const float *restrict a, const float *restrict b, int64_t n)
{
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) s += (double)a[i] * b[i];
    return s;
}

/* y = beta y + p a + q b */
MCS_CLONES static void combine(const float *restrict a, float p, const float *restrict b, float q, float beta,
                               float *restrict y, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = op_blend(beta, y[i], p * a[i] + q * b[i]);
}

static enum mcs_status l2norm_fwd(const struct step *s)
{
    const int64_t n = mcs_last(s->in[0]), rows = mcs_rows(s->in[0]);
    const float *x = mcs_f32(s->in[0]);
    float *y = mcs_f32(s->out[0]), *norm = mcs_f32(s->out[1]);
#pragma omp parallel for schedule(static) if (rows * n >= MCS_PARALLEL_MIN)
    for (int64_t r = 0; r < rows; r++) {
        norm[r] = (float)sqrt(dot(x + r * n, x + r * n, n));
        combine(x + r * n, 1.0f / fmaxf(norm[r], l2_floor), x + r * n, 0, 0, y + r * n, n);
    }
    return MCS_OK;
}

/* dx = (dy - y (y . dy)) / |x|; below the norm's floor of 1e-12, y is linear in x */
static enum mcs_status l2norm_bwd(const struct step *s)
{
    const int64_t n = mcs_last(s->dout[0]), rows = mcs_rows(s->dout[0]);
    const float *y = mcs_f32(s->out[0]), *norm = mcs_f32(s->out[1]), *dy = mcs_f32(s->dout[0]);
    float *dx = mcs_f32(s->din[0]);
    if (!dx) return MCS_OK;
#pragma omp parallel for schedule(static) if (rows * n >= MCS_PARALLEL_MIN)
    for (int64_t r = 0; r < rows; r++) {
        const float inv = 1.0f / fmaxf(norm[r], l2_floor);
        const float along = norm[r] > l2_floor ? (float)dot(y + r * n, dy + r * n, n) : 0;
        combine(dy + r * n, inv, y + r * n, -along * inv, s->beta[0], dx + r * n, n);
    }
    return MCS_OK;
}

static enum mcs_status cosine_fwd(const struct step *s)
{
    const int64_t n = s->in[0]->dim[1], rows = s->in[0]->dim[0], k = rows / s->in[1]->dim[0];
    const float *a = mcs_f32(s->in[0]), *b = mcs_f32(s->in[1]);
    float *y = mcs_f32(s->out[0]), *norms = mcs_f32(s->out[1]);
#pragma omp parallel for schedule(static) if (rows * n >= MCS_PARALLEL_MIN)
    for (int64_t r = 0; r < rows; r++) {
        const float *p = a + r * n, *q = b + r / k * n;
        const double na = sqrt(dot(p, p, n)), nb = sqrt(dot(q, q, n));
        y[r] = (float)(dot(p, q, n) / fmax(na * nb, cosine_floor));
        norms[2 * r] = (float)na;
        norms[2 * r + 1] = (float)nb;
    }
    return MCS_OK;
}

/* da = dy (b / (|a||b|) - y a / |a|^2); below the norm's floor, y is linear in a */
static enum mcs_status cosine_bwd(const struct step *s)
{
    const int64_t n = s->in[0]->dim[1], rows = s->in[0]->dim[0], k = rows / s->in[1]->dim[0];
    const float *a = mcs_f32(s->in[0]), *b = mcs_f32(s->in[1]), *y = mcs_f32(s->out[0]), *norms = mcs_f32(s->out[1]);
    const float *dy = mcs_f32(s->dout[0]);
    float *da = mcs_f32(s->din[0]);
    if (!da) return MCS_OK;
#pragma omp parallel for schedule(static) if (rows * n >= MCS_PARALLEL_MIN)
    for (int64_t r = 0; r < rows; r++) {
        const float na = norms[2 * r], prod = na * norms[2 * r + 1];
        const float along = prod > cosine_floor ? -dy[r] * y[r] / (na * na) : 0;
        combine(b + r / k * n, dy[r] / fmaxf(prod, cosine_floor), a + r * n, along, s->beta[0], da + r * n, n);
    }
    return MCS_OK;
}

const struct op_impl mcs_cpu_l2norm = {NULL, l2norm_fwd, l2norm_bwd, NULL};
const struct op_impl mcs_cpu_cosine = {NULL, cosine_fwd, cosine_bwd, NULL};

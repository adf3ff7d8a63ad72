/* Attention guidance: a loss that moves the class token's attention to covered tokens. One query per head, so that all
 * arrays are small. */
#include <math.h>
#include <string.h>

#include "engine/cpu/op_common.h"

static const double guide_floor = 1e-6;

/* att (T) = softmax of the first token's scaled products with all keys of one head. qkv: one sample, `stride` floats
 * per row. */
MCS_CLONES static void attend(const float *q, const float *k, int64_t tokens, int64_t stride, int d,
                              float *restrict att)
{
    const float scale = 1.0f / sqrtf((float)d);
    float top = -INFINITY, sum = 0;
    for (int64_t t = 0; t < tokens; t++) {
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int i = 0; i < d; i++) s += q[i] * k[t * stride + i];
        att[t] = s * scale;
        top = att[t] > top ? att[t] : top;
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t t = 0; t < tokens; t++) {
        att[t] = mcs_expf(att[t] - top);
        sum += att[t];
    }
    for (int64_t t = 0; t < tokens; t++) att[t] /= sum;
}

MCS_CLONES static double covered(const float *restrict att, const float *restrict coverage, int64_t n)
{
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t t = 0; t < n; t++) s += (double)att[t] * coverage[t];
    return s;
}

static enum mcs_status prepare(struct step *s)
{
    if (!s->backward) s->workspace_bytes = (size_t)s->in[0]->dim[0] * sizeof(double);
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    const struct guide_attr *a = s->attr;
    const int64_t b_n = s->in[0]->dim[0], tokens = s->in[0]->dim[1], stride = s->in[0]->dim[2];
    const int64_t width = (int64_t)a->heads * a->head_dim;
    const float *qkv = mcs_f32(s->in[0]), *coverage = mcs_f32(s->in[1]), *weight = mcs_f32(s->in[2]);
    float *att = mcs_f32(s->out[1]);
    double *part = s->workspace, loss = 0;
#pragma omp parallel for schedule(static) if (b_n * tokens * a->heads_used * a->head_dim >= MCS_PARALLEL_MIN)
    for (int64_t b = 0; b < b_n; b++) {
        part[b] = 0;
        for (int h = 0; h < a->heads_used; h++) {
            const float *q = qkv + b * tokens * stride + h * a->head_dim;
            float *p = att + (b * a->heads_used + h) * tokens;
            attend(q, q + width, tokens, stride, a->head_dim, p);
            part[b] -= log(guide_floor + covered(p, coverage + b * tokens, tokens));
        }
    }
    for (int64_t b = 0; b < b_n; b++) loss += (double)weight[b] * part[b] / a->heads_used;
    mcs_f32(s->out[0])[0] = (float)loss;
    return MCS_OK;
}

/* score_t = scale q . k_t; d loss / d score_t = g att_t (coverage_t - sum att coverage) */
MCS_CLONES static void head_bwd(const float *restrict q, const float *restrict k, const float *restrict att,
                                const float *restrict coverage, float mean, float g, int64_t tokens, int64_t stride,
                                int d, float *restrict dq, float *restrict dk)
{
    for (int64_t t = 0; t < tokens; t++) {
        const float ds = g * att[t] * (coverage[t] - mean);
#pragma omp simd
        for (int i = 0; i < d; i++) dk[t * stride + i] += ds * q[i];
#pragma omp simd
        for (int i = 0; i < d; i++) dq[i] += ds * k[t * stride + i];
    }
}

static enum mcs_status bwd(const struct step *s)
{
    const struct guide_attr *a = s->attr;
    const int64_t b_n = s->in[0]->dim[0], tokens = s->in[0]->dim[1], stride = s->in[0]->dim[2];
    const int64_t width = (int64_t)a->heads * a->head_dim;
    const float *qkv = mcs_f32(s->in[0]), *coverage = mcs_f32(s->in[1]), *weight = mcs_f32(s->in[2]);
    const float *att = mcs_f32(s->out[1]), *g = mcs_f32(s->dout[0]);
    float *dx = mcs_f32(s->din[0]);
    if (!dx || !g) return MCS_OK;
#pragma omp parallel for schedule(static) if (b_n * tokens * stride >= MCS_PARALLEL_MIN)
    for (int64_t b = 0; b < b_n; b++) {
        const float *row = qkv + b * tokens * stride, *cover = coverage + b * tokens;
        float *d = dx + b * tokens * stride;
        if (s->beta[0] == 0) memset(d, 0, (size_t)(tokens * stride) * sizeof *d);
        for (int h = 0; h < a->heads_used && weight[b] != 0; h++) {
            const float *p = att + (b * a->heads_used + h) * tokens;
            const double mean = covered(p, cover, tokens);
            const double by_score =
                -(double)g[0] * weight[b] / a->heads_used / (guide_floor + mean) / sqrt(a->head_dim);
            const int64_t c = (int64_t)h * a->head_dim;
            head_bwd(row + c, row + width + c, p, cover, (float)mean, (float)by_score, tokens, stride, a->head_dim,
                     d + c, d + width + c);
        }
    }
    return MCS_OK;
}

const struct op_impl mcs_cpu_attn_guide = {prepare, fwd, bwd, NULL};

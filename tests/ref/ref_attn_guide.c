#include <math.h>

#include "tests/ref/ref.h"

/* Score of token t for the first token, head h of sample b. */
static double score(const struct ref_step *s, int64_t b, int h, int64_t t)
{
    const struct guide_attr *a = s->attr;
    const int64_t row = s->in[0].dim[2], tokens = s->in[0].dim[1], width = (int64_t)a->heads * a->head_dim;
    double sum = 0;
    for (int i = 0; i < a->head_dim; i++)
        sum += s->in[0].v[b * tokens * row + h * a->head_dim + i] *
               s->in[0].v[(b * tokens + t) * row + width + h * a->head_dim + i];
    return sum / sqrt(a->head_dim);
}

void ref_attn_guide_fwd(const struct ref_step *s)
{
    const struct guide_attr *a = s->attr;
    const int64_t tokens = s->in[0].dim[1];
    s->out[0].v[0] = 0;
    for (int64_t b = 0; b < s->in[0].dim[0]; b++)
        for (int h = 0; h < a->heads_used; h++) {
            double *att = s->out[1].v + (b * a->heads_used + h) * tokens, sum = 0, hit = 0;
            for (int64_t t = 0; t < tokens; t++) sum += att[t] = exp(score(s, b, h, t));
            for (int64_t t = 0; t < tokens; t++) hit += (att[t] /= sum) * s->in[1].v[b * tokens + t];
            s->out[0].v[0] -= s->in[2].v[b] * log(1e-6 + hit) / a->heads_used;
            s->out[0].mag[0] += fabs(s->in[2].v[b]) * (1 + fabs(log(1e-6 + hit))) / a->heads_used;
        }
}

void ref_attn_guide_bwd(const struct ref_step *s)
{
    const struct guide_attr *a = s->attr;
    const int64_t row = s->in[0].dim[2], tokens = s->in[0].dim[1], width = (int64_t)a->heads * a->head_dim;
    for (int64_t b = 0; b < s->in[0].dim[0]; b++)
        for (int h = 0; h < a->heads_used; h++) {
            const double *att = s->out[1].v + (b * a->heads_used + h) * tokens, *cover = s->in[1].v + b * tokens;
            double hit = 0;
            for (int64_t t = 0; t < tokens; t++) hit += att[t] * cover[t];
            const double g = -s->dout[0].v[0] * s->in[2].v[b] / a->heads_used / (1e-6 + hit);
            for (int64_t t = 0; t < tokens; t++)
                for (int i = 0; i < a->head_dim; i++) {
                    const int64_t q = b * tokens * row + h * a->head_dim + i,
                                  k = (b * tokens + t) * row + width + h * a->head_dim + i;
                    const double ds = g * att[t] * (cover[t] - hit) / sqrt(a->head_dim);
                    const double mag = fabs(g) * att[t] * (cover[t] + hit) / sqrt(a->head_dim);
                    s->din[0].v[q] += ds * s->in[0].v[k];
                    s->din[0].v[k] += ds * s->in[0].v[q];
                    s->din[0].mag[q] += mag * fabs(s->in[0].v[k]);
                    s->din[0].mag[k] += mag * fabs(s->in[0].v[q]);
                }
        }
}

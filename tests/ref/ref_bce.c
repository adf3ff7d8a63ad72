#include <math.h>

#include "tests/ref/ref.h"

void ref_bce_fwd(const struct ref_step *s)
{
    const int64_t n = ref_count(&s->in[0]);
    s->out[0].v[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        const double x = s->in[0].v[i], t = s->in[1].v[i], w = s->in[2].v ? s->in[2].v[i] : 1;
        /* -t ln sigmoid(x) - (1-t) ln sigmoid(-x) */
        const double l = t * log1p(exp(-x)) + (1 - t) * log1p(exp(x));
        s->out[0].v[0] += w * l / (double)n;
        s->out[0].mag[0] += fabs(w) * (fabs(t) * log1p(exp(-x)) + fabs(1 - t) * log1p(exp(x))) / (double)n;
    }
}

void ref_bce_bwd(const struct ref_step *s)
{
    const int64_t n = ref_count(&s->in[0]);
    for (int64_t i = 0; i < n; i++) {
        const double x = s->in[0].v[i], t = s->in[1].v[i], w = s->in[2].v ? s->in[2].v[i] : 1;
        s->din[0].v[i] += s->dout[0].v[0] * w * (1 / (1 + exp(-x)) - t) / (double)n;
        s->din[0].mag[i] += fabs(s->dout[0].v[0] * w) * (1 / (1 + exp(-x)) + fabs(t)) / (double)n;
    }
}

#include <math.h>

#include "tests/ref/ref.h"

void ref_mse_fwd(const struct ref_step *s)
{
    const int64_t n = ref_count(&s->in[0]);
    s->out[0].v[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = s->in[0].v[i] - s->in[1].v[i], w = s->in[2].v ? s->in[2].v[i] : 1;
        s->out[0].v[0] += w * d * d / (double)n;
        s->out[0].mag[0] += fabs(w) * d * d / (double)n;
    }
}

void ref_mse_bwd(const struct ref_step *s)
{
    const int64_t n = ref_count(&s->in[0]);
    for (int64_t i = 0; i < n; i++) {
        const double d = s->in[0].v[i] - s->in[1].v[i], w = s->in[2].v ? s->in[2].v[i] : 1;
        s->din[0].v[i] += s->dout[0].v[0] * w * 2 * d / (double)n;
    }
}

#include <math.h>

#include "tests/ref/ref.h"

/* A rounding of v = 1.702 x is an error of |v| roundings in exp(v). */
void ref_quick_gelu_fwd(const struct ref_step *s)
{
    for (int64_t i = 0, n = ref_count(&s->in[0]); i < n; i++) {
        const double x = s->in[0].v[i], v = 1.702 * x;
        s->out[0].v[i] = x / (1 + exp(-v));
        s->out[0].mag[i] = fabs(s->out[0].v[i]) * (1 + fabs(v));
    }
}

void ref_quick_gelu_bwd(const struct ref_step *s)
{
    for (int64_t i = 0, n = ref_count(&s->in[0]); i < n; i++) {
        const double v = 1.702 * s->in[0].v[i], up = 1 / (1 + exp(-v)), down = 1 / (1 + exp(v));
        s->din[0].v[i] += s->dout[0].v[i] * (up + v * up * down);
        s->din[0].mag[i] += fabs(s->dout[0].v[i]) * (up + fabs(v) * up * down) * (1 + fabs(v));
    }
}

#include <math.h>

#include "tests/ref/ref.h"

void ref_gelu_fwd(const struct ref_step *s)
{
    for (int64_t i = 0, n = ref_count(&s->in[0]); i < n; i++) {
        const double x = s->in[0].v[i];
        s->out[0].v[i] = x * 0.5 * erfc(-x / sqrt(2.0));
        s->out[0].mag[i] = fabs(s->out[0].v[i]) * (1 + x * x);
    }
}

void ref_gelu_bwd(const struct ref_step *s)
{
    for (int64_t i = 0, n = ref_count(&s->in[0]); i < n; i++) {
        const double x = s->in[0].v[i], cdf = 0.5 * erfc(-x / sqrt(2.0)), pdf = exp(-x * x / 2) / sqrt(2 * M_PI);
        s->din[0].v[i] += s->dout[0].v[i] * (cdf + x * pdf);
        s->din[0].mag[i] += fabs(s->dout[0].v[i]) * (cdf + fabs(x) * pdf) * (1 + x * x);
    }
}

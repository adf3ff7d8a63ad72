#include <math.h>

#include "tests/ref/ref.h"

void ref_add_fwd(const struct ref_step *s)
{
    const int64_t nb = ref_count(&s->in[1]);
    for (int64_t i = 0, n = ref_count(&s->in[0]); i < n; i++) {
        s->out[0].v[i] = s->in[0].v[i] + s->in[1].v[i % nb];
        s->out[0].mag[i] = fabs(s->in[0].v[i]) + fabs(s->in[1].v[i % nb]);
    }
}

void ref_add_bwd(const struct ref_step *s)
{
    const int64_t nb = ref_count(&s->in[1]);
    for (int64_t i = 0, n = ref_count(&s->in[0]); i < n; i++) {
        const double g = s->dout[0].v[i];
        if (s->din[0].v) s->din[0].v[i] += g, s->din[0].mag[i] += fabs(g);
        if (s->din[1].v) s->din[1].v[i % nb] += g, s->din[1].mag[i % nb] += fabs(g);
    }
}

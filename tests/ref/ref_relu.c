#include "tests/ref/ref.h"

void ref_relu_fwd(const struct ref_step *s)
{
    for (int64_t i = 0, n = ref_count(&s->in[0]); i < n; i++) s->out[0].v[i] = s->in[0].v[i] > 0 ? s->in[0].v[i] : 0;
}

void ref_relu_bwd(const struct ref_step *s)
{
    for (int64_t i = 0, n = ref_count(&s->in[0]); i < n; i++)
        if (s->in[0].v[i] > 0) s->din[0].v[i] += s->dout[0].v[i];
}

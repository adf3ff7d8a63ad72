#include "tests/ref/ref.h"

void ref_cast_fwd(const struct ref_step *s)
{
    for (int64_t i = 0; i < ref_count(&s->out[0]); i++) s->out[0].v[i] = s->in[0].v[i];
}

void ref_cast_bwd(const struct ref_step *s)
{
    for (int64_t i = 0; i < ref_count(&s->din[0]); i++) s->din[0].v[i] += s->dout[0].v[i];
}

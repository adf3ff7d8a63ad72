#include <math.h>

#include "tests/ref/ref.h"

void ref_gather_fwd(const struct ref_step *s)
{
    const int64_t n = ref_count(&s->in[1]), w = s->out[0].dim[1];
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < w; c++) {
            const int64_t row = (int64_t)s->in[1].v[i];
            s->out[0].v[i * w + c] = row < 0 ? 0 : s->in[0].v[row * w + c];
        }
}

void ref_gather_bwd(const struct ref_step *s)
{
    const int64_t n = ref_count(&s->in[1]), w = s->out[0].dim[1];
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < w; c++) {
            const int64_t row = (int64_t)s->in[1].v[i];
            if (row < 0) continue;
            s->din[0].v[row * w + c] += s->dout[0].v[i * w + c];
            s->din[0].mag[row * w + c] += fabs(s->dout[0].v[i * w + c]);
        }
}

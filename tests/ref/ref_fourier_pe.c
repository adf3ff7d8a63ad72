#include <math.h>

#include "tests/ref/ref.h"

void ref_fourier_pe_fwd(const struct ref_step *s)
{
    const int64_t n = s->in[0].dim[0], f = s->in[2].dim[1];
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < f; k++) {
            const double x = 2 * s->in[0].v[2 * i] - 1, y = 2 * s->in[0].v[2 * i + 1] - 1;
            const double a = 2 * M_PI * (x * s->in[2].v[k] + y * s->in[2].v[f + k]);
            const int none = s->in[1].v && s->in[1].v[i] == -1;
            s->out[0].v[i * 2 * f + k] = none ? 0 : sin(a);
            s->out[0].v[i * 2 * f + f + k] = none ? 0 : cos(a);
        }
}

void ref_fourier_pe_bwd(const struct ref_step *s)
{
}

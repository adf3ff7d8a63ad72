#include <math.h>

#include "tests/ref/ref.h"

void ref_l2norm_fwd(const struct ref_step *s)
{
    const int64_t n = s->in[0].dim[s->in[0].nd - 1], rows = ref_count(&s->in[0]) / n;
    for (int64_t r = 0; r < rows; r++) {
        double q = 0;
        for (int64_t i = 0; i < n; i++) q += s->in[0].v[r * n + i] * s->in[0].v[r * n + i];
        s->out[1].v[r] = s->out[1].mag[r] = sqrt(q);
        for (int64_t i = 0; i < n; i++) {
            s->out[0].v[r * n + i] = s->in[0].v[r * n + i] / fmax(sqrt(q), 1e-12);
            s->out[0].mag[r * n + i] = fabs(s->out[0].v[r * n + i]);
        }
    }
}

void ref_l2norm_bwd(const struct ref_step *s)
{
    const int64_t n = s->in[0].dim[s->in[0].nd - 1], rows = ref_count(&s->in[0]) / n;
    for (int64_t r = 0; r < rows; r++) {
        const double *x = s->in[0].v + r * n, *dy = s->dout[0].v + r * n;
        double q = 0, dot = 0, mag = 0;
        for (int64_t i = 0; i < n; i++) q += x[i] * x[i], dot += x[i] * dy[i], mag += fabs(x[i] * dy[i]);
        const double norm = sqrt(q);
        for (int64_t i = 0; i < n; i++) {
            s->din[0].v[r * n + i] += norm > 1e-12 ? dy[i] / norm - x[i] * dot / (q * norm) : dy[i] / 1e-12;
            s->din[0].mag[r * n + i] +=
                norm > 1e-12 ? fabs(dy[i]) / norm + fabs(x[i]) * mag / (q * norm) : fabs(dy[i]) / 1e-12;
        }
    }
}

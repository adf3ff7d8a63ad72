#include <math.h>

#include "tests/ref/ref.h"

void ref_softmax_fwd(const struct ref_step *s)
{
    const int64_t n = s->in[0].dim[s->in[0].nd - 1], rows = ref_count(&s->in[0]) / n;
    for (int64_t r = 0; r < rows; r++) {
        const double *x = s->in[0].v + r * n;
        double top = x[0], sum = 0;
        for (int64_t i = 0; i < n; i++) top = fmax(top, x[i]);
        for (int64_t i = 0; i < n; i++) sum += exp(x[i] - top);
        for (int64_t i = 0; i < n; i++) {
            s->out[0].v[r * n + i] = exp(x[i] - top) / sum;
            s->out[0].mag[r * n + i] = s->out[0].v[r * n + i] * (1 + fabs(x[i] - top)); /* rounding of x - top */
        }
    }
}

void ref_softmax_bwd(const struct ref_step *s)
{
    const int64_t n = s->in[0].dim[s->in[0].nd - 1], rows = ref_count(&s->in[0]) / n;
    for (int64_t r = 0; r < rows; r++) {
        const double *y = s->out[0].v + r * n, *ymag = s->out[0].mag + r * n, *dy = s->dout[0].v + r * n;
        double dot = 0, mag = 0;
        for (int64_t i = 0; i < n; i++) dot += y[i] * dy[i], mag += ymag[i] * fabs(dy[i]);
        for (int64_t i = 0; i < n; i++) {
            s->din[0].v[r * n + i] += y[i] * (dy[i] - dot);
            s->din[0].mag[r * n + i] += ymag[i] * (fabs(dy[i]) + mag);
        }
    }
}

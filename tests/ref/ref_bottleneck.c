#include <math.h>

#include "tests/ref/ref.h"

void ref_bottleneck_fwd(const struct ref_step *s)
{
    const int64_t p_n = s->in[0].dim[0], copies = s->in[2].dim[0] / p_n, t_n = s->in[0].dim[1], c_n = s->in[0].dim[2];
    for (int64_t p = 0; p < p_n; p++) {
        s->out[1].v[p] = s->out[1].mag[p] = 0;
        for (int64_t t = 0; t < t_n; t++) {
            double sum = 0, mag = 0;
            for (int64_t c = 0; c < c_n; c++) {
                const int64_t e = (p * t_n + t) * c_n + c;
                const double l = 1 / (1 + exp(-s->in[1].v[e])), q = 1 / (1 + exp(s->in[1].v[e])), x = s->in[0].v[e];
                const double nats = l < 0.5 ? -log1p(-l) : -log(q); /* -ln(1 - l) */
                sum += nats - l + 0.5 * (l * l + l * x * l * x);
                mag += nats + l + 0.5 * (l * l + l * x * l * x);
                for (int64_t k = 0; k < copies; k++) {
                    const int64_t o = ((p * copies + k) * t_n + t) * c_n + c;
                    s->out[0].v[o] = l * x + q * s->in[2].v[o];
                    s->out[0].mag[o] = fabs(l * x) + fabs(q * s->in[2].v[o]);
                }
            }
            s->out[2].v[p * t_n + t] = sum;
            s->out[2].mag[p * t_n + t] = mag;
            s->out[1].v[p] += sum / (double)(t_n * c_n);
            s->out[1].mag[p] += mag / (double)(t_n * c_n);
        }
    }
}

void ref_bottleneck_bwd(const struct ref_step *s)
{
    const int64_t p_n = s->in[0].dim[0], copies = s->in[2].dim[0] / p_n, each = ref_count(&s->in[0]) / p_n;
    for (int64_t p = 0; p < p_n; p++)
        for (int64_t i = 0; i < each; i++) {
            const int64_t e = p * each + i;
            const double l = 1 / (1 + exp(-s->in[1].v[e])), q = 1 / (1 + exp(s->in[1].v[e])), x = s->in[0].v[e];
            if (s->dout[1].v) {
                const double g = s->dout[1].v[p] / (double)each;
                s->din[1].v[e] += g * (l + x * x * l * l * q - l * q * q);
                s->din[1].mag[e] += fabs(g) * (l + x * x * l * l * q + l * q * q);
            }
            for (int64_t k = 0; s->dout[0].v && k < copies; k++) {
                const int64_t o = (p * copies + k) * each + i;
                s->din[1].v[e] += s->dout[0].v[o] * (x - s->in[2].v[o]) * l * q;
                s->din[1].mag[e] += fabs(s->dout[0].v[o]) * (fabs(x) + fabs(s->in[2].v[o])) * l * q;
            }
        }
}

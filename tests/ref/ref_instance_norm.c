#include <math.h>

#include "tests/ref/ref.h"

static void moments(const double *x, int64_t sp, int64_t c, double eps, double *mean, double *rstd, double *big)
{
    double s = 0, q = 0;
    *big = 0;
    for (int64_t p = 0; p < sp; p++) s += x[p * c], *big = fmax(*big, fabs(x[p * c]));
    *mean = s / (double)sp;
    for (int64_t p = 0; p < sp; p++) q += (x[p * c] - *mean) * (x[p * c] - *mean);
    *rstd = 1 / sqrt(q / (double)sp + eps);
}

void ref_instance_norm_fwd(const struct ref_step *s)
{
    const struct norm_attr *a = s->attr;
    const int64_t c = ref_count(&s->in[1]), n = s->in[0].dim[0], sp = ref_count(&s->in[0]) / (n * c);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < c; k++) {
            const int64_t base = i * sp * c + k;
            const double w = s->in[1].v[k], b = s->in[2].v[k];
            double mean, rstd, big;
            moments(s->in[0].v + base, sp, c, (double)a->eps, &mean, &rstd, &big);
            for (int64_t p = 0; p < sp; p++) {
                const double z = (s->in[0].v[base + p * c] - mean) * rstd * w + b;
                s->out[0].v[base + p * c] = z > 0 ? z : (double)a->slope * z;
                s->out[0].mag[base + p * c] = 2 * big * rstd * fabs(w) + fabs(b);
            }
            s->out[1].v[(i * c + k) * 2] = mean;
            s->out[1].mag[(i * c + k) * 2] = big;
            s->out[1].v[(i * c + k) * 2 + 1] = rstd;
            s->out[1].mag[(i * c + k) * 2 + 1] = rstd;
        }
}

void ref_instance_norm_bwd(const struct ref_step *s)
{
    const struct norm_attr *a = s->attr;
    const struct ref_tensor *dx = &s->din[0], *dw = &s->din[1], *db = &s->din[2];
    const int64_t c = ref_count(&s->in[1]), n = s->in[0].dim[0], sp = ref_count(&s->in[0]) / (n * c);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < c; k++) {
            const int64_t base = i * sp * c + k;
            const double w = s->in[1].v[k], b = s->in[2].v[k];
            const double *x = s->in[0].v + base, *dy = s->dout[0].v + base;
            double mean, rstd, big, s1 = 0, s2 = 0, m = 0;
            moments(x, sp, c, (double)a->eps, &mean, &rstd, &big);
            big *= 2 * rstd;
            for (int pass = 0; pass < 2; pass++)
                for (int64_t p = 0; p < sp; p++) {
                    const double h = (x[p * c] - mean) * rstd;
                    const double dz = h * w + b > 0 ? dy[p * c] : (double)a->slope * dy[p * c];
                    if (!pass) {
                        s1 += dz / (double)sp;
                        s2 += dz * h / (double)sp;
                        m += fabs(dz) / (double)sp;
                        if (dw->v) dw->v[k] += dz * h, dw->mag[k] += fabs(dz) * big;
                        if (db->v) db->v[k] += dz, db->mag[k] += fabs(dz);
                    } else if (dx->v) {
                        dx->v[base + p * c] += rstd * w * (dz - s1 - h * s2);
                        dx->mag[base + p * c] +=
                            rstd * fabs(w) * (fabs(dz) + m + (fabs(h) + 1) * m * big + fabs(s2) * big);
                    }
                }
        }
}

#include <math.h>

#include "tests/ref/ref.h"

/* mean and 1/sqrt(var + eps) of row r */
static void moments(const double *x, int64_t n, double eps, double *mean, double *rstd)
{
    double s = 0, q = 0;
    for (int64_t i = 0; i < n; i++) s += x[i];
    *mean = s / (double)n;
    for (int64_t i = 0; i < n; i++) q += (x[i] - *mean) * (x[i] - *mean);
    *rstd = 1 / sqrt(q / (double)n + eps);
}

/* mag includes the mean: x - mean of float32 inputs has the rounding errors of both. */
void ref_layernorm_fwd(const struct ref_step *s)
{
    const struct norm_attr *a = s->attr;
    const double *x = s->in[0].v, *w = s->in[1].v, *b = s->in[2].v;
    const int64_t n = ref_count(&s->in[1]), rows = ref_count(&s->in[0]) / n;
    for (int64_t r = 0; r < rows; r++, x += n) {
        double mean, rstd, big = 0;
        moments(x, n, (double)a->eps, &mean, &rstd);
        for (int64_t i = 0; i < n; i++) big = fmax(big, fabs(x[i]));
        for (int64_t i = 0; i < n; i++) {
            s->out[0].v[r * n + i] = (x[i] - mean) * rstd * w[i] + b[i];
            s->out[0].mag[r * n + i] = 2 * big * rstd * fabs(w[i]) + fabs(b[i]);
        }
        s->out[1].v[2 * r] = mean;
        s->out[1].mag[2 * r] = big;
        s->out[1].v[2 * r + 1] = rstd;
        s->out[1].mag[2 * r + 1] = rstd;
    }
}

void ref_layernorm_bwd(const struct ref_step *s)
{
    const struct norm_attr *a = s->attr;
    const double *x = s->in[0].v, *w = s->in[1].v, *dy = s->dout[0].v;
    const struct ref_tensor *dx = &s->din[0], *dw = &s->din[1], *db = &s->din[2];
    const int64_t n = ref_count(&s->in[1]), rows = ref_count(&s->in[0]) / n;
    for (int64_t r = 0; r < rows; r++, x += n, dy += n) {
        double mean, rstd, s1 = 0, s2 = 0, m1 = 0, big = 0;
        moments(x, n, (double)a->eps, &mean, &rstd);
        for (int64_t i = 0; i < n; i++) {
            const double h = (x[i] - mean) * rstd, g = dy[i] * w[i];
            big = fmax(big, fabs(x[i]) * rstd);
            s1 += g / (double)n;
            s2 += g * h / (double)n;
            m1 += fabs(g) / (double)n;
        }
        for (int64_t i = 0; i < n; i++) {
            const double h = (x[i] - mean) * rstd, g = dy[i] * w[i];
            if (dx->v) {
                dx->v[r * n + i] += rstd * (g - s1 - h * s2);
                dx->mag[r * n + i] += rstd * (fabs(g) + m1 + (fabs(h) + 1) * m1 * 2 * big + fabs(s2) * 2 * big);
            }
            if (dw->v) dw->v[i] += dy[i] * h, dw->mag[i] += fabs(dy[i]) * 2 * big;
            if (db->v) db->v[i] += dy[i], db->mag[i] += fabs(dy[i]);
        }
    }
}

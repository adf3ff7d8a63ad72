#include "tests/ref/ref.h"

#include <math.h>

void ref_linear_fwd(const struct ref_step *s)
{
    const struct linear_attr *a = s->attr;
    const struct ref_tensor *x = &s->in[0], *w = &s->in[1], *b = &s->in[2], *y = &s->out[0];
    const int64_t k = w->dim[1], w0 = a->w_rows > 0 ? a->w_row : 0, n = a->w_rows > 0 ? a->w_rows : w->dim[0];
    const int64_t m = ref_count(x) / k;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = b->v ? b->v[w0 + j] : 0, mag = fabs(sum);
            for (int64_t l = 0; l < k; l++) {
                const double t = x->v[i * k + l] * w->v[(w0 + j) * k + l];
                sum += t;
                mag += fabs(t);
            }
            y->v[i * n + j] = sum;
            y->mag[i * n + j] = mag;
        }
}

void ref_linear_bwd(const struct ref_step *s)
{
    const struct linear_attr *a = s->attr;
    const struct ref_tensor *x = &s->in[0], *w = &s->in[1], *dx = &s->din[0], *dw = &s->din[1], *db = &s->din[2];
    const int64_t k = w->dim[1], w0 = a->w_rows > 0 ? a->w_row : 0, n = a->w_rows > 0 ? a->w_rows : w->dim[0];
    const int64_t m = ref_count(x) / k;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            const double g = s->dout[0].v[i * n + j];
            for (int64_t l = 0; l < k; l++) {
                const double xv = x->v[i * k + l], wv = w->v[(w0 + j) * k + l];
                if (dx->v) dx->v[i * k + l] += g * wv, dx->mag[i * k + l] += fabs(g * wv);
                if (dw->v) dw->v[(w0 + j) * k + l] += g * xv, dw->mag[(w0 + j) * k + l] += fabs(g * xv);
            }
            if (db->v) db->v[w0 + j] += g, db->mag[w0 + j] += fabs(g);
        }
}

#include "tests/ref/ref.h"

#include <math.h>

void ref_bmm_nt_fwd(const struct ref_step *s)
{
    const struct ref_tensor *a = &s->in[0], *b = &s->in[1], *y = &s->out[0];
    const int64_t m = a->dim[1], n = b->dim[1], k = a->dim[2];
    for (int64_t q = 0; q < a->dim[0]; q++)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++)
                for (int64_t l = 0; l < k; l++) {
                    const double t = a->v[(q * m + i) * k + l] * b->v[(q * n + j) * k + l];
                    if (l == 0) y->v[(q * m + i) * n + j] = y->mag[(q * m + i) * n + j] = 0;
                    y->v[(q * m + i) * n + j] += t;
                    y->mag[(q * m + i) * n + j] += fabs(t);
                }
}

void ref_bmm_nt_bwd(const struct ref_step *s)
{
    const struct ref_tensor *a = &s->in[0], *b = &s->in[1], *da = &s->din[0], *db = &s->din[1];
    const int64_t m = a->dim[1], n = b->dim[1], k = a->dim[2];
    for (int64_t q = 0; q < a->dim[0]; q++)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                const double g = s->dout[0].v[(q * m + i) * n + j];
                for (int64_t l = 0; l < k; l++) {
                    const int64_t ia = (q * m + i) * k + l, ib = (q * n + j) * k + l;
                    if (da->v) da->v[ia] += g * b->v[ib], da->mag[ia] += fabs(g * b->v[ib]);
                    if (db->v) db->v[ib] += g * a->v[ia], db->mag[ib] += fabs(g * a->v[ia]);
                }
            }
}

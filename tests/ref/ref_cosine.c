#include <math.h>

#include "tests/ref/ref.h"

static const double floor_ = 1e-6;

static void sums(const double *a, const double *b, int64_t n, double *aa, double *bb, double *ab, double *mag)
{
    *aa = *bb = *ab = *mag = 0;
    for (int64_t i = 0; i < n; i++)
        *aa += a[i] * a[i], *bb += b[i] * b[i], *ab += a[i] * b[i], *mag += fabs(a[i] * b[i]);
}

void ref_cosine_fwd(const struct ref_step *s)
{
    const int64_t rows = s->in[0].dim[0], n = s->in[0].dim[1], k = rows / s->in[1].dim[0];
    for (int64_t r = 0; r < rows; r++) {
        double aa, bb, ab, mag;
        sums(s->in[0].v + r * n, s->in[1].v + r / k * n, n, &aa, &bb, &ab, &mag);
        s->out[0].v[r] = ab / fmax(sqrt(aa * bb), floor_);
        s->out[0].mag[r] = mag / fmax(sqrt(aa * bb), floor_);
        s->out[1].v[2 * r] = sqrt(aa);
        s->out[1].v[2 * r + 1] = sqrt(bb);
    }
}

void ref_cosine_bwd(const struct ref_step *s)
{
    const int64_t rows = s->in[0].dim[0], n = s->in[0].dim[1], k = rows / s->in[1].dim[0];
    for (int64_t r = 0; r < rows; r++) {
        const double *a = s->in[0].v + r * n, *b = s->in[1].v + r / k * n, g = s->dout[0].v[r];
        double aa, bb, ab, mag;
        sums(a, b, n, &aa, &bb, &ab, &mag);
        const double prod = sqrt(aa * bb);
        for (int64_t i = 0; i < n; i++) {
            const double direct = b[i] / fmax(prod, floor_), along = prod > floor_ ? a[i] / (aa * prod) : 0;
            s->din[0].v[r * n + i] += g * (direct - along * ab);
            s->din[0].mag[r * n + i] += fabs(g) * (fabs(direct) + fabs(along) * mag);
        }
    }
}

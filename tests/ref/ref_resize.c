#include <math.h>

#include "tests/ref/ref.h"

/* Positions and weights of output o along one axis. */
static void taps(int64_t o, int64_t out, int64_t in, int64_t i[2], double w[2])
{
    double at = ((double)o + 0.5) * (double)in / (double)out - 0.5;
    if (at < 0) at = 0;
    if (at > (double)(in - 1)) at = (double)(in - 1);
    i[0] = (int64_t)floor(at);
    i[1] = i[0] + 1 < in ? i[0] + 1 : i[0];
    w[1] = at - (double)i[0];
    w[0] = 1 - w[1];
}

static void walk(const struct ref_step *s, int backward)
{
    const struct resize_attr *a = s->attr;
    const int64_t n = s->in[0].dim[0], ih = s->in[0].dim[1], iw = s->in[0].dim[2], c_n = s->in[0].dim[3];
    for (int64_t o = 0; o < n * a->h * a->w; o++) {
        const int64_t x = o % a->w, y = o / a->w % a->h, b = o / a->w / a->h;
        int64_t iy[2], ix[2];
        double wy[2], wx[2];
        taps(y, a->h, ih, iy, wy);
        taps(x, a->w, iw, ix, wx);
        for (int64_t c = 0; c < c_n; c++) {
            if (!backward) s->out[0].v[o * c_n + c] = s->out[0].mag[o * c_n + c] = 0;
            for (int k = 0; k < 4; k++) {
                const int64_t e = ((b * ih + iy[k / 2]) * iw + ix[k % 2]) * c_n + c;
                const double w = wy[k / 2] * wx[k % 2];
                if (backward) {
                    s->din[0].v[e] += w * s->dout[0].v[o * c_n + c];
                    s->din[0].mag[e] +=
                        fabs(s->dout[0].v[o * c_n + c]); /* w itself is rounded: absolute, not relative */
                } else {
                    s->out[0].v[o * c_n + c] += w * s->in[0].v[e];
                    s->out[0].mag[o * c_n + c] += fabs(s->in[0].v[e]);
                }
            }
        }
    }
}

void ref_resize_fwd(const struct ref_step *s)
{
    walk(s, 0);
}

void ref_resize_bwd(const struct ref_step *s)
{
    walk(s, 1);
}

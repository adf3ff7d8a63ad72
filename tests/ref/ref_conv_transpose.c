#include "tests/ref/ref.h"

#include <math.h>

static void add(const struct ref_tensor *t, int64_t i, double v)
{
    if (!t->v) return;
    t->v[i] += v;
    t->mag[i] += fabs(v);
}

/* For every product: forward adds x w to y, backward its two gradients. The kernel is the stride: y's position / k is
 * x's, % k the tap. */
static void each_product(const struct ref_step *s, int backward)
{
    const struct conv_attr *a = s->attr;
    const struct ref_tensor *x = &s->in[0], *w = &s->in[1], *y = &s->out[0];
    const int64_t in = w->dim[0], out = w->dim[1], rows = ref_count(y) / out;
    int64_t taps = 1;
    for (int i = 0; i < a->nsp; i++) taps *= w->dim[2 + i];
    for (int64_t r = 0; r < rows; r++) {
        int64_t rest = r, xrow = 0, tap = 0, xstep = 1, tstep = 1;
        for (int i = a->nsp - 1; i >= 0; i--) {
            const int64_t pos = rest % y->dim[1 + i];
            rest /= y->dim[1 + i];
            xrow += pos / w->dim[2 + i] * xstep, xstep *= x->dim[1 + i];
            tap += pos % w->dim[2 + i] * tstep, tstep *= w->dim[2 + i];
        }
        xrow += rest * xstep; /* the image of the batch */
        for (int64_t o = 0; o < out; o++)
            for (int64_t c = 0; c < in; c++) {
                const int64_t xi = xrow * in + c, wi = (c * out + o) * taps + tap, yi = r * out + o;
                if (!backward) {
                    add(y, yi, x->v[xi] * w->v[wi]);
                    continue;
                }
                add(&s->din[0], xi, s->dout[0].v[yi] * w->v[wi]);
                add(&s->din[1], wi, s->dout[0].v[yi] * x->v[xi]);
            }
    }
}

void ref_conv_transpose_fwd(const struct ref_step *s)
{
    const int64_t out = s->in[1].dim[1];
    for (int64_t i = 0, n = ref_count(&s->out[0]); i < n; i++) {
        s->out[0].v[i] = s->in[2].v ? s->in[2].v[i % out] : 0;
        s->out[0].mag[i] = fabs(s->out[0].v[i]);
    }
    each_product(s, 0);
}

void ref_conv_transpose_bwd(const struct ref_step *s)
{
    const int64_t out = s->in[1].dim[1];
    each_product(s, 1);
    for (int64_t i = 0, n = ref_count(&s->out[0]); i < n; i++) add(&s->din[2], i % out, s->dout[0].v[i]);
}

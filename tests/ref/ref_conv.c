#include "tests/ref/ref.h"

#include <math.h>

/* Calls f for every product of the convolution: flat indices of x, w and y, in three spatial dimensions (the first 1
 * for images). */
struct product {
    const struct ref_step *s;
    int64_t xi, wi, yi;
};

static void each_product(const struct ref_step *s, void (*f)(const struct product *))
{
    const struct conv_attr *a = s->attr;
    const struct ref_tensor *x = &s->in[0], *w = &s->in[1], *y = &s->out[0];
    int64_t xs[3] = {1, 1, 1}, ys[3] = {1, 1, 1}, ks[3] = {1, 1, 1}, st[3] = {1, 1, 1}, pad[3] = {0, 0, 0};
    const int64_t in = w->dim[1], out = w->dim[0];
    for (int i = 0; i < a->nsp; i++) {
        const int to = 3 - a->nsp + i;
        xs[to] = x->dim[1 + i], ys[to] = y->dim[1 + i], ks[to] = w->dim[2 + i];
        st[to] = a->stride[i], pad[to] = a->pad[i];
    }
    for (int64_t n = 0; n < x->dim[0]; n++)
        for (int64_t d = 0; d < ys[0]; d++)
            for (int64_t h = 0; h < ys[1]; h++)
                for (int64_t v = 0; v < ys[2]; v++)
                    for (int64_t kd = 0; kd < ks[0]; kd++)
                        for (int64_t kh = 0; kh < ks[1]; kh++)
                            for (int64_t kw = 0; kw < ks[2]; kw++) {
                                const int64_t xd = d * st[0] + kd - pad[0], xh = h * st[1] + kh - pad[1];
                                const int64_t xw = v * st[2] + kw - pad[2];
                                if (xd < 0 || xd >= xs[0] || xh < 0 || xh >= xs[1] || xw < 0 || xw >= xs[2]) continue;
                                for (int64_t o = 0; o < out; o++)
                                    for (int64_t c = 0; c < in; c++) {
                                        const struct product p = {
                                            .s = s,
                                            .xi = (((n * xs[0] + xd) * xs[1] + xh) * xs[2] + xw) * in + c,
                                            .wi = (((o * in + c) * ks[0] + kd) * ks[1] + kh) * ks[2] + kw,
                                            .yi = (((n * ys[0] + d) * ys[1] + h) * ys[2] + v) * out + o};
                                        f(&p);
                                    }
                            }
}

static void forward(const struct product *p)
{
    const double t = p->s->in[0].v[p->xi] * p->s->in[1].v[p->wi];
    p->s->out[0].v[p->yi] += t;
    p->s->out[0].mag[p->yi] += fabs(t);
}

void ref_conv_fwd(const struct ref_step *s)
{
    const int64_t out = s->in[1].dim[0];
    for (int64_t i = 0, n = ref_count(&s->out[0]); i < n; i++) {
        s->out[0].v[i] = s->in[2].v ? s->in[2].v[i % out] : 0;
        s->out[0].mag[i] = fabs(s->out[0].v[i]);
    }
    each_product(s, forward);
}

static void add(const struct ref_tensor *t, int64_t i, double v)
{
    if (!t->v) return;
    t->v[i] += v;
    t->mag[i] += fabs(v);
}

static void backward(const struct product *p)
{
    const double g = p->s->dout[0].v[p->yi];
    add(&p->s->din[0], p->xi, g * p->s->in[1].v[p->wi]);
    add(&p->s->din[1], p->wi, g * p->s->in[0].v[p->xi]);
}

void ref_conv_bwd(const struct ref_step *s)
{
    const int64_t out = s->in[1].dim[0];
    each_product(s, backward);
    for (int64_t i = 0, n = ref_count(&s->out[0]); i < n; i++) add(&s->din[2], i % out, s->dout[0].v[i]);
}

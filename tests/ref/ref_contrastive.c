#include <math.h>
#include <stdlib.h>

#include "tests/ref/ref.h"

/* The whole matrix L (B,B), as in the formulas. Caller frees. */
static double *logits(const struct ref_step *s, double *scale)
{
    const struct contrastive_attr *a = s->attr;
    const int64_t b = s->in[0].dim[0], d = s->in[0].dim[1];
    double *l = calloc((size_t)(b * b), sizeof *l);
    if (!l) abort();
    *scale = s->in[2].v ? exp(s->in[2].v[0]) : (double)a->inv_tau;
    for (int64_t i = 0; i < b; i++)
        for (int64_t j = 0; j < b; j++)
            for (int64_t k = 0; k < d; k++) l[i * b + j] += *scale * s->in[0].v[i * d + k] * s->in[1].v[j * d + k];
    return l;
}

/* ln of the sum of exp(m L_ij) over j != i of a row (step 1) or column (step B). */
static double log_sum(const double *l, int64_t b, int64_t i, int dir, double m)
{
    double top = -INFINITY, sum = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = 0; j < b; j++) {
            const double v = m * (dir ? l[j * b + i] : l[i * b + j]);
            if (j == i) continue;
            if (pass)
                sum += exp(v - top);
            else
                top = fmax(top, v);
        }
    return top + log(sum);
}

void ref_contrastive_fwd(const struct ref_step *s)
{
    const struct contrastive_attr *a = s->attr;
    const int64_t b = s->in[0].dim[0];
    double scale, *l = logits(s, &scale), loss = 0, mag = 0;
    for (int dir = 0; dir < 2; dir++)
        for (int64_t i = 0; i < b; i++) {
            const double beta = dir ? (double)a->b_text : (double)a->b_image, own = l[i * b + i];
            double *st = s->out[1].v + (dir * b + i) * 2, *st_mag = s->out[1].mag + (dir * b + i) * 2;
            if (a->released) {
                const double batch = a->released > 1 ? a->released : (double)b;
                double off = 0;
                for (int64_t j = 0; j < b; j++) off += j == i ? 0 : dir ? l[j * b + i] : l[i * b + j];
                st[0] = log(1 + exp(log_sum(l, b, i, dir, 1)));
                st[1] = 0;
                loss += (-own + (1 + beta) * off) / (double)(b * b) + (log(batch - 1) - st[0]) / (double)b;
            } else {
                st[0] = log_sum(l, b, i, dir, 1 + beta);
                st[1] = log_sum(l, b, i, dir, beta);
                loss += (-own + log((double)a->a * exp(own) + (double)(b - 1) * exp(st[0] - st[1]))) / (double)b;
            }
            /* the terms of a similarity, |image||text| scale for unit vectors, and the logarithms */
            st_mag[0] = scale * (1 + beta) + fabs(st[0]) + 1;
            st_mag[1] = scale * beta + fabs(st[1]) + 1;
            mag += (scale * (2 + 2 * beta) + fabs(st[0]) + fabs(st[1]) + log((double)b) + 1) / (double)b;
        }
    s->out[0].v[0] = loss;
    s->out[0].mag[0] = mag;
    free(l);
}

/* Derivative of the loss by L_ij, in one direction (i: its row). mag: the sum of the terms' absolute values. */
static double by_logit(const struct contrastive_attr *a, const double *l, int64_t b, int dir, int64_t i, int64_t j,
                       const double *st, double *mag)
{
    const double beta = dir ? (double)a->b_text : (double)a->b_image, v = dir ? l[j * b + i] : l[i * b + j],
                 n = (double)b;
    if (a->released) {
        *mag = i == j ? 1 / (n * n) : (1 + beta) / (n * n) + exp(v - st[0]) / n;
        return i == j ? -1 / (n * n) : (1 + beta) / (n * n) - exp(v - st[0]) / n;
    }
    const double positive = (double)a->a * exp(l[i * b + i]), negative = (n - 1) * exp(st[0] - st[1]),
                 all = positive + negative;
    if (i == j) {
        *mag = (1 + positive / all) / n;
        return (-1 + positive / all) / n;
    }
    const double one = negative / all * (1 + beta) * exp((1 + beta) * v - st[0]),
                 zero = negative / all * beta * exp(beta * v - st[1]);
    *mag = (one + zero) / n;
    return (one - zero) / n;
}

void ref_contrastive_bwd(const struct ref_step *s)
{
    const struct contrastive_attr *a = s->attr;
    const int64_t b = s->in[0].dim[0], d = s->in[0].dim[1];
    double scale, *l = logits(s, &scale);
    const double g = s->dout[0].v[0], *st = s->out[1].v;
    /* exp(L) has the rounding error of L, at most its |terms| * 2^-24: (1 + scale) per term */
    const double inexact = 1 + scale;
    for (int64_t i = 0; i < b; i++)
        for (int64_t j = 0; j < b; j++) {
            double m0, m1;
            const double e =
                g * (by_logit(a, l, b, 0, i, j, st + 2 * i, &m0) + by_logit(a, l, b, 1, j, i, st + 2 * (b + j), &m1));
            const double mag = fabs(g) * (m0 + m1) * inexact;
            for (int64_t k = 0; k < d; k++) {
                const double x = s->in[0].v[i * d + k], t = s->in[1].v[j * d + k];
                if (s->din[0].v)
                    s->din[0].v[i * d + k] += scale * e * t, s->din[0].mag[i * d + k] += scale * mag * fabs(t);
                if (s->din[1].v)
                    s->din[1].v[j * d + k] += scale * e * x, s->din[1].mag[j * d + k] += scale * mag * fabs(x);
            }
            if (s->din[2].v) s->din[2].v[0] += e * l[i * b + j], s->din[2].mag[0] += mag * (fabs(l[i * b + j]) + 1);
        }
    free(l);
}

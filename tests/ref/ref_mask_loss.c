#include <math.h>

#include "tests/ref/ref.h"

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* torchvision's sigmoid_focal_loss of one pixel, and the cross-entropy. */
static double focal_of(const struct mask_loss_attr *a, double x, double t, double *ce)
{
    const double p = sigmoid(x), pt = t > 0 ? p : sigmoid(-x);
    *ce = t > 0 ? log1p(exp(-x)) : log1p(exp(x));
    const double w = a->focal_alpha < 0 ? 1 : t > 0 ? (double)a->focal_alpha : 1 - (double)a->focal_alpha;
    return w * *ce * pow(1 - pt, (double)a->focal_gamma);
}

void ref_mask_loss_fwd(const struct ref_step *s)
{
    const struct mask_loss_attr *a = s->attr;
    const int64_t b_n = s->in[0].dim[0], n = s->in[0].dim[1];
    s->out[0].v[0] = 0;
    for (int64_t b = 0; b < b_n; b++) {
        double pg = 0, sp = 0, sg = 0, inter = 0, any = 0, focal = 0, bce = 0, ce;
        for (int64_t i = b * n; i < (b + 1) * n; i++) {
            const double x = s->in[0].v[i], t = s->in[1].v[i];
            pg += sigmoid(x) * t;
            sp += sigmoid(x);
            sg += t;
            inter += x > 0 && t > 0;
            any += x > 0 || t > 0;
            focal += focal_of(a, x, t, &ce) / (double)n;
            bce += ce / (double)n;
        }
        const double dice = 1 - (2 * pg + 1) / (sp + sg + 1), w = s->in[2].v[b];
        s->out[0].v[0] += w * ((double)a->focal * focal + (double)a->dice * dice + (double)a->bce * bce);
        s->out[0].mag[0] += fabs(w) * ((double)a->focal * focal + (double)a->dice + (double)a->bce * bce);
        s->out[1].v[b] = any > 0 ? inter / any : 1;
        s->out[2].v[4 * b] = pg;
        s->out[2].v[4 * b + 1] = sp;
        s->out[2].v[4 * b + 2] = sg;
        s->out[2].v[4 * b + 3] = inter;
    }
}

void ref_mask_loss_bwd(const struct ref_step *s)
{
    const struct mask_loss_attr *a = s->attr;
    const int64_t b_n = s->in[0].dim[0], n = s->in[0].dim[1];
    for (int64_t b = 0; b < b_n; b++) {
        const double *sum = s->out[2].v + 4 * b, num = 2 * sum[0] + 1, den = sum[1] + sum[2] + 1;
        const double g = s->dout[0].v[0] * s->in[2].v[b], gamma = (double)a->focal_gamma;
        for (int64_t i = b * n; i < (b + 1) * n; i++) {
            const double x = s->in[0].v[i], t = s->in[1].v[i], p = sigmoid(x), q = sigmoid(-x);
            const double pt = t > 0 ? p : q, miss = t > 0 ? q : p, sign = t > 0 ? 1 : -1;
            const double w = a->focal_alpha < 0 ? 1 : t > 0 ? (double)a->focal_alpha : 1 - (double)a->focal_alpha;
            double ce;
            focal_of(a, x, t, &ce);
            /* focal = w ce miss^gamma; d ce = -sign miss dx, d miss = -sign pt miss dx */
            const double focal = -sign * w * (pow(miss, gamma) * miss + ce * gamma * pow(miss, gamma) * pt);
            const double dice = -(2 * t / den - num / (den * den)) * p * q, bce = -sign * miss;
            s->din[0].v[i] +=
                g * ((double)a->focal * focal / (double)n + (double)a->dice * dice + (double)a->bce * bce / (double)n);
            s->din[0].mag[i] +=
                fabs(g) * ((double)a->focal * fabs(focal) / (double)n + (double)a->bce * fabs(bce) / (double)n +
                           (double)a->dice * (2 * t / den + num / (den * den)) * p * q);
        }
    }
}

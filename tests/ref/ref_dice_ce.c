#include <math.h>
#include <stdlib.h>

#include "tests/ref/ref.h"

struct dims {
    int64_t n, sp, c;
};

static struct dims dims_of(const struct ref_step *s)
{
    struct dims z = {.n = s->in[0].dim[0], .c = s->in[0].dim[s->in[0].nd - 1]};
    z.sp = ref_count(&s->in[0]) / (z.n * z.c);
    return z;
}

static double softmax(const double *x, int64_t n, int64_t c)
{
    double sum = 0;
    for (int64_t k = 0; k < n; k++) sum += exp(x[k] - x[c]);
    return 1 / sum;
}

/* Sums over sample n, or over the batch. */
static void dice_sums(const struct ref_step *s, struct dims z, int64_t n, int64_t c, double *pg, double *both)
{
    const int batch = ((const struct dice_ce_attr *)s->attr)->batch_dice;
    *pg = *both = 0;
    for (int64_t i = 0; i < z.n; i++) {
        if (!batch && i != n) continue;
        *pg += s->out[1].v[(i * z.c + c) * 3];
        *both += s->out[1].v[(i * z.c + c) * 3 + 1] + s->out[1].v[(i * z.c + c) * 3 + 2];
    }
}

static int64_t count_valid(const struct ref_step *s)
{
    int64_t valid = 0;
    for (int64_t i = 0, n = ref_count(&s->in[1]); i < n; i++) valid += s->in[1].v[i] >= 0;
    return valid;
}

void ref_dice_ce_fwd(const struct ref_step *s)
{
    const struct dice_ce_attr *a = s->attr;
    const struct dims z = dims_of(s);
    const int64_t valid = count_valid(s);
    double ce = 0, dice = 0, mag = 0;
    for (int64_t i = 0, m = ref_count(&s->out[1]); i < m; i++) s->out[1].v[i] = 0;
    for (int64_t i = 0; i < z.n * z.sp; i++) {
        const double *x = s->in[0].v + i * z.c;
        const int64_t t = (int64_t)s->in[1].v[i];
        if (t < 0) continue;
        ce -= log(softmax(x, z.c, t)) / (double)valid;
        for (int64_t c = 0; c < z.c; c++) {
            double *sum = s->out[1].v + (i / z.sp * z.c + c) * 3;
            sum[0] += t == c ? softmax(x, z.c, c) : 0;
            sum[1] += softmax(x, z.c, c);
            sum[2] += t == c;
        }
    }
    for (int64_t n = 0; n < z.n; n++)
        for (int64_t c = 1; c < z.c; c++) {
            double pg, both;
            dice_sums(s, z, n, c, &pg, &both);
            dice += (2 * pg + (double)a->smooth) / fmax(both + (double)a->smooth, 1e-8) / (double)(z.n * (z.c - 1));
        }
    s->out[0].v[0] = (double)a->weight_ce * ce - (double)a->weight_dice * dice;
    mag = fabs((double)a->weight_ce * ce) + fabs((double)a->weight_dice * dice);
    s->out[0].mag[0] = mag;
}

void ref_dice_ce_bwd(const struct ref_step *s)
{
    const struct dice_ce_attr *a = s->attr;
    const struct dims z = dims_of(s);
    const double g = s->dout[0].v[0];
    const int64_t valid = count_valid(s);
    double *all = calloc((size_t)z.c, sizeof *all);
    if (!all) abort();
    for (int64_t i = 0; i < z.n * z.sp; i++) {
        const double *x = s->in[0].v + i * z.c;
        const int64_t t = (int64_t)s->in[1].v[i];
        if (t < 0) continue;
        for (int64_t c = 0; c < z.c; c++) all[c] = softmax(x, z.c, c);
        for (int64_t c = 0; c < z.c; c++) {
            const double p = all[c];
            double *d = &s->din[0].v[i * z.c + c], *mag = &s->din[0].mag[i * z.c + c];
            *d += g * (double)a->weight_ce * (p - (t == c)) / (double)valid;
            *mag += fabs(g * (double)a->weight_ce) * (p + (t == c)) / (double)valid;
            for (int64_t k = 1; k < z.c; k++) { /* d dice_k / d p_k, then d p_k / d x_c = p_k ([k=c] - p_c) */
                double pg, both, by_p, by_p_mag;
                dice_sums(s, z, i / z.sp, k, &pg, &both);
                const double num = 2 * pg + (double)a->smooth, den = both + (double)a->smooth;
                const double share = (double)a->weight_dice / (double)((a->batch_dice ? 1 : z.n) * (z.c - 1));
                by_p = -share * ((t == k) * 2 / fmax(den, 1e-8) - (den > 1e-8 ? num / (den * den) : 0));
                by_p_mag = share * ((t == k) * 2 / fmax(den, 1e-8) + (den > 1e-8 ? num / (den * den) : 0));
                *d += g * by_p * all[k] * ((k == c) - p);
                *mag += fabs(g) * by_p_mag * all[k] * ((k == c) + p);
            }
        }
    }
    free(all);
}

#include <math.h>

#include "engine/base/rng.h"
#include "tests/ref/ref.h"

/* Number c of a row: word c mod 4 of Philox on {c / 4, sample, step, 3}, 24 bits; the key folds the seed's high half
 * into the site. */
static int kept(const struct ref_step *s, int64_t row, int64_t c)
{
    const struct dropout_attr *a = s->attr;
    const uint32_t sample = s->in[1].v ? (uint32_t)(int64_t)s->in[1].v[row] : (uint32_t)row;
    const uint32_t ctr[4] = {(uint32_t)(c / 4), sample, s->step, 3};
    const uint32_t key[2] = {(uint32_t)s->seed, a->site ^ ((uint32_t)(s->seed >> 32) * 0x85EBCA6Bu)};
    uint32_t o[4];
    mcs_philox(ctr, key, o);
    return (double)(o[c % 4] >> 8) * 0x1p-24 >= (double)a->p;
}

static void drop(const struct ref_step *s, const double *src, double *dst)
{
    const double p = (double)((const struct dropout_attr *)s->attr)->p;
    const int64_t n = s->in[0].dim[s->in[0].nd - 1];
    for (int64_t i = 0, all = ref_count(&s->in[0]); i < all; i++)
        if (kept(s, i / n, i % n)) dst[i] += src[i] / (1 - p);
}

void ref_dropout_fwd(const struct ref_step *s)
{
    for (int64_t i = 0, n = ref_count(&s->out[0]); i < n; i++) s->out[0].v[i] = 0;
    drop(s, s->in[0].v, s->out[0].v);
}

void ref_dropout_bwd(const struct ref_step *s)
{
    drop(s, s->dout[0].v, s->din[0].v);
}

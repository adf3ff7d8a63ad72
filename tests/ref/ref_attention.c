#include "engine/base/rng.h"
#include "tests/ref/ref.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One query of one head against all keys of its sequence. */
struct row {
    const struct ref_step *s;
    const struct attention_attr *a;
    int64_t seq, head, i, nk; /* i: the query within its sequence */
    int64_t qrow, krow;       /* rows of the query and of the first key */
    double scale;
    double *score, *size, *p, *keep; /* (nk) each: scores, the |terms| in them, probabilities, dropout's factors */
};

static const double *at(const struct ref_tensor *t, int64_t row, int64_t col)
{
    return t->v + row * t->dim[t->nd - 1] + col;
}

static int64_t rows_of(const struct ref_tensor *t)
{
    return ref_count(t) / t->dim[t->nd - 1];
}

/* Rows of the position tables for query i and key j; -1 where there are none. */
static void table_rows(const struct row *r, int64_t j, int64_t *h, int64_t *w)
{
    const int64_t gh = r->a->grid_h, gw = r->a->grid_w;
    *h = r->i / gw - j / gw + gh - 1;
    *w = r->i % gw - j % gw + gw - 1;
}

static double lse_of(struct row *r, double *size)
{
    const struct ref_step *s = r->s;
    const int64_t hd = r->a->head_dim;
    const double *q = at(&s->in[0], r->qrow, r->a->q_col + r->head * hd);
    double top = -INFINITY, sum = 0;
    *size = 0;
    for (int64_t j = 0; j < r->nk; j++) {
        const double *k = at(&s->in[1], r->krow + j, r->a->k_col + r->head * hd);
        r->score[j] = r->size[j] = 0;
        for (int64_t l = 0; l < hd; l++) {
            double t = r->scale * q[l] * k[l];
            r->score[j] += t, r->size[j] += fabs(t);
            if (!s->in[5].v) continue;
            int64_t h, w;
            table_rows(r, j, &h, &w);
            t = q[l] * s->in[5].v[h * hd + l];
            r->score[j] += t, r->size[j] += fabs(t);
            t = q[l] * s->in[6].v[w * hd + l];
            r->score[j] += t, r->size[j] += fabs(t);
        }
        top = fmax(top, r->score[j]);
        *size = fmax(*size, r->size[j]);
    }
    for (int64_t j = 0; j < r->nk; j++) sum += exp(r->score[j] - top);
    for (int64_t j = 0; j < r->nk; j++) {
        r->p[j] = exp(r->score[j] - top) / sum;
        r->keep[j] = 1;
        if (r->a->dropout_p > 0) {
            const struct mcs_rng key = {.seed = s->seed,
                                        .site = r->a->site,
                                        .sample = (uint32_t)((r->a->first_seq + r->seq) * r->a->heads + r->head),
                                        .step = s->step};
            const uint64_t bits = mcs_rng_bits(key, (uint32_t)(r->i * 32768 + j / 2));
            const uint32_t draw = j % 2 ? (uint32_t)bits : (uint32_t)(bits >> 32);
            r->keep[j] = draw < (double)r->a->dropout_p * 0x1p32 ? 0 : 1 / (1 - (double)r->a->dropout_p);
        }
    }
    return r->nk ? top + log(sum) : 0;
}

static void each_row(const struct ref_step *s, void (*f)(struct row *, double lse, double size))
{
    const struct attention_attr *a = s->attr;
    const int64_t nq = rows_of(&s->in[0]), nk = rows_of(&s->in[1]);
    const int64_t n_seq = s->in[3].v ? ref_count(&s->in[3]) - 1 : nq / a->q_len;
    double *memory = calloc((size_t)(4 * nk + 4), sizeof *memory);
    for (int64_t seq = 0; seq < n_seq; seq++) {
        const int64_t q0 = s->in[3].v ? (int64_t)s->in[3].v[seq] : seq * a->q_len;
        const int64_t q1 = s->in[3].v ? (int64_t)s->in[3].v[seq + 1] : q0 + a->q_len;
        const int64_t k0 = s->in[4].v ? (int64_t)s->in[4].v[seq] : seq * a->k_len;
        const int64_t k1 = s->in[4].v ? (int64_t)s->in[4].v[seq + 1] : k0 + a->k_len;
        for (int64_t head = 0; head < a->heads; head++)
            for (int64_t i = q0; i < q1; i++) {
                struct row r = {.s = s,
                                .a = a,
                                .seq = seq,
                                .head = head,
                                .i = i - q0,
                                .nk = a->causal && i - q0 + 1 < k1 - k0 ? i - q0 + 1 : k1 - k0,
                                .qrow = i,
                                .krow = k0};
                r.scale = a->scale != 0 ? a->scale : 1 / sqrt(a->head_dim);
                r.score = memory, r.size = memory + nk, r.p = memory + 2 * nk, r.keep = memory + 3 * nk;
                double size, lse = lse_of(&r, &size);
                f(&r, lse, size);
            }
    }
    free(memory);
}

/* A probability has the relative error of its score, that is eps times the score's |terms|. */
static void forward(struct row *r, double lse, double size)
{
    const struct ref_step *s = r->s;
    const int64_t hd = r->a->head_dim, heads = r->a->heads;
    s->out[1].v[r->qrow * heads + r->head] = lse;
    s->out[1].mag[r->qrow * heads + r->head] = size + fabs(lse) + 1;
    for (int64_t j = 0; j < r->nk; j++)
        for (int64_t l = 0; l < hd; l++) {
            const int64_t yi = r->qrow * heads * hd + r->head * hd + l;
            const double t = r->p[j] * r->keep[j] * at(&s->in[2], r->krow + j, r->a->v_col + r->head * hd)[l];
            s->out[0].v[yi] += t;
            s->out[0].mag[yi] += fabs(t) * (1 + size);
        }
}

void ref_attention_fwd(const struct ref_step *s)
{
    memset(s->out[0].v, 0, (size_t)ref_count(&s->out[0]) * sizeof(double));
    memset(s->out[1].v, 0, (size_t)ref_count(&s->out[1]) * sizeof(double));
    each_row(s, forward);
}

static void add(const struct ref_tensor *t, int64_t row, int64_t col, double v, double mag)
{
    if (!t->v) return;
    t->v[row * t->dim[t->nd - 1] + col] += v;
    t->mag[row * t->dim[t->nd - 1] + col] += mag;
}

static void backward(struct row *r, double lse, double size)
{
    const struct ref_step *s = r->s;
    const struct attention_attr *a = r->a;
    const int64_t hd = a->head_dim, qc = a->q_col + r->head * hd, kc = a->k_col + r->head * hd,
                  vc = a->v_col + r->head * hd;
    const double *q = at(&s->in[0], r->qrow, qc), *dy = s->dout[0].v + r->qrow * a->heads * hd + r->head * hd;
    double dot = 0, dot_size = 0;
    const double dlse = s->dout[1].v ? s->dout[1].v[r->qrow * a->heads + r->head] : 0;
    for (int64_t j = 0; j < r->nk; j++)
        for (int64_t l = 0; l < hd; l++) {
            const double t = r->p[j] * r->keep[j] * dy[l] * at(&s->in[2], r->krow + j, vc)[l];
            dot += t, dot_size += fabs(t);
        }
    for (int64_t j = 0; j < r->nk; j++) {
        const double *k = at(&s->in[1], r->krow + j, kc), *v = at(&s->in[2], r->krow + j, vc);
        double dp = 0, dp_size = 0;
        for (int64_t l = 0; l < hd; l++) {
            const double t = dy[l] * v[l] * r->keep[j];
            dp += t, dp_size += fabs(t);
            add(&s->din[2], r->krow + j, vc + l, r->p[j] * r->keep[j] * dy[l],
                fabs(r->p[j] * r->keep[j] * dy[l]) * (1 + size));
        }
        const double g = r->p[j] * (dp - dot + dlse), gs = r->p[j] * (dp_size + dot_size + fabs(dlse)) * (1 + size);
        for (int64_t l = 0; l < hd; l++) {
            add(&s->din[0], r->qrow, qc + l, g * r->scale * k[l], gs * fabs(r->scale * k[l]));
            add(&s->din[1], r->krow + j, kc + l, g * r->scale * q[l], gs * fabs(r->scale * q[l]));
            if (!s->in[5].v) continue;
            int64_t h, w;
            table_rows(r, j, &h, &w);
            add(&s->din[0], r->qrow, qc + l, g * s->in[5].v[h * hd + l], gs * fabs(s->in[5].v[h * hd + l]));
            add(&s->din[0], r->qrow, qc + l, g * s->in[6].v[w * hd + l], gs * fabs(s->in[6].v[w * hd + l]));
            add(&s->din[5], h, l, g * q[l], gs * fabs(q[l]));
            add(&s->din[6], w, l, g * q[l], gs * fabs(q[l]));
        }
    }
}

void ref_attention_bwd(const struct ref_step *s)
{
    each_row(s, backward);
}

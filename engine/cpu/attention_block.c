/* The shared parts of attention: shapes, buffers, relative positions, dropout, and a block's scores. */
#include "engine/cpu/op_attention.h"

#include "engine/base/philox.h"
#include "engine/cpu/simd.h"

#include <math.h>

int64_t mcs_attention_rel_w_pitch(const struct attention_shape *d)
{
    return (d->gw + 15) & ~(int64_t)15;
}

int64_t mcs_attention_scratch_floats(const struct attention_shape *d)
{
    const int64_t grid = d->gh > d->gw ? d->gh : d->gw;
    const int64_t n = QB * (3 * LD + d->hd + 3 + 2 * (d->gh + mcs_attention_rel_w_pitch(d)) + 2 * grid);
    return (n + 31) & ~(int64_t)15; /* whole vectors of 16, and a spare one */
}

int64_t mcs_attention_block_keys(const struct attention_shape *d)
{
    const int64_t rows = d->gw ? KB / d->gw : 0, even = rows * d->gw % 2 ? rows - 1 : rows;
    return even > 0 ? even * d->gw : KB;
}

struct attention_scratch mcs_attention_scratch_at(const struct attention_shape *d, float *p)
{
    struct attention_scratch s;
    s.score = p, p += QB * LD;
    s.dscore = p, p += QB * LD;
    s.dropped = p, p += QB * LD;
    s.out = p, p += QB * d->hd;
    s.row_max = p, p += QB;
    s.row_sum = p, p += QB;
    s.rescale = p, p += QB;
    s.rel_h = p, p += QB * d->gh;
    s.rel_w = p, p += QB * mcs_attention_rel_w_pitch(d);
    s.drel_h = p, p += QB * d->gh;
    s.drel_w = p, p += QB * mcs_attention_rel_w_pitch(d);
    s.table = p;
    return s;
}

struct attention_shape mcs_attention_shape_of(const struct step *s)
{
    const struct attention_attr *a = s->attr;
    const struct tensor *q = s->in[0], *k = s->in[1], *v = s->in[2];
    struct attention_shape d = {.heads = a->heads, .hd = a->head_dim, .nq = mcs_rows(q), .nk = mcs_rows(k), .a = a};
    d.ldq = mcs_last(q);
    d.ldk = mcs_last(k);
    d.ldv = mcs_last(v);
    d.ldy = d.heads * d.hd;
    d.gh = s->in[5] ? a->grid_h : 0;
    d.gw = s->in[6] ? a->grid_w : 0;
    d.q_off = mcs_i32(s->in[3]);
    d.k_off = mcs_i32(s->in[4]);
    d.n_seq = s->in[3] ? mcs_count(s->in[3]) - 1 : a->q_len ? d.nq / a->q_len : 0;
    d.scale = a->scale != 0 ? a->scale : 1.0f / sqrtf((float)a->head_dim);
    if (s->run) d.rng = (struct mcs_rng){.seed = s->run->seed, .site = a->site, .step = s->run->step};
    return d;
}

struct attention_span mcs_attention_sequence(const struct attention_shape *d, int64_t i)
{
    if (!d->q_off) return (struct attention_span){i * d->a->q_len, d->a->q_len, i * d->a->k_len, d->a->k_len};
    return (struct attention_span){d->q_off[i], d->q_off[i + 1] - d->q_off[i], d->k_off[i],
                                   d->k_off[i + 1] - d->k_off[i]};
}

enum mcs_status mcs_attention_check_offsets(const struct step *s, const struct attention_shape *d)
{
    if (!d->q_off) return MCS_OK;
    for (int64_t i = 0; i < d->n_seq; i++) {
        const struct attention_span p = mcs_attention_sequence(d, i);
        MCS_REQUIRE(p.q0 >= 0 && p.nq >= 0 && p.q0 + p.nq <= d->nq && p.k0 >= 0 && p.nk >= 0 && p.k0 + p.nk <= d->nk,
                    MCS_E_DATA,
                    "%s: attention: sequence %lld has offsets %lld..%lld of %lld queries, %lld..%lld of %lld keys",
                    s->scope, (long long)i, (long long)p.q0, (long long)(p.q0 + p.nq), (long long)d->nq,
                    (long long)p.k0, (long long)(p.k0 + p.nk), (long long)d->nk);
    }
    return MCS_OK;
}

/* ---- relative positions ---- */

/* Key (ky,kx) adds q . rel_h[qy-ky+gh-1] + q . rel_w[qx-kx+gw-1] to the score of query (qy,qx). */

/* bias (m, ld): q . table of each query of the block for every key row (or column). Query i has row (or column)
 * i / div % n in the grid. */
static enum mcs_status rel_pos_bias(const struct attention_shape *d, const float *q, int64_t i0, int64_t m,
                                    const float *table, int64_t n, int64_t div, float *all, float *bias, int64_t ld)
{
    const int64_t w = 2 * n - 1;
    MCS_TRY(mcs_attention_gemm_nt(m, w, d->hd, 1, q, d->ldq, table, d->hd, all, w));
    for (int64_t i = 0; i < m; i++) {
        const int64_t own = (i0 + i) / div % n;
        for (int64_t k = 0; k < n; k++) bias[i * ld + k] = all[i * w + own - k + n - 1];
    }
    return MCS_OK;
}

/* Whole rows of the grid use vectors of 16: excess writes of a row are overwritten by the next row, excess reads are
 * not summed. Rows that a block boundary cuts use the plain loops. */
MCS_CLONES static void add_rel_pos(float *score, int64_t m, int64_t j0, int64_t n, const float *rel_h,
                                   const float *rel_w, int64_t gh, int64_t gw, int64_t rel_w_pitch)
{
    float both[KB + 16];
    for (int64_t i = 0; i < m && j0 % gw == 0 && n % gw == 0; i++) {
        const float *bias_w = rel_w + i * rel_w_pitch, *bias_h = rel_h + i * gh + j0 / gw;
        float *s = score + i * LD;
        for (int64_t y = 0; y < n / gw; y++)
            for (int64_t x = 0; x < gw; x += 16)
                for (int t = 0; t < 16; t++) both[y * gw + x + t] = bias_h[y] + bias_w[x + t];
#pragma omp simd
        for (int64_t j = 0; j < n; j++) s[j] += both[j];
    }
    for (int64_t i = 0; i < m && (j0 % gw != 0 || n % gw != 0); i++)
        for (int64_t j = 0; j < n; j++)
            score[i * LD + j] += rel_h[i * gh + (j0 + j) / gw] + rel_w[i * rel_w_pitch + (j0 + j) % gw];
}

/* mcs_rng_bits(index + i), i < n, as vector code: upper and lower 32 bits. */
MCS_CLONES static void draw_row(struct mcs_rng r, uint32_t index, int64_t n, uint32_t *upper, uint32_t *lower)
{
    uint32_t key[2];
    mcs_philox_key(r.seed, r.site, key);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        uint32_t c0 = index + (uint32_t)i, c1 = r.sample, c2 = r.step, c3 = 0, k0 = key[0], k1 = key[1];
#pragma GCC unroll 10
        for (int round = 0; round < MCS_PHILOX_ROUNDS; round++) {
            mcs_philox_round(&c0, &c1, &c2, &c3, k0, k1);
            mcs_philox_next_key(&k0, &k1);
        }
        upper[i] = c0;
        lower[i] = c1;
    }
}

MCS_CLONES static void drop_row(const uint32_t *upper, const uint32_t *lower, uint32_t below, float keep, int64_t n,
                                const float *src, float *dst)
{
    for (int64_t i = 0; i < n / 2; i++) {
        dst[2 * i] = upper[i] < below ? 0 : src[2 * i] * keep;
        dst[2 * i + 1] = lower[i] < below ? 0 : src[2 * i + 1] * keep;
    }
    if (n % 2) dst[n - 1] = upper[n / 2] < below ? 0 : src[n - 1] * keep;
}

void mcs_attention_drop(const struct attention_shape *d, int64_t seq, int64_t head, int64_t i0, int64_t m, int64_t j0,
                        int64_t n, const float *src, float *dst)
{
    struct mcs_rng r = d->rng;
    uint32_t upper[KB / 2], lower[KB / 2];
    const uint32_t below = (uint32_t)fmin((double)d->a->dropout_p * 0x1p32, 0x1p32 - 1);
    const float keep = 1.0f / (1.0f - d->a->dropout_p);
    r.sample = (uint32_t)((d->a->first_seq + seq) * d->heads + head);
    for (int64_t i = 0; i < m; i++) { /* j0 is even */
        draw_row(r, (uint32_t)((i0 + i) * 32768 + j0 / 2), (n + 1) / 2, upper, lower);
        drop_row(upper, lower, below, keep, n, src + i * LD, dst + i * LD);
    }
}

int64_t mcs_attention_n_keys(const struct attention_shape *d, const struct attention_span *p, int64_t i1)
{
    return d->a->causal && i1 < p->nk ? i1 : p->nk;
}

enum mcs_status mcs_attention_block_scores(const struct attention_shape *d, const struct attention_scratch *t,
                                           const float *q, const float *k, int64_t i0, int64_t m, int64_t j0, int64_t n)
{
    MCS_TRY(mcs_attention_gemm_nt(m, n, d->hd, d->scale, q, d->ldq, k + j0 * d->ldk, d->ldk, t->score, LD));
    if (d->gh) add_rel_pos(t->score, m, j0, n, t->rel_h, t->rel_w, d->gh, d->gw, mcs_attention_rel_w_pitch(d));
    for (int64_t i = 0; d->a->causal && i < m; i++)
        for (int64_t j = i0 + i < j0 ? 0 : i0 + i - j0 + 1; j < n; j++) t->score[i * LD + j] = -INFINITY;
    return MCS_OK;
}

enum mcs_status mcs_attention_block_rel_pos(const struct attention_shape *d, const struct attention_scratch *t,
                                            const struct step *s, const float *q, int64_t i0, int64_t m)
{
    if (!d->gh) return MCS_OK;
    MCS_TRY(rel_pos_bias(d, q, i0, m, mcs_f32(s->in[5]), d->gh, d->gw, t->table, t->rel_h, d->gh));
    return rel_pos_bias(d, q, i0, m, mcs_f32(s->in[6]), d->gw, 1, t->table, t->rel_w, mcs_attention_rel_w_pitch(d));
}

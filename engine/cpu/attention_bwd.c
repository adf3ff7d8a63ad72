/* The backward pass of attention: recomputes the scores block by block from q, k and the kept log-sum-exps. */
#include "engine/cpu/op_attention.h"
#include "engine/cpu/simd.h"

#include <omp.h>
#include <string.h>

enum { SLOTS = 64 }; /* partial sums of the position tables' gradients; their number never depends on the threads */

/* score -> probability exp(score - lse). */
MCS_CLONES static void softmax_from_lse(float *score, int64_t m, int64_t n, const float *lse, int64_t ld_lse)
{
    for (int64_t i = 0; i < m; i++) {
        float *s = score + i * LD, l = lse[i * ld_lse];
#pragma omp simd
        for (int64_t j = 0; j < n; j++) s[j] = mcs_expf(s[j] - l);
    }
}

/* dscore = p (dp - delta), in place of dp. */
MCS_CLONES static void softmax_bwd(const float *p, float *dp, int64_t m, int64_t n, const float *delta)
{
    for (int64_t i = 0; i < m; i++) {
        const float *pi = p + i * LD, d = delta[i];
        float *di = dp + i * LD;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) di[j] = pi[j] * (di[j] - d);
    }
}

/* delta (m) = dy . y - dlse, FlashAttention's D with the gradient of the log-sum-exp. */
MCS_CLONES static void row_deltas(const float *y, const float *dy, int64_t ld, int64_t m, int64_t hd, const float *dlse,
                                  int64_t heads, float *delta)
{
    for (int64_t i = 0; i < m; i++) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t l = 0; l < hd; l++) sum += y[i * ld + l] * dy[i * ld + l];
        delta[i] = sum - (dlse ? dlse[i * heads] : 0);
    }
}

MCS_CLONES static void sum_drel_pos(const float *dscore, int64_t m, int64_t j0, int64_t n, float *drel_h, float *drel_w,
                                    int64_t gh, int64_t gw, int64_t rel_w_pitch)
{
    for (int64_t i = 0; i < m && j0 % gw == 0 && n % gw == 0; i++) {
        const float *s = dscore + i * LD;
        float *dbias_w = drel_w + i * rel_w_pitch, *dbias_h = drel_h + i * gh + j0 / gw;
        for (int64_t y = 0; y < n / gw; y++) {
            float sum[16] = {0}, total = 0;
            for (int64_t x = 0; x < gw; x += 16)
                for (int t = 0; t < 16; t++) {
                    const float v = x + t < gw ? s[y * gw + x + t] : 0;
                    dbias_w[x + t] += v;
                    sum[t] += v;
                }
            for (int t = 0; t < 16; t++) total += sum[t];
            dbias_h[y] += total;
        }
    }
    for (int64_t i = 0; i < m && (j0 % gw != 0 || n % gw != 0); i++)
        for (int64_t j = 0; j < n; j++) {
            drel_h[i * gh + (j0 + j) / gw] += dscore[i * LD + j];
            drel_w[i * rel_w_pitch + (j0 + j) % gw] += dscore[i * LD + j];
        }
}

/* The backward pass of rel_pos_bias: dq += dbias through the table, dtable += dbias^T q. */
static enum mcs_status rel_pos_bwd(const struct attention_shape *d, const float *q, int64_t i0, int64_t m,
                                   const float *table, int64_t n, int64_t div, const float *dbias, int64_t ld,
                                   float *all, float *dq, float *dtable)
{
    const int64_t w = 2 * n - 1;
    memset(all, 0, (size_t)(m * w) * 4);
    for (int64_t i = 0; i < m; i++) {
        const int64_t own = (i0 + i) / div % n;
        for (int64_t k = 0; k < n; k++) all[i * w + own - k + n - 1] = dbias[i * ld + k];
    }
    if (dq) MCS_TRY(mcs_attention_gemm_nn(m, w, d->hd, 1, all, w, table, d->hd, 1, dq, d->ldq));
    if (dtable) MCS_TRY(mcs_attention_gemm_tn(m, w, d->hd, 1, all, w, q, d->ldq, dtable, d->hd));
    return MCS_OK;
}

static enum mcs_status backward_block(const struct step *s, const struct attention_shape *d,
                                      const struct attention_scratch *t, int64_t seq, int64_t head, int64_t i0,
                                      int64_t m, float *dtables)
{
    const struct attention_span p = mcs_attention_sequence(d, seq);
    const int64_t qat = (p.q0 + i0) * d->ldq + d->a->q_col + head * d->hd, yat = (p.q0 + i0) * d->ldy + head * d->hd;
    const int64_t kat = p.k0 * d->ldk + d->a->k_col + head * d->hd, vat = p.k0 * d->ldv + d->a->v_col + head * d->hd;
    const int64_t lat = (p.q0 + i0) * d->heads + head;
    const float *q = mcs_f32(s->in[0]) + qat, *k = mcs_f32(s->in[1]) + kat, *v = mcs_f32(s->in[2]) + vat;
    const float *dy = mcs_f32(s->dout[0]) + yat, *lse = mcs_f32(s->out[1]) + lat;
    float *dq = s->din[0] ? mcs_f32(s->din[0]) + qat : NULL, *dk = s->din[1] ? mcs_f32(s->din[1]) + kat : NULL;
    float *dv = s->din[2] ? mcs_f32(s->din[2]) + vat : NULL;
    const int scored = dq || dk || dtables;
    float *delta = t->row_sum; /* (m); the backward pass keeps no running sums */
    row_deltas(mcs_f32(s->out[0]) + yat, dy, d->ldy, m, d->hd, s->dout[1] ? mcs_f32(s->dout[1]) + lat : NULL, d->heads,
               delta);
    MCS_TRY(mcs_attention_block_rel_pos(d, t, s, q, i0, m));
    if (d->gh) {
        memset(t->drel_h, 0, (size_t)(m * d->gh) * 4);
        memset(t->drel_w, 0, (size_t)(m * mcs_attention_rel_w_pitch(d)) * 4);
    }
    const int64_t nk = mcs_attention_n_keys(d, &p, i0 + m);
    for (int64_t j = 0, kb = mcs_attention_block_keys(d); j < nk; j += kb) {
        const int64_t n = nk - j < kb ? nk - j : kb;
        const float *weight = t->score;
        MCS_TRY(mcs_attention_block_scores(d, t, q, k, i0, m, j, n));
        softmax_from_lse(t->score, m, n, lse, d->heads);
        if (d->a->dropout_p > 0 && dv) {
            mcs_attention_drop(d, seq, head, i0, m, j, n, t->score, t->dropped);
            weight = t->dropped;
        }
        if (dv) MCS_TRY(mcs_attention_gemm_tn(m, n, d->hd, 1, weight, LD, dy, d->ldy, dv + j * d->ldv, d->ldv));
        if (!scored) continue;
        MCS_TRY(mcs_attention_gemm_nt(m, n, d->hd, 1, dy, d->ldy, v + j * d->ldv, d->ldv, t->dscore, LD));
        if (d->a->dropout_p > 0) mcs_attention_drop(d, seq, head, i0, m, j, n, t->dscore, t->dscore);
        softmax_bwd(t->score, t->dscore, m, n, delta);
        if (d->gh) sum_drel_pos(t->dscore, m, j, n, t->drel_h, t->drel_w, d->gh, d->gw, mcs_attention_rel_w_pitch(d));
        if (dq)
            MCS_TRY(mcs_attention_gemm_nn(m, n, d->hd, d->scale, t->dscore, LD, k + j * d->ldk, d->ldk, 1, dq, d->ldq));
        if (dk)
            MCS_TRY(mcs_attention_gemm_tn(m, n, d->hd, d->scale, t->dscore, LD, q, d->ldq, dk + j * d->ldk, d->ldk));
    }
    if (!d->gh || !scored) return MCS_OK;
    float *dh = dtables, *dw = dtables ? dtables + (2 * d->gh - 1) * d->hd : NULL;
    MCS_TRY(rel_pos_bwd(d, q, i0, m, mcs_f32(s->in[5]), d->gh, d->gw, t->drel_h, d->gh, t->table, dq, dh));
    return rel_pos_bwd(d, q, i0, m, mcs_f32(s->in[6]), d->gw, 1, t->drel_w, mcs_attention_rel_w_pitch(d), t->table, dq,
                       dw);
}

static enum mcs_status backward_head(const struct step *s, const struct attention_shape *d,
                                     const struct attention_scratch *t, int64_t task, float *dtables)
{
    const int64_t head = task % d->heads, seq = task / d->heads;
    const struct attention_span p = mcs_attention_sequence(d, seq);
    const int64_t blocks = (p.nq + QB - 1) / QB;
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t i0 = p.nq * b / blocks, i1 = p.nq * (b + 1) / blocks;
        MCS_TRY(backward_block(s, d, t, seq, head, i0, i1 - i0, dtables));
    }
    return MCS_OK;
}

/* dst = beta dst + sum over the slots, in order. */
static void sum_slots(const float *slot, int64_t n_slots, int64_t stride, float *dst, int64_t n, float beta)
{
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t k = 0; k < n_slots; k++) sum += slot[k * stride + i];
        dst[i] = (beta != 0 ? beta * dst[i] : 0) + (float)sum;
    }
}

static int64_t table_floats(const struct attention_shape *d)
{
    return (2 * d->gh + 2 * d->gw - 2) * d->hd;
}

size_t mcs_attention_bwd_sum_bytes(const struct attention_shape *d)
{
    return d->gh ? (size_t)(SLOTS * table_floats(d)) * sizeof(float) : 0;
}

enum mcs_status mcs_attention_bwd(const struct step *s, const struct attention_shape *d, int threads)
{
    const int64_t tasks = d->n_seq * d->heads, tables = table_floats(d);
    const int want_tables = d->gh && (s->din[5] || s->din[6]);
    const int64_t slots = want_tables ? (tasks < SLOTS ? tasks : SLOTS) : tasks;
    float *partial = want_tables ? (float *)s->workspace + threads * mcs_attention_scratch_floats(d) : NULL;
    enum mcs_status st = MCS_OK;
    /* All passes below add. Packed q, k, v share one gradient, cleared once; rows of no sequence and columns of no head
     * stay 0. */
    for (int i = 0; i < 3; i++) {
        int first = s->din[i] != NULL && s->beta[i] == 0;
        for (int j = 0; j < i; j++) first = first && s->din[j] != s->din[i];
        if (first) memset(mcs_f32(s->din[i]), 0, (size_t)mcs_count(s->din[i]) * 4);
    }
    if (partial) memset(partial, 0, (size_t)(slots * tables) * 4);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t slot = 0; slot < slots; slot++) {
        const struct attention_scratch t =
            mcs_attention_scratch_at(d, (float *)s->workspace + omp_get_thread_num() * mcs_attention_scratch_floats(d));
        for (int64_t task = tasks * slot / slots; task < tasks * (slot + 1) / slots; task++) {
            enum mcs_status one = backward_head(s, d, &t, task, partial ? partial + slot * tables : NULL);
            if (one != MCS_OK) {
#pragma omp atomic write
                st = one;
            }
        }
    }
    if (want_tables && s->din[5])
        sum_slots(partial, slots, tables, mcs_f32(s->din[5]), (2 * d->gh - 1) * d->hd, s->beta[5]);
    if (want_tables && s->din[6])
        sum_slots(partial + (2 * d->gh - 1) * d->hd, slots, tables, mcs_f32(s->din[6]), (2 * d->gw - 1) * d->hd,
                  s->beta[6]);
    return st;
}

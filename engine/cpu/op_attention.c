/* attention: softmax(scale q k^T + rel) v, blocked over queries and keys with an online softmax (Dao et al.,
 * "FlashAttention", 2022, in its order of work; Milakov and Gimelshein, "Online normalizer calculation for softmax",
 * 2018). A block of scores is QB x KB and stays in the cache; nothing of size Nq x Nk is stored. Backward recomputes
 * the scores, block by block, from q, k and the kept log-sum-exps.
 *
 * A causal mask: blocks of keys after a block's last query are left out, and scores of later keys in the others are
 * -infinity. Every query sees key 0, so that no row of scores is without a finite one.
 *
 * Work is divided by (sequence, head) backward and (sequence, head, block of queries) forward. Each unit runs on
 * one thread, so results do not depend on the number of threads. Gradients of the relative position tables are summed
 * in a fixed number of slots, then over the slots in order.
 *
 * Dropout: the draw for (query i, key j) of a sequence, counted within the sequence, is mcs_rng_bits(key, i * 32768 + j
 * / 2): its upper 32 bits for an even j, its lower ones for an odd j, dropped below p 2^32; key = (seed, site, sample =
 * (first_seq + sequence) * heads + head, step). */
#include "engine/cpu/op_attention.h"
#include "engine/cpu/simd.h"

#include <math.h>
#include <omp.h>
#include <string.h>

/* Online softmax of one block: score (m,n) -> exp(score - new row_max); updates row_max and row_sum; rescale = exp(old
 * row_max - new). */
MCS_CLONES static void online_softmax(float *score, int64_t m, int64_t n, float *row_max, float *row_sum,
                                      float *rescale)
{
    for (int64_t i = 0; i < m; i++) {
        float *s = score + i * LD, new_max = row_max[i], block_sum = 0;
#pragma omp simd reduction(max : new_max)
        for (int64_t j = 0; j < n; j++) new_max = s[j] > new_max ? s[j] : new_max;
#pragma omp simd reduction(+ : block_sum)
        for (int64_t j = 0; j < n; j++) {
            s[j] = mcs_expf(s[j] - new_max);
            block_sum += s[j];
        }
        rescale[i] = mcs_expf(row_max[i] - new_max);
        row_sum[i] = row_sum[i] * rescale[i] + block_sum;
        row_max[i] = new_max;
    }
}

MCS_CLONES static void scale_rows(float *x, int64_t m, int64_t n, const float *by)
{
    for (int64_t i = 0; i < m; i++)
#pragma omp simd
        for (int64_t j = 0; j < n; j++) x[i * n + j] *= by[i];
}

static enum mcs_status forward_block(const struct step *s, const struct attention_shape *d,
                                     const struct attention_scratch *t, int64_t seq, int64_t head, int64_t i0,
                                     int64_t m)
{
    const struct attention_span p = mcs_attention_sequence(d, seq);
    const float *q = mcs_f32(s->in[0]) + (p.q0 + i0) * d->ldq + d->a->q_col + head * d->hd;
    const float *k = mcs_f32(s->in[1]) + p.k0 * d->ldk + d->a->k_col + head * d->hd;
    const float *v = mcs_f32(s->in[2]) + p.k0 * d->ldv + d->a->v_col + head * d->hd;
    float *y = mcs_f32(s->out[0]) + (p.q0 + i0) * d->ldy + head * d->hd;
    float *lse = mcs_f32(s->out[1]) + (p.q0 + i0) * d->heads + head;
    for (int64_t i = 0; i < m; i++) t->row_max[i] = -INFINITY, t->row_sum[i] = 0;
    if (p.nk == 0) memset(t->out, 0, (size_t)(m * d->hd) * 4);
    MCS_TRY(mcs_attention_block_rel_pos(d, t, s, q, i0, m));
    const int64_t nk = mcs_attention_n_keys(d, &p, i0 + m);
    for (int64_t j = 0, kb = mcs_attention_block_keys(d); j < nk; j += kb) {
        const int64_t n = nk - j < kb ? nk - j : kb;
        MCS_TRY(mcs_attention_block_scores(d, t, q, k, i0, m, j, n));
        online_softmax(t->score, m, n, t->row_max, t->row_sum, t->rescale);
        if (d->a->dropout_p > 0) mcs_attention_drop(d, seq, head, i0, m, j, n, t->score, t->score);
        if (j > 0) scale_rows(t->out, m, d->hd, t->rescale);
        MCS_TRY(mcs_attention_gemm_nn(m, n, d->hd, 1, t->score, LD, v + j * d->ldv, d->ldv, j > 0, t->out, d->hd));
    }
    for (int64_t i = 0; i < m; i++) {
        const float inv_sum = t->row_sum[i] > 0 ? 1.0f / t->row_sum[i] : 0;
        for (int64_t l = 0; l < d->hd; l++) y[i * d->ldy + l] = t->out[i * d->hd + l] * inv_sum;
        lse[i * d->heads] = t->row_sum[i] > 0 ? t->row_max[i] + logf(t->row_sum[i]) : 0;
    }
    return MCS_OK;
}

static enum mcs_status prepare(struct step *s)
{
    const struct attention_shape d = mcs_attention_shape_of(s);
    s->workspace_bytes = (size_t)(omp_get_max_threads() * mcs_attention_scratch_floats(&d)) * 4;
    if (s->backward) s->workspace_bytes += mcs_attention_bwd_sum_bytes(&d);
    return MCS_OK;
}

/* The number of threads that the workspace was sized for; one where starting threads would cost more than the work. */
static int n_threads(const struct step *s, const struct attention_shape *d)
{
    const int64_t keys = d->q_off ? d->nk : d->a->k_len; /* the most keys of any query */
    if (d->nq * keys * d->hd * d->heads < (1 << 17)) return 1;
    const size_t sums = s->backward ? mcs_attention_bwd_sum_bytes(d) : 0;
    return (int)((int64_t)((s->workspace_bytes - sums) / 4) / mcs_attention_scratch_floats(d));
}

static enum mcs_status fwd(const struct step *s)
{
    const struct attention_shape d = mcs_attention_shape_of(s);
    enum mcs_status st = MCS_OK;
    int64_t longest = 0, end = 0;
    MCS_TRY(mcs_attention_check_offsets(s, &d));
    for (int64_t i = 0; i < d.n_seq; i++) {
        const struct attention_span p = mcs_attention_sequence(&d, i);
        longest = p.nq > longest ? p.nq : longest;
        end = p.q0 + p.nq > end ? p.q0 + p.nq : end;
    }
    memset(mcs_f32(s->out[0]) + end * d.ldy, 0, (size_t)((d.nq - end) * d.ldy) * 4);
    memset(mcs_f32(s->out[1]) + end * d.heads, 0, (size_t)((d.nq - end) * d.heads) * 4);
    const int64_t blocks = (longest + QB - 1) / QB;
#pragma omp parallel for schedule(dynamic) num_threads(n_threads(s, &d))
    for (int64_t task = 0; task < d.n_seq * d.heads * blocks; task++) {
        const int64_t block = task % blocks, head = task / blocks % d.heads, seq = task / blocks / d.heads;
        const struct attention_span p = mcs_attention_sequence(&d, seq);
        const int64_t mine = (p.nq + QB - 1) / QB; /* blocks of this sequence, of equal length */
        if (block >= mine) continue;
        const int64_t i0 = p.nq * block / mine, i1 = p.nq * (block + 1) / mine;
        const struct attention_scratch t = mcs_attention_scratch_at(
            &d, (float *)s->workspace + omp_get_thread_num() * mcs_attention_scratch_floats(&d));
        enum mcs_status one = forward_block(s, &d, &t, seq, head, i0, i1 - i0);
        if (one != MCS_OK) {
#pragma omp atomic write
            st = one;
        }
    }
    return st;
}

static enum mcs_status bwd(const struct step *s)
{
    const struct attention_shape d = mcs_attention_shape_of(s);
    MCS_TRY(mcs_attention_check_offsets(s, &d));
    return mcs_attention_bwd(s, &d, n_threads(s, &d));
}

const struct op_impl mcs_cpu_attention = {prepare, fwd, bwd, NULL};

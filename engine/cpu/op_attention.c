/* attention: softmax(scale q k^T + rel) v, blocked over queries and keys with an online softmax (Dao et al.,
 * "FlashAttention", 2022, in its order of work; Milakov and Gimelshein, "Online normalizer calculation for softmax",
 * 2018). A block of scores is QB x KB and stays in the cache; nothing of size Nq x Nk is stored. Backward recomputes
 * the scores, block by block, from q, k and the kept log-sum-exps.
 *
 * Work is divided by (sequence, head) backward and (sequence, head, block of queries) forward. Each unit runs on
 * one thread, so results do not depend on the number of threads. Gradients of the relative position tables are summed
 * in a fixed number of slots, then over the slots in order.
 *
 * Dropout: the draw for (query i, key j) of a sequence, counted within the sequence, is mcs_rng_bits(key, i * 32768 + j
 * / 2): its upper 32 bits for an even j, its lower ones for an odd j, dropped below p 2^32; key = (seed, site, sample =
 * (first_seq + sequence) * heads + head, step). */
#include "engine/backend.h"
#include "engine/base/rng.h"
#include "engine/cpu/onednn.h"
#include "engine/cpu/simd.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum {
    QB = 128,     /* queries per block */
    KB = 256,     /* keys per block */
    LD = KB + 16, /* row pitch of a block of scores: not a power of two, to avoid cache set conflicts */
    SMALL_M = 4,  /* up to this number of queries use small_gemm_*: a GEMM's set-up would cost more than its work */
    SLOTS = 64,   /* partial sums of the position tables' gradients */
};

struct shape {
    int64_t heads, hd, n_seq, nq, nk; /* nq, nk: rows in all sequences */
    int64_t ldq, ldk, ldv, ldy;       /* row pitch of the tensors */
    int64_t gh, gw;                   /* 0: no relative positions */
    const struct attention_attr *a;
    const int32_t *q_off, *k_off;
    float scale;
    struct mcs_rng rng;
};

/* A thread's buffers. */
struct scratch {
    float *score, *dscore, *dropped;    /* (QB, LD) */
    float *out;                         /* (QB, hd) */
    float *row_max, *row_sum, *rescale; /* (QB) */
    float *rel_h, *rel_w; /* (QB, gh), (QB, wide): bias of each query for keys by their row, by their column */
    float *drel_h, *drel_w;
    float *table; /* (QB, 2 max(gh,gw) - 1) */
};

/* Row pitch of rel_w: gw rounded up to 16. */
static int64_t wide(const struct shape *d)
{
    return (d->gw + 15) & ~(int64_t)15;
}

static int64_t scratch_floats(const struct shape *d)
{
    const int64_t grid = d->gh > d->gw ? d->gh : d->gw;
    const int64_t n = QB * (3 * LD + d->hd + 3 + 2 * (d->gh + wide(d)) + 2 * grid);
    return (n + 31) & ~(int64_t)15;
}

/* Keys per block: whole rows of the grid where there is one, and an even number (dropout draws by pairs). */
static int64_t block_keys(const struct shape *d)
{
    const int64_t rows = d->gw ? KB / d->gw : 0, even = rows * d->gw % 2 ? rows - 1 : rows;
    return even > 0 ? even * d->gw : KB;
}

static struct scratch scratch_at(const struct shape *d, float *p)
{
    struct scratch s;
    s.score = p, p += QB * LD;
    s.dscore = p, p += QB * LD;
    s.dropped = p, p += QB * LD;
    s.out = p, p += QB * d->hd;
    s.row_max = p, p += QB;
    s.row_sum = p, p += QB;
    s.rescale = p, p += QB;
    s.rel_h = p, p += QB * d->gh;
    s.rel_w = p, p += QB * wide(d);
    s.drel_h = p, p += QB * d->gh;
    s.drel_w = p, p += QB * wide(d);
    s.table = p;
    return s;
}

static struct shape shape_of(const struct step *s)
{
    const struct attention_attr *a = s->attr;
    const struct tensor *q = s->in[0], *k = s->in[1], *v = s->in[2];
    struct shape d = {.heads = a->heads, .hd = a->head_dim, .nq = mcs_rows(q), .nk = mcs_rows(k), .a = a};
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

struct span {
    int64_t q0, nq, k0, nk;
};

static struct span sequence(const struct shape *d, int64_t i)
{
    if (!d->q_off) return (struct span){i * d->a->q_len, d->a->q_len, i * d->a->k_len, d->a->k_len};
    return (struct span){d->q_off[i], d->q_off[i + 1] - d->q_off[i], d->k_off[i], d->k_off[i + 1] - d->k_off[i]};
}

static enum mcs_status check_offsets(const struct step *s, const struct shape *d)
{
    if (!d->q_off) return MCS_OK;
    for (int64_t i = 0; i < d->n_seq; i++) {
        const struct span p = sequence(d, i);
        MCS_REQUIRE(p.q0 >= 0 && p.nq >= 0 && p.q0 + p.nq <= d->nq && p.k0 >= 0 && p.nk >= 0 && p.k0 + p.nk <= d->nk,
                    MCS_E_DATA,
                    "%s: attention: sequence %lld has offsets %lld..%lld of %lld queries, %lld..%lld of %lld keys",
                    s->scope, (long long)i, (long long)p.q0, (long long)(p.q0 + p.nq), (long long)d->nq,
                    (long long)p.k0, (long long)(p.k0 + p.nk), (long long)d->nk);
    }
    return MCS_OK;
}

/* ---- vector code ---- */

/* c (m,n) = alpha a b^T for small m. */
MCS_CLONES static void small_gemm_nt(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                                     const float *b, int64_t ldb, float *c, int64_t ldc)
{
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++) {
            const float *x = a + i * lda, *y = b + j * ldb;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t l = 0; l < hd; l++) sum += x[l] * y[l];
            c[i * ldc + j] = alpha * sum;
        }
}

/* c (m,hd) = alpha a b + beta c for small m; a (m,n), b (n,hd). */
MCS_CLONES static void small_gemm_nn(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                                     const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    for (int64_t i = 0; i < m; i++) {
        float *y = c + i * ldc;
        if (beta == 0) memset(y, 0, (size_t)hd * 4);
        for (int64_t j = 0; j < n; j++) {
            const float w = alpha * a[i * lda + j], *x = b + j * ldb;
#pragma omp simd
            for (int64_t l = 0; l < hd; l++) y[l] += w * x[l];
        }
    }
}

/* c (n,hd) += alpha a^T b for small m; a (m,n), b (m,hd). */
MCS_CLONES static void small_gemm_tn(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                                     const float *b, int64_t ldb, float *c, int64_t ldc)
{
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++) {
            const float w = alpha * a[i * lda + j], *x = b + i * ldb;
            float *y = c + j * ldc;
#pragma omp simd
            for (int64_t l = 0; l < hd; l++) y[l] += w * x[l];
        }
}

static enum mcs_status gemm_nt(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                               const float *b, int64_t ldb, float *c, int64_t ldc)
{
    if (m > SMALL_M) return mcs_sgemm('N', 'T', m, n, hd, alpha, a, lda, b, ldb, 0, c, ldc);
    small_gemm_nt(m, n, hd, alpha, a, lda, b, ldb, c, ldc);
    return MCS_OK;
}

static enum mcs_status gemm_nn(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                               const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    if (m > SMALL_M) return mcs_sgemm('N', 'N', m, hd, n, alpha, a, lda, b, ldb, beta, c, ldc);
    small_gemm_nn(m, n, hd, alpha, a, lda, b, ldb, beta, c, ldc);
    return MCS_OK;
}

static enum mcs_status gemm_tn(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                               const float *b, int64_t ldb, float *c, int64_t ldc)
{
    if (m > SMALL_M) return mcs_sgemm('T', 'N', n, hd, m, alpha, a, lda, b, ldb, 1, c, ldc);
    small_gemm_tn(m, n, hd, alpha, a, lda, b, ldb, c, ldc);
    return MCS_OK;
}

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

/* score -> probability exp(score - lse). */
MCS_CLONES static void softmax_from_lse(float *score, int64_t m, int64_t n, const float *lse, int64_t ld_lse)
{
    for (int64_t i = 0; i < m; i++) {
        float *s = score + i * LD, l = lse[i * ld_lse];
#pragma omp simd
        for (int64_t j = 0; j < n; j++) s[j] = mcs_expf(s[j] - l);
    }
}

MCS_CLONES static void scale_rows(float *x, int64_t m, int64_t n, const float *by)
{
    for (int64_t i = 0; i < m; i++)
#pragma omp simd
        for (int64_t j = 0; j < n; j++) x[i * n + j] *= by[i];
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

/* ---- relative positions: key (ky,kx) adds q . rel_h[qy-ky+gh-1] + q . rel_w[qx-kx+gw-1] to the score of query (qy,qx)
 * ---- */

/* Bias of each query of the block for every key row (or column): q . table. The query's row or column in the grid is (i
 * / div) % n. */
static enum mcs_status rel_pos_bias(const struct shape *d, const float *q, int64_t i0, int64_t m, const float *table,
                                    int64_t n, int64_t div, float *all, float *bias, int64_t ld)
{
    const int64_t w = 2 * n - 1;
    MCS_TRY(gemm_nt(m, w, d->hd, 1, q, d->ldq, table, d->hd, all, w));
    for (int64_t i = 0; i < m; i++) {
        const int64_t own = (i0 + i) / div % n;
        for (int64_t k = 0; k < n; k++) bias[i * ld + k] = all[i * w + own - k + n - 1];
    }
    return MCS_OK;
}

/* Whole rows of the grid use vectors of 16: excess writes of a row are overwritten by the next row, excess reads are
 * not summed. Rows that a block boundary cuts use the plain loops. rel_w has the pitch `wide`, gw rounded up to 16. */
MCS_CLONES static void add_rel_pos(float *score, int64_t m, int64_t j0, int64_t n, const float *rel_h,
                                   const float *rel_w, int64_t gh, int64_t gw, int64_t wide)
{
    float both[KB + 16];
    for (int64_t i = 0; i < m && j0 % gw == 0 && n % gw == 0; i++) {
        const float *bias_w = rel_w + i * wide, *bias_h = rel_h + i * gh + j0 / gw;
        float *s = score + i * LD;
        for (int64_t y = 0; y < n / gw; y++)
            for (int64_t x = 0; x < gw; x += 16)
                for (int t = 0; t < 16; t++) both[y * gw + x + t] = bias_h[y] + bias_w[x + t];
#pragma omp simd
        for (int64_t j = 0; j < n; j++) s[j] += both[j];
    }
    for (int64_t i = 0; i < m && (j0 % gw != 0 || n % gw != 0); i++)
        for (int64_t j = 0; j < n; j++)
            score[i * LD + j] += rel_h[i * gh + (j0 + j) / gw] + rel_w[i * wide + (j0 + j) % gw];
}

MCS_CLONES static void sum_drel_pos(const float *dscore, int64_t m, int64_t j0, int64_t n, float *drel_h, float *drel_w,
                                    int64_t gh, int64_t gw, int64_t wide)
{
    for (int64_t i = 0; i < m && j0 % gw == 0 && n % gw == 0; i++) {
        const float *s = dscore + i * LD;
        float *dbias_w = drel_w + i * wide, *dbias_h = drel_h + i * gh + j0 / gw;
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
            drel_w[i * wide + (j0 + j) % gw] += dscore[i * LD + j];
        }
}

/* The backward pass of rel_pos_bias: dq += dbias through the table, dtable += dbias^T q. */
static enum mcs_status rel_pos_bwd(const struct shape *d, const float *q, int64_t i0, int64_t m, const float *table,
                                   int64_t n, int64_t div, const float *dbias, int64_t ld, float *all, float *dq,
                                   float *dtable)
{
    const int64_t w = 2 * n - 1;
    memset(all, 0, (size_t)(m * w) * 4);
    for (int64_t i = 0; i < m; i++) {
        const int64_t own = (i0 + i) / div % n;
        for (int64_t k = 0; k < n; k++) all[i * w + own - k + n - 1] = dbias[i * ld + k];
    }
    if (dq) MCS_TRY(gemm_nn(m, w, d->hd, 1, all, w, table, d->hd, 1, dq, d->ldq));
    if (dtable) MCS_TRY(gemm_tn(m, w, d->hd, 1, all, w, q, d->ldq, dtable, d->hd));
    return MCS_OK;
}

/* mcs_rng_bits(index + i), i < n, as vector code: upper and lower 32 bits. Philox as in engine/base/rng.c. */
MCS_CLONES static void draw_row(struct mcs_rng r, uint32_t index, int64_t n, uint32_t *upper, uint32_t *lower)
{
    const uint32_t key0 = (uint32_t)r.seed, key1 = r.site ^ ((uint32_t)(r.seed >> 32) * 0x85EBCA6Bu);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        uint32_t c0 = index + (uint32_t)i, c1 = r.sample, c2 = r.step, c3 = 0, k0 = key0, k1 = key1;
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
            c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
            c1 = (uint32_t)p1;
            c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
            c3 = (uint32_t)p0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
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

/* dst = src with dropped probabilities set to 0 and the others divided by 1 - p. */
static void drop(const struct shape *d, int64_t seq, int64_t head, int64_t i0, int64_t m, int64_t j0, int64_t n,
                 const float *src, float *dst)
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

/* Scores of queries [i0, i0+m) and keys [j0, j0+n) of a sequence, relative positions included. */
static enum mcs_status block_scores(const struct shape *d, const struct scratch *t, const float *q, const float *k,
                                    int64_t m, int64_t j0, int64_t n)
{
    MCS_TRY(gemm_nt(m, n, d->hd, d->scale, q, d->ldq, k + j0 * d->ldk, d->ldk, t->score, LD));
    if (d->gh) add_rel_pos(t->score, m, j0, n, t->rel_h, t->rel_w, d->gh, d->gw, wide(d));
    return MCS_OK;
}

static enum mcs_status block_rel_pos(const struct shape *d, const struct scratch *t, const struct step *s,
                                     const float *q, int64_t i0, int64_t m)
{
    if (!d->gh) return MCS_OK;
    MCS_TRY(rel_pos_bias(d, q, i0, m, mcs_f32(s->in[5]), d->gh, d->gw, t->table, t->rel_h, d->gh));
    return rel_pos_bias(d, q, i0, m, mcs_f32(s->in[6]), d->gw, 1, t->table, t->rel_w, wide(d));
}

/* ---- forward ---- */

static enum mcs_status forward_block(const struct step *s, const struct shape *d, const struct scratch *t, int64_t seq,
                                     int64_t head, int64_t i0, int64_t m)
{
    const struct span p = sequence(d, seq);
    const float *q = mcs_f32(s->in[0]) + (p.q0 + i0) * d->ldq + d->a->q_col + head * d->hd;
    const float *k = mcs_f32(s->in[1]) + p.k0 * d->ldk + d->a->k_col + head * d->hd;
    const float *v = mcs_f32(s->in[2]) + p.k0 * d->ldv + d->a->v_col + head * d->hd;
    float *y = mcs_f32(s->out[0]) + (p.q0 + i0) * d->ldy + head * d->hd;
    float *lse = mcs_f32(s->out[1]) + (p.q0 + i0) * d->heads + head;
    for (int64_t i = 0; i < m; i++) t->row_max[i] = -INFINITY, t->row_sum[i] = 0;
    if (p.nk == 0) memset(t->out, 0, (size_t)(m * d->hd) * 4);
    MCS_TRY(block_rel_pos(d, t, s, q, i0, m));
    for (int64_t j = 0, kb = block_keys(d); j < p.nk; j += kb) {
        const int64_t n = p.nk - j < kb ? p.nk - j : kb;
        MCS_TRY(block_scores(d, t, q, k, m, j, n));
        online_softmax(t->score, m, n, t->row_max, t->row_sum, t->rescale);
        if (d->a->dropout_p > 0) drop(d, seq, head, i0, m, j, n, t->score, t->score);
        if (j > 0) scale_rows(t->out, m, d->hd, t->rescale);
        MCS_TRY(gemm_nn(m, n, d->hd, 1, t->score, LD, v + j * d->ldv, d->ldv, j > 0, t->out, d->hd));
    }
    for (int64_t i = 0; i < m; i++) {
        const float inv_sum = t->row_sum[i] > 0 ? 1.0f / t->row_sum[i] : 0;
        for (int64_t l = 0; l < d->hd; l++) y[i * d->ldy + l] = t->out[i * d->hd + l] * inv_sum;
        lse[i * d->heads] = t->row_sum[i] > 0 ? t->row_max[i] + logf(t->row_sum[i]) : 0;
    }
    return MCS_OK;
}

static enum mcs_status prepare(struct step *s, struct device *dev)
{
    (void)dev;
    const struct shape d = shape_of(s);
    const int64_t threads = omp_get_max_threads(), tables = d.gh ? SLOTS * (2 * d.gh + 2 * d.gw - 2) * d.hd : 0;
    s->workspace_bytes = (size_t)(threads * scratch_floats(&d) + (s->backward ? tables : 0)) * 4;
    return MCS_OK;
}

/* The number of threads that the workspace was sized for; one where starting threads would cost more than the work. */
static int n_threads(const struct step *s, const struct shape *d)
{
    const int64_t keys = d->q_off ? d->nk : d->a->k_len; /* the most keys of any query */
    if (d->nq * keys * d->hd * d->heads < (1 << 17)) return 1;
    const int64_t tables = d->gh && s->backward ? SLOTS * (2 * d->gh + 2 * d->gw - 2) * d->hd : 0;
    return (int)(((int64_t)(s->workspace_bytes / 4) - tables) / scratch_floats(d));
}

static enum mcs_status fwd(const struct step *s)
{
    const struct shape d = shape_of(s);
    enum mcs_status st = MCS_OK;
    int64_t longest = 0, end = 0;
    MCS_TRY(check_offsets(s, &d));
    for (int64_t i = 0; i < d.n_seq; i++) {
        const struct span p = sequence(&d, i);
        longest = p.nq > longest ? p.nq : longest;
        end = p.q0 + p.nq > end ? p.q0 + p.nq : end;
    }
    memset(mcs_f32(s->out[0]) + end * d.ldy, 0, (size_t)((d.nq - end) * d.ldy) * 4);
    memset(mcs_f32(s->out[1]) + end * d.heads, 0, (size_t)((d.nq - end) * d.heads) * 4);
    const int64_t blocks = (longest + QB - 1) / QB;
#pragma omp parallel for schedule(dynamic) num_threads(n_threads(s, &d))
    for (int64_t task = 0; task < d.n_seq * d.heads * blocks; task++) {
        const int64_t block = task % blocks, head = task / blocks % d.heads, seq = task / blocks / d.heads;
        const struct span p = sequence(&d, seq);
        const int64_t mine = (p.nq + QB - 1) / QB; /* blocks of this sequence, of equal length */
        if (block >= mine) continue;
        const int64_t i0 = p.nq * block / mine, i1 = p.nq * (block + 1) / mine;
        const struct scratch t = scratch_at(&d, (float *)s->workspace + omp_get_thread_num() * scratch_floats(&d));
        enum mcs_status one = forward_block(s, &d, &t, seq, head, i0, i1 - i0);
        if (one != MCS_OK) {
#pragma omp atomic write
            st = one;
        }
    }
    return st;
}

/* ---- backward ---- */

static enum mcs_status backward_block(const struct step *s, const struct shape *d, const struct scratch *t, int64_t seq,
                                      int64_t head, int64_t i0, int64_t m, float *dtables)
{
    const struct span p = sequence(d, seq);
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
    MCS_TRY(block_rel_pos(d, t, s, q, i0, m));
    if (d->gh) {
        memset(t->drel_h, 0, (size_t)(m * d->gh) * 4);
        memset(t->drel_w, 0, (size_t)(m * wide(d)) * 4);
    }
    for (int64_t j = 0, kb = block_keys(d); j < p.nk; j += kb) {
        const int64_t n = p.nk - j < kb ? p.nk - j : kb;
        const float *weight = t->score;
        MCS_TRY(block_scores(d, t, q, k, m, j, n));
        softmax_from_lse(t->score, m, n, lse, d->heads);
        if (d->a->dropout_p > 0 && dv) {
            drop(d, seq, head, i0, m, j, n, t->score, t->dropped);
            weight = t->dropped;
        }
        if (dv) MCS_TRY(gemm_tn(m, n, d->hd, 1, weight, LD, dy, d->ldy, dv + j * d->ldv, d->ldv));
        if (!scored) continue;
        MCS_TRY(gemm_nt(m, n, d->hd, 1, dy, d->ldy, v + j * d->ldv, d->ldv, t->dscore, LD));
        if (d->a->dropout_p > 0) drop(d, seq, head, i0, m, j, n, t->dscore, t->dscore);
        softmax_bwd(t->score, t->dscore, m, n, delta);
        if (d->gh) sum_drel_pos(t->dscore, m, j, n, t->drel_h, t->drel_w, d->gh, d->gw, wide(d));
        if (dq) MCS_TRY(gemm_nn(m, n, d->hd, d->scale, t->dscore, LD, k + j * d->ldk, d->ldk, 1, dq, d->ldq));
        if (dk) MCS_TRY(gemm_tn(m, n, d->hd, d->scale, t->dscore, LD, q, d->ldq, dk + j * d->ldk, d->ldk));
    }
    if (!d->gh || !scored) return MCS_OK;
    float *dh = dtables, *dw = dtables ? dtables + (2 * d->gh - 1) * d->hd : NULL;
    MCS_TRY(rel_pos_bwd(d, q, i0, m, mcs_f32(s->in[5]), d->gh, d->gw, t->drel_h, d->gh, t->table, dq, dh));
    return rel_pos_bwd(d, q, i0, m, mcs_f32(s->in[6]), d->gw, 1, t->drel_w, wide(d), t->table, dq, dw);
}

static enum mcs_status backward_head(const struct step *s, const struct shape *d, const struct scratch *t, int64_t task,
                                     float *dtables)
{
    const int64_t head = task % d->heads, seq = task / d->heads;
    const struct span p = sequence(d, seq);
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

static enum mcs_status bwd(const struct step *s)
{
    const struct shape d = shape_of(s);
    const int64_t tasks = d.n_seq * d.heads, tables = (2 * d.gh + 2 * d.gw - 2) * d.hd;
    const int want_tables = d.gh && (s->din[5] || s->din[6]);
    const int64_t slots = want_tables ? (tasks < SLOTS ? tasks : SLOTS) : tasks;
    const int threads = n_threads(s, &d);
    float *partial = want_tables ? (float *)s->workspace + threads * scratch_floats(&d) : NULL;
    enum mcs_status st = MCS_OK;
    MCS_TRY(check_offsets(s, &d));
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
        const struct scratch t = scratch_at(&d, (float *)s->workspace + omp_get_thread_num() * scratch_floats(&d));
        for (int64_t task = tasks * slot / slots; task < tasks * (slot + 1) / slots; task++) {
            enum mcs_status one = backward_head(s, &d, &t, task, partial ? partial + slot * tables : NULL);
            if (one != MCS_OK) {
#pragma omp atomic write
                st = one;
            }
        }
    }
    if (want_tables && s->din[5])
        sum_slots(partial, slots, tables, mcs_f32(s->din[5]), (2 * d.gh - 1) * d.hd, s->beta[5]);
    if (want_tables && s->din[6])
        sum_slots(partial + (2 * d.gh - 1) * d.hd, slots, tables, mcs_f32(s->din[6]), (2 * d.gw - 1) * d.hd,
                  s->beta[6]);
    return st;
}

const struct op_impl mcs_cpu_attention = {prepare, fwd, bwd, NULL};

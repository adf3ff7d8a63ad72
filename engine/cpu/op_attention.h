/* Parts that the forward and the backward pass of attention on the CPU share (op_attention.c describes the method). A
 * block is up to QB queries of one sequence and head against up to KB keys. */
#ifndef MCS_CPU_ATTENTION_H
#define MCS_CPU_ATTENTION_H

#include "engine/backend.h"
#include "engine/base/rng.h"

enum {
    QB = 128,     /* queries per block */
    KB = 256,     /* keys per block */
    LD = KB + 16, /* row pitch of a block of scores: not a power of two, to avoid cache set conflicts */
};

struct attention_shape {
    int64_t heads, hd, n_seq, nq, nk; /* hd: head_dim; nq, nk: rows in all sequences */
    int64_t ldq, ldk, ldv, ldy;       /* row pitch of the tensors */
    int64_t gh, gw;                   /* grid of the relative positions; 0: none */
    const struct attention_attr *a;
    const int32_t *q_off, *k_off;
    float scale;
    struct mcs_rng rng;
};

/* A thread's buffers. */
struct attention_scratch {
    float *score, *dscore, *dropped;    /* (QB, LD) */
    float *out;                         /* (QB, hd) */
    float *row_max, *row_sum, *rescale; /* (QB) */
    float *rel_h, *rel_w;   /* (QB, gh), (QB, rel_w_pitch): bias of each query for keys by their row, by their column */
    float *drel_h, *drel_w; /* their gradients */
    float *table; /* (QB, 2 max(gh,gw) - 1): products of the queries with a position table, or their gradients */
};

struct attention_shape mcs_attention_shape_of(const struct step *s);
/* E_DATA: sequence offsets outside of the tensors. */
enum mcs_status mcs_attention_check_offsets(const struct step *s, const struct attention_shape *d);
/* Rows of a sequence: its first query and key, and their numbers. */
struct attention_span {
    int64_t q0, nq, k0, nk;
};
struct attention_span mcs_attention_sequence(const struct attention_shape *d, int64_t i);

/* The size of a thread's buffers in floats, and the buffers that start at p. */
int64_t mcs_attention_scratch_floats(const struct attention_shape *d);
struct attention_scratch mcs_attention_scratch_at(const struct attention_shape *d, float *p);
/* Row pitch of rel_w: gw rounded up to 16. */
int64_t mcs_attention_rel_w_pitch(const struct attention_shape *d);
/* Keys per block: whole rows of the grid where there is one, and an even number (dropout draws by pairs). */
int64_t mcs_attention_block_keys(const struct attention_shape *d);

/* rel_h and rel_w of the queries [i0, i0+m) at q, where the op has relative positions. */
enum mcs_status mcs_attention_block_rel_pos(const struct attention_shape *d, const struct attention_scratch *t,
                                            const struct step *s, const float *q, int64_t i0, int64_t m);
/* Scores of the queries [i0, i0+m), the first of them at q, and the keys [j0, j0+n) of a sequence, relative positions
 * included; -infinity where a causal mask hides the key. */
enum mcs_status mcs_attention_block_scores(const struct attention_shape *d, const struct attention_scratch *t,
                                           const float *q, const float *k, int64_t i0, int64_t m, int64_t j0,
                                           int64_t n);
/* Keys of a sequence that any of its queries [0, i1) sees: the first so many. */
int64_t mcs_attention_n_keys(const struct attention_shape *d, const struct attention_span *p, int64_t i1);
/* dst = src with dropped probabilities set to 0 and the others divided by 1 - p. */
void mcs_attention_drop(const struct attention_shape *d, int64_t seq, int64_t head, int64_t i0, int64_t m, int64_t j0,
                        int64_t n, const float *src, float *dst);

/* engine/cpu/attention_gemm.c. c (m,n) = alpha a b^T, a (m,hd), b (n,hd). */
enum mcs_status mcs_attention_gemm_nt(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                                      const float *b, int64_t ldb, float *c, int64_t ldc);
/* c (m,hd) = alpha a b + beta c, a (m,n), b (n,hd). */
enum mcs_status mcs_attention_gemm_nn(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                                      const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
/* c (n,hd) += alpha a^T b, a (m,n), b (m,hd). */
enum mcs_status mcs_attention_gemm_tn(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                                      const float *b, int64_t ldb, float *c, int64_t ldc);

/* engine/cpu/attention_bwd.c. Workspace bytes for partial sums of the gradients of the position tables; they follow the
 * threads' buffers. */
size_t mcs_attention_bwd_sum_bytes(const struct attention_shape *d);
/* Backward on `threads` threads. */
enum mcs_status mcs_attention_bwd(const struct step *s, const struct attention_shape *d, int threads);

#endif

/* attention and attn_guide, by the formulas of engine/tape/ops.def; rules in kernels/common/kernels.h. */
#ifndef MCS_KERNELS_ATTENTION_H
#define MCS_KERNELS_ATTENTION_H

#include "kernels/common/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* softmax(scale q k^T + rel) v by rows of q. q, k, v point at the first column of head 0; a head's columns lie side by
 * side (head_dim, at most 128), rows are *_ld elements apart: the three may lie in one packed tensor. Rows of q belong
 * to sequences by q_off and k_off (n_seq + 1, device memory), or, where these are NULL, to n_seq of q_len and k_len
 * rows each. Offsets are clipped to the tensors. Rows of q past the last offset give 0.
 *
 * rel_h (2 grid_h - 1, head_dim), rel_w (2 grid_w - 1, head_dim) or NULL: with q_len == k_len == grid_h grid_w only.
 * y (q_rows, heads head_dim), lse (q_rows, heads): natural log of the sum of exp; 0 without keys.
 * In bf16, relative positions together with dropout: head_dim up to 80 (cudaErrorNotSupported beyond).
 * dropout of the probabilities: the numbers of engine/cpu/op_attention.c, seed and step from `run`.
 *
 * Backward reads q, k, v, y, lse, dy, and dlse (q_rows, heads) or NULL; writes dq, dk, dv at columns and row strides of
 * q, k, v, all rows of all sequences and no other. workspace: 16-byte aligned, k_attention_{fwd,bwd}_bytes. */
struct k_attention {
    enum k_dtype dtype;
    int heads, head_dim, n_seq;
    int q_rows, k_rows, q_len, k_len;
    const int32_t *q_off, *k_off;
    const void *q, *k, *v;
    int64_t q_ld, k_ld, v_ld;
    const float *rel_h, *rel_w;
    int grid_h, grid_w;
    float scale, dropout_p;
    uint32_t site;
    int causal;    /* query i of a sequence sees its keys j <= i only; without rel_h and rel_w */
    int first_seq; /* number of sequence 0 in the draws */
    const struct k_run *run;
    void *y;
    float *lse;
    const void *dy;
    const float *dlse;
    void *dq, *dk, *dv;
    float *drel_h, *drel_w;
    float beta_q, beta_k, beta_v, beta_rel_h, beta_rel_w;
    void *workspace;
};
size_t k_attention_fwd_bytes(const struct k_attention *a);
size_t k_attention_bwd_bytes(const struct k_attention *a);
cudaError_t k_attention_fwd(const struct k_attention *a, cudaStream_t s);
cudaError_t k_attention_bwd(const struct k_attention *a, cudaStream_t s);

/* Attention of the first token on covered tokens: qkv, dqkv (batch, tokens, 3 heads head_dim), coverage (batch,
 * tokens), weight (batch), loss (1), attention (batch, heads_used, tokens), dloss (1). dqkv is written whole.
 * workspace: k_attn_guide_bytes, forward and backward alike. */
struct k_attn_guide {
    enum k_dtype dtype;
    int batch, tokens, heads, head_dim, heads_used;
    const void *qkv;
    const float *coverage, *weight, *dloss;
    float *loss, *attention;
    void *dqkv;
    float beta;
    void *workspace;
};
size_t k_attn_guide_bytes(const struct k_attn_guide *a);
cudaError_t k_attn_guide_fwd(const struct k_attn_guide *a, cudaStream_t s);
cudaError_t k_attn_guide_bwd(const struct k_attn_guide *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif

/* A pre-norm transformer block, x += attn(norm1(x)); x += mlp(norm2(x)): timm's (vision_transformer.Block) or OpenAI's
 * (ResidualAttentionBlock), which compute the same and differ in names. The caller opens the block's scope. */
#ifndef MCS_CLIP_BLOCK_H
#define MCS_CLIP_BLOCK_H

#include "engine/tape/graph.h"

struct clip_block {
    int64_t width, mlp;
    int heads;
    float eps;
    int openai, quick_gelu;
    int64_t len;           /* of all sequences, each of which sees itself whole */
    struct tensor *offset; /* or (n+1) int32: first row of each sequence, under a causal mask */
};

/* x (...,width) -> the same shape. *qkv, if qkv is not NULL: the packed q, k, v. */
struct tensor *mcs_clip_block(struct graph *g, struct tensor *x, const struct clip_block *b, struct tensor **qkv);

/* One row of each sequence: rows first + i*step, i < n, or those that an int32 tensor of n numbers gives. */
struct clip_rows {
    int64_t first, step, n;
    struct tensor *index;
};
struct tensor *mcs_clip_pick(struct graph *g, struct tensor *x, const struct clip_rows *r);
/* The part of a block that one row of each sequence needs, which sees the whole sequence: -> (n,width). frozen: the
 * weights take no gradient here, so that even q is computed for these rows only. *qkv, if qkv is not NULL and frozen is
 * 0: the packed q, k, v of all rows. */
struct tensor *mcs_clip_block_rows(struct graph *g, struct tensor *x, const struct clip_block *b,
                                   const struct clip_rows *r, int frozen, struct tensor **qkv);

/* The mean of each sequence's rows: x (rows,width) -> (n,width); offset as in clip_block, or len rows each. */
struct tensor *mcs_clip_mean(struct graph *g, struct tensor *x, int64_t n, int heads, int64_t len,
                             struct tensor *offset);

#endif

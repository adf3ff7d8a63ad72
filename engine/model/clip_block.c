#include "engine/model/clip_block.h"

#include "engine/model/layers.h"

#include <string.h>

/* Rows [row, row + rows) of the joined projection, all where rows is 0. */
static struct tensor *project_qkv(struct graph *g, struct tensor *x, const struct clip_block *b, int64_t row,
                                  int64_t rows)
{
    const int64_t n = 3 * b->width;
    if (!b->openai)
        return rows ? mcs_linear_rows(g, x, n, row, rows, "attn.qkv") : mcs_linear(g, x, n, BIAS, "attn.qkv");
    mcs_scope_begin(g, "attn");
    struct tensor *y = mcs_linear_named(g, x, n, row, rows, "in_proj_weight", "in_proj_bias", "in_proj");
    mcs_scope_end(g);
    return y;
}

static struct tensor *norm1(struct graph *g, struct tensor *x, const struct clip_block *b)
{
    return mcs_layernorm(g, x, b->eps, b->openai ? "ln_1" : "norm1");
}

static struct tensor *project_out(struct graph *g, struct tensor *h, const struct clip_block *b)
{
    return mcs_linear(g, h, b->width, BIAS, b->openai ? "attn.out_proj" : "attn.proj");
}

static struct tensor *mlp(struct graph *g, struct tensor *x, const struct clip_block *b)
{
    struct tensor *h = mcs_layernorm(g, x, b->eps, b->openai ? "ln_2" : "norm2");
    h = mcs_linear(g, h, b->mlp, BIAS, b->openai ? "mlp.c_fc" : "mlp.fc1");
    h = b->quick_gelu ? mcs_quick_gelu(g, h) : mcs_gelu(g, h);
    return mcs_add(g, x, mcs_linear(g, h, b->width, BIAS, b->openai ? "mlp.c_proj" : "mlp.fc2"));
}

struct tensor *mcs_clip_block(struct graph *g, struct tensor *x, const struct clip_block *b, struct tensor **qkv_out)
{
    const struct attention_attr a = {.heads = b->heads,
                                     .head_dim = (int)(b->width / b->heads),
                                     .k_col = b->width,
                                     .v_col = 2 * b->width,
                                     .q_len = b->offset ? 0 : b->len,
                                     .k_len = b->offset ? 0 : b->len,
                                     .causal = b->offset != NULL};
    struct tensor *qkv = project_qkv(g, norm1(g, x, b), b, 0, 0);
    struct tensor *h =
        mcs_apply(g, OP_attention, "attn", (struct tensor *[]){qkv, qkv, qkv, b->offset, b->offset, NULL, NULL}, &a);
    if (qkv_out) *qkv_out = qkv;
    return mlp(g, mcs_add(g, x, project_out(g, h, b)), b);
}

struct tensor *mcs_clip_pick(struct graph *g, struct tensor *x, const struct clip_rows *r)
{
    return r->index ? mcs_gather(g, x, r->index) : mcs_rows_every(g, x, r->first, r->step, r->n);
}

/* The numbers 0 to n: offsets of n sequences of one row. */
static struct tensor *one_each(struct graph *g, int64_t n)
{
    const int64_t dim = n + 1;
    int32_t *v = mcs_arena_alloc(&g->arena, (size_t)dim * sizeof *v);
    for (int64_t i = 0; v && i <= n; i++) v[i] = (int32_t)i;
    return mcs_constant(g, "one_each", MCS_I32, 1, &dim, v);
}

struct tensor *mcs_clip_block_rows(struct graph *g, struct tensor *x, const struct clip_block *b,
                                   const struct clip_rows *r, int frozen, struct tensor **qkv)
{
    struct attention_attr a = {.heads = b->heads,
                               .head_dim = (int)(b->width / b->heads),
                               .k_col = b->width,
                               .v_col = 2 * b->width,
                               .q_len = b->offset ? 0 : 1,
                               .k_len = b->offset ? 0 : b->len};
    struct tensor *h = norm1(g, x, b), *q, *kv, *q_off = b->offset ? one_each(g, r->n) : NULL;
    if (frozen) {
        q = project_qkv(g, mcs_clip_pick(g, h, r), b, 0, b->width);
        kv = project_qkv(g, h, b, b->width, 2 * b->width);
        a.k_col = 0;
        a.v_col = b->width;
    } else {
        kv = project_qkv(g, h, b, 0, 0);
        q = mcs_clip_pick(g, kv, r);
        if (qkv) *qkv = kv;
    }
    h = mcs_apply(g, OP_attention, "attn", (struct tensor *[]){q, kv, kv, q_off, b->offset, NULL, NULL}, &a);
    return mlp(g, mcs_add(g, mcs_clip_pick(g, x, r), project_out(g, h, b)), b);
}

/* Attention with queries of 0 weighs all keys alike. */
struct tensor *mcs_clip_mean(struct graph *g, struct tensor *x, int64_t n, int heads, int64_t len,
                             struct tensor *offset)
{
    const int64_t width = mcs_last(x), dim[] = {n, width};
    float *zeros = mcs_arena_alloc(&g->arena, (size_t)(n * width) * sizeof *zeros);
    if (zeros) memset(zeros, 0, (size_t)(n * width) * sizeof *zeros);
    const struct attention_attr a = {
        .heads = heads, .head_dim = (int)(width / heads), .q_len = offset ? 0 : 1, .k_len = offset ? 0 : len};
    struct tensor *q = mcs_constant(g, "zeros", MCS_F32, 2, dim, zeros), *q_off = offset ? one_each(g, n) : NULL;
    return mcs_apply(g, OP_attention, "mean", (struct tensor *[]){q, x, x, q_off, offset, NULL, NULL}, &a);
}

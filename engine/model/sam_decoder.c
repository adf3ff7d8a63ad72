/* SAM's mask decoder (mask_decoder.*): a two-way transformer between prompt tokens and the image, upscaling, and one
 * hypernetwork per mask. */
#include "engine/model/layers.h"
#include "engine/model/sam.h"

#include <stdio.h>

/* transformer.Attention: n_q and n_k rows per mask, inner width w. */
static struct tensor *attention(struct graph *g, struct tensor *q, struct tensor *k, struct tensor *v, int64_t w,
                                const struct sam_config *c, const char *name)
{
    const struct attention_attr a = {
        .heads = c->d_heads, .head_dim = (int)(w / c->d_heads), .q_len = q->dim[1], .k_len = k->dim[1]};
    mcs_scope_begin(g, "%s", name);
    q = mcs_linear(g, q, w, BIAS, "q_proj");
    k = mcs_linear(g, k, w, BIAS, "k_proj");
    v = mcs_linear(g, v, w, BIAS, "v_proj");
    struct tensor *y = mcs_apply(g, OP_attention, "", (struct tensor *[]){q, k, v, NULL, NULL, NULL, NULL}, &a);
    y = mcs_linear(g, y, c->embed, BIAS, "out_proj");
    mcs_scope_end(g);
    return y;
}

/* transformer.TwoWayAttentionBlock. t: tokens, p: their positions, x: image, i: its positions. eps is nn.LayerNorm's
 * default, 1e-5; segment-anything's LayerNorm2d has 1e-6. */
static void two_way(struct graph *g, struct tensor **t, struct tensor **x, struct tensor *p, struct tensor *i,
                    int first, const struct sam_config *c)
{
    const int64_t full = c->embed, half = c->embed / c->d_downsample;
    if (first) {
        *t = attention(g, *t, *t, *t, full, c, "self_attn"); /* no positions, no residual in the first layer */
    } else {
        struct tensor *q = mcs_add(g, *t, p);
        *t = mcs_add(g, *t, attention(g, q, q, *t, full, c, "self_attn"));
    }
    *t = mcs_layernorm(g, *t, 1e-5f, "norm1");
    struct tensor *q = mcs_add(g, *t, p), *k = mcs_add(g, *x, i);
    *t = mcs_layernorm(g, mcs_add(g, *t, attention(g, q, k, *x, half, c, "cross_attn_token_to_image")), 1e-5f, "norm2");
    struct tensor *h = mcs_relu(g, mcs_linear(g, *t, c->d_mlp, BIAS, "mlp.lin1"));
    *t = mcs_layernorm(g, mcs_add(g, *t, mcs_linear(g, h, c->embed, BIAS, "mlp.lin2")), 1e-5f, "norm3");
    q = mcs_add(g, *t, p);
    *x = mcs_layernorm(g, mcs_add(g, *x, attention(g, k, q, *t, half, c, "cross_attn_image_to_token")), 1e-5f, "norm4");
}

/* mask_decoder.MLP of three layers, ReLU between. */
static struct tensor *mlp3(struct graph *g, struct tensor *x, int64_t hidden, int64_t n_out)
{
    x = mcs_relu(g, mcs_linear(g, x, hidden, BIAS, "layers.0"));
    x = mcs_relu(g, mcs_linear(g, x, hidden, BIAS, "layers.1"));
    return mcs_linear(g, x, n_out, BIAS, "layers.2");
}

static struct tensor *upscale(struct graph *g, struct tensor *x, const struct sam_config *c)
{
    const int64_t two[] = {2, 2}, e = c->embed;
    mcs_scope_begin(g, "output_upscaling");
    x = mcs_conv_transpose(g, x, e / 4, two, mcs_init_fan_in(e), "0");
    x = mcs_gelu(g, mcs_layernorm(g, x, 1e-6f, "1"));
    x = mcs_gelu(g, mcs_conv_transpose(g, x, e / 8, two, mcs_init_fan_in(e / 4), "3"));
    mcs_scope_end(g);
    return x;
}

struct sam_output mcs_sam_decode(struct graph *g, struct tensor *embedding, struct tensor *image_of,
                                 const struct sam_prompt *prompt, const struct sam_config *c)
{
    const int64_t n = prompt->n, grid = mcs_sam_grid(c), e = c->embed, half = e / c->d_downsample,
                  n_tokens = 1 + SAM_MASKS + prompt->tokens;
    const struct init normal = {INIT_NORMAL, 1};
    struct tensor *dense = mcs_sam_dense(g, prompt, c), *position = mcs_sam_position(g, c);
    struct tensor *sparse =
        prompt->tokens ? mcs_reshape(g, mcs_sam_sparse(g, prompt, c), MCS_DIMS(n, prompt->tokens, e)) : NULL;

    struct tensor *x = mcs_gather(g, mcs_reshape(g, embedding, MCS_DIMS(embedding->dim[0], grid * grid * e)), image_of);
    x = mcs_add(g, mcs_reshape(g, x, MCS_DIMS(n, grid * grid, e)), dense);

    mcs_scope_begin(g, "mask_decoder");
    struct tensor *iou_token =
        mcs_reshape(g, mcs_param(g, "iou_token.weight", MCS_DIMS(1, e), normal), MCS_DIMS(1, 1, e));
    struct tensor *mask_tokens =
        mcs_reshape(g, mcs_param(g, "mask_tokens.weight", MCS_DIMS(SAM_MASKS, e), normal), MCS_DIMS(1, SAM_MASKS, e));
    struct tensor *t;
    if (sparse) {
        t = mcs_concat(g, 1, iou_token, mask_tokens, sparse, NULL);
    } else { /* no batch to broadcast over: repeat the learned tokens by row number */
        int32_t *row = mcs_arena_alloc(&g->arena, (size_t)(n * n_tokens) * sizeof *row);
        for (int64_t i = 0; row && i < n * n_tokens; i++) row[i] = (int32_t)(i % n_tokens);
        t = mcs_concat(g, 1, iou_token, mask_tokens, NULL, NULL);
        t = mcs_gather(g, t, mcs_constant(g, "tokens", MCS_I32, MCS_DIMS(n * n_tokens), row));
        t = mcs_reshape(g, t, MCS_DIMS(n, n_tokens, e));
    }
    struct tensor *p = t;
    mcs_scope_begin(g, "transformer");
    for (int i = 0; i < 2; i++) {
        mcs_scope_begin(g, "layers.%d", i);
        two_way(g, &t, &x, p, position, i == 0, c);
        mcs_scope_end(g);
    }
    struct tensor *h = attention(g, mcs_add(g, t, p), mcs_add(g, x, position), x, half, c, "final_attn_token_to_image");
    t = mcs_layernorm(g, mcs_add(g, t, h), 1e-5f, "norm_final_attn");
    mcs_scope_end(g);

    struct tensor *up = upscale(g, mcs_reshape(g, x, MCS_DIMS(n, grid, grid, e)), c), *hyper[SAM_MASKS];
    for (int i = 0; i < SAM_MASKS; i++) {
        mcs_scope_begin(g, "output_hypernetworks_mlps.%d", i);
        hyper[i] = mcs_reshape(g, mlp3(g, mcs_rows_every(g, t, 1 + i, n_tokens, n), e, e / 8), MCS_DIMS(n, 1, e / 8));
        mcs_scope_end(g);
    }
    struct tensor *all = mcs_concat(g, 1, hyper[0], hyper[1], hyper[2], hyper[3]);
    up = mcs_reshape(g, up, MCS_DIMS(n, 16 * grid * grid, e / 8));
    struct sam_output out;
    out.masks = mcs_apply(g, OP_bmm_nt, "masks", (struct tensor *[]){all, up}, NULL);
    mcs_scope_begin(g, "iou_prediction_head");
    out.iou = mlp3(g, mcs_rows_every(g, t, 0, n_tokens, n), e, SAM_MASKS);
    mcs_scope_end(g);
    mcs_scope_end(g);
    return out;
}

/* The image tower: timm's VisionTransformer, pre-norm, class token pooled (visual.trunk.*). */
#include "engine/model/clip.h"

#include "engine/model/layers.h"

static const struct init EMBEDDING = {INIT_NORMAL, 0.02f};

int mcs_clip_tokens(const struct clip_config *c)
{
    const int side = c->image_size / c->patch;
    return 1 + side * side;
}

struct tensor *mcs_clip_embed_image(struct graph *g, struct tensor *image, const struct clip_config *c)
{
    const int64_t tokens = mcs_clip_tokens(c), width = c->v_width, p = c->patch, batch = image->dim[0];
    mcs_scope_begin(g, "visual.trunk");
    struct tensor *cls = mcs_param(g, "cls_token", MCS_DIMS(1, 1, width), EMBEDDING);
    struct tensor *pos = mcs_param(g, "pos_embed", MCS_DIMS(1, tokens, width), EMBEDDING);
    struct tensor *x = mcs_conv(g, image, width, (int64_t[]){p, p}, (int64_t[]){p, p}, 0, BIAS,
                                mcs_init_fan_in(3 * p * p), "patch_embed.proj");
    x = mcs_reshape(g, x, MCS_DIMS(batch, tokens - 1, width));
    x = mcs_concat(g, 1, cls, x, NULL, NULL);
    x = mcs_add(g, x, mcs_reshape(g, pos, MCS_DIMS(tokens, width)));
    mcs_scope_end(g);
    return x;
}

static struct tensor *mlp(struct graph *g, struct tensor *x, const struct clip_config *c)
{
    struct tensor *h = mcs_layernorm(g, x, c->v_eps, "norm2");
    h = mcs_gelu(g, mcs_linear(g, h, c->v_mlp, BIAS, "mlp.fc1"));
    return mcs_add(g, x, mcs_linear(g, h, c->v_width, BIAS, "mlp.fc2"));
}

struct tensor *mcs_clip_blocks(struct graph *g, struct tensor *x, const struct clip_config *c, int from, int to,
                               struct tensor **qkv_of)
{
    for (int i = from; i < to; i++) {
        mcs_scope_begin(g, "visual.trunk.blocks.%d", i);
        struct tensor *h = mcs_layernorm(g, x, c->v_eps, "norm1");
        struct tensor *qkv = mcs_linear(g, h, 3 * (int64_t)c->v_width, BIAS, "attn.qkv");
        h = mcs_attention_packed(g, qkv, c->v_heads, mcs_clip_tokens(c), NULL, NULL, 0, 0);
        x = mcs_add(g, x, mcs_linear(g, h, c->v_width, BIAS, "attn.proj"));
        x = mlp(g, x, c);
        mcs_scope_end(g);
        if (qkv_of) *qkv_of++ = qkv;
    }
    return x;
}

struct tensor *mcs_clip_finish(struct graph *g, struct tensor *x, const struct clip_config *c, int frozen,
                               struct tensor **qkv)
{
    const int64_t width = c->v_width, tokens = mcs_clip_tokens(c), batch = x->dim[0];
    struct attention_attr a = {.heads = c->v_heads,
                               .head_dim = (int)(width / c->v_heads),
                               .k_col = width,
                               .v_col = 2 * width,
                               .q_len = 1,
                               .k_len = tokens};
    mcs_scope_begin(g, "visual.trunk");
    mcs_scope_begin(g, "blocks.%d", c->v_depth - 1);
    struct tensor *h = mcs_layernorm(g, x, c->v_eps, "norm1"), *q, *kv;
    if (frozen) {
        q = mcs_linear_rows(g, mcs_rows_every(g, h, 0, tokens, batch), 3 * width, 0, width, "attn.qkv");
        kv = mcs_linear_rows(g, h, 3 * width, width, 2 * width, "attn.qkv");
        a.k_col = 0;
        a.v_col = width;
    } else {
        kv = mcs_linear(g, h, 3 * width, BIAS, "attn.qkv");
        q = mcs_rows_every(g, kv, 0, tokens, batch);
        if (qkv) *qkv = kv;
    }
    h = mcs_apply(g, OP_attention, "attn", (struct tensor *[]){q, kv, kv, NULL, NULL, NULL, NULL}, &a);
    h = mcs_add(g, mcs_rows_every(g, x, 0, tokens, batch), mcs_linear(g, h, width, BIAS, "attn.proj"));
    h = mlp(g, h, c);
    mcs_scope_end(g);
    h = mcs_layernorm(g, h, c->v_eps, "norm");
    mcs_scope_end(g);
    return mcs_linear(g, h, c->embed, NO_BIAS, "visual.head.proj");
}

struct tensor *mcs_clip_image(struct graph *g, struct tensor *image, const struct clip_config *c)
{
    struct tensor *x = mcs_clip_embed_image(g, image, c);
    x = mcs_clip_blocks(g, x, c, 0, c->v_depth - 1, NULL);
    return mcs_clip_finish(g, x, c, 0, NULL);
}

struct m2ib mcs_clip_m2ib(struct graph *g, const struct clip_config *c, int layer, int64_t pairs, int64_t copies)
{
    const int64_t tokens = mcs_clip_tokens(c), width = c->v_width;
    struct m2ib m = {
        .x = mcs_input(g, "m2ib.x", MCS_F32, MCS_DIMS(pairs, tokens, width)),
        .alpha = mcs_input(g, "m2ib.alpha", MCS_F32, MCS_DIMS(pairs, tokens, width)),
        .noise = mcs_input(g, "m2ib.noise", MCS_F32, MCS_DIMS(pairs * copies, tokens, width)),
        .text = mcs_input(g, "m2ib.text", MCS_F32, MCS_DIMS(pairs, c->embed)),
    };
    m.alpha->wants_grad = 1;
    static const char *const everything[] = {"", NULL};
    g->frozen = everything;
    const struct step *s = mcs_record(g, OP_bottleneck, "m2ib", (struct tensor *[]){m.x, m.alpha, m.noise}, NULL);
    if (!s) return m;
    struct tensor *x = s->out[0];
    m.kl = mcs_keep(s->out[1]);
    m.map = mcs_keep(s->out[2]);
    x = mcs_clip_blocks(g, x, c, layer + 1, c->v_depth - 1, NULL);
    x = mcs_clip_finish(g, x, c, 1, NULL);
    m.fit = mcs_keep(mcs_apply(g, OP_cosine, "m2ib.fit", (struct tensor *[]){x, m.text}, NULL));
    return m;
}

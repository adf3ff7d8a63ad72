/* The image tower: timm's VisionTransformer (visual.trunk.*) or OpenAI's (visual.*), both pre-norm. */
#include "engine/model/clip.h"

#include "engine/model/clip_block.h"
#include "engine/model/layers.h"

static const struct init EMBEDDING = {INIT_NORMAL, 0.02f};

int mcs_clip_tokens(const struct clip_config *c)
{
    const int side = c->image_size / c->patch;
    return 1 + side * side;
}

static struct clip_block block(const struct clip_config *c)
{
    return (struct clip_block){.width = c->v_width,
                               .mlp = c->v_mlp,
                               .heads = c->v_heads,
                               .eps = c->v_eps,
                               .openai = c->v_openai,
                               .quick_gelu = c->v_quick_gelu,
                               .len = mcs_clip_tokens(c)};
}

static void begin_block(struct graph *g, const struct clip_config *c, int i)
{
    mcs_scope_begin(g, c->v_openai ? "visual.transformer.resblocks.%d" : "visual.trunk.blocks.%d", i);
}

/* Patches (B,T-1,width), class token and positions -> (B,T,width). */
static struct tensor *add_positions(struct graph *g, struct tensor *patches, struct tensor *cls, struct tensor *pos,
                                    const struct clip_config *c)
{
    const int64_t tokens = mcs_clip_tokens(c), width = c->v_width, batch = patches->dim[0];
    struct tensor *x = mcs_reshape(g, patches, MCS_DIMS(batch, tokens - 1, width));
    x = mcs_concat(g, 1, cls, x, NULL, NULL);
    return mcs_add(g, x, mcs_reshape(g, pos, MCS_DIMS(tokens, width)));
}

struct tensor *mcs_clip_embed_image(struct graph *g, struct tensor *image, const struct clip_config *c)
{
    const int64_t tokens = mcs_clip_tokens(c), width = c->v_width, p = c->patch;
    const struct init init = mcs_init_fan_in(3 * p * p);
    struct tensor *x;
    if (c->v_openai) { /* VisionTransformer._embeds */
        mcs_scope_begin(g, "visual");
        struct tensor *cls = mcs_param(g, "class_embedding", MCS_DIMS(width), EMBEDDING);
        struct tensor *pos = mcs_param(g, "positional_embedding", MCS_DIMS(tokens, width), EMBEDDING);
        x = mcs_conv(g, image, width, (int64_t[]){p, p}, (int64_t[]){p, p}, 0, NO_BIAS, init, "conv1");
        x = add_positions(g, x, mcs_reshape(g, cls, MCS_DIMS(1, 1, width)), pos, c);
        x = mcs_layernorm(g, x, c->v_eps, "ln_pre");
    } else {
        mcs_scope_begin(g, "visual.trunk");
        struct tensor *cls = mcs_param(g, "cls_token", MCS_DIMS(1, 1, width), EMBEDDING);
        struct tensor *pos = mcs_param(g, "pos_embed", MCS_DIMS(1, tokens, width), EMBEDDING);
        x = mcs_conv(g, image, width, (int64_t[]){p, p}, (int64_t[]){p, p}, 0, BIAS, init, "patch_embed.proj");
        x = add_positions(g, x, cls, pos, c);
    }
    mcs_scope_end(g);
    return x;
}

struct tensor *mcs_clip_blocks(struct graph *g, struct tensor *x, const struct clip_config *c, int from, int to,
                               struct tensor **qkv_of)
{
    const struct clip_block b = block(c);
    for (int i = from; i < to; i++) {
        begin_block(g, c, i);
        x = mcs_clip_block(g, x, &b, qkv_of ? qkv_of++ : NULL);
        mcs_scope_end(g);
    }
    return x;
}

/* The mean of the patches, without the class token: x (B,T,width) -> (B,width). */
static struct tensor *mean_of_patches(struct graph *g, struct tensor *x, const struct clip_config *c)
{
    const int64_t tokens = mcs_clip_tokens(c), batch = x->dim[0], n = batch * (tokens - 1);
    int32_t *index = mcs_arena_alloc(&g->arena, (size_t)n * sizeof *index);
    for (int64_t i = 0; index && i < n; i++) index[i] = (int32_t)(i / (tokens - 1) * tokens + 1 + i % (tokens - 1));
    x = mcs_gather(g, x, mcs_constant(g, "patches", MCS_I32, 1, &n, index));
    return mcs_clip_mean(g, x, batch, c->v_heads, tokens - 1, NULL);
}

struct tensor *mcs_clip_finish(struct graph *g, struct tensor *x, const struct clip_config *c, int frozen,
                               struct tensor **qkv)
{
    const int64_t tokens = mcs_clip_tokens(c), batch = x->dim[0];
    const struct clip_block b = block(c);
    const struct clip_rows first = {.step = tokens, .n = batch};
    const int mean = c->v_pool == CLIP_POOL_MEAN;
    begin_block(g, c, c->v_depth - 1);
    x = mean ? mcs_clip_block(g, x, &b, qkv) : mcs_clip_block_rows(g, x, &b, &first, frozen, qkv);
    mcs_scope_end(g);
    mcs_scope_begin(g, c->v_openai ? "visual" : "visual.trunk");
    x = mcs_layernorm(g, x, c->v_eps, c->v_openai ? "ln_post" : "norm");
    if (mean) x = mean_of_patches(g, x, c);
    if (c->v_openai) x = mcs_project(g, x, c->embed, "proj");
    mcs_scope_end(g);
    return c->v_openai ? x : mcs_linear(g, x, c->embed, NO_BIAS, "visual.head.proj");
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

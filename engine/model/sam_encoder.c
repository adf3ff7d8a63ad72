/* SAM's image encoder: a ViT with windows and some global blocks, decomposed relative positions, and a neck
 * (image_encoder.*). */
#include "engine/model/layers.h"
#include "engine/model/sam.h"

struct sam_config mcs_sam_vit_b(void)
{
    return (struct sam_config){.image_size = 1024,
                               .patch = 16,
                               .width = 768,
                               .depth = 12,
                               .heads = 12,
                               .window = 14,
                               .mlp = 3072,
                               .n_global = 4,
                               .global = {2, 5, 8, 11},
                               .embed = 256,
                               .d_heads = 8,
                               .d_mlp = 2048,
                               .d_downsample = 2,
                               .mask_in = 16};
}

int mcs_sam_grid(const struct sam_config *c)
{
    return c->image_size / c->patch;
}

static int is_global(const struct sam_config *c, int block)
{
    for (int i = 0; i < c->n_global; i++)
        if (c->global[i] == block) return 1;
    return 0;
}

static struct tensor *attention(struct graph *g, struct tensor *x, const struct sam_config *c)
{
    const int64_t side = x->dim[1], head_dim = c->width / c->heads;
    const struct init small = {INIT_NORMAL, 0.02f};
    mcs_scope_begin(g, "attn");
    struct tensor *rel_h = mcs_param(g, "rel_pos_h", MCS_DIMS(2 * side - 1, head_dim), small);
    struct tensor *rel_w = mcs_param(g, "rel_pos_w", MCS_DIMS(2 * side - 1, head_dim), small);
    struct tensor *h = mcs_linear(g, x, 3 * (int64_t)c->width, BIAS, "qkv");
    h = mcs_attention_packed(g, h, c->heads, side * side, rel_h, rel_w, (int)side, (int)side);
    h = mcs_linear(g, h, c->width, BIAS, "proj");
    mcs_scope_end(g);
    return h;
}

static struct tensor *block(struct graph *g, struct tensor *x, const struct sam_config *c,
                            int global) /* image_encoder.Block */
{
    struct tensor *h = mcs_layernorm(g, x, 1e-6f, "norm1");
    if (!global) h = mcs_window(g, h, c->window);
    h = attention(g, h, c);
    if (!global) h = mcs_unwindow(g, h, c->window, x->dim[1], x->dim[2]);
    x = mcs_add(g, x, h);
    h = mcs_layernorm(g, x, 1e-6f, "norm2");
    h = mcs_gelu(g, mcs_linear(g, h, c->mlp, BIAS, "mlp.lin1"));
    return mcs_add(g, x, mcs_linear(g, h, c->width, BIAS, "mlp.lin2"));
}

struct tensor *mcs_sam_encode(struct graph *g, struct tensor *image, const struct sam_config *c)
{
    const int64_t grid = mcs_sam_grid(c), p = c->patch, one[] = {1, 1}, three[] = {3, 3};
    mcs_scope_begin(g, "image_encoder");
    struct tensor *x = mcs_conv(g, image, c->width, (int64_t[]){p, p}, (int64_t[]){p, p}, 0, BIAS,
                                mcs_init_fan_in(3 * p * p), "patch_embed.proj");
    struct tensor *pos =
        mcs_param(g, "pos_embed", MCS_DIMS(1, grid, grid, c->width), (struct init){INIT_NORMAL, 0.02f});
    x = mcs_add(g, x, mcs_reshape(g, pos, MCS_DIMS(grid, grid, c->width)));
    for (int i = 0; i < c->depth; i++) {
        mcs_scope_begin(g, "blocks.%d", i);
        x = block(g, x, c, is_global(c, i));
        mcs_scope_end(g);
    }
    x = mcs_conv(g, x, c->embed, one, one, 0, NO_BIAS, mcs_init_fan_in(c->width), "neck.0");
    x = mcs_layernorm(g, x, 1e-6f, "neck.1");
    x = mcs_conv(g, x, c->embed, three, one, 1, NO_BIAS, mcs_init_fan_in(9 * (int64_t)c->embed), "neck.2");
    x = mcs_layernorm(g, x, 1e-6f, "neck.3");
    mcs_scope_end(g);
    return x;
}

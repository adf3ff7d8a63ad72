/* SAM's prompt encoder (prompt_encoder.*): points and boxes as Fourier features plus a learned embedding per kind,
 * masks by a small convolutional network. */
#include "engine/model/layers.h"
#include "engine/model/sam.h"

struct sam_prompt mcs_sam_prompt_inputs(struct graph *g, const struct sam_config *c, int64_t n, int64_t tokens,
                                        int with_mask)
{
    const int64_t side = 4 * (int64_t)mcs_sam_grid(c);
    struct sam_prompt p = {.n = n, .tokens = tokens};
    if (tokens) {
        p.coords = mcs_input(g, "prompt.coords", MCS_F32, MCS_DIMS(n * tokens, 2));
        p.label = mcs_input(g, "prompt.label", MCS_I32, MCS_DIMS(n * tokens));
        p.kind = mcs_input(g, "prompt.kind", MCS_I32, MCS_DIMS(n * tokens));
    }
    if (with_mask) p.mask = mcs_input(g, "prompt.mask", MCS_F32, MCS_DIMS(n, side, side, 1));
    return p;
}

static struct tensor *gaussian_matrix(struct graph *g, const struct sam_config *c)
{
    return mcs_buffer(g, "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", MCS_DIMS(2, c->embed / 2),
                      (struct init){INIT_NORMAL, 1});
}

static struct tensor *vector(struct graph *g, const struct sam_config *c, const char *name)
{
    return mcs_param(g, name, MCS_DIMS(1, c->embed), (struct init){INIT_NORMAL, 1}); /* nn.Embedding's init */
}

struct tensor *mcs_sam_sparse(struct graph *g, const struct sam_prompt *p, const struct sam_config *c)
{
    struct tensor *pe = mcs_apply(g, OP_fourier_pe, "prompt_encoder.pe_layer",
                                  (struct tensor *[]){p->coords, p->label, gaussian_matrix(g, c)}, NULL);
    mcs_scope_begin(g, "prompt_encoder");
    struct tensor *table =
        mcs_concat(g, 0, vector(g, c, "not_a_point_embed.weight"), vector(g, c, "point_embeddings.0.weight"),
                   vector(g, c, "point_embeddings.1.weight"), NULL);
    table = mcs_concat(g, 0, table, vector(g, c, "point_embeddings.2.weight"),
                       vector(g, c, "point_embeddings.3.weight"), NULL);
    mcs_scope_end(g);
    return mcs_add(g, mcs_gather(g, table, p->kind), pe);
}

struct tensor *mcs_sam_dense(struct graph *g, const struct sam_prompt *p, const struct sam_config *c)
{
    const int64_t two[] = {2, 2}, one[] = {1, 1}, grid = mcs_sam_grid(c), m = c->mask_in;
    mcs_scope_begin(g, "prompt_encoder");
    struct tensor *none = vector(g, c, "no_mask_embed.weight"), *x = p->mask;
    if (!x) {
        mcs_scope_end(g);
        return mcs_reshape(g, none, MCS_DIMS(c->embed));
    }
    mcs_scope_begin(g, "mask_downscaling");
    x = mcs_conv(g, x, m / 4, two, two, 0, BIAS, mcs_init_fan_in(4), "0");
    x = mcs_gelu(g, mcs_layernorm(g, x, 1e-6f, "1"));
    x = mcs_conv(g, x, m, two, two, 0, BIAS, mcs_init_fan_in(m), "3");
    x = mcs_gelu(g, mcs_layernorm(g, x, 1e-6f, "4"));
    x = mcs_conv(g, x, c->embed, one, one, 0, BIAS, mcs_init_fan_in(m), "6");
    mcs_scope_end(g);
    mcs_scope_end(g);
    return mcs_reshape(g, x, MCS_DIMS(p->n, grid * grid, c->embed));
}

struct tensor *mcs_sam_position(struct graph *g, const struct sam_config *c)
{
    const int64_t grid = mcs_sam_grid(c);
    float *at = mcs_arena_alloc(&g->arena, (size_t)(2 * grid * grid) * sizeof *at);
    for (int64_t y = 0; at && y < grid; y++)
        for (int64_t x = 0; x < grid; x++) {
            at[2 * (y * grid + x)] = ((float)x + 0.5f) / (float)grid;
            at[2 * (y * grid + x) + 1] = ((float)y + 0.5f) / (float)grid;
        }
    struct tensor *coords = mcs_constant(g, "prompt.grid", MCS_F32, MCS_DIMS(grid * grid, 2), at);
    return mcs_apply(g, OP_fourier_pe, "prompt_encoder.pe_layer",
                     (struct tensor *[]){coords, NULL, gaussian_matrix(g, c)}, NULL);
}

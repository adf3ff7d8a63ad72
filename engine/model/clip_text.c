/* The text tower: HF's BertModel, post-norm, its first token projected by an MLP (text.*), and the configurations. */
#include "engine/model/clip.h"

#include "engine/model/layers.h"

#include <math.h>

static const struct init EMBEDDING = {INIT_NORMAL, 0.02f};

struct clip_config mcs_clip_biomed(void)
{
    return (struct clip_config){
        .embed = 512,
        .image_size = 224,
        .patch = 16,
        .v_width = 768,
        .v_depth = 12,
        .v_heads = 12,
        .v_mlp = 3072,
        .v_eps = 1e-6f,
        .vocab = 30522,
        .context = 256,
        .positions = 512,
        .types = 2,
        .t_width = 768,
        .t_depth = 12,
        .t_heads = 12,
        .t_mlp = 3072,
        .t_proj = 640,
        .t_eps = 1e-12f,
        .dropout = 0.1f,
        .mean = {0.48145466f, 0.4578275f, 0.40821073f},
        .std = {0.26862954f, 0.26130258f, 0.27577711f},
    };
}

struct clip_text mcs_clip_text_inputs(struct graph *g, int64_t n_texts, int64_t n_tokens)
{
    return (struct clip_text){
        .ids = mcs_input(g, "text.ids", MCS_I32, MCS_DIMS(n_tokens)),
        .position = mcs_input(g, "text.position", MCS_I32, MCS_DIMS(n_tokens)),
        .offset = mcs_input(g, "text.offset", MCS_I32, MCS_DIMS(n_texts + 1)),
        .key = mcs_input(g, "text.key", MCS_I32, MCS_DIMS(n_tokens)),
    };
}

static struct tensor *embed(struct graph *g, struct tensor *index, int64_t rows, int64_t width, const char *name)
{
    mcs_scope_begin(g, "%s", name);
    struct tensor *table = mcs_param(g, "weight", MCS_DIMS(rows, width), EMBEDDING);
    struct tensor *y = mcs_gather(g, table, index);
    mcs_scope_end(g);
    return y;
}

static struct tensor *embeddings(struct graph *g, const struct clip_text *t, const struct clip_config *c)
{
    const int64_t n = t->ids->dim[0];
    const int32_t *zeros = mcs_arena_alloc(&g->arena, (size_t)n * sizeof *zeros);
    struct tensor *type = mcs_constant(g, "text.type", MCS_I32, 1, &n, zeros);
    struct tensor *x = embed(g, t->ids, c->vocab, c->t_width, "word_embeddings");
    x = mcs_add(g, x, embed(g, type, c->types, c->t_width, "token_type_embeddings"));
    x = mcs_add(g, x, embed(g, t->position, c->positions, c->t_width, "position_embeddings"));
    return mcs_layernorm(g, x, c->t_eps, "LayerNorm");
}

struct tensor *mcs_clip_text(struct graph *g, const struct clip_text *t, const struct clip_config *c, int train)
{
    const float p = train ? c->dropout : 0;
    const int64_t width = c->t_width, n_texts = t->offset->dim[0] - 1;
    mcs_scope_begin(g, "text.transformer");
    mcs_scope_begin(g, "embeddings");
    struct tensor *x = mcs_dropout(g, embeddings(g, t, c), p, t->key, "dropout");
    mcs_scope_end(g);
    for (int i = 0; i < c->t_depth; i++) { /* BertLayer */
        const struct attention_attr a = {.heads = c->t_heads,
                                         .head_dim = (int)(width / c->t_heads),
                                         .dropout_p = p,
                                         .site = (uint32_t)(0xB0 + i), /* other dropouts: a hash of their scope */
                                         .first_seq = t->first};
        mcs_scope_begin(g, "encoder.layer.%d", i);
        struct tensor *q = mcs_linear(g, x, width, BIAS, "attention.self.query");
        struct tensor *k = mcs_linear(g, x, width, BIAS, "attention.self.key");
        struct tensor *v = mcs_linear(g, x, width, BIAS, "attention.self.value");
        struct tensor *h = mcs_apply(g, OP_attention, "attention.self",
                                     (struct tensor *[]){q, k, v, t->offset, t->offset, NULL, NULL}, &a);
        h = mcs_dropout(g, mcs_linear(g, h, width, BIAS, "attention.output.dense"), p, t->key,
                        "attention.output.dropout");
        x = mcs_layernorm(g, mcs_add(g, h, x), c->t_eps, "attention.output.LayerNorm");
        h = mcs_gelu(g, mcs_linear(g, x, c->t_mlp, BIAS, "intermediate.dense"));
        h = mcs_dropout(g, mcs_linear(g, h, width, BIAS, "output.dense"), p, t->key, "output.dropout");
        x = mcs_layernorm(g, mcs_add(g, h, x), c->t_eps, "output.LayerNorm");
        mcs_scope_end(g);
    }
    mcs_scope_end(g);
    /* The first n_texts offsets are the rows of the class tokens. */
    x = mcs_gather(g, x, mcs_alias(g, t->offset, 1, &n_texts));
    mcs_scope_begin(g, "text.proj");
    x = mcs_gelu(g, mcs_linear(g, x, c->t_proj, NO_BIAS, "0"));
    x = mcs_linear(g, x, c->embed, NO_BIAS, "2");
    mcs_scope_end(g);
    return x;
}

struct tensor *mcs_clip_logit_scale(struct graph *g)
{
    /* CLIP's initial temperature, 0.07 */
    return mcs_param(g, "logit_scale", 0, NULL, (struct init){INIT_CONST, logf(1 / 0.07f)});
}

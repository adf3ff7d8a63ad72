/* The text tower: HF's BertModel, post-norm, its first token or their mean projected (text.*), or OpenAI's pre-norm
 * transformer; and the configurations. */
#include "engine/model/clip.h"

#include "engine/model/clip_block.h"
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

/* open_clip's TextTransformer: causal, pooled at the last token of each caption. */
static struct tensor *openai_text(struct graph *g, const struct clip_text *t, const struct clip_config *c)
{
    const int64_t n_texts = t->offset->dim[0] - 1;
    const struct clip_block b = {.width = c->t_width,
                                 .mlp = c->t_mlp,
                                 .heads = c->t_heads,
                                 .eps = c->t_eps,
                                 .openai = 1,
                                 .quick_gelu = c->t_quick_gelu,
                                 .offset = t->offset};
    const struct clip_rows last = {.n = n_texts, .index = mcs_alias(g, t->key, 1, &n_texts)};
    if (c->custom_text) mcs_scope_begin(g, "text");
    struct tensor *positions = mcs_param(g, "positional_embedding", MCS_DIMS(c->positions, c->t_width), EMBEDDING);
    struct tensor *x = embed(g, t->ids, c->vocab, c->t_width, "token_embedding");
    x = mcs_add(g, x, mcs_gather(g, positions, t->position));
    for (int i = 0; i < c->t_depth; i++) {
        mcs_scope_begin(g, "transformer.resblocks.%d", i);
        x = i + 1 < c->t_depth ? mcs_clip_block(g, x, &b, NULL) : mcs_clip_block_rows(g, x, &b, &last, 0, NULL);
        mcs_scope_end(g);
    }
    x = mcs_project(g, mcs_layernorm(g, x, c->t_eps, "ln_final"), c->embed, "text_projection");
    if (c->custom_text) mcs_scope_end(g);
    return x;
}

/* A constant (rows,cols) of 1 in its first and -1 in its second element. */
static struct tensor *plus_minus(struct graph *g, int64_t rows, int64_t cols)
{
    static const float signs[] = {1, -1};
    return mcs_constant(g, "signs", MCS_F32, 2, (int64_t[]){rows, cols}, signs);
}

/* BertPooler: tanh(linear(x)). tanh z = s0 - s1, s = softmax(z, -z). */
static struct tensor *bert_pooler(struct graph *g, struct tensor *x, const struct clip_config *c)
{
    const int64_t n = x->dim[0], width = c->t_width;
    const struct linear_attr all = {0};
    mcs_scope_begin(g, "text.transformer.pooler");
    x = mcs_linear(g, x, width, BIAS, "dense");
    x = mcs_reshape(g, x, MCS_DIMS(n * width, 1));
    x = mcs_apply(g, OP_linear, "both", (struct tensor *[]){x, plus_minus(g, 2, 1), NULL}, &all);
    x = mcs_apply(g, OP_softmax, "softmax", &x, NULL);
    x = mcs_apply(g, OP_linear, "tanh", (struct tensor *[]){x, plus_minus(g, 1, 2), NULL}, &all);
    mcs_scope_end(g);
    return mcs_reshape(g, x, MCS_DIMS(n, width));
}

/* HFTextEncoder.proj */
static struct tensor *project_bert(struct graph *g, struct tensor *x, const struct clip_config *c)
{
    if (c->t_proj < 0) return x;
    if (!c->t_proj) return mcs_linear(g, x, c->embed, NO_BIAS, "text.proj");
    mcs_scope_begin(g, "text.proj");
    x = mcs_gelu(g, mcs_linear(g, x, c->t_proj, NO_BIAS, "0"));
    x = mcs_linear(g, x, c->embed, NO_BIAS, "2");
    mcs_scope_end(g);
    return x;
}

static struct tensor *bert_text(struct graph *g, const struct clip_text *t, const struct clip_config *c, int train)
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
    x = c->t_pool == CLIP_POOL_MEAN ? mcs_clip_mean(g, x, n_texts, c->t_heads, 0, t->offset)
                                    : mcs_gather(g, x, mcs_alias(g, t->offset, 1, &n_texts));
    return project_bert(g, c->t_pool == CLIP_POOL_TANH ? bert_pooler(g, x, c) : x, c);
}

struct tensor *mcs_clip_text(struct graph *g, const struct clip_text *t, const struct clip_config *c, int train)
{
    return c->t_openai ? openai_text(g, t, c) : bert_text(g, t, c, train);
}

struct tensor *mcs_clip_logit_scale(struct graph *g)
{
    /* CLIP's initial temperature, 0.07 */
    return mcs_param(g, "logit_scale", 0, NULL, (struct init){INIT_CONST, logf(1 / 0.07f)});
}

#include "data/io/file.h"
#include "data/lesions/demo_start.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/base/text_cut.h"
#include "engine/model/layers.h"
#include "train/clip/clip_train.h"
#include "train/demo/start_models.h"
#include "train/run/training_data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    GUIDED_HEADS = 3,    /* heads per block whose attention is guided; the others stay free */
    WORD_SAMPLES = 2000, /* captions from which the words' frequencies are estimated */
    FIRST_WORD = 5,      /* id of the first word, after the special tokens */
    TOKENS_MAX = 1 + 12 * 12
};

struct clip_config mcs_demo_clip_config(void)
{
    return (struct clip_config){.embed = 128,
                                .image_size = 96,
                                .patch = 8,
                                .v_width = 128,
                                .v_depth = 4,
                                .v_heads = 4,
                                .v_mlp = 512,
                                .v_eps = 1e-6f,
                                .vocab = 0,
                                .context = 28,
                                .positions = 28,
                                .types = 2,
                                .t_width = 128,
                                .t_depth = 2,
                                .t_heads = 4,
                                .t_mlp = 512,
                                .t_proj = 128,
                                .t_eps = 1e-12f,
                                .mean = {.25f, .25f, .25f},
                                .std = {.27f, .27f, .27f}};
}

/* Inputs of the auxiliary losses in one session. */
struct loss_inputs {
    struct tensor *words, *word_weight, *dense, *dense_weight, *coverage, *guided; /* NULL: not in the recipe */
};

struct maker {
    const struct demo_start_options *o;
    struct demo_atlas atlas;
    struct clip_model model;
    struct demo_clip_start *samples; /* of the batch */
    float *word_weight;              /* (vocab); rare words have larger weights */
    float *words, *weights, *dense, *dense_weight, *coverage, *guided;
    struct loss_inputs inputs[CLIP_MAX_BUCKETS]; /* of each session */
    int n_sessions;
};

static struct tensor *image_words(struct graph *g, struct tensor *embedding, const struct clip_config *c)
{
    return mcs_linear(g, embedding, c->vocab, BIAS, "start.words");
}

static struct tensor *attributes(struct graph *g, struct tensor *tokens)
{
    return mcs_linear(g, tokens, DEMO_COLUMNS, BIAS, "start.dense");
}

/* Logits of the vocabulary's words (batch,vocab) from the patches: each word has a query, attends to the patches, and a
 * small network, the same for all words, turns the result into a logit. tokens (batch,T,width), the class token first,
 * left out. */
static struct tensor *token_words(struct graph *g, struct tensor *tokens, const struct clip_config *c, int64_t batch)
{
    const int64_t n = mcs_clip_tokens(c), patches = n - 1, vocab = c->vocab, width = c->v_width;
    int32_t *row = malloc((size_t)(batch * (vocab > patches ? vocab : patches)) * sizeof *row);
    if (!row) {
        if (g->status == MCS_OK) g->status = MCS_E_NOMEM;
        return tokens;
    }
    for (int64_t i = 0; i < batch * patches; i++) row[i] = (int32_t)(i / patches * n + 1 + i % patches);
    struct tensor *x = mcs_gather(g, tokens, mcs_constant(g, "start.patches", MCS_I32, MCS_DIMS(batch * patches), row));
    for (int64_t i = 0; i < batch * vocab; i++) row[i] = (int32_t)(i % vocab);
    struct tensor *table = mcs_param(g, "start.queries", MCS_DIMS(vocab, width), (struct init){INIT_NORMAL, 0.02f});
    struct tensor *query = mcs_gather(g, table, mcs_constant(g, "start.rows", MCS_I32, MCS_DIMS(batch * vocab), row));
    free(row);
    x = mcs_linear(g, x, 2 * width, BIAS, "start.keys");
    const struct attention_attr a = {
        .heads = c->v_heads, .head_dim = c->v_width / c->v_heads, .v_col = width, .q_len = vocab, .k_len = patches};
    struct tensor *found =
        mcs_apply(g, OP_attention, "start.attention", (struct tensor *[]){query, x, x, NULL, NULL, NULL, NULL}, &a);
    struct tensor *h = mcs_gelu(g, mcs_linear(g, mcs_add(g, found, query), width, BIAS, "start.judge"));
    return mcs_reshape(g, mcs_linear(g, h, 1, BIAS, "start.verdict"), MCS_DIMS(batch, vocab));
}

/* A recipe's heads declare their parameters by the same calls as build_losses. */
static void name_mask_heads(struct graph *g, const struct clip_config *c)
{
    const int64_t tokens = mcs_clip_tokens(c);
    image_words(g, mcs_input(g, "start.image", MCS_F32, MCS_DIMS(1, c->embed)), c);
    struct tensor *x = mcs_input(g, "start.tokens", MCS_F32, MCS_DIMS(1, tokens, c->v_width));
    attributes(g, x);
}

static void name_token_heads(struct graph *g, const struct clip_config *c)
{
    const int64_t tokens = mcs_clip_tokens(c);
    image_words(g, mcs_input(g, "start.image", MCS_F32, MCS_DIMS(1, c->embed)), c);
    token_words(g, mcs_input(g, "start.tokens", MCS_F32, MCS_DIMS(1, tokens, c->v_width)), c, 1);
}

static void name_word_head(struct graph *g, const struct clip_config *c)
{
    image_words(g, mcs_input(g, "start.image", MCS_F32, MCS_DIMS(1, c->embed)), c);
}

/* The losses that see masks. Returns their number. */
static int build_mask_losses(const struct maker *m, struct graph *g, const struct clip_nodes *n, struct loss_inputs *p,
                             struct tensor **loss, float *weight, const char **name)
{
    const struct clip_config *c = &m->model.config;
    const int64_t batch = m->o->batch, tokens = mcs_clip_tokens(c);
    p->dense = mcs_input(g, "start.dense.target", MCS_F32, MCS_DIMS(batch, tokens, DEMO_COLUMNS));
    p->dense_weight = mcs_input(g, "start.dense.weight", MCS_F32, MCS_DIMS(batch, tokens, DEMO_COLUMNS));
    p->coverage = mcs_input(g, "start.coverage", MCS_F32, MCS_DIMS(batch, tokens));
    p->guided = mcs_input(g, "start.guided", MCS_F32, MCS_DIMS(batch));
    const struct guide_attr guide = {
        .heads = c->v_heads, .head_dim = c->v_width / c->v_heads, .heads_used = GUIDED_HEADS};
    struct tensor *dense = attributes(g, n->tokens);
    loss[0] = mcs_apply(g, OP_bce, "start.dense.loss", (struct tensor *[]){dense, p->dense, p->dense_weight}, NULL);
    name[0] = "dense", weight[0] = 4;
    for (int i = 0; i < 2; i++) {
        loss[1 + i] = mcs_apply(g, OP_attn_guide, i ? "start.guide.1" : "start.guide.0",
                                (struct tensor *[]){n->qkv[i], p->coverage, p->guided}, &guide);
        name[1 + i] = i ? "guide_last" : "guide_before", weight[1 + i] = 0.25f;
    }
    return 3;
}

static int build_losses(void *ctx, struct graph *g, const struct clip_nodes *n, struct tensor *loss[CLIP_MAX_EXTRA],
                        float weight[CLIP_MAX_EXTRA], const char *name[CLIP_MAX_EXTRA])
{
    struct maker *m = ctx;
    const struct clip_config *c = &m->model.config;
    const int64_t batch = m->o->batch;
    struct loss_inputs *p = &m->inputs[m->n_sessions++];
    p->words = mcs_input(g, "start.words.target", MCS_F32, MCS_DIMS(batch, c->vocab));
    p->word_weight = mcs_input(g, "start.words.weight", MCS_F32, MCS_DIMS(batch, c->vocab));
    struct tensor *words = image_words(g, n->image_embedding, c);
    loss[0] = mcs_apply(g, OP_bce, "start.words.loss", (struct tensor *[]){words, p->words, p->word_weight}, NULL);
    name[0] = "words", weight[0] = 4;
    if (m->o->recipe == DEMO_RECIPE_MASKS) return 1 + build_mask_losses(m, g, n, p, loss + 1, weight + 1, name + 1);
    if (m->o->recipe == DEMO_RECIPE_CAPTIONS) return 1;
    struct tensor *found = token_words(g, n->tokens, c, batch);
    loss[1] = mcs_apply(g, OP_bce, "start.tokens.loss", (struct tensor *[]){found, p->words, p->word_weight}, NULL);
    name[1] = "token_words", weight[1] = 4;
    return 2;
}

static enum mcs_status fill_losses(void *ctx, int session, struct exec *e)
{
    struct maker *m = ctx;
    const struct loss_inputs *p = &m->inputs[session];
    MCS_TRY(mcs_exec_set(e, p->words, m->words));
    MCS_TRY(mcs_exec_set(e, p->word_weight, m->weights));
    if (!p->dense) return MCS_OK;
    MCS_TRY(mcs_exec_set(e, p->dense, m->dense));
    MCS_TRY(mcs_exec_set(e, p->dense_weight, m->dense_weight));
    MCS_TRY(mcs_exec_set(e, p->coverage, m->coverage));
    return mcs_exec_set(e, p->guided, m->guided);
}

/* Share of each patch that an object covers, in the model's view of the image. */
static void patch_coverage(const struct clip_config *c, const uint8_t *mask, float *coverage)
{
    const int side = c->image_size / c->patch;
    const double pixels = (double)DEMO_SIZE / side;
    coverage[0] = 0; /* the class token */
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            int on = 0, all = 0;
            for (int r = (int)(y * pixels); r < (int)((y + 1) * pixels); r++)
                for (int q = (int)(x * pixels); q < (int)((x + 1) * pixels); q++) on += mask[r * DEMO_SIZE + q], all++;
            coverage[1 + y * side + x] = (float)on / (float)all;
        }
}

static void set_targets(struct maker *m, int i)
{
    const struct clip_config *c = &m->model.config;
    const struct demo_clip_start *s = &m->samples[i];
    const int64_t tokens = mcs_clip_tokens(c);
    float *words = m->words + (int64_t)i * c->vocab, *coverage = m->coverage + i * tokens;
    int32_t ids[64];
    int n;
    memset(words, 0, (size_t)c->vocab * sizeof *words);
    if (mcs_tokenizer_encode(m->model.tokenizer, s->caption, c->context, ids, &n) == MCS_OK)
        for (int k = 0; k < n; k++)
            if (ids[k] >= FIRST_WORD) words[ids[k]] = 1;
    memcpy(m->weights + (int64_t)i * c->vocab, m->word_weight, (size_t)c->vocab * sizeof(float));
    float *dense = m->dense + i * tokens * DEMO_COLUMNS, *weight = m->dense_weight + i * tokens * DEMO_COLUMNS;
    memset(coverage, 0, (size_t)tokens * sizeof *coverage);
    memset(dense, 0, (size_t)(tokens * DEMO_COLUMNS) * sizeof *dense);
    for (int o = 0; o < s->n_objects; o++) {
        float one[TOKENS_MAX];
        patch_coverage(c, s->object[o].mask, one);
        for (int64_t t = 0; t < tokens; t++) {
            coverage[t] = fminf(1, coverage[t] + one[t]);
            for (int k = 0; k < DEMO_COLUMNS; k++)
                dense[t * DEMO_COLUMNS + k] += one[t] * (float)s->object[o].column[k]; /* objects do not overlap */
        }
    }
    for (int64_t t = 0; t < tokens; t++)
        for (int k = 0; k < DEMO_COLUMNS; k++)
            weight[t * DEMO_COLUMNS + k] =
                t ? 1 + 4 * coverage[t] : 0; /* larger for object patches, since they are few */
    m->guided[i] = s->n_objects ? 1.0f / (float)m->o->batch : 0;
}

static enum mcs_status fill_batch(void *ctx, int64_t step, struct clip_batch *b)
{
    struct maker *m = ctx;
    const struct clip_config *c = &m->model.config;
    const int64_t pixels = (int64_t)c->image_size * c->image_size * 3;
    enum mcs_status failure = MCS_OK;
    char message[256] = "";
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < m->o->batch; i++) {
        const uint32_t id = (uint32_t)(step * m->o->batch + i);
        mcs_demo_clip_start(&m->atlas, &m->o->data, (uint64_t)m->o->seed, id, &m->samples[i]);
        const struct image img = {DEMO_SIZE, DEMO_SIZE, 1, m->samples[i].image};
        const enum mcs_status st = mcs_clip_prepare(c, &img, CLIP_VIEW_WHOLE, b->images + i * pixels);
        b->texts[i] = m->samples[i].caption;
        b->sample[i] = (int32_t)(id & 0xFFFFF); /* must be below 2^21 */
        set_targets(m, (int)i);
        if (st == MCS_OK) continue;
#pragma omp critical /* error messages are per thread: keep the first for the caller's */
        if (failure == MCS_OK) failure = st, mcs_text_cut(message, sizeof message, "%s", mcs_error_message());
        mcs_error_clear();
    }
    return failure == MCS_OK ? MCS_OK : MCS_FAIL(failure, "%s", message);
}

/* Weight of a word: log of its inverse frequency in captions, scaled to mean 1 over the words in use. */
static enum mcs_status weigh_words(struct maker *m)
{
    const int vocab = m->model.config.vocab;
    int32_t ids[64];
    int n;
    double sum = 0;
    struct demo_clip_start *s = malloc(sizeof *s);
    MCS_REQUIRE(s, MCS_E_NOMEM, "no memory for a sample");
    for (uint32_t k = 0; k < WORD_SAMPLES; k++) {
        uint8_t seen[4096] = {0}; /* the vocabulary has fewer words */
        mcs_demo_clip_start(&m->atlas, &m->o->data, (uint64_t)m->o->seed, k, s);
        const enum mcs_status st =
            mcs_tokenizer_encode(m->model.tokenizer, s->caption, m->model.config.context, ids, &n);
        if (st != MCS_OK) {
            free(s);
            return mcs_trace(st, __FILE__, __LINE__);
        }
        for (int i = 0; i < n; i++)
            if (ids[i] >= FIRST_WORD && ids[i] < 4096 && !seen[ids[i]]) seen[ids[i]] = 1, m->word_weight[ids[i]] += 1;
    }
    free(s);
    for (int w = 0; w < vocab; w++) {
        m->word_weight[w] = m->word_weight[w] > 0 ? logf((WORD_SAMPLES + 1) / m->word_weight[w]) : 0;
        sum += (double)m->word_weight[w];
    }
    for (int w = 0; w < vocab; w++) m->word_weight[w] *= (float)(vocab / sum);
    return MCS_OK;
}

static enum mcs_status write_vocabulary(const struct demo_atlas *atlas, const char *path)
{
    char *text;
    MCS_TRY(mcs_demo_vocabulary(atlas, &text, NULL));
    const enum mcs_status st = mcs_file_write(path, text, (int64_t)strlen(text));
    free(text);
    return st;
}

enum mcs_status mcs_demo_start_clip(const struct demo_start_options *o)
{
    struct maker m = {.o = o};
    struct clip_config c = mcs_demo_clip_config();
    char path[MCS_PATH_BYTES];
    static void (*const heads[])(struct graph *, const struct clip_config *) = {name_mask_heads, name_word_head,
                                                                                name_token_heads};
    MCS_REQUIRE(!o->comm, MCS_E_USAGE, "demo-start clip: its auxiliary losses need a single rank; drop --gpus");
    MCS_TRY(mcs_demo_atlas_load(o->atlas, &m.atlas));
    MCS_TRY(mcs_folder_make(o->out));
    MCS_TRY(mcs_path(path, "%s/vocab.txt", o->out));
    MCS_TRY(write_vocabulary(&m.atlas, path));
    MCS_TRY(mcs_clip_model_new(&c, path, (uint64_t)o->seed, o->device, heads[o->recipe], &m.model));
    c = m.model.config;
    const int64_t tokens = mcs_clip_tokens(&c), dense = tokens * DEMO_COLUMNS;
    const int64_t counts[] = {c.vocab,          o->batch * c.vocab, o->batch * c.vocab,
                              o->batch * dense, o->batch * dense,   o->batch * tokens,
                              o->batch};
    float **fields[] = {&m.word_weight, &m.words, &m.weights, &m.dense, &m.dense_weight, &m.coverage, &m.guided};
    m.samples = calloc((size_t)o->batch, sizeof *m.samples);
    int made = m.samples != NULL;
    for (int i = 0; i < 7; i++) made &= (*fields[i] = calloc((size_t)counts[i], sizeof(float))) != NULL;
    struct arena arena = {0};
    const char *config = mcs_arena_printf(&arena, "%s%s", o->config, mcs_training_atlas_lines(&m.atlas, &arena));
    const struct clip_train_options train = {.batch = o->batch,
                                             .steps = o->steps,
                                             .warmup = 60,
                                             .checkpoint_every = o->checkpoint_every,
                                             .lr = o->lr,
                                             .weight_decay = 0.05,
                                             .clip_norm = 1,
                                             .loss = {.a = 1}, /* InfoNCE, learned temperature */
                                             .seed = (uint64_t)o->seed,
                                             .run = o->out,
                                             .config = config};
    const struct clip_source source = {fill_batch, &m};
    const struct clip_extra extra = {build_losses, fill_losses, &m};
    enum mcs_status st = mcs_arena_status(&arena);
    if (!made) st = MCS_FAIL(MCS_E_NOMEM, "no memory for a batch of %lld images", (long long)o->batch);
    if (st == MCS_OK && o->from) st = mcs_demo_start_from(o->from, &m.model);
    if (st == MCS_OK) st = weigh_words(&m);
    if (st == MCS_OK) st = mcs_clip_train(&m.model, &train, &source, &extra);
    if (st == MCS_OK) st = mcs_path(path, "%s/model", o->out);
    if (st == MCS_OK) st = mcs_clip_model_save(&m.model, path, 1);
    if (st == MCS_OK) mcs_log("%s: written", path);
    for (int i = 0; i < 7; i++) free(*fields[i]);
    free(m.samples);
    mcs_clip_model_close(&m.model);
    mcs_demo_atlas_free(&m.atlas);
    mcs_arena_free(&arena);
    return st;
}

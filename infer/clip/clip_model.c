#include "infer/clip/clip_model.h"

#include "data/io/bounds.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/log.h"
#include "engine/model/layers.h"
#include "infer/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGE_BATCH = 16, TEXT_BATCH = 32, TEXT_BUCKET = 128 };

/* ---- config ---------------------------------------------------------------------------------------------------------
 */

static const char *const WEIGHT_FILES[] = {"open_clip_model.safetensors", "model.safetensors"};

/* Keeps *dst if the key is missing. A number that does not fit an int becomes INT_MAX, which check_config refuses like
 * any size above 2^20. */
static void get_int(const json_t *o, const char *key, int *dst)
{
    const json_t *v = json_object_get(o, key);
    if (json_is_integer(v) && !mcs_size_to_int(json_integer_value(v), INT_MIN, INT_MAX, dst)) *dst = INT_MAX;
}

static void get_real(const json_t *o, const char *key, float *dst)
{
    const json_t *v = json_object_get(o, key);
    if (json_is_number(v)) *dst = (float)json_number_value(v);
}

static void get_three(const json_t *o, const char *key, float *dst)
{
    const json_t *v = json_object_get(o, key);
    for (size_t i = 0; i < 3 && json_is_array(v) && json_array_size(v) == 3; i++)
        dst[i] = (float)json_number_value(json_array_get(v, i));
}

static enum mcs_status check_config(const char *path, const struct clip_config *c)
{
    const int positive[] = {c->embed,   c->image_size, c->patch,   c->v_width,   c->v_depth, c->v_heads,
                            c->v_mlp,   c->vocab,      c->context, c->positions, c->t_width, c->t_depth,
                            c->t_heads, c->t_mlp,      c->t_proj,  c->types};
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        MCS_REQUIRE(positive[i] > 0 && positive[i] <= 1 << 20, MCS_E_DATA, "%s: a size of %d in it cannot be", path,
                    positive[i]);
    MCS_REQUIRE(c->image_size % c->patch == 0, MCS_E_DATA, "%s: image_size %d is not a multiple of the patch size %d",
                path, c->image_size, c->patch);
    MCS_REQUIRE(c->v_width % c->v_heads == 0 && c->t_width % c->t_heads == 0, MCS_E_DATA,
                "%s: a width is not a multiple of its heads", path);
    MCS_REQUIRE(c->context >= 2, MCS_E_DATA, "%s: context_length %d: a text has at least its first and last token",
                path, c->context);
    MCS_REQUIRE(c->context <= c->positions, MCS_E_DATA, "%s: context_length %d is longer than the %d positions", path,
                c->context, c->positions);
    return MCS_OK;
}

enum mcs_status mcs_clip_config_read(const char *folder, struct clip_config *c)
{
    char path[1100];
    json_t *root;
    snprintf(path, sizeof path, "%s/open_clip_config.json", folder);
    MCS_TRY(mcs_json_read(path, 1 << 20, 0, &root));
    const json_t *model = json_object_get(root, "model_cfg"), *pre = json_object_get(root, "preprocess_cfg");
    const json_t *v = json_object_get(model, "vision_cfg"), *t = json_object_get(model, "text_cfg");
    *c = mcs_clip_biomed();
    get_int(model, "embed_dim", &c->embed);
    get_int(v, "image_size", &c->image_size);
    get_int(v, "patch_size", &c->patch);
    get_int(v, "width", &c->v_width);
    get_int(v, "layers", &c->v_depth);
    get_int(v, "heads", &c->v_heads);
    get_int(v, "mlp_width", &c->v_mlp);
    get_int(t, "context_length", &c->context);
    get_int(t, "vocab_size", &c->vocab);
    get_int(t, "positions", &c->positions);
    get_int(t, "types", &c->types);
    get_int(t, "width", &c->t_width);
    get_int(t, "layers", &c->t_depth);
    get_int(t, "heads", &c->t_heads);
    get_int(t, "mlp_width", &c->t_mlp);
    get_int(t, "proj_width", &c->t_proj);
    get_real(t, "dropout", &c->dropout);
    get_three(pre, "mean", c->mean);
    get_three(pre, "std", c->std);
    const enum mcs_status st = model ? check_config(path, c) : MCS_FAIL(MCS_E_DATA, "%s: has no model_cfg", path);
    json_decref(root);
    return st;
}

static enum mcs_status write_config(const char *folder, const struct clip_config *c)
{
    json_t *root = json_pack(
        "{s:{s:i, s:{s:i,s:i,s:i,s:i,s:i,s:i}, s:{s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:f}}, s:{s:[f,f,f],s:[f,f,f]}}",
        "model_cfg", "embed_dim", c->embed, "vision_cfg", "image_size", c->image_size, "patch_size", c->patch, "width",
        c->v_width, "layers", c->v_depth, "heads", c->v_heads, "mlp_width", c->v_mlp, "text_cfg", "context_length",
        c->context, "vocab_size", c->vocab, "positions", c->positions, "types", c->types, "width", c->t_width, "layers",
        c->t_depth, "heads", c->t_heads, "mlp_width", c->t_mlp, "proj_width", c->t_proj, "dropout", (double)c->dropout,
        "preprocess_cfg", "mean", (double)c->mean[0], (double)c->mean[1], (double)c->mean[2], "std", (double)c->std[0],
        (double)c->std[1], (double)c->std[2]);
    return mcs_json_write(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9), "%s/open_clip_config.json", folder);
}

/* ---- the model ---- */

/* Declares the parameters of both towers by recording their graphs once at the smallest shapes. */
static enum mcs_status name_params(struct clip_model *m,
                                   void (*name_more)(struct graph *g, const struct clip_config *c))
{
    const int s = m->config.image_size;
    struct graph *g = mcs_graph_new(m->params, m->device->activations);
    mcs_clip_logit_scale(g);
    mcs_clip_image(g, mcs_input(g, "image", MCS_F32, MCS_DIMS(1, s, s, 3)), &m->config);
    const struct clip_text t = mcs_clip_text_inputs(g, 1, 2);
    mcs_clip_text(g, &t, &m->config, 0);
    if (name_more) name_more(g, &m->config);
    const enum mcs_status st = mcs_graph_status(g);
    mcs_graph_free(g);
    return st;
}

static enum mcs_status make(const struct clip_config *c, const char *vocab_path, struct device *d,
                            void (*name_more)(struct graph *g, const struct clip_config *c), struct clip_model *m)
{
    memset(m, 0, sizeof *m);
    m->config = *c;
    m->device = d;
    MCS_TRY(mcs_tokenizer_open(vocab_path, &m->tokenizer));
    m->config.vocab = mcs_tokenizer_n_pieces(m->tokenizer);
    MCS_REQUIRE(m->config.vocab == c->vocab || !c->vocab, MCS_E_DATA, "%s: has %d pieces, the model wants %d",
                vocab_path, m->config.vocab, c->vocab);
    m->params = mcs_params_new();
    MCS_TRY(name_params(m, name_more));
    return mcs_params_alloc(m->params, d);
}

enum mcs_status mcs_clip_model_new(const struct clip_config *c, const char *vocab_path, uint64_t seed, struct device *d,
                                   void (*name_more)(struct graph *g, const struct clip_config *c),
                                   struct clip_model *m)
{
    enum mcs_status st = make(c, vocab_path, d, name_more, m);
    if (st == MCS_OK) st = mcs_params_init(m->params, seed);
    if (st != MCS_OK) mcs_clip_model_close(m);
    return st;
}

enum mcs_status mcs_clip_model_open(const char *folder, struct device *d, struct clip_model *m)
{
    struct clip_config c;
    char path[1200], vocab[1200];
    memset(m, 0, sizeof *m);
    MCS_REQUIRE(mcs_folder_exists(folder), MCS_E_NOINPUT, "%s: no such model folder", folder);
    MCS_TRY(mcs_clip_config_read(folder, &c));
    snprintf(vocab, sizeof vocab, "%s/vocab.txt", folder);
    enum mcs_status st = make(&c, vocab, d, NULL, m);
    snprintf(path, sizeof path, "%s/%s", folder, WEIGHT_FILES[0]);
    if (!mcs_file_exists(path)) snprintf(path, sizeof path, "%s/%s", folder, WEIGHT_FILES[1]);
    if (st == MCS_OK && !mcs_file_exists(path))
        st = MCS_FAIL(MCS_E_NOINPUT, "%s: has neither %s nor %s", folder, WEIGHT_FILES[0], WEIGHT_FILES[1]);
    if (st == MCS_OK) st = mcs_weights_read(path, m->params, m->sha256);
    if (st != MCS_OK) mcs_clip_model_close(m);
    snprintf(m->folder, sizeof m->folder, "%s", folder);
    return st;
}

enum mcs_status mcs_clip_model_save(const struct clip_model *m, const char *folder, int half)
{
    char path[1200];
    MCS_TRY(mcs_folder_make(folder));
    MCS_TRY(write_config(folder, &m->config));
    snprintf(path, sizeof path, "%s/vocab.txt", folder);
    int64_t bytes = 0;
    const int n = mcs_tokenizer_n_pieces(m->tokenizer);
    for (int i = 0; i < n; i++) bytes += (int64_t)strlen(mcs_tokenizer_piece(m->tokenizer, i)) + 1;
    char *vocab = malloc((size_t)bytes + 1), *at = vocab;
    MCS_REQUIRE(vocab, MCS_E_NOMEM, "no memory for a vocabulary");
    for (int i = 0; i < n; i++) at += sprintf(at, "%s\n", mcs_tokenizer_piece(m->tokenizer, i));
    const enum mcs_status st = mcs_file_write(path, vocab, bytes);
    free(vocab);
    MCS_TRY(st);
    snprintf(path, sizeof path, "%s/%s", folder, WEIGHT_FILES[0]);
    return mcs_weights_write(path, m->params, half, "start.", "CLIP by mcsam " MCS_VERSION);
}

/* ---- compiled graphs ---- */

struct clip_session {
    struct graph *graph;
    struct exec *exec;
    struct tensor *image, *out;
    struct clip_text text;
    int32_t *ids, *position, *key, *offset; /* host buffers of a text session */
    float *host;                            /* host buffer of one batch: images or embeddings */
};

static void session_free(struct clip_session *p)
{
    if (!p) return;
    mcs_exec_free(p->exec);
    mcs_graph_free(p->graph);
    free(p->ids);
    free(p->position);
    free(p->key);
    free(p->offset);
    free(p->host);
    free(p);
}

void mcs_clip_model_close(struct clip_model *m)
{
    session_free(m->image_session);
    for (size_t i = 0; i < sizeof m->text_session / sizeof *m->text_session; i++) session_free(m->text_session[i]);
    mcs_exec_memory_free(&m->memory);
    mcs_params_free(m->params);
    mcs_tokenizer_close(m->tokenizer);
    memset(m, 0, sizeof *m);
}

/* Compiles the recorded graph and allocates the shared memory, also if the allocation failed for an earlier graph. */
static enum mcs_status make_exec(struct clip_model *m, struct clip_session *p)
{
    m->memory.device = m->device;
    if (!p->exec) MCS_TRY(mcs_exec_new_in(&m->memory, p->graph, &p->exec));
    return mcs_exec_memory_alloc(&m->memory);
}

static enum mcs_status image_session_new(struct clip_model *m, struct clip_session *p)
{
    const int64_t s = m->config.image_size;
    p->graph = mcs_graph_new(m->params, m->device->activations);
    p->image = mcs_input(p->graph, "image", MCS_F32, MCS_DIMS(IMAGE_BATCH, s, s, 3));
    p->out = mcs_keep(mcs_clip_image(p->graph, p->image, &m->config));
    p->host = calloc((size_t)(IMAGE_BATCH * (s * s * 3 + m->config.embed)), sizeof(float));
    MCS_REQUIRE(p->host, MCS_E_NOMEM, "no memory for a batch of images");
    return MCS_OK;
}

static enum mcs_status text_session_new(struct clip_model *m, int64_t rows, struct clip_session *p)
{
    const size_t capacity = (size_t)TEXT_BATCH * (size_t)m->config.context + TEXT_BUCKET;
    p->graph = mcs_graph_new(m->params, m->device->activations);
    p->text = mcs_clip_text_inputs(p->graph, TEXT_BATCH, rows);
    p->out = mcs_keep(mcs_clip_text(p->graph, &p->text, &m->config, 0));
    p->ids = malloc(capacity * sizeof *p->ids);
    p->position = calloc(capacity, sizeof *p->position);
    p->key = calloc(capacity, sizeof *p->key);
    p->offset = calloc(TEXT_BATCH + 1, sizeof *p->offset);
    p->host = calloc((size_t)(TEXT_BATCH * m->config.embed), sizeof *p->host);
    MCS_REQUIRE(p->ids && p->position && p->key && p->offset && p->host, MCS_E_NOMEM, "no memory for a batch of texts");
    return MCS_OK;
}

/* Makes *slot ready to run; an empty slot gets a text graph of `rows` token rows, or the image graph if rows is 0. On
 * failure the slot is emptied. */
static enum mcs_status session_in(struct clip_model *m, struct clip_session **slot, int64_t rows)
{
    enum mcs_status st = MCS_OK;
    if (!*slot) {
        *slot = calloc(1, sizeof **slot);
        MCS_REQUIRE(*slot, MCS_E_NOMEM, "no memory for a compiled graph");
        st = rows ? text_session_new(m, rows, *slot) : image_session_new(m, *slot);
    }
    if (st == MCS_OK) st = make_exec(m, *slot);
    if (st == MCS_OK) return st;
    session_free(*slot);
    *slot = NULL;
    return mcs_trace(st, __FILE__, __LINE__);
}

int64_t mcs_clip_text_bucket(int64_t n_rows)
{
    return (n_rows + TEXT_BUCKET - 1) / TEXT_BUCKET * TEXT_BUCKET;
}

/* The text graph for n_rows token rows of TEXT_BATCH texts, rounded up to a bucket; each bucket has one of a few slots
 * and replaces another bucket's graph there. */
static enum mcs_status text_session(struct clip_model *m, int64_t n_rows, struct clip_session **session)
{
    const int n_slots = (int)(sizeof m->text_session / sizeof *m->text_session);
    const int64_t rows = mcs_clip_text_bucket(n_rows);
    int slot = -1;
    for (int i = 0; i < n_slots && slot < 0; i++)
        if (m->text_session[i] && m->text_session[i]->text.ids->dim[0] == rows) slot = i;
    if (slot < 0) {
        slot = (int)(rows / TEXT_BUCKET % n_slots);
        session_free(m->text_session[slot]);
        m->text_session[slot] = NULL;
    }
    MCS_TRY(session_in(m, &m->text_session[slot], rows));
    *session = m->text_session[slot];
    return MCS_OK;
}

/* ---- images ---- */

enum mcs_status mcs_clip_view(const struct clip_config *c, const struct image *img, enum clip_view view,
                              struct image *dst)
{
    const int s = c->image_size, w = img->width, h = img->height;
    if (view == CLIP_VIEW_WHOLE) return mcs_image_resize(img, s, s, MCS_BICUBIC, dst);
    struct image resized = {0};
    const int rw = w <= h ? s : (int)((int64_t)s * w / h), rh = h <= w ? s : (int)((int64_t)s * h / w);
    enum mcs_status st = mcs_image_resize(img, rw, rh, MCS_BICUBIC, &resized);
    /* round(difference / 2) as in Python: ties to even */
    const int dx = rw - s, dy = rh - s, x0 = dx / 2 + (dx % 4 == 3), y0 = dy / 2 + (dy % 4 == 3);
    if (st == MCS_OK) st = mcs_image_crop(&resized, x0, y0, s, s, dst);
    mcs_image_free(&resized);
    return st;
}

void mcs_clip_normalise(const struct clip_config *c, const struct image *img, float *dst)
{
    const int64_t n = (int64_t)img->width * img->height;
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < 3; k++) {
            const uint8_t v = img->pixels[i * img->channels + (img->channels == 3 ? k : 0)];
            dst[3 * i + k] = ((float)v / 255.0f - c->mean[k]) / c->std[k];
        }
}

enum mcs_status mcs_clip_prepare(const struct clip_config *c, const struct image *img, enum clip_view view, float *dst)
{
    struct image square = {0};
    MCS_TRY(mcs_clip_view(c, img, view, &square));
    mcs_clip_normalise(c, &square, dst);
    mcs_image_free(&square);
    return MCS_OK;
}

static void normalise_rows(float *x, int n, int width)
{
    for (int i = 0; i < n; i++, x += width) {
        double sum = 0;
        for (int k = 0; k < width; k++) sum += (double)x[k] * x[k];
        const double scale = 1 / fmax(sqrt(sum), 1e-12);
        for (int k = 0; k < width; k++) x[k] = (float)(x[k] * scale);
    }
}

enum mcs_status mcs_clip_embed_images(struct clip_model *m, const float *images, int n, int normalise, float *dst)
{
    MCS_TRY(session_in(m, &m->image_session, 0));
    struct clip_session *p = m->image_session;
    const int64_t one = (int64_t)m->config.image_size * m->config.image_size * 3;
    const int embed = m->config.embed;
    float *out = p->host + IMAGE_BATCH * one;
    for (int at = 0; at < n; at += IMAGE_BATCH) {
        const int count = n - at < IMAGE_BATCH ? n - at : IMAGE_BATCH;
        memcpy(p->host, images + at * one, (size_t)(count * one) * sizeof *images);
        MCS_TRY(mcs_exec_set(p->exec, p->image, p->host));
        MCS_TRY(mcs_exec_forward(p->exec));
        MCS_TRY(mcs_exec_get(p->exec, p->out, out));
        memcpy(dst + (int64_t)at * embed, out, (size_t)(count * embed) * sizeof *dst);
    }
    if (normalise) normalise_rows(dst, n, embed);
    return MCS_OK;
}

/* ---- texts ---- */

enum mcs_status mcs_clip_pack_texts(const struct clip_model *m, const char *const *texts, const int32_t *sample, int n,
                                    int32_t *ids, int32_t *position, int32_t *key, int32_t *offset, int64_t *n_rows)
{
    int32_t row = 0;
    for (int i = 0; i < n; i++) {
        int count;
        offset[i] = row;
        MCS_TRY(mcs_tokenizer_encode(m->tokenizer, texts[i], m->config.context, ids + row, &count));
        for (int k = 0; k < count; k++) {
            position[row + k] = k;
            key[row + k] = (sample ? sample[i] : i) * 1024 + k;
        }
        row += count;
    }
    offset[n] = row;
    *n_rows = row;
    return MCS_OK;
}

enum mcs_status mcs_clip_embed_texts(struct clip_model *m, const char *const *texts, int n, int normalise, float *dst)
{
    const int embed = m->config.embed;
    const size_t capacity = (size_t)TEXT_BATCH * (size_t)m->config.context;
    int32_t *ids = malloc(4 * capacity * sizeof *ids), offset[TEXT_BATCH + 1];
    MCS_REQUIRE(ids, MCS_E_NOMEM, "no memory for a batch of texts");
    int32_t *position = ids + capacity, *key = position + capacity;
    enum mcs_status st = MCS_OK;
    for (int at = 0; at < n; at += TEXT_BATCH) {
        const int count = n - at < TEXT_BATCH ? n - at : TEXT_BATCH;
        const char *batch[TEXT_BATCH];
        int64_t rows;
        struct clip_session *p;
        for (int i = 0; i < TEXT_BATCH; i++)
            batch[i] = i < count ? texts[at + i] : ""; /* the last batch is padded with empty texts */
        MCS_TRY_GOTO(mcs_clip_pack_texts(m, batch, NULL, TEXT_BATCH, ids, position, key, offset, &rows), st, done);
        MCS_TRY_GOTO(text_session(m, rows, &p), st, done);
        const int64_t padded = p->text.ids->dim[0];
        memset(p->ids, 0xFF, (size_t)padded * sizeof *ids); /* -1: padding row */
        memset(p->position, 0, (size_t)padded * sizeof *ids);
        memcpy(p->ids, ids, (size_t)rows * sizeof *ids);
        memcpy(p->position, position, (size_t)rows * sizeof *ids);
        MCS_TRY_GOTO(mcs_exec_set(p->exec, p->text.ids, p->ids), st, done);
        MCS_TRY_GOTO(mcs_exec_set(p->exec, p->text.position, p->position), st, done);
        MCS_TRY_GOTO(mcs_exec_set(p->exec, p->text.key, p->key), st, done); /* zeros: dropout is off */
        MCS_TRY_GOTO(mcs_exec_set(p->exec, p->text.offset, offset), st, done);
        MCS_TRY_GOTO(mcs_exec_forward(p->exec), st, done);
        MCS_TRY_GOTO(mcs_exec_get(p->exec, p->out, p->host), st, done);
        memcpy(dst + (int64_t)at * embed, p->host, (size_t)(count * embed) * sizeof *dst);
    }
    if (normalise) normalise_rows(dst, n, embed);
done:
    free(ids);
    return st;
}

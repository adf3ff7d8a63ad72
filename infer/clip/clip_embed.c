/* Embeddings of images and texts by a CLIP model's two towers. */
#include "engine/model/layers.h"
#include "infer/clip/clip_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGE_BATCH = 16, TEXT_BATCH = 32, TEXT_BUCKET = 128 };

/* ---- compiled graphs ---- */

struct clip_session {
    struct graph *graph;
    struct exec *exec;
    struct tensor *image, *out;
    struct clip_text text;
    int32_t *ids, *position, *key, *offset; /* host buffers of a text session */
    float *host;                            /* host buffer of one batch: images or embeddings */
};

void mcs_clip_session_free(struct clip_session *p)
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
    mcs_clip_session_free(*slot);
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
        mcs_clip_session_free(m->text_session[slot]);
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

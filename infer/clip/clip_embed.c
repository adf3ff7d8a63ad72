/* Embeddings of images and texts by a CLIP model's two towers. */
#include "engine/model/layers.h"
#include "infer/clip/clip_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGE_BATCH = CLIP_IMAGE_BATCH, TEXT_BATCH = 32, TEXT_BUCKET = 128 };

/* ---- compiled graphs ---- */

struct clip_session {
    struct graph *graph;
    struct exec *exec;
    struct tensor *image, *out;
    struct clip_text text;
};

/* Host memory of one batch. */
struct clip_batch {
    float *images, *out;
    int32_t *ids, *position, *key, offset[TEXT_BATCH + 1];
};

static void session_free(struct clip_session *p)
{
    if (!p) return;
    mcs_exec_free(p->exec);
    mcs_graph_free(p->graph);
    free(p);
}

void mcs_clip_sessions_close(struct clip_model *m)
{
    session_free(m->image_session);
    for (size_t i = 0; i < sizeof m->text_session / sizeof *m->text_session; i++) session_free(m->text_session[i]);
    mcs_exec_memory_free(&m->memory);
    if (m->batch) free(m->batch->images);
    if (m->batch) free(m->batch->ids);
    free(m->batch);
}

static enum mcs_status batch_alloc(struct clip_model *m)
{
    const size_t pixels = (size_t)m->config.image_size * (size_t)m->config.image_size * 3,
                 rows = (size_t)TEXT_BATCH * (size_t)m->config.context + TEXT_BUCKET;
    struct clip_batch *b = m->batch ? m->batch : calloc(1, sizeof *b);
    MCS_REQUIRE(b, MCS_E_NOMEM, "no memory for a batch");
    m->batch = b;
    if (!b->images) b->images = calloc(IMAGE_BATCH * pixels + (size_t)(TEXT_BATCH * m->config.embed), sizeof(float));
    if (!b->ids) b->ids = calloc(3 * rows, sizeof *b->ids);
    MCS_REQUIRE(b->images && b->ids, MCS_E_NOMEM, "no memory for a batch of images and texts");
    b->out = b->images + IMAGE_BATCH * pixels;
    b->position = b->ids + rows;
    b->key = b->position + rows;
    return MCS_OK;
}

/* Images of the image graph. */
static int image_batch(const struct clip_model *m)
{
    return m->image_batch > 0 && m->image_batch < IMAGE_BATCH ? m->image_batch : IMAGE_BATCH;
}

/* Makes *slot ready to run; an empty slot gets a text graph of `rows` token rows, or the image graph if rows is 0. The
 * shared memory is allocated also if that failed for an earlier graph. On failure the slot is emptied. */
static enum mcs_status session_in(struct clip_model *m, struct clip_session **slot, int64_t rows)
{
    const int64_t s = m->config.image_size;
    struct clip_session *p = *slot;
    enum mcs_status st;
    if (!m->batch || !m->batch->out) MCS_TRY(batch_alloc(m));
    if (!p) {
        p = *slot = calloc(1, sizeof *p);
        MCS_REQUIRE(p, MCS_E_NOMEM, "no memory for a compiled graph");
        p->graph = mcs_graph_new(m->params, m->device->activations);
        if (rows)
            p->text = mcs_clip_text_inputs(p->graph, TEXT_BATCH, rows);
        else
            p->image = mcs_input(p->graph, "image", MCS_F32, MCS_DIMS(image_batch(m), s, s, 3));
        p->out = mcs_keep(rows ? mcs_clip_text(p->graph, &p->text, &m->config, 0)
                               : mcs_clip_image(p->graph, p->image, &m->config));
        m->memory.device = m->device;
        MCS_TRY_GOTO(mcs_exec_new_in(&m->memory, p->graph, &p->exec), st, failed);
    }
    MCS_TRY_GOTO(mcs_exec_memory_alloc(&m->memory), st, failed);
    return MCS_OK;
failed:
    session_free(*slot);
    *slot = NULL;
    return st;
}

int64_t mcs_clip_text_bucket(int64_t n_rows)
{
    return (n_rows + TEXT_BUCKET - 1) / TEXT_BUCKET * TEXT_BUCKET;
}

/* The text graph for n_rows token rows of TEXT_BATCH texts, rounded up to a bucket; each bucket has one of a few slots
 * and replaces another bucket's graph there. */
static enum mcs_status text_session(struct clip_model *m, int64_t n_rows, struct clip_session **session)
{
    const int64_t n_slots = sizeof m->text_session / sizeof *m->text_session, rows = mcs_clip_text_bucket(n_rows);
    struct clip_session **slot = &m->text_session[rows / TEXT_BUCKET % n_slots];
    if (*slot && (*slot)->text.ids->dim[0] != rows) {
        session_free(*slot);
        *slot = NULL;
    }
    MCS_TRY(session_in(m, slot, rows));
    *session = *slot;
    return MCS_OK;
}

/* ---- images ---- */

/* First row or column of a centre crop that leaves `rest` out: half of it, rounded as Python's round (ties to even) in
 * open_clip, down in CLIPImageProcessor. */
static int crop_start(int rest, enum clip_view view)
{
    return rest / 2 + (view == CLIP_VIEW_CROP && rest % 4 == 3);
}

/* The shorter edge resized to S, then the centre crop. transformers converts to RGB first. */
static enum mcs_status crop_view(const struct clip_config *c, const struct stored_image *src, enum clip_view view,
                                 struct image *dst)
{
    const int s = c->image_size, w = src->img.width, h = src->img.height;
    struct image resized = {0};
    const int rw = w <= h ? s : (int)((int64_t)s * w / h), rh = h <= w ? s : (int)((int64_t)s * h / w);
    const struct stored_image rgb = {.img = src->img};
    enum mcs_status st = mcs_stored_resize(c->hugging_face ? &rgb : src, rw, rh, MCS_BICUBIC, &resized);
    if (c->hugging_face) view = CLIP_VIEW_PROCESSOR;
    if (st == MCS_OK) st = mcs_image_crop(&resized, crop_start(rw - s, view), crop_start(rh - s, view), s, s, dst);
    mcs_image_free(&resized);
    return st;
}

enum mcs_status mcs_clip_view(const struct clip_config *c, const struct image *img, enum clip_view view,
                              struct image *dst)
{
    const int s = c->image_size;
    if (view == CLIP_VIEW_WHOLE) return mcs_image_resize(img, s, s, MCS_BICUBIC, dst);
    return crop_view(c, &(struct stored_image){.img = *img}, view, dst);
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

enum mcs_status mcs_clip_prepare_stored(const struct clip_config *c, const struct stored_image *src,
                                        enum clip_view view, float *dst)
{
    struct image square = {0};
    if (view != CLIP_VIEW_CROP) return mcs_clip_prepare(c, &src->img, view, dst);
    MCS_TRY(crop_view(c, src, view, &square));
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
    struct clip_batch *b = m->batch;
    const int64_t one = (int64_t)m->config.image_size * m->config.image_size * 3;
    const int embed = m->config.embed, batch = (int)p->image->dim[0];
    for (int at = 0; at < n; at += batch) {
        const int count = n - at < batch ? n - at : batch;
        if (count < batch) memcpy(b->images, images + at * one, (size_t)(count * one) * sizeof *images);
        MCS_TRY(mcs_exec_set(p->exec, p->image, count < batch ? b->images : images + at * one));
        MCS_TRY(mcs_exec_forward(p->exec));
        MCS_TRY(mcs_exec_get(p->exec, p->out, b->out));
        memcpy(dst + (int64_t)at * embed, b->out, (size_t)(count * embed) * sizeof *dst);
    }
    if (normalise) normalise_rows(dst, n, embed);
    return MCS_OK;
}

/* ---- texts ---- */

enum mcs_status mcs_clip_encode(const struct tokenizer *tokenizer, const struct clip_config *c, const char *text,
                                int32_t *ids, int *n_tokens)
{
    return (c->hugging_face ? mcs_tokenizer_encode_raw : mcs_tokenizer_encode)(tokenizer, text, c->context, ids,
                                                                               n_tokens);
}

enum mcs_status mcs_clip_pack_texts(const struct clip_model *m, const char *const *texts, const int32_t *sample, int n,
                                    int32_t *ids, int32_t *position, int32_t *key, int32_t *offset, int64_t *n_rows)
{
    const struct clip_config *c = &m->config;
    const int end = c->t_openai ? c->vocab - 1 : -1, masked = c->t_openai || c->hugging_face ? -1 : 0;
    int32_t row = 0;
    for (int i = 0; i < n; i++) {
        int count;
        offset[i] = row;
        MCS_TRY(mcs_clip_encode(m->tokenizer, c, texts[i], ids + row, &count));
        for (int k = 0, first = row, ended = 0; k < count && !ended; k++) {
            if (ids[first + k] == masked) continue; /* a literal [PAD]: masked as a key, so no other token sees it */
            ended = ids[first + k] == end;
            ids[row] = ids[first + k];
            position[row] = k;
            key[row++] = (sample ? sample[i] : i) * 1024 + k;
        }
    }
    offset[n] = row;
    for (int i = 0; i < n && c->t_openai; i++) key[i] = offset[i + 1] - 1;
    *n_rows = row;
    return MCS_OK;
}

enum mcs_status mcs_clip_embed_texts(struct clip_model *m, const char *const *texts, int n, int normalise, float *dst)
{
    const int embed = m->config.embed;
    if (!m->batch || !m->batch->out) MCS_TRY(batch_alloc(m));
    struct clip_batch *b = m->batch;
    for (int at = 0; at < n; at += TEXT_BATCH) {
        const int count = n - at < TEXT_BATCH ? n - at : TEXT_BATCH;
        const char *batch[TEXT_BATCH];
        int64_t rows;
        struct clip_session *p;
        for (int i = 0; i < TEXT_BATCH; i++)
            batch[i] = i < count ? texts[at + i] : ""; /* the last batch is padded with empty texts */
        MCS_TRY(mcs_clip_pack_texts(m, batch, NULL, TEXT_BATCH, b->ids, b->position, b->key, b->offset, &rows));
        MCS_TRY(text_session(m, rows, &p));
        for (int64_t i = rows; i < p->text.ids->dim[0]; i++) b->ids[i] = -1, b->position[i] = b->key[i] = 0;
        MCS_TRY(mcs_exec_set(p->exec, p->text.ids, b->ids));
        MCS_TRY(mcs_exec_set(p->exec, p->text.position, b->position));
        MCS_TRY(mcs_exec_set(p->exec, p->text.key, b->key)); /* dropout is off: read by OpenAI's tower alone */
        MCS_TRY(mcs_exec_set(p->exec, p->text.offset, b->offset));
        MCS_TRY(mcs_exec_forward(p->exec));
        MCS_TRY(mcs_exec_get(p->exec, p->out, b->out));
        memcpy(dst + (int64_t)at * embed, b->out, (size_t)(count * embed) * sizeof *dst);
    }
    if (normalise) normalise_rows(dst, n, embed);
    return MCS_OK;
}

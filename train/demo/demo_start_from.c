/* Continues from the weights of another model. */
#include "train/demo/start_models.h"

#include <stdlib.h>
#include <string.h>

static const char *const WORD_TABLE = "word_embeddings.weight";

static int is_word_table(const char *name)
{
    const size_t n = strlen(name), tail = strlen(WORD_TABLE);
    return n >= tail && !strcmp(name + n - tail, WORD_TABLE);
}

static int same_shape(const struct tensor *a, const struct tensor *b)
{
    int same = a->nd == b->nd;
    for (int i = 0; i < a->nd && same; i++) same = a->dim[i] == b->dim[i];
    return same;
}

/* to[word] = from[the same word], rows of `width`. */
static void match_words(const struct clip_model *m, float *to, const struct clip_model *source, const float *from,
                        int64_t width)
{
    for (int i = 0; i < mcs_tokenizer_n_pieces(m->tokenizer); i++) {
        const int32_t id = mcs_tokenizer_id(source->tokenizer, mcs_tokenizer_piece(m->tokenizer, i));
        if (id >= 0) memcpy(to + i * width, from + id * width, (size_t)width * sizeof *to);
    }
}

static enum mcs_status copy_one(const char *folder, struct clip_model *m, const struct clip_model *source, int i)
{
    const struct tensor *t = m->params->t[i], *s = mcs_params_find(source->params, t->name);
    const struct device *d = m->device;
    const int64_t bytes = mcs_count(t) * (int64_t)sizeof(float);
    const int words = is_word_table(t->name);
    MCS_REQUIRE(s && (same_shape(t, s) || (words && s->nd == 2 && s->dim[1] == t->dim[1])), MCS_E_DATA,
                "%s: its %s has another shape: continue from a model of the demo's sizes", folder, t->name);
    const int64_t source_bytes = mcs_count(s) * (int64_t)sizeof(float);
    float *to = malloc((size_t)bytes), *from = malloc((size_t)source_bytes);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(to && from, MCS_E_NOMEM, st, done, "no memory for a copy of %s", t->name);
    MCS_TRY_GOTO(d->backend->download(source->device, from, s->data, source_bytes), st, done);
    MCS_TRY_GOTO(d->backend->download(m->device, to, t->data, bytes), st, done);
    if (words)
        match_words(m, to, source, from, t->dim[1]);
    else
        memcpy(to, from, (size_t)bytes);
    MCS_TRY_GOTO(d->backend->upload(m->device, t->data, to, bytes), st, done);
done:
    free(to);
    free(from);
    return st;
}

enum mcs_status mcs_demo_start_from(const char *folder, struct clip_model *m)
{
    struct clip_model source;
    enum mcs_status st = MCS_OK;
    MCS_TRY(mcs_clip_model_open(folder, m->device, &source));
    for (int i = 0; i < m->params->n && st == MCS_OK; i++)
        if (strncmp(m->params->t[i]->name, "start.", 6) != 0) st = copy_one(folder, m, &source, i);
    mcs_clip_model_close(&source);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

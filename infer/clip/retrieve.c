#include "infer/clip/retrieve.h"

#include "engine/base/stop.h"
#include "infer/requests.h"

#include <stdlib.h>

/* Checks the caption and reads the image of a pair to dst (S,S,3). */
static enum mcs_status prepare(const struct clip_model *m, const struct pair *pair, enum clip_view view, float *dst)
{
    struct image img = {0};
    MCS_TRY(mcs_text_check(m, pair->caption));
    MCS_TRY(mcs_image_read(pair->image, 0, &img));
    const enum mcs_status st = mcs_clip_prepare(&m->config, &img, view, dst);
    mcs_image_free(&img);
    return st;
}

static enum mcs_status retrieve(struct clip_model *m, const struct pairs *pairs, enum clip_view view,
                                const struct recall_options *o, struct failure_list *failures, int *n_used,
                                struct recall_result *r)
{
    enum { CHUNK = 64 };
    const int n = pairs->n, embed = m->config.embed;
    const int64_t pixels = (int64_t)m->config.image_size * m->config.image_size * 3;
    float *images = malloc((size_t)n * (size_t)embed * 2 * sizeof *images + 1), *texts = images + (int64_t)n * embed;
    float *prepared = malloc((size_t)(CHUNK * pixels) * sizeof *prepared);
    const char **captions = malloc((size_t)n * sizeof *captions + 1);
    int used = 0, waiting = 0;
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(images && prepared && captions, MCS_E_NOMEM, st, done, "no memory for %d pairs", n);
    for (int i = 0; i < n; i++) {
        st = prepare(m, &pairs->v[i], view, prepared + waiting * pixels);
        if (st != MCS_OK && (!failures || st == MCS_E_NOMEM)) goto done;
        if (st == MCS_OK)
            captions[used + waiting++] = pairs->v[i].caption;
        else
            mcs_failures_add_held(failures, pairs->v[i].stem);
        if (waiting < CHUNK && i + 1 < n) continue;
        MCS_TRY_GOTO(mcs_stop_check(), st, done);
        MCS_TRY_GOTO(mcs_clip_embed_images(m, prepared, waiting, 1, images + (int64_t)used * embed), st, done);
        used += waiting;
        waiting = 0;
    }
    *n_used = used;
    MCS_REQUIRE_GOTO(used >= 2, MCS_E_DATA, st, done, "%d of %d pairs can be used, retrieval needs two%s%s", used, n,
                     failures && failures->n ? "; the first that failed: " : "",
                     failures && failures->n ? failures->items[0].reason : "");
    for (int at = 0; at < used; at += CHUNK) {
        MCS_TRY_GOTO(mcs_stop_check(), st, done);
        MCS_TRY_GOTO(mcs_clip_embed_texts(m, captions + at, used - at < CHUNK ? used - at : CHUNK, 1,
                                          texts + (int64_t)at * embed),
                     st, done);
    }
    st = mcs_recall(images, texts, used, embed, o, r);
done:
    free(images);
    free(prepared);
    free(captions);
    return st;
}

enum mcs_status mcs_retrieve(struct clip_model *m, const struct pairs *pairs, enum clip_view view,
                             const struct recall_options *o, struct recall_result *r)
{
    int n_used;
    return retrieve(m, pairs, view, o, NULL, &n_used, r);
}

enum mcs_status mcs_retrieve_some(struct clip_model *m, const struct pairs *pairs, enum clip_view view,
                                  const struct recall_options *o, struct failure_list *failures, int *n_used,
                                  struct recall_result *r)
{
    return retrieve(m, pairs, view, o, failures, n_used, r);
}

#include "infer/clip/saliency.h"

#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/base/stop.h"
#include "engine/device_ops.h"
#include "engine/model/layers.h"
#include "engine/tape/grad.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct saliency_options mcs_saliency_defaults(void)
{
    return (struct saliency_options){
        .layer = -1, .beta = 1, .steps = 10, .copies = 10, .lr = 1, .view = CLIP_VIEW_WHOLE, .pairs = 8};
}

/* Three graphs over one set of weights: the blocks below the bottleneck; the bottleneck and all above it, with the
 * gradient to alpha; and the bottleneck alone, which turns the last alpha into the map. */
struct saliency {
    struct clip_model *model;
    struct saliency_options o;
    int64_t pairs, tokens, width, side;
    struct graph *prefix_graph, *graph, *map_graph;
    struct exec *prefix, *exec, *map_exec;
    struct tensor *image, *x;
    struct m2ib b;
    struct tensor *map_x, *map_alpha, *map;
    float *images, *alpha, *text, *image_embedding; /* on the host; on the device: */
    float *moments;                                 /* Adam's, (2,pairs,tokens,channels) */
    uint32_t *keys;                                 /* (pairs), of the noise */
    struct device_scratch maps;                     /* the batch's, one behind the other */
};

static void saliency_close(struct saliency *s)
{
    struct device *d = s->model->device;
    d->backend->free(d, s->moments);
    d->backend->free(d, s->keys);
    mcs_device_scratch_free(&s->maps);
    mcs_exec_free(s->prefix);
    mcs_exec_free(s->exec);
    mcs_exec_free(s->map_exec);
    mcs_graph_free(s->prefix_graph);
    mcs_graph_free(s->graph);
    mcs_graph_free(s->map_graph);
    free(s->images);
}

static enum mcs_status device_alloc(struct device *d, int64_t bytes, void *to)
{
    void *p = NULL;
    MCS_TRY(d->backend->alloc(d, bytes, &p));
    memcpy(to, &p, sizeof p);
    return MCS_OK;
}

static enum mcs_status saliency_open(struct saliency *s, struct clip_model *model, const struct saliency_options *o)
{
    const struct clip_config *c = &model->config;
    memset(s, 0, sizeof *s);
    s->model = model;
    s->o = *o;
    s->o.layer = o->layer < 0 ? c->v_depth - 2 : o->layer;
    s->pairs = o->pairs;
    s->tokens = mcs_clip_tokens(c);
    s->width = c->v_width;
    s->side = c->image_size / c->patch;
    MCS_REQUIRE(s->o.layer <= c->v_depth - 2, MCS_E_USAGE,
                "layer %d: the bottleneck must lie below the last of %d blocks; use 0 to %d", o->layer, c->v_depth,
                c->v_depth - 2);
    MCS_REQUIRE(o->steps >= 2 && o->copies >= 1 && o->pairs >= 1, MCS_E_USAGE,
                "saliency wants at least 2 steps, 1 copy and 1 pair");

    const int64_t one = s->tokens * s->width, all = s->pairs * one, pixels = (int64_t)c->image_size * c->image_size * 3;
    const int64_t counts[] = {s->pairs * pixels, all, s->pairs * c->embed, s->pairs * c->embed};
    float **fields[] = {&s->images, &s->alpha, &s->text, &s->image_embedding};
    int64_t total = 0;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) total += counts[i];
    float *block = calloc((size_t)total, sizeof *block);
    MCS_REQUIRE(block, MCS_E_NOMEM, "no memory for %lld (image, prompt) pairs at once; use fewer pairs",
                (long long)s->pairs);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; block += counts[i++]) *fields[i] = block;

    s->prefix_graph = mcs_graph_new(model->params, model->device->activations);
    s->image = mcs_input(s->prefix_graph, "image", MCS_F32, MCS_DIMS(s->pairs, c->image_size, c->image_size, 3));
    s->x = mcs_clip_embed_image(s->prefix_graph, s->image, c);
    s->x = mcs_keep(mcs_clip_blocks(s->prefix_graph, s->x, c, 0, s->o.layer + 1, NULL));
    MCS_TRY(mcs_exec_new(s->prefix_graph, model->device, &s->prefix));

    s->graph = mcs_graph_new(model->params, model->device->activations);
    s->b = mcs_clip_m2ib(s->graph, c, s->o.layer, s->pairs, o->copies);
    MCS_TRY(mcs_graph_status(s->graph));
    MCS_TRY(mcs_grad(s->graph, (struct tensor *[]){s->b.fit, s->b.kl}, 2));
    MCS_TRY(mcs_exec_new(s->graph, model->device, &s->exec));

    s->map_graph = mcs_graph_new(model->params, model->device->activations);
    s->map_x = mcs_input(s->map_graph, "x", MCS_F32, MCS_DIMS(s->pairs, s->tokens, s->width));
    s->map_alpha = mcs_input(s->map_graph, "alpha", MCS_F32, MCS_DIMS(s->pairs, s->tokens, s->width));
    struct tensor *still = mcs_input(s->map_graph, "noise", MCS_F32, MCS_DIMS(s->pairs, s->tokens, s->width));
    const struct step *step =
        mcs_record(s->map_graph, OP_bottleneck, "map", (struct tensor *[]){s->map_x, s->map_alpha, still}, NULL);
    MCS_TRY(mcs_graph_status(s->map_graph));
    s->map = mcs_keep(step->out[2]);
    MCS_TRY(mcs_exec_new(s->map_graph, model->device, &s->map_exec));

    s->maps.device = model->device;
    MCS_TRY(device_alloc(model->device, 2 * all * (int64_t)sizeof *s->moments, &s->moments));
    return device_alloc(model->device, s->pairs * (int64_t)sizeof *s->keys, &s->keys);
}

enum mcs_status mcs_saliency_bytes(struct clip_model *m, const struct saliency_options *o, int64_t *bytes)
{
    struct saliency s;
    const enum mcs_status st = saliency_open(&s, m, o);
    *bytes = 0;
    if (st == MCS_OK) {
        const struct exec *const all[] = {s.prefix, s.exec, s.map_exec};
        const int64_t one = s.pairs * s.tokens * s.width;
        for (int i = 0; i < 3; i++) *bytes += mcs_plan_bytes(&all[i]->plan);
        *bytes += (one * 3 + /* alpha and Adam's moments */
                   s.pairs * ((int64_t)m->config.image_size * m->config.image_size * 3 + 2 * m->config.embed)) *
                  (int64_t)sizeof(float);
    }
    saliency_close(&s);
    return st;
}

static float cosine(const float *a, const float *b, int n)
{
    double dot = 0, aa = 0, bb = 0;
    for (int i = 0; i < n; i++) dot += (double)a[i] * b[i], aa += (double)a[i] * a[i], bb += (double)b[i] * b[i];
    return (float)(dot / fmax(sqrt(aa * bb), 1e-12));
}

/* The noise of a step: the given one for every pair, or drawn by the cases' keys. */
static enum mcs_status set_noise(struct saliency *s, int step, int count)
{
    struct device *d = s->model->device;
    const int64_t one = s->tokens * s->width, all = s->o.copies * one;
    float *to = s->b.noise->data;
    const struct noise_args a = {.seed = s->o.seed,
                                 .site = mcs_rng_site("m2ib.noise"),
                                 .step = (uint32_t)step,
                                 .n_keys = count,
                                 .copies = s->o.copies,
                                 .n = one,
                                 .keys = s->keys,
                                 .y = to};
    if (!s->o.noise) return d->backend->device_ops->noise(d, &a);
    for (int64_t p = 0; p < s->pairs; p++)
        MCS_TRY(d->backend->upload(d, to + p * all, s->o.noise + step * all, all * (int64_t)sizeof *to));
    return MCS_OK;
}

/* The device's queue never drains between two steps, unless somebody watches. */
static enum mcs_status optimise(struct saliency *s, const struct saliency_case *cases, int count,
                                saliency_watch on_alpha, void *ctx)
{
    struct device *d = s->model->device;
    const struct device_ops *ops = d->backend->device_ops;
    const int64_t n = s->pairs * s->tokens * s->width;
    for (int p = 0; p < count; p++) MCS_TRY(d->backend->upload(d, s->keys + p, &cases[p].key, sizeof cases[p].key));
    MCS_TRY(ops->copy(d, s->x, s->b.x->data));
    MCS_TRY(mcs_exec_set(s->exec, s->b.alpha, s->alpha));
    MCS_TRY(d->backend->zero(d, s->moments, 2 * n * (int64_t)sizeof(float)));
    for (int step = 0; step + 1 < s->o.steps; step++) {
        const struct adam_args update = {.n = n,
                                         .w = s->b.alpha->data,
                                         .m = s->moments,
                                         .v = s->moments + n,
                                         .g = s->b.alpha->grad->data,
                                         .lr = s->o.lr,
                                         .step = step + 1};
        MCS_TRY(set_noise(s, step, count));
        MCS_TRY(mcs_exec_run(s->exec));
        MCS_TRY(ops->adam(d, &update));
        if (!on_alpha) continue;
        MCS_TRY(mcs_exec_get(s->exec, s->b.alpha, s->alpha));
        on_alpha(ctx, step, s->alpha);
    }
    MCS_TRY(ops->copy(d, s->b.x, s->map_x->data));
    MCS_TRY(ops->copy(d, s->b.alpha, s->map_alpha->data));
    return mcs_exec_forward(s->map_exec);
}

static enum mcs_status make_maps(struct saliency *s, struct saliency_case *cases, int count)
{
    struct device *d = s->model->device;
    int64_t n = 0, at = 0;
    for (int p = 0; p < count; p++) n += (int64_t)cases[p].image->width * cases[p].image->height;
    MCS_TRY(mcs_device_scratch(&s->maps, n * (int64_t)sizeof(float)));
    float *maps = s->maps.p;
    for (int p = 0; p < count; p++) {
        const struct saliency_map_args a = {.side = (int)s->side,
                                            .view_side = s->o.view == CLIP_VIEW_WHOLE ? 0 : s->model->config.image_size,
                                            .height = cases[p].image->height,
                                            .width = cases[p].image->width,
                                            .tokens = (const float *)s->map->data + p * s->tokens +
                                                      1, /* without the class token */
                                            .map = maps + at};
        MCS_TRY(d->backend->device_ops->saliency_map(d, &a));
        at += (int64_t)a.height * a.width;
    }
    at = 0;
    for (int p = 0; p < count; p++) {
        MCS_TRY(mcs_map_alloc(&cases[p].map, cases[p].image->width, cases[p].image->height));
        const int64_t pixels = (int64_t)cases[p].map.width * cases[p].map.height;
        MCS_TRY(d->backend->download(d, cases[p].map.values, maps + at, pixels * (int64_t)sizeof(float)));
        at += pixels;
    }
    return MCS_OK;
}

static enum mcs_status run_batch(struct saliency *s, struct saliency_case *cases, int count, const float *nulls,
                                 int n_null, saliency_watch on_alpha, void *ctx)
{
    const struct clip_config *c = &s->model->config;
    const int64_t one = s->tokens * s->width, pixels = (int64_t)c->image_size * c->image_size * 3, n = s->pairs * one;
    const char **texts = malloc((size_t)count * sizeof *texts);
    MCS_REQUIRE(texts, MCS_E_NOMEM, "no memory for %d texts", count);
    memset(s->images, 0, (size_t)(s->pairs * pixels) * sizeof(float));
    enum mcs_status st = MCS_OK;
    for (int p = 0; p < count; p++) {
        texts[p] = cases[p].text;
        MCS_TRY_GOTO(mcs_clip_prepare(c, cases[p].image, s->o.view, s->images + p * pixels), st, done);
    }
    MCS_TRY_GOTO(mcs_clip_embed_texts(s->model, texts, count, 0, s->text), st, done);
    MCS_TRY_GOTO(mcs_clip_embed_images(s->model, s->images, count, 0, s->image_embedding), st, done);
    MCS_TRY_GOTO(mcs_exec_set(s->prefix, s->image, s->images), st, done);
    MCS_TRY_GOTO(mcs_exec_forward(s->prefix), st, done);
    MCS_TRY_GOTO(mcs_exec_set(s->exec, s->b.text, s->text), st, done);

    for (int64_t i = 0; i < n; i++) s->alpha[i] = 5;
    MCS_TRY_GOTO(optimise(s, cases, count, on_alpha, ctx), st, done);
    for (int p = 0; p < count; p++) {
        const float *image = s->image_embedding + p * c->embed;
        double null = 0;
        for (int k = 0; k < n_null; k++) null += cosine(image, nulls + (int64_t)k * c->embed, c->embed) / n_null;
        cases[p].presence = cosine(image, s->text + (int64_t)p * c->embed, c->embed) - (float)null;
    }
    st = make_maps(s, cases, count);
done:
    free(texts);
    return st;
}

static enum mcs_status fill_seed(struct exec *e, struct tensor *seed, float value)
{
    const int64_t n = mcs_count(seed);
    float *host = malloc((size_t)n * sizeof *host);
    MCS_REQUIRE(host, MCS_E_NOMEM, "%s: no memory for its value", seed->name);
    for (int64_t i = 0; i < n; i++) host[i] = value;
    const enum mcs_status st = mcs_exec_set(e, seed, host);
    free(host);
    return st;
}

enum mcs_status mcs_saliency_run(struct clip_model *m, const struct saliency_options *o, struct saliency_case *cases,
                                 int n, const char *const *null_texts, int n_null, saliency_watch on_alpha, void *ctx,
                                 int progress)
{
    struct saliency s;
    struct mcs_progress bar;
    float *nulls = calloc((size_t)(n_null * m->config.embed + 1), sizeof *nulls);
    MCS_REQUIRE(nulls, MCS_E_NOMEM, "no memory for null prompts");
    enum mcs_status st = saliency_open(&s, m, o);
    if (st != MCS_OK) goto done;
    MCS_TRY_GOTO(mcs_clip_embed_texts(m, null_texts, n_null, 0, nulls), st, done);
    MCS_TRY_GOTO(fill_seed(s.exec, s.b.fit->grad, -1.0f / (float)o->copies), st, done);
    MCS_TRY_GOTO(fill_seed(s.exec, s.b.kl->grad, o->beta), st, done);
    if (progress) mcs_progress_start(&bar, "saliency", "map", n);
    for (int at = 0; at < n; at += (int)s.pairs) {
        const int count = n - at < (int)s.pairs ? n - at : (int)s.pairs;
        if (at) MCS_TRY_GOTO(mcs_stop_check(), st, done);
        MCS_TRY_GOTO(run_batch(&s, cases + at, count, nulls, n_null, on_alpha, ctx), st, done);
        if (progress) mcs_progress_set(&bar, at + count);
    }
    if (progress) mcs_progress_end(&bar);
done:
    saliency_close(&s);
    free(nulls);
    return st;
}

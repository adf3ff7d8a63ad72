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

/* Values of the batch's alpha, and of its images. */
static int64_t alpha_values(const struct saliency *s)
{
    return s->o.pairs * s->tokens * s->width;
}

static int64_t image_values(const struct saliency *s)
{
    return (int64_t)s->model->config.image_size * s->model->config.image_size * 3;
}

static enum mcs_status plan_image_tower(struct saliency *s)
{
    const struct clip_config *c = &s->model->config;
    const int64_t size = c->image_size;
    struct graph *g = s->image_graph = mcs_graph_new(s->model->params, s->model->device->activations);
    s->image = mcs_input(g, "image", MCS_F32, MCS_DIMS(s->o.pairs, size, size, 3));
    s->x = mcs_clip_blocks(g, mcs_clip_embed_image(g, s->image, c), c, 0, s->o.layer + 1, NULL);
    struct tensor *h = mcs_clip_blocks(g, mcs_keep(s->x), c, s->o.layer + 1, c->v_depth - 1, NULL);
    s->embedding = mcs_keep(mcs_clip_finish(g, h, c, 1, NULL));
    return mcs_exec_new_in(&s->memory, g, &s->image_exec);
}

static enum mcs_status plan_bottleneck(struct saliency *s)
{
    struct graph *g = s->graph = mcs_graph_new(s->model->params, s->model->device->activations);
    s->b = mcs_clip_m2ib(g, &s->model->config, s->o.layer, s->o.pairs, s->o.copies);
    MCS_TRY(mcs_graph_status(g));
    MCS_TRY(mcs_grad(g, (struct tensor *[]){s->b.fit, s->b.kl}, 2));
    return mcs_exec_new_in(&s->memory, g, &s->exec);
}

static enum mcs_status plan_map(struct saliency *s)
{
    const int64_t shape[] = {s->o.pairs, s->tokens, s->width};
    struct graph *g = s->map_graph = mcs_graph_new(s->model->params, s->model->device->activations);
    s->map_x = mcs_input(g, "x", MCS_F32, 3, shape);
    s->map_alpha = mcs_input(g, "alpha", MCS_F32, 3, shape);
    struct tensor *noise = mcs_input(g, "noise", MCS_F32, 3, shape); /* not used by the map */
    const struct step *step =
        mcs_record(g, OP_bottleneck, "map", (struct tensor *[]){s->map_x, s->map_alpha, noise}, NULL);
    MCS_TRY(mcs_graph_status(g));
    s->map = mcs_keep(step->out[2]);
    return mcs_exec_new_in(&s->map_memory, g, &s->map_exec);
}

/* Checks the options and plans the graphs; allocates nothing on the device. */
static enum mcs_status plan(struct saliency *s, struct clip_model *model, const struct saliency_options *o)
{
    const struct clip_config *c = &model->config;
    *s = (struct saliency){.model = model,
                           .o = *o,
                           .tokens = mcs_clip_tokens(c),
                           .width = c->v_width,
                           .side = c->image_size / c->patch,
                           .memory = {.device = model->device},
                           .map_memory = {.device = model->device},
                           .maps = {.device = model->device}};
    s->o.layer = o->layer < 0 ? c->v_depth - 2 : o->layer;
    MCS_REQUIRE(s->o.layer <= c->v_depth - 2, MCS_E_USAGE,
                "layer %d: the bottleneck must lie below the last of %d blocks; use 0 to %d", o->layer, c->v_depth,
                c->v_depth - 2);
    MCS_REQUIRE(o->steps >= 2 && o->copies >= 1 && o->pairs >= 1, MCS_E_USAGE,
                "saliency wants at least 2 steps, 1 copy and 1 pair");
    MCS_TRY(plan_image_tower(s));
    MCS_TRY(plan_bottleneck(s));
    return plan_map(s);
}

static enum mcs_status fill_seed(struct exec *e, struct tensor *seed, float value)
{
    const int64_t n = mcs_count(seed);
    float *host = malloc((size_t)n * sizeof *host);
    MCS_REQUIRE(host, MCS_E_NOMEM, "no memory for %lld loss weights", (long long)n);
    for (int64_t i = 0; i < n; i++) host[i] = value;
    const enum mcs_status st = mcs_exec_set(e, seed, host);
    free(host);
    return st;
}

enum { HOST_ARRAYS = 5 };

/* Values of the images, alpha, the texts, the images' embeddings and the null texts; returns their sum. */
static int64_t host_values(const struct saliency *s, int64_t count[HOST_ARRAYS])
{
    const int64_t embed = s->model->config.embed;
    int64_t total = 0;
    count[0] = s->o.pairs * image_values(s);
    count[1] = alpha_values(s);
    count[2] = count[3] = s->o.pairs * embed;
    count[4] = s->o.n_null * embed;
    for (int i = 0; i < HOST_ARRAYS; i++) total += count[i];
    return total;
}

static enum mcs_status alloc_host(struct saliency *s)
{
    float **const fields[HOST_ARRAYS] = {&s->images, &s->alpha, &s->text, &s->image_embedding, &s->nulls};
    int64_t count[HOST_ARRAYS];
    float *block = calloc((size_t)host_values(s, count), sizeof *block);
    s->batch = calloc((size_t)s->o.pairs, sizeof *s->batch);
    s->texts = calloc((size_t)s->o.pairs, sizeof *s->texts);
    s->images = block;
    MCS_REQUIRE(block && s->batch && s->texts, MCS_E_NOMEM,
                "no memory for %d (image, prompt) pairs at once; use fewer pairs", s->o.pairs);
    for (int i = 0; i < HOST_ARRAYS; block += count[i++]) *fields[i] = block;
    return MCS_OK;
}

static enum mcs_status alloc_all(struct saliency *s)
{
    struct device *d = s->model->device;
    MCS_TRY(alloc_host(s));
    MCS_TRY(mcs_exec_memory_alloc(&s->memory));
    MCS_TRY(mcs_exec_memory_alloc(&s->map_memory));
    MCS_TRY(mcs_device_alloc(d, 2 * alpha_values(s) * (int64_t)sizeof *s->moments, &s->moments));
    MCS_TRY(mcs_device_alloc(d, s->o.pairs * (int64_t)sizeof *s->keys, &s->keys));
    MCS_TRY(fill_seed(s->exec, s->b.fit->grad, -1.0f / (float)s->o.copies));
    return fill_seed(s->exec, s->b.kl->grad, s->o.beta);
}

enum mcs_status mcs_saliency_open(struct saliency *s, struct clip_model *m, const struct saliency_options *o)
{
    enum mcs_status st = plan(s, m, o);
    if (st == MCS_OK) st = alloc_all(s);
    if (st != MCS_OK) mcs_saliency_close(s);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

void mcs_saliency_close(struct saliency *s)
{
    if (!s->model) return;
    struct device *d = s->model->device;
    d->backend->free(d, s->moments);
    d->backend->free(d, s->keys);
    mcs_device_scratch_free(&s->maps);
    mcs_exec_free(s->image_exec);
    mcs_exec_free(s->exec);
    mcs_exec_free(s->map_exec);
    mcs_exec_memory_free(&s->memory);
    mcs_exec_memory_free(&s->map_memory);
    mcs_graph_free(s->image_graph);
    mcs_graph_free(s->graph);
    mcs_graph_free(s->map_graph);
    free(s->images);
    free(s->batch);
    free(s->texts);
    *s = (struct saliency){0};
}

enum mcs_status mcs_saliency_bytes(struct clip_model *m, const struct saliency_options *o, int64_t *bytes)
{
    struct saliency s;
    const enum mcs_status st = plan(&s, m, o);
    *bytes = 0;
    if (st == MCS_OK) {
        const struct plan most = mcs_exec_memory_plan(&s.memory), map = mcs_exec_memory_plan(&s.map_memory);
        int64_t count[HOST_ARRAYS];
        *bytes = mcs_plan_bytes(&most) + mcs_plan_bytes(&map) +
                 (2 * alpha_values(&s) + host_values(&s, count)) * (int64_t)sizeof(float) + /* 2: Adam's moments */
                 o->pairs * (int64_t)sizeof *s.keys;
    }
    mcs_saliency_close(&s);
    return st;
}

static float cosine(const float *a, const float *b, int n)
{
    double dot = 0, aa = 0, bb = 0;
    for (int i = 0; i < n; i++) dot += (double)a[i] * b[i], aa += (double)a[i] * a[i], bb += (double)b[i] * b[i];
    return (float)(dot / fmax(sqrt(aa * bb), 1e-12));
}

/* The noise of a step: the given one for every pair, or drawn by the cases' keys. */
static enum mcs_status set_noise(struct saliency *s, int step)
{
    struct device *d = s->model->device;
    const int64_t one = s->tokens * s->width, all = s->o.copies * one;
    float *to = s->b.noise->data;
    const struct noise_args a = {.seed = s->o.seed,
                                 .site = mcs_rng_site("m2ib.noise"),
                                 .step = (uint32_t)step,
                                 .n_keys = s->n_batch,
                                 .copies = s->o.copies,
                                 .n = one,
                                 .keys = s->keys,
                                 .y = to};
    if (!s->o.noise) return d->backend->device_ops->noise(d, &a);
    for (int64_t p = 0; p < s->o.pairs; p++)
        MCS_TRY(d->backend->upload(d, to + p * all, s->o.noise + step * all, all * (int64_t)sizeof *to));
    return MCS_OK;
}

/* The device's queue never drains between two steps, unless somebody watches. */
static enum mcs_status optimise(struct saliency *s)
{
    struct device *d = s->model->device;
    const struct device_ops *ops = d->backend->device_ops;
    const int64_t n = alpha_values(s);
    for (int p = 0; p < s->n_batch; p++)
        MCS_TRY(d->backend->upload(d, s->keys + p, &s->batch[p]->key, sizeof s->batch[p]->key));
    for (int64_t i = 0; i < n; i++) s->alpha[i] = 5;
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
        MCS_TRY(set_noise(s, step));
        MCS_TRY(mcs_exec_run(s->exec));
        MCS_TRY(ops->adam(d, &update));
        if (!s->o.on_alpha) continue;
        MCS_TRY(mcs_exec_get(s->exec, s->b.alpha, s->alpha));
        s->o.on_alpha(s->o.on_alpha_ctx, step, s->alpha);
    }
    MCS_TRY(ops->copy(d, s->b.x, s->map_x->data));
    MCS_TRY(ops->copy(d, s->b.alpha, s->map_alpha->data));
    return mcs_exec_forward(s->map_exec);
}

static enum mcs_status make_maps(struct saliency *s)
{
    struct device *d = s->model->device;
    int64_t n = 0, at = 0;
    for (int p = 0; p < s->n_batch; p++) n += (int64_t)s->batch[p]->image->width * s->batch[p]->image->height;
    MCS_TRY(mcs_device_scratch(&s->maps, n * (int64_t)sizeof(float)));
    float *maps = s->maps.p;
    for (int p = 0; p < s->n_batch; p++) {
        const struct saliency_map_args a = {.side = s->side,
                                            .view_side = s->o.view == CLIP_VIEW_WHOLE ? 0 : s->model->config.image_size,
                                            .height = s->batch[p]->image->height,
                                            .width = s->batch[p]->image->width,
                                            .tokens = (const float *)s->map->data + p * s->tokens +
                                                      1, /* without the class token */
                                            .map = maps + at};
        MCS_TRY(d->backend->device_ops->saliency_map(d, &a));
        at += (int64_t)a.height * a.width;
    }
    at = 0;
    for (int p = 0; p < s->n_batch; p++) {
        MCS_TRY(mcs_map_alloc(&s->batch[p]->map, s->batch[p]->image->width, s->batch[p]->image->height));
        const int64_t pixels = (int64_t)s->batch[p]->map.width * s->batch[p]->map.height;
        MCS_TRY(d->backend->download(d, s->batch[p]->map.values, maps + at, pixels * (int64_t)sizeof(float)));
        at += pixels;
    }
    return MCS_OK;
}

static enum mcs_status presence(struct saliency *s)
{
    const int embed = s->model->config.embed, n_null = s->o.n_null;
    if (n_null && !s->has_nulls) MCS_TRY(mcs_clip_embed_texts(s->model, s->o.null_texts, n_null, 0, s->nulls));
    s->has_nulls = 1;
    for (int p = 0; p < s->n_batch; p++) {
        const float *image = s->image_embedding + p * embed;
        double null = 0;
        for (int k = 0; k < n_null; k++) null += cosine(image, s->nulls + k * embed, embed) / n_null;
        s->batch[p]->presence = cosine(image, s->text + p * embed, embed) - (float)null;
    }
    return MCS_OK;
}

/* Texts first: the image tower's output must still be there when the bottleneck's input is copied from it. */
static enum mcs_status run_batch(struct saliency *s)
{
    struct device *d = s->model->device;
    const int64_t one = image_values(s);
    if (!s->n_batch) return MCS_OK;
    memset(s->images + s->n_batch * one, 0, (size_t)((s->o.pairs - s->n_batch) * one) * sizeof(float));
    for (int p = 0; p < s->n_batch; p++) s->texts[p] = s->batch[p]->text;
    MCS_TRY(mcs_clip_embed_texts(s->model, s->texts, s->n_batch, 0, s->text));
    MCS_TRY(mcs_exec_set(s->image_exec, s->image, s->images));
    MCS_TRY(mcs_exec_forward(s->image_exec));
    MCS_TRY(d->backend->device_ops->copy(d, s->x, s->b.x->data));
    MCS_TRY(mcs_exec_get(s->image_exec, s->embedding, s->image_embedding));
    MCS_TRY(presence(s));
    MCS_TRY(mcs_exec_set(s->exec, s->b.text, s->text));
    MCS_TRY(optimise(s));
    MCS_TRY(make_maps(s));
    s->n_batch = 0;
    return MCS_OK;
}

/* Adds a case to the batch. */
static enum mcs_status add_case(struct saliency *s, struct saliency_case *c, struct failure_list *failures)
{
    c->status = mcs_clip_prepare(&s->model->config, c->image, s->o.view, s->images + s->n_batch * image_values(s));
    if (c->status == MCS_OK) s->batch[s->n_batch++] = c;
    return mcs_failures_take(failures, c->stem, c->status);
}

enum mcs_status mcs_saliency_run(struct saliency *s, struct saliency_case *cases, int n, struct failure_list *failures,
                                 int progress)
{
    struct mcs_progress bar;
    if (progress) mcs_progress_start(&bar, "saliency", "map", n);
    s->n_batch = 0;
    for (int i = 0; i < n; i++) {
        MCS_TRY(add_case(s, &cases[i], failures));
        if (s->n_batch < s->o.pairs && i + 1 < n) continue;
        if (i >= s->o.pairs) MCS_TRY(mcs_stop_check());
        MCS_TRY(run_batch(s));
        if (progress) mcs_progress_set(&bar, i + 1);
    }
    if (progress) mcs_progress_end(&bar);
    return MCS_OK;
}

#include "infer/unet/ensemble.h"

#include "engine/base/path.h"
#include "infer/unet/uncertainty.h"
#include "infer/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int includes(const struct unet_checkpoint *c, int n, enum ensemble_choice choice, int i)
{
    if (choice == ENSEMBLE_LAST) return i == n - 1;
    return choice == ENSEMBLE_ALL || c[i].cycle == c[n - 1].cycle;
}

int mcs_ensemble_includes(const struct ensemble *e, enum ensemble_choice choice, int i)
{
    return includes(e->checkpoint, e->n, choice, i);
}

/* Drops the checkpoints of c (n) that no choice includes; returns the number kept, which includes the last one. */
static int keep_chosen(struct unet_checkpoint *c, int n, const enum ensemble_choice *choices, int n_choices)
{
    int kept = 0;
    for (int i = 0; i < n; i++) {
        int wanted = 0;
        for (int g = 0; g < n_choices; g++) wanted |= includes(c, n, choices[g], i);
        /* includes() reads c[i] and c[n - 1], which earlier copies have not overwritten */
        if (wanted) c[kept++] = c[i];
    }
    return kept;
}

enum mcs_status mcs_ensemble_open(const char *run, const enum ensemble_choice *choices, int n_choices, struct device *d,
                                  struct ensemble *e)
{
    struct unet_plans plans;
    char path[MCS_PATH_BYTES];
    int n;
    enum mcs_status st;
    *e = (struct ensemble){0};
    MCS_TRY(mcs_unet_plans_read(run, &plans));
    e->checkpoint = calloc(UNET_MAX_CHECKPOINTS, sizeof *e->checkpoint);
    e->weights = calloc(UNET_MAX_CHECKPOINTS, sizeof *e->weights);
    MCS_REQUIRE_GOTO(e->checkpoint && e->weights, MCS_E_NOMEM, st, failed, "no memory for a list of checkpoints");
    MCS_TRY_GOTO(mcs_unet_checkpoints_read(run, e->checkpoint, &n), st, failed);
    e->n = keep_chosen(e->checkpoint, n, choices, n_choices);
    MCS_TRY_GOTO(mcs_unet_model_new(&plans, 0, d, &e->model), st, failed);
    const int64_t bytes = e->model.params->n_values * (int64_t)sizeof(float);
    for (int i = 0; i < e->n; i++) {
        MCS_TRY_GOTO(mcs_path(path, "%s/%s", run, e->checkpoint[i].file), st, failed);
        MCS_TRY_GOTO(mcs_weights_read(path, e->model.params, NULL), st, failed);
        e->weights[i] = malloc((size_t)bytes);
        MCS_REQUIRE_GOTO(e->weights[i], MCS_E_NOMEM, st, failed, "no memory for the weights of %d checkpoints", e->n);
        MCS_TRY_GOTO(d->backend->download(d, e->weights[i], e->model.params->data, bytes), st, failed);
    }
    return MCS_OK;
failed:
    mcs_ensemble_close(e);
    return st;
}

void mcs_ensemble_close(struct ensemble *e)
{
    for (int i = 0; e->weights && i < UNET_MAX_CHECKPOINTS; i++) free(e->weights[i]);
    free(e->weights);
    free(e->checkpoint);
    mcs_sliding_close(&e->sliding);
    mcs_device_scratch_free(&e->results);
    if (e->model.params) mcs_unet_model_close(&e->model);
    *e = (struct ensemble){0};
}

static int n_members(const struct ensemble *e, enum ensemble_choice choice)
{
    int members = 0;
    for (int i = 0; i < e->n; i++) members += mcs_ensemble_includes(e, choice, i);
    return members;
}

static enum mcs_status use_weights(struct ensemble *e, int i)
{
    struct device *d = e->model.device;
    return d->backend->upload(d, e->model.params->data, e->weights[i],
                              e->model.params->n_values * (int64_t)sizeof(float));
}

static enum mcs_status enqueue_checkpoints(struct ensemble *e, struct sliding *s, const enum ensemble_choice *choices,
                                           int n_choices, float *const *prob)
{
    int begun[ENSEMBLE_MAX_CHOICES] = {0};
    for (int i = 0; i < e->n; i++) {
        MCS_TRY(use_weights(e, i));
        MCS_TRY(mcs_sliding_enqueue(s));
        for (int g = 0; g < n_choices; g++) {
            if (!mcs_ensemble_includes(e, choices[g], i)) continue;
            const struct softmax_args a = {.n = (int)s->n,
                                           .classes = (int)e->model.plans.net.classes,
                                           .first = !begun[g]++,
                                           .pixels = s->height * s->width,
                                           .share = 1 / (float)n_members(e, choices[g]),
                                           .logits = s->logits,
                                           .prob = prob[g]};
            MCS_TRY(e->model.device->backend->device_ops->softmax(e->model.device, &a));
        }
    }
    return MCS_OK;
}

/* Loads the images into e->sliding, which is opened again if their size or the options have changed. */
static enum mcs_status load(struct ensemble *e, const struct sliding_options *o, const float *images, int64_t n,
                            int64_t height, int64_t width)
{
    struct sliding *s = &e->sliding;
    const int same_options = s->o.step == o->step && s->o.mirror == o->mirror && s->o.batch == o->batch;
    if (s->model && same_options && s->height == height && s->width == width && n > 0 && n <= s->capacity)
        return mcs_sliding_load(s, images, n);
    mcs_sliding_close(s);
    return mcs_sliding_open(s, &e->model, o, images, n, height, width);
}

enum mcs_status mcs_ensemble_run(struct ensemble *e, const struct sliding_options *o, const float *images, int64_t n,
                                 int64_t height, int64_t width, const enum ensemble_choice *choices, int n_choices,
                                 double threshold, const struct ensemble_maps *maps)
{
    struct sliding *s = &e->sliding;
    struct device *d = e->model.device;
    const int64_t pixels = n * height * width, classes = e->model.plans.net.classes, word = sizeof(float);
    float *prob[ENSEMBLE_MAX_CHOICES] = {0};
    MCS_TRY(load(e, o, images, n, height, width));
    e->results.device = d;
    MCS_TRY(mcs_device_scratch(&e->results, pixels * ((n_choices * classes + 1) * word + 1)));
    for (int g = 0; g < n_choices; g++) prob[g] = (float *)e->results.p + g * pixels * classes;
    float *bits = (float *)e->results.p + n_choices * pixels * classes;
    uint8_t *labels = (uint8_t *)(bits + pixels);
    MCS_TRY(enqueue_checkpoints(e, s, choices, n_choices, prob));
    for (int g = 0; g < n_choices; g++) {
        const struct ensemble_maps *m = &maps[g];
        const struct prob_maps_args a = {.n = (int)n,
                                         .classes = (int)classes,
                                         .pixels = height * width,
                                         .threshold = threshold,
                                         .prob = prob[g],
                                         .bits = m->bits ? bits : NULL,
                                         .labels = m->labels ? labels : NULL,
                                         .bad = s->bad};
        MCS_TRY(d->backend->device_ops->prob_maps(d, &a));
        if (!g) MCS_TRY(mcs_sliding_check(s)); /* no maps are returned of logits that are not finite */
        if (m->bits) MCS_TRY(d->backend->download(d, m->bits, bits, pixels * word));
        if (m->labels) MCS_TRY(d->backend->download(d, m->labels, labels, pixels));
        if (m->prob) MCS_TRY(d->backend->download(d, m->prob, prob[g], pixels * classes * word));
    }
    return MCS_OK;
}

enum mcs_status mcs_ensemble_predict(struct ensemble *e, const struct sliding_options *o, const float *images,
                                     int64_t n, int64_t height, int64_t width, const enum ensemble_choice *choices,
                                     int n_choices, float *const *prob)
{
    struct ensemble_maps maps[ENSEMBLE_MAX_CHOICES] = {0};
    for (int g = 0; g < n_choices; g++) maps[g].prob = prob[g];
    return mcs_ensemble_run(e, o, images, n, height, width, choices, n_choices, 0, maps);
}

void mcs_ensemble_normalise(const uint8_t *bytes, const float *values, int64_t n_pixels, int channels, float *dst)
{
    for (int k = 0; k < channels; k++) {
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < n_pixels; i++) {
            const float v = bytes ? bytes[i * channels + k] : values[i * channels + k];
            dst[i * channels + k] = v;
            mean += (double)v;
        }
        mean /= (double)n_pixels;
        for (int64_t i = 0; i < n_pixels; i++) {
            const double v = (double)dst[i * channels + k] - mean;
            variance += v * v;
        }
        const float inverse = (float)(1 / fmax(sqrt(variance / (double)n_pixels), 1e-8)), centre = (float)mean;
        for (int64_t i = 0; i < n_pixels; i++) dst[i * channels + k] = (dst[i * channels + k] - centre) * inverse;
    }
}

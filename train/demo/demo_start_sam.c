/* The demo's small SAM, trained on painted shapes and atlas regions of training slices and evaluated on lesions of the
 * validation slices. */
#include "data/io/file.h"
#include "data/lesions/demo_sample.h"
#include "data/lesions/demo_start.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "train/demo/start_models.h"
#include "train/run/training_data.h"
#include "train/sam/sam_train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVALUATED = 100, WARMUP = 50 };

struct maker {
    struct demo_atlas atlas;
    const struct demo_config *config;
    int images;
};

static enum mcs_status draw(void *context, uint64_t seed, uint32_t step, uint32_t index, struct sam_train_sample *s)
{
    const struct maker *m = context;
    struct demo_sam_start d;
    mcs_demo_sam_start(&m->atlas, m->config, seed, step * (uint32_t)m->images + index, &d);
    memcpy(s->image, d.image, DEMO_PIXELS);
    s->n = d.n_targets < SAM_TRAIN_TARGETS ? d.n_targets : SAM_TRAIN_TARGETS;
    for (int i = 0; i < s->n; i++) {
        memcpy(s->mask + i * DEMO_PIXELS, d.target[i].mask, DEMO_PIXELS);
        memcpy(s->box[i], d.target[i].box, sizeof s->box[i]);
    }
    return MCS_OK;
}

static double dice(const struct map2 *logits, const uint8_t *truth)
{
    int both = 0, sum = 0;
    for (int i = 0; i < DEMO_PIXELS; i++) {
        const int in = logits->values[i] > 0;
        both += in && truth[i];
        sum += in + truth[i];
    }
    return sum ? 2.0 * both / sum : 1;
}

/* DSC of one lesion, prompted by boxes of each jitter. */
struct score {
    double dsc[3];
    int small, rim;
};
static const double JITTER[3] = {0, 0.3, 0.6};

static enum mcs_status score_one(struct sam_model *model, const struct maker *m, uint64_t seed, uint32_t id,
                                 struct demo_sample *s, float *pixels, float *embedding, float *low_res,
                                 struct score *score)
{
    struct sam_frame frame;
    float iou[3 * SAM_MASKS];
    mcs_demo_lesion_sample(&m->atlas, m->config, DEMO_VALIDATION, DEMO_SOME, seed, id, s);
    const struct image img = {DEMO_SIZE, DEMO_SIZE, 1, s->image};
    const int64_t side = mcs_sam_side(&model->config);
    MCS_TRY(mcs_sam_prepare(&model->config, &img, pixels, &frame));
    MCS_TRY(mcs_sam_encode_images(model, pixels, 1, embedding));
    struct sam_prompts prompt[3] = {{.has_box = 1}, {.has_box = 1}, {.has_box = 1}};
    for (int k = 0; k < 3; k++)
        mcs_sam_jitter_box(s->lesion[0].box, DEMO_SIZE, JITTER[k], 0, seed, id, (uint32_t)k, prompt[k].box);
    MCS_TRY(mcs_sam_predict(model, embedding, &frame, 1, prompt, 3, low_res, iou));
    for (int k = 0; k < 3; k++) {
        struct map2 logits;
        MCS_TRY(mcs_sam_upscale(&model->config, low_res + k * SAM_MASKS * side * side, &frame, &logits));
        score->dsc[k] = dice(&logits, s->truth[0]);
        mcs_map_free(&logits);
    }
    score->small = !s->lesion[0].large;
    score->rim = s->lesion[0].rim;
    return MCS_OK;
}

/* Writes evaluation.json: mean DSC on validation lesions by jitter, and by size and rim at jitter 0.3. */
static enum mcs_status evaluate(struct sam_model *model, const struct maker *m, uint64_t seed, const char *out)
{
    const int64_t side = mcs_sam_side(&model->config);
    struct demo_sample *sample = calloc(1, sizeof *sample);
    float *pixels = malloc((size_t)DEMO_PIXELS * 3 * sizeof(float)),
          *embedding = malloc((size_t)mcs_sam_embedding_values(&model->config) * sizeof(float)),
          *low_res = malloc((size_t)(3 * SAM_MASKS * side * side) * sizeof(float));
    double sum[3] = {0}, part[4] = {0};
    int n_part[4] = {0};
    char text[512], path[MCS_PATH_BYTES];
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(sample && pixels && embedding && low_res, MCS_E_NOMEM, st, done, "no memory for an evaluation");
    for (uint32_t id = 0; id < EVALUATED; id++) {
        struct score s;
        MCS_TRY_GOTO(mcs_stop_check(), st, done);
        MCS_TRY_GOTO(score_one(model, m, seed, id, sample, pixels, embedding, low_res, &s), st, done);
        for (int k = 0; k < 3; k++) sum[k] += s.dsc[k] / EVALUATED;
        part[s.small] += s.dsc[1], n_part[s.small]++;
        part[2 + s.rim] += s.dsc[1], n_part[2 + s.rim]++;
    }
    for (int k = 0; k < 4; k++) part[k] /= n_part[k] ? n_part[k] : 1;
    snprintf(text, sizeof text,
             "{\"split\": \"validation\", \"images\": %d, \"dsc\": {\"tight\": %.4f, \"jitter 0.3\": %.4f, \"jitter "
             "0.6\": %.4f},\n \"jitter 0.3 by kind\": {\"large\": %.4f, \"small\": %.4f, \"no rim\": %.4f, \"rim\": "
             "%.4f}}\n",
             EVALUATED, sum[0], sum[1], sum[2], part[0], part[1], part[2], part[3]);
    mcs_log("validation lesions, DSC: tight boxes %.3f, jitter 0.3 %.3f (large %.3f, small %.3f, no rim %.3f, rim "
            "%.3f), jitter 0.6 %.3f",
            sum[0], sum[1], part[0], part[1], part[2], part[3], sum[2]);
    MCS_TRY_GOTO(mcs_path(path, "%s/evaluation.json", out), st, done);
    MCS_TRY_GOTO(mcs_file_write(path, text, (int64_t)strlen(text)), st, done);
done:
    free(sample);
    free(pixels);
    free(embedding);
    free(low_res);
    return st;
}

enum mcs_status mcs_demo_start_sam(const struct demo_start_options *o)
{
    struct maker m = {.config = &o->data, .images = (int)o->batch};
    struct sam_model model = {0};
    const struct sam_config config = mcs_sam_small();
    char path[MCS_PATH_BYTES], note[200];
    struct arena arena = {0};
    enum mcs_status st;
    MCS_TRY(mcs_demo_atlas_load(o->atlas, &m.atlas));
    struct sam_train_options t = mcs_sam_train_defaults();
    t.steps = o->steps;
    t.warmup = WARMUP;
    t.checkpoint_every = o->checkpoint_every;
    t.images = m.images;
    t.lr = o->lr;
    t.seed = (uint64_t)o->seed;
    t.run = o->out;
    t.comm = o->comm;
    t.config = mcs_arena_printf(&arena, "%s%s", o->config, mcs_training_atlas_lines(&m.atlas, &arena));
    MCS_TRY_GOTO(mcs_arena_status(&arena), st, done);
    const struct sam_train_source source = {draw, &m};
    MCS_TRY_GOTO(mcs_sam_model_new(&config, t.seed, o->device, &model), st, done);
    MCS_TRY_GOTO(mcs_sam_train(&model, &t, &source), st, done);
    if (o->comm && o->comm->rank) goto done;
    MCS_TRY_GOTO(mcs_path(path, "%s/model", o->out), st, done);
    snprintf(note, sizeof note, "mcsam " MCS_VERSION " demo-start sam: %lld steps of %d images x %d boxes, seed %lld",
             (long long)o->steps, m.images, t.boxes, (long long)o->seed);
    MCS_TRY_GOTO(mcs_sam_model_save(&model, path, 1, note), st, done);
    MCS_TRY_GOTO(evaluate(&model, &m, t.seed, o->out), st, done);
done:
    mcs_sam_model_close(&model);
    mcs_demo_atlas_free(&m.atlas);
    mcs_arena_free(&arena);
    return st;
}

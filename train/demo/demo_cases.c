/* The demo's images in memory and on disk, and the scores of masks against the ground truth. */
#include "data/io/file.h"
#include "data/lesions/demo_write.h"
#include "engine/base/path.h"
#include "infer/metrics/metrics.h"
#include "train/demo/demo_run.h"

#include <math.h>
#include <stdlib.h>

enum { NSD_TOLERANCE_PX = 2 };

const char *const mcs_demo_stage_names[DEMO_STAGES] = {
    "saliency, starting weights", "+ fine-tuning", "+ post-processing", "+ components", "+ SAM", "+ network ensemble"};
const char *const mcs_demo_stage_folders[DEMO_STAGES] = {"saliency_start", "saliency", "post",
                                                         "coarse",         "sam",      "network"};
const char *const mcs_demo_average_names[DEMO_AVERAGES] = {"last checkpoint", "last cycle", "all cycles"};

enum mcs_status mcs_demo_set_make(const struct demo_atlas *atlas, const struct demo_options *o, enum demo_split split,
                                  enum demo_kind kind, int n, struct demo_set *set)
{
    *set = (struct demo_set){.n = n, .cases = calloc((size_t)n + 1, sizeof *set->cases)};
    MCS_REQUIRE(set->cases, MCS_E_NOMEM, "no memory for %d images", n);
    for (int i = 0; i < n; i++) {
        struct demo_case *c = &set->cases[i];
        c->sample = malloc(sizeof *c->sample);
        MCS_REQUIRE(c->sample, MCS_E_NOMEM, "no memory for %d images", n);
    }
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < n; i++) {
        struct demo_case *c = &set->cases[i];
        mcs_demo_lesion_sample(atlas, &o->data, split, kind, (uint64_t)o->seed, (uint32_t)i, c->sample);
        c->image = (struct image){DEMO_SIZE, DEMO_SIZE, 1, c->sample->image};
        snprintf(c->stem, sizeof c->stem, "%s_%05d", mcs_demo_split_word(split), i);
    }
    return MCS_OK;
}

void mcs_demo_set_free(struct demo_set *set)
{
    for (int i = 0; set->cases && i < set->n; i++) free(set->cases[i].sample);
    free(set->cases);
    *set = (struct demo_set){0};
}

enum mcs_status mcs_demo_score_new(int n, struct demo_score *s)
{
    *s = (struct demo_score){.n = n, .dice = calloc((size_t)(3 * n + 1), sizeof *s->dice)};
    MCS_REQUIRE(s->dice, MCS_E_NOMEM, "no memory for %d scores", n);
    s->iou = s->dice + n;
    s->nsd = s->iou + n;
    return MCS_OK;
}

void mcs_demo_score_free(struct demo_score *s)
{
    free(s->dice);
    *s = (struct demo_score){0};
}

enum mcs_status mcs_demo_score_add(struct demo_score *s, int i, const uint8_t *mask, const uint8_t *truth)
{
    struct mask_metrics m;
    const double pixel[2] = {1, 1};
    MCS_TRY(mcs_metrics_measure(mask, truth, DEMO_SIZE, DEMO_SIZE, pixel, NSD_TOLERANCE_PX, &m));
    s->dice[i] = m.dice;
    s->iou[i] = m.iou;
    s->nsd[i] = m.nsd;
    return MCS_OK;
}

enum mcs_status mcs_demo_write_mask(const struct demo_run *run, const char *folder, const char *stem,
                                    const uint8_t *mask)
{
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(path, "%s/%s", run->o->output, folder));
    MCS_TRY(mcs_folder_make(path));
    MCS_TRY(mcs_path(path, "%s/%s/%s.png", run->o->output, folder, stem));
    return mcs_image_write_mask(path, mask, DEMO_SIZE, DEMO_SIZE);
}

enum mcs_status mcs_demo_write_map(const struct demo_run *run, const char *folder, const char *stem, const float *map,
                                   double scale)
{
    uint8_t pixels[DEMO_PIXELS];
    char path[MCS_PATH_BYTES];
    for (int i = 0; i < DEMO_PIXELS; i++) pixels[i] = (uint8_t)lrint(fmin(fmax((double)map[i] * scale, 0), 255));
    const struct image img = {DEMO_SIZE, DEMO_SIZE, 1, pixels};
    MCS_TRY(mcs_path(path, "%s/%s", run->o->output, folder));
    MCS_TRY(mcs_folder_make(path));
    MCS_TRY(mcs_path(path, "%s/%s/%s.png", run->o->output, folder, stem));
    return mcs_image_write_png(path, &img);
}

static enum mcs_status write_folder(const struct demo_run *run, const char *name, enum demo_split split,
                                    enum demo_kind kind, int n)
{
    char path[MCS_PATH_BYTES];
    if (n == 0) return MCS_OK;
    MCS_TRY(mcs_path(path, "%s/data/%s", run->o->output, name));
    return mcs_demo_write(path, &run->atlas, &run->o->data,
                          &(struct demo_write){.split = split, .kind = kind, .seed = (uint64_t)run->o->seed, .n = n});
}

enum mcs_status mcs_demo_make_data(struct demo_run *run)
{
    const struct demo_options *o = run->o;
    const enum demo_split split = o->evaluate ? DEMO_VALIDATION : DEMO_TEST;
    const int n_test = (int)(o->test_images > o->retrieval_images ? o->test_images : o->retrieval_images);
    MCS_TRY(write_folder(run, "train", DEMO_TRAIN, DEMO_MIXED, (int)o->train_images));
    MCS_TRY(write_folder(run, "test", split, DEMO_SOME, n_test));
    MCS_TRY(write_folder(run, "test_two", split, DEMO_TWO, (int)o->two_images));
    MCS_TRY(write_folder(run, "test_none", split, DEMO_NONE, (int)o->none_images));
    MCS_TRY(mcs_demo_set_make(&run->atlas, o, DEMO_TRAIN, DEMO_MIXED, (int)o->train_images, &run->train));
    MCS_TRY(mcs_demo_set_make(&run->atlas, o, split, DEMO_SOME, (int)o->test_images, &run->test));
    MCS_TRY(mcs_demo_set_make(&run->atlas, o, split, DEMO_TWO, (int)o->two_images, &run->two));
    MCS_TRY(mcs_demo_set_make(&run->atlas, o, split, DEMO_NONE, (int)o->none_images, &run->none));
    for (int s = 0; s < DEMO_STAGES; s++) MCS_TRY(mcs_demo_score_new(run->test.n, &run->r.stage[s]));
    run->r.score = mcs_arena_alloc(&run->arena, (size_t)(run->test.n + 1) * sizeof(double));
    run->r.presence = mcs_arena_alloc(&run->arena, (size_t)(run->test.n + 1) * sizeof(double));
    return mcs_arena_status(&run->arena);
}

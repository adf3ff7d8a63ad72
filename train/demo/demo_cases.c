/* The demo's images in memory and on disk, and the scores of masks against the ground truth. */
#include "data/io/file.h"
#include "data/lesions/demo_write.h"
#include "engine/base/path.h"
#include "infer/metrics/metrics.h"
#include "train/demo/demo_results.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NSD_TOLERANCE_PX = 2 };

const char *const mcs_demo_stage_names[DEMO_STAGES] = {
    "saliency, starting weights", "+ fine-tuning", "+ post-processing", "+ components", "+ SAM", "+ network ensemble"};
const char *const mcs_demo_stage_folders[DEMO_STAGES] = {"saliency_start", "saliency", "post",
                                                         "coarse",         "sam",      "network"};
const char *const mcs_demo_list_names[DEMO_N_LISTS] = {
#define X(id, name, set) name,
    DEMO_LISTS(X)
#undef X
};
const char *const mcs_demo_average_names[DEMO_AVERAGES] = {"last checkpoint", "last cycle", "all cycles"};
const enum demo_list mcs_demo_average_lists[DEMO_AVERAGES] = {LIST_LAST, LIST_LAST_CYCLE, LIST_WEAK};

enum mcs_status mcs_demo_set_make(const struct demo_atlas *atlas, const struct demo_options *o, enum demo_split split,
                                  enum demo_kind kind, int first, int n, struct demo_set *set)
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
        mcs_demo_lesion_sample(atlas, &o->data, split, kind, (uint64_t)o->seed, (uint32_t)(first + i), c->sample);
        c->image = (struct image){DEMO_SIZE, DEMO_SIZE, 1, c->sample->image};
        snprintf(c->stem, sizeof c->stem, "%s_%05d", mcs_demo_split_word(split), first + i);
        for (int level = 0; level < DEMO_PROMPT_LEVELS && c->sample->n_lesions; level++)
            mcs_demo_lesion_prompt(&c->sample->lesion[0], (enum demo_prompt_level)level, c->prompt[level]);
    }
    return MCS_OK;
}

/* Healthy images are asked with the prompts of the images with lesions, in their order. */
static void copy_prompts(const struct demo_set *from, struct demo_set *healthy)
{
    for (int i = 0; i < healthy->n && from->n; i++)
        memcpy(healthy->cases[i].prompt, from->cases[i % from->n].prompt, sizeof healthy->cases[i].prompt);
}

void mcs_demo_truth(const struct demo_case *c, enum demo_prompt_level level, uint8_t *truth)
{
    memset(truth, 0, DEMO_PIXELS);
    if (c->sample->n_lesions) mcs_demo_prompt_truth(c->sample, 0, level, truth);
}

void mcs_demo_truth_all(const struct demo_case *c, uint8_t *truth)
{
    memset(truth, 0, DEMO_PIXELS);
    for (int k = 0; k < c->sample->n_lesions; k++)
        for (int i = 0; i < DEMO_PIXELS; i++) truth[i] |= c->sample->truth[k][i];
}

double mcs_demo_dice(const uint8_t *mask, const uint8_t *truth)
{
    const struct mask_counts c = mcs_metrics_count(mask, truth, DEMO_PIXELS);
    return mcs_metrics_dice(&c);
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

/* Ids of the images that tune, so that they are none of those measured by --evaluate validation. */
enum { TUNING_ID = 50000 };

static enum mcs_status make_sets(struct demo_run *run, enum demo_split split)
{
    const struct demo_options *o = run->o;
    const struct {
        struct demo_set *set;
        enum demo_split split;
        enum demo_kind kind;
        int first;
        int64_t n;
    } sets[] = {{&run->train, DEMO_TRAIN, DEMO_MIXED, 0, o->train_images},
                {&run->test, split, DEMO_SOME, 0, o->test_images},
                {&run->two, split, DEMO_TWO, 0, o->two_images},
                {&run->none, split, DEMO_NONE, 0, o->none_images},
                {&run->unseen, DEMO_TEST, DEMO_UNSEEN, 0, o->evaluate ? 0 : o->unseen_images},
                {&run->validation, DEMO_VALIDATION, DEMO_SOME, TUNING_ID, o->validation_images},
                {&run->validation_none, DEMO_VALIDATION, DEMO_NONE, TUNING_ID, o->validation_images}};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        MCS_TRY(
            mcs_demo_set_make(&run->atlas, o, sets[i].split, sets[i].kind, sets[i].first, (int)sets[i].n, sets[i].set));
    copy_prompts(&run->test, &run->none);
    copy_prompts(&run->validation, &run->validation_none);
    return MCS_OK;
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
    if (!o->evaluate) MCS_TRY(write_folder(run, "test_unseen", split, DEMO_UNSEEN, (int)o->unseen_images));
    MCS_TRY(make_sets(run, split));
    for (int s = 0; s < DEMO_STAGES; s++) MCS_TRY(mcs_demo_score_new(run->test.n, &run->r.stage[s]));
    return mcs_demo_lists_new(run);
}

enum mcs_status mcs_demo_lists_new(struct demo_run *run)
{
    const int n[DEMO_N_LISTS] = {
#define X(id, name, set) run->set.n,
        DEMO_LISTS(X)
#undef X
    };
    for (int k = 0; k < DEMO_N_LISTS; k++) {
        double *v = mcs_arena_alloc(&run->arena, (size_t)(n[k] + 1) * sizeof *v);
        MCS_TRY(mcs_arena_status(&run->arena));
        for (int i = 0; i < n[k]; i++) v[i] = NAN;
        run->r.list[k] = (struct demo_list_values){n[k], v};
    }
    run->r.score = mcs_arena_alloc(&run->arena, (size_t)(run->test.n + 1) * sizeof(double));
    return mcs_arena_status(&run->arena);
}

struct bootstrap_interval mcs_demo_interval(const struct demo_run *run, enum demo_list list)
{
    struct bootstrap_interval r;
    const struct demo_list_values *l = &run->r.list[list];
    if (mcs_bootstrap_mean(l->v, l->n, (uint64_t)run->o->seed, &r) != MCS_OK) mcs_error_clear();
    return r;
}

struct bootstrap_interval mcs_demo_difference(const struct demo_run *run, enum demo_list a, enum demo_list b)
{
    struct bootstrap_interval r;
    const struct demo_list_values *l = &run->r.list[a], *m = &run->r.list[b];
    if (mcs_bootstrap_difference(l->v, m->v, l->n, (uint64_t)run->o->seed, &r) != MCS_OK) mcs_error_clear();
    return r;
}

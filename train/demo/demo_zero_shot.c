/* The demo's stages before the network: baselines, fine-tuning and retrieval, saliency to SAM, the controls. */
#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "engine/image/components.h"
#include "infer/metrics/metrics.h"
#include "train/clip/finetune.h"
#include "train/demo/demo_run.h"
#include "train/run/process_group.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct segment_options mcs_demo_segment_options(const struct demo_options *o)
{
    struct segment_options s = mcs_segment_defaults(o->form);
    s.saliency.layer = (int)o->saliency_layer;
    s.saliency.beta = (float)o->saliency_beta;
    s.saliency.steps = (int)o->saliency_steps;
    s.saliency.copies = (int)o->saliency_copies;
    s.saliency.seed = (uint64_t)o->seed;
    s.coarse.seed = (uint64_t)o->seed;
    s.coarse.rank = (enum mcs_coarse_rank)o->rank;
    s.coarse.min_confidence = (float)o->min_confidence;
    s.coarse.grow_px = (int)o->grow;
    s.saliency.null_texts = mcs_demo_null_prompts;
    s.saliency.n_null = DEMO_NULL_PROMPTS;
    return s;
}

/* ---- baselines without a model ---- */

/* Keeps the component of the mask with the greatest (dark 0) or least (dark 1) mean grey value among those of at least
 * 20 pixels: the best choice possible without the ground truth. */
static enum mcs_status extreme_component(const uint8_t *image, uint8_t *mask, int dark)
{
    int32_t *labels = malloc(DEMO_PIXELS * sizeof *labels);
    float *grey = malloc(DEMO_PIXELS * sizeof *grey);
    struct component_list list = {0};
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(labels && grey, MCS_E_NOMEM, st, done, "no memory for a baseline");
    for (int i = 0; i < DEMO_PIXELS; i++) grey[i] = dark ? 1 - image[i] / 255.0f : image[i] / 255.0f;
    MCS_TRY_GOTO(mcs_components_find(mask, grey, DEMO_SIZE, DEMO_SIZE, labels, &list), st, done);
    mcs_components_min_area(&list, 20);
    float *scores = malloc((size_t)(list.n + 1) * sizeof *scores);
    MCS_REQUIRE_GOTO(scores, MCS_E_NOMEM, st, done, "no memory for the scores of %d components", list.n);
    for (int k = 0; k < list.n; k++) scores[k] = list.items[k].confidence;
    st = mcs_components_keep_score(&list, scores, 1);
    free(scores);
    if (st == MCS_OK) st = mcs_components_mask(&list, labels, DEMO_PIXELS, mask);
done:
    mcs_components_free(&list);
    free(labels);
    free(grey);
    return st;
}

static enum mcs_status threshold_baseline(const struct demo_case *c, int kmeans, int dark, uint8_t *mask)
{
    float map[DEMO_PIXELS], at;
    enum mcs_mask_state state;
    int n = 0;
    uint8_t inside[DEMO_PIXELS];
    for (int i = 0; i < DEMO_PIXELS; i++) /* inside the brain only, which favours the baseline */
        if (c->sample->brain[i]) map[n++] = dark ? 1 - c->sample->image[i] / 255.0f : c->sample->image[i] / 255.0f;
    if (kmeans)
        MCS_TRY(mcs_threshold_kmeans(map, n, inside, &at, &state));
    else
        MCS_TRY(mcs_threshold_otsu(map, n, inside, &at, &state));
    memset(mask, 0, DEMO_PIXELS);
    for (int i = 0, k = 0; i < DEMO_PIXELS; i++)
        if (c->sample->brain[i]) mask[i] = inside[k++];
    return extreme_component(c->sample->image, mask, dark);
}

static void centre_blob(uint8_t *mask)
{
    const int radius = 11; /* the mean area of a lesion, 370 pixels */
    for (int y = 0; y < DEMO_SIZE; y++)
        for (int x = 0; x < DEMO_SIZE; x++)
            mask[y * DEMO_SIZE + x] =
                (x - DEMO_SIZE / 2) * (x - DEMO_SIZE / 2) + (y - DEMO_SIZE / 2) * (y - DEMO_SIZE / 2) <=
                radius * radius;
}

static double dice_of(const uint8_t *mask, const uint8_t *truth)
{
    const struct mask_counts c = mcs_metrics_count(mask, truth, DEMO_PIXELS);
    return mcs_metrics_dice(&c);
}

enum mcs_status mcs_demo_baselines(struct demo_run *run)
{
    static const struct {
        const char *name, *what;
        int kmeans, dark;
    } kinds[] = {
        {"Otsu, brightest component", "Otsu on the brain's grey values, the bright class, its brightest component", 0,
         0},
        {"Otsu, darkest component", "the same on inverted grey values", 0, 1},
        {"2-means, brightest component",
         "2-means on the brain's grey values, the bright class, its brightest component", 1, 0},
        {"2-means, darkest component", "the same on inverted grey values", 1, 1},
    };
    uint8_t mask[DEMO_PIXELS];
    for (int k = 0; k < 5; k++) {
        MCS_TRY(mcs_stop_check());
        double sum = 0;
        for (int i = 0; i < run->test.n; i++) {
            const struct demo_case *c = &run->test.cases[i];
            if (k < 4)
                MCS_TRY(threshold_baseline(c, kinds[k].kmeans, kinds[k].dark, mask));
            else
                centre_blob(mask);
            sum += dice_of(mask, c->sample->truth[0]) / run->test.n;
        }
        run->r.baseline[run->r.n_baselines++] =
            k < 4 ? (struct demo_baseline){kinds[k].name, kinds[k].what, sum}
                  : (struct demo_baseline){"blob in the centre",
                                           "a disc of a mean lesion's area in the middle of the image", sum};
    }
    return MCS_OK;
}

/* ---- fine-tuning ---- */

static enum mcs_status read_pairs(const struct demo_run *run, const char *name, struct pairs *pairs)
{
    char csv[MCS_PATH_BYTES], images[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(csv, "%s/data/%s/pairs.csv", run->o->output, name));
    MCS_TRY(mcs_path(images, "%s/data/%s/images", run->o->output, name));
    const struct pairs_options po = {.image_folder = images};
    return mcs_pairs_read(csv, &po, pairs);
}

struct finetune_task {
    const struct demo_options *o;
    const struct pairs *pairs;
    struct clip_train_options train;
};

static enum mcs_status finetune(const struct finetune_task *task, struct clip_model *m, struct comm *comm)
{
    struct pair_source source = {0};
    struct clip_train_options t = task->train;
    enum mcs_status st;
    t.comm = comm;
    MCS_TRY_GOTO(mcs_pair_source_open(&source, task->pairs, &m->config, t.batch, 0.9, t.seed), st, done);
    st = mcs_clip_train(m, &t, &(struct clip_source){mcs_pair_source_fill, &source}, NULL);
done:
    mcs_pair_source_close(&source);
    return st;
}

/* Runs one of --gpus ranks. Each rank has a copy of the model; rank 0 writes it. */
static enum mcs_status finetune_rank(void *ctx, const struct process_group *group)
{
    const struct finetune_task *task = ctx;
    struct clip_model m = {0};
    char folder[MCS_PATH_BYTES];
    enum mcs_status st;
    MCS_TRY(mcs_path(folder, "%s/model", task->train.run));
    MCS_TRY(mcs_clip_model_open(task->o->clip, group->device, &m));
    MCS_TRY_GOTO(finetune(task, &m, group->comm), st, done);
    if (group->rank == 0) st = mcs_clip_model_save(&m, folder, 0);
done:
    mcs_clip_model_close(&m);
    return st;
}

enum mcs_status mcs_demo_finetune(struct demo_run *run)
{
    const struct demo_options *o = run->o;
    struct pairs train = {0}, test = {0};
    struct recall_options recall = mcs_recall_defaults();
    char folder[MCS_PATH_BYTES], model[MCS_PATH_BYTES];
    enum mcs_status st;
    MCS_TRY(mcs_path(folder, "%s/finetune", o->output));
    MCS_TRY(mcs_path(model, "%s/model", folder));
    MCS_TRY(read_pairs(run, "test", &test));
    struct pairs measured = test; /* view of the first pairs; `test` owns them */
    if (measured.n > o->retrieval_images) measured.n = (int)o->retrieval_images;
    MCS_TRY_GOTO(mcs_retrieve(&run->clip, &measured, CLIP_VIEW_WHOLE, &recall, &run->r.before), st, done);
    MCS_TRY_GOTO(read_pairs(run, "train", &train), st, done);
    struct finetune_task task = {o,
                                 &train,
                                 {.batch = o->finetune_batch,
                                  .steps = o->finetune_steps,
                                  .warmup = o->finetune_warmup,
                                  .checkpoint_every = o->checkpoint_every,
                                  .lr = o->finetune_lr,
                                  .weight_decay = 0.05,
                                  .clip_norm = 1,
                                  .loss = {.b_image = (float)o->finetune_beta,
                                           .b_text = (float)o->finetune_beta,
                                           .inv_tau = (float)(1 / o->finetune_temperature),
                                           .released = o->form[MCS_FORM_LOSS] == MCS_RELEASE},
                                  .seed = (uint64_t)o->seed,
                                  .diagnose = 1,
                                  .run = folder,
                                  .config = run->config}};
    if (o->gpus > 1) {
        const struct process_group_options group = {
            .device = &o->device, .gpus = o->gpus, .run = folder, .config = task.train.config};
        MCS_TRY_GOTO(mcs_folder_make(folder), st, done);
        MCS_TRY_GOTO(mcs_process_group_run(&group, finetune_rank, &task), st, done);
        mcs_clip_model_close(&run->clip);
        MCS_TRY_GOTO(mcs_clip_model_open(model, &run->device, &run->clip), st, done);
    } else {
        MCS_TRY_GOTO(finetune(&task, &run->clip, NULL), st, done);
        MCS_TRY_GOTO(mcs_clip_model_save(&run->clip, model, 0), st, done);
    }
    st = mcs_retrieve(&run->clip, &measured, CLIP_VIEW_WHOLE, &recall, &run->r.after);
done:
    mcs_pairs_free(&train);
    mcs_pairs_free(&test);
    return st;
}

/* ---- saliency to SAM ---- */

static enum mcs_status make_cases(const struct demo_set *set, struct segment_case **cases)
{
    struct segment_case *c = *cases = calloc((size_t)set->n + 1, sizeof *c);
    MCS_REQUIRE(c, MCS_E_NOMEM, "no memory for %d cases", set->n);
    for (int i = 0; i < set->n; i++)
        c[i] = (struct segment_case){.image = &set->cases[i].image,
                                     .text = set->cases[i].sample->lesion[0].prompt[DEMO_PROMPT_LOOK_PLACE],
                                     .stem = set->cases[i].stem};
    return MCS_OK;
}

/* Segments all cases of a stage; sam NULL: stops after the coarse masks. */
static enum mcs_status segment(struct demo_run *run, struct sam_model *sam, struct segment_case *cases, int n)
{
    const struct segment_options o = mcs_demo_segment_options(run->o);
    struct segment_session s;
    MCS_TRY(mcs_segment_open(&s, &run->clip, sam, &o));
    const enum mcs_status st = mcs_segment_run(&s, cases, n, NULL, 1);
    mcs_segment_close(&s);
    return st;
}

/* Scores the saliency map as a mask, thresholded at 0.5. */
static enum mcs_status score_saliency(struct demo_run *run, enum demo_stage stage, const struct segment_case *cases)
{
    char folder[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(folder, "stages/%s", mcs_demo_stage_folders[stage]));
    for (int i = 0; i < run->test.n; i++) {
        uint8_t mask[DEMO_PIXELS];
        for (int k = 0; k < DEMO_PIXELS; k++) mask[k] = cases[i].map.values[k] > 0.5f;
        MCS_TRY(mcs_demo_score_add(&run->r.stage[stage], i, mask, run->test.cases[i].sample->truth[0]));
        MCS_TRY(mcs_demo_write_map(run, folder, run->test.cases[i].stem, cases[i].map.values, 255));
    }
    return MCS_OK;
}

static enum mcs_status score_masks(struct demo_run *run, enum demo_stage stage, const struct segment_case *cases)
{
    char folder[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(folder, "stages/%s", mcs_demo_stage_folders[stage]));
    for (int i = 0; i < run->test.n; i++) {
        const uint8_t *mask = stage == STAGE_POST         ? cases[i].threshold_mask
                              : stage == STAGE_COMPONENTS ? cases[i].coarse_mask
                                                          : cases[i].mask;
        MCS_TRY(mcs_demo_score_add(&run->r.stage[stage], i, mask, run->test.cases[i].sample->truth[0]));
        MCS_TRY(mcs_demo_write_mask(run, folder, run->test.cases[i].stem, mask));
    }
    return MCS_OK;
}

static void free_cases(struct segment_case *cases, int n)
{
    for (int i = 0; cases && i < n; i++) mcs_segment_case_free(&cases[i]);
    free(cases);
}

enum mcs_status mcs_demo_saliency_before(struct demo_run *run)
{
    struct segment_case *cases;
    MCS_TRY(make_cases(&run->test, &cases));
    enum mcs_status st = segment(run, NULL, cases, run->test.n);
    if (st == MCS_OK) st = score_saliency(run, STAGE_SALIENCY_START, cases);
    free_cases(cases, run->test.n);
    return st;
}

enum mcs_status mcs_demo_zero_shot(struct demo_run *run)
{
    MCS_TRY(make_cases(&run->test, &run->segmented));
    MCS_TRY(segment(run, &run->sam, run->segmented, run->test.n));
    MCS_TRY(score_saliency(run, STAGE_SALIENCY, run->segmented));
    for (int s = STAGE_POST; s <= STAGE_SAM; s++) MCS_TRY(score_masks(run, (enum demo_stage)s, run->segmented));
    for (int i = 0; i < run->test.n; i++) run->r.presence[i] = (double)run->segmented[i].presence;
    return MCS_OK;
}

/* ---- controls: dependence on the text, and detection of lesions ---- */

static enum mcs_status presence(struct demo_run *run, double *auroc)
{
    static const char generic[] = "axial t1 mri showing a lesion";
    const struct clip_config *c = &run->clip.config;
    const int n_with = run->test.n, n = n_with + run->none.n;
    const int64_t pixels = (int64_t)c->image_size * c->image_size * 3;
    const char *texts[1 + DEMO_NULL_PROMPTS] = {generic};
    float *images = malloc((size_t)(n * pixels) * sizeof *images),
          *embedding = malloc((size_t)(n * c->embed) * sizeof *embedding), *score = malloc((size_t)n * sizeof *score);
    float *text = malloc((size_t)((1 + DEMO_NULL_PROMPTS) * c->embed) * sizeof *text);
    uint8_t *label = calloc((size_t)n, 1);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(images && embedding && score && text && label, MCS_E_NOMEM, st, done,
                     "no memory for the presence control");
    for (int k = 0; k < DEMO_NULL_PROMPTS; k++) texts[1 + k] = mcs_demo_null_prompts[k];
    for (int i = 0; i < n; i++) {
        const struct demo_case *d = i < n_with ? &run->test.cases[i] : &run->none.cases[i - n_with];
        label[i] = i < n_with;
        MCS_TRY_GOTO(mcs_clip_prepare(c, &d->image, CLIP_VIEW_WHOLE, images + i * pixels), st, done);
    }
    MCS_TRY_GOTO(mcs_clip_embed_images(&run->clip, images, n, 1, embedding), st, done);
    MCS_TRY_GOTO(mcs_clip_embed_texts(&run->clip, texts, 1 + DEMO_NULL_PROMPTS, 1, text), st, done);
    for (int i = 0; i < n; i++) {
        double s = 0;
        for (int t = 0; t <= DEMO_NULL_PROMPTS; t++)
            for (int k = 0; k < c->embed; k++)
                s += (t ? -1.0 / DEMO_NULL_PROMPTS : 1.0) * (double)embedding[i * c->embed + k] *
                     (double)text[t * c->embed + k];
        score[i] = (float)s;
    }
    st = mcs_auroc(score, label, n, auroc);
done:
    free(images);
    free(embedding);
    free(score);
    free(text);
    free(label);
    return st;
}

enum mcs_status mcs_demo_control(struct demo_run *run)
{
    const int n = 2 * run->two.n;
    struct segment_case *cases = calloc((size_t)n + 1, sizeof *cases);
    char(*stems)[40] = calloc((size_t)n + 1, sizeof *stems);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(cases && stems, MCS_E_NOMEM, st, done, "no memory for %d cases", n);
    for (int i = 0; i < n; i++) {
        const struct demo_case *c = &run->two.cases[i / 2];
        snprintf(stems[i], sizeof *stems, "%s_prompt%d", c->stem, i % 2);
        cases[i] = (struct segment_case){
            .image = &c->image, .text = c->sample->lesion[i % 2].prompt[DEMO_PROMPT_LOOK_PLACE], .stem = stems[i]};
    }
    if (n) MCS_TRY_GOTO(segment(run, &run->sam, cases, n), st, done);
    run->r.prompt_dice = run->r.other_dice = n ? 0 : NAN;
    for (int i = 0; i < n; i++) {
        const struct demo_sample *s = run->two.cases[i / 2].sample;
        run->r.prompt_dice += dice_of(cases[i].mask, s->truth[i % 2]) / n;
        run->r.other_dice += dice_of(cases[i].mask, s->truth[1 - i % 2]) / n;
        MCS_TRY_GOTO(mcs_demo_write_mask(run, "stages/two", stems[i], cases[i].mask), st, done);
    }
    run->r.presence_auroc = NAN;
    if (run->none.n) st = presence(run, &run->r.presence_auroc);
done:
    free_cases(cases, n);
    free(stems);
    return st;
}

/* ---- pseudo-labels ---- */

enum mcs_status mcs_demo_labels(struct demo_run *run)
{
    struct demo_set some = {.cases = calloc((size_t)run->train.n + 1, sizeof *some.cases)};
    run->labelled = mcs_arena_alloc(&run->arena, (size_t)(run->train.n + 1) * sizeof *run->labelled);
    run->label = mcs_arena_alloc(&run->arena, (size_t)(run->train.n + 1) * sizeof *run->label);
    struct segment_case *cases = NULL;
    enum mcs_status st;
    MCS_TRY_GOTO(mcs_arena_status(&run->arena), st, done);
    MCS_REQUIRE_GOTO(some.cases, MCS_E_NOMEM, st, done, "no memory for %d cases", run->train.n);
    for (int i = 0; i < run->train.n && some.n < run->o->label_images; i++)
        if (run->train.cases[i].sample->kind == DEMO_SOME) {
            run->labelled[some.n] = i;
            some.cases[some.n++] = run->train.cases[i];
        }
    run->n_labelled = some.n;
    MCS_TRY_GOTO(make_cases(&some, &cases), st, done);
    MCS_TRY_GOTO(segment(run, &run->sam, cases, some.n), st, done);
    for (int i = 0; i < some.n; i++) {
        run->label[i] = mcs_arena_alloc(&run->arena, DEMO_PIXELS);
        MCS_TRY_GOTO(mcs_arena_status(&run->arena), st, done);
        memcpy(run->label[i], cases[i].mask, DEMO_PIXELS);
        run->r.label_dice += dice_of(cases[i].mask, some.cases[i].sample->truth[0]) / some.n;
        MCS_TRY_GOTO(mcs_demo_write_mask(run, "labels", some.cases[i].stem, cases[i].mask), st, done);
    }
    mcs_log("pseudo-labels of %d training images: DSC %.3f (their true masks are used for this number alone)", some.n,
            run->r.label_dice);
done:
    free_cases(cases, some.n);
    free(some.cases);
    return st;
}

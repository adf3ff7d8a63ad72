/* The demo's weak supervision: a network trained in cycles on the pseudo-labels, its ensemble and uncertainty, and the
 * upper bound by training on true masks ("ceiling"). */
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/image/prob_maps.h"
#include "infer/metrics/metrics.h"
#include "infer/unet/ensemble.h"
#include "infer/weights.h"
#include "train/demo/demo_run.h"
#include "train/run/process_group.h"
#include "train/unet/unet_train.h"

#include <math.h>
#include <stdlib.h>
#include <sys/resource.h>

enum {
    NETWORK_STAGES = 5, /* resolution levels: 128 pixels down to 8 */
    EPOCH_STEPS = 1,    /* so that the options of the cycles count steps */
    BAND_PX = 2         /* auroc_outside_band leaves out pixels this close to a border of either mask */
};

static enum mcs_status make_cases(const struct demo_run *run, int true_masks, struct unet_cases *cases)
{
    mcs_unet_cases_init(cases, 1, 2);
    for (int i = 0; i < run->n_labelled; i++) {
        const struct demo_case *c = &run->train.cases[run->labelled[i]];
        MCS_TRY(mcs_unet_cases_add_image(cases, c->stem, &c->image, true_masks ? c->sample->truth[0] : run->label[i]));
    }
    return MCS_OK;
}

/* The bytes that are live at each step of the graph, and the planned and measured memory. NULL: no memory. */
static json_t *timeline_of(const struct graph *g, const struct plan *plan, const char *name)
{
    int64_t *live = malloc((size_t)(g->n_steps + 1) * sizeof *live);
    if (!live) return NULL;
    json_t *names = json_array(), *bytes = json_array();
    mcs_plan_timeline(g, live);
    for (int i = 0; i < g->n_steps; i++) {
        json_array_append_new(names, json_sprintf("%s %s", mcs_op_table[g->steps[i].op].name, g->steps[i].scope));
        json_array_append_new(bytes, json_integer(live[i]));
    }
    free(live);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    /* 4 times the parameters: weights, gradients, two moments */
    return json_pack("{s:s, s:I, s:I, s:o, s:o}", "name", name, "planned_bytes",
                     (json_int_t)(mcs_plan_bytes(plan) + 4 * plan->param_bytes), "measured_peak_bytes",
                     (json_int_t)usage.ru_maxrss * 1024, "step_names", names, "live_bytes", bytes);
}

/* Writes timeline.json: the memory of the network's training step over its operations. */
static enum mcs_status write_timeline(const struct demo_run *run, struct unet_model *m, const struct unet_cases *cases,
                                      const struct unet_train_options *o)
{
    struct unet_trainer t;
    MCS_TRY(mcs_unet_trainer_open(&t, m, cases, o));
    json_t *plan = timeline_of(t.graph, &t.exec->plan, "network, one training step");
    mcs_unet_trainer_close(&t);
    MCS_REQUIRE(plan, MCS_E_NOMEM, "no memory for timeline.json");
    json_t *root = json_pack("{s:[o]}", "plans", plan);
    return mcs_json_write(root, JSON_COMPACT, "%s/timeline.json", run->o->output);
}

struct network_task {
    const struct unet_plans *plans;
    const struct unet_cases *cases;
    struct unet_train_options train;
    char *sha256; /* receives the hash of the trained weights, 65 bytes */
};

/* Runs one of --gpus ranks. Each rank has a copy of the network; rank 0 writes the checkpoints. */
static enum mcs_status network_rank(void *ctx, const struct process_group *group)
{
    const struct network_task *task = ctx;
    struct unet_train_options o = task->train;
    struct unet_model m = {0};
    enum mcs_status st;
    o.comm = group->comm;
    MCS_TRY_GOTO(mcs_unet_model_new(task->plans, o.seed, group->device, &m), st, done);
    MCS_TRY_GOTO(mcs_unet_train(&m, task->cases, &o), st, done);
    if (group->rank == 0) st = mcs_weights_sha256(m.params, task->sha256);
done:
    mcs_unet_model_close(&m);
    return st;
}

/* Trains a network in OUT/name: "network" (on pseudo-labels) or "ceiling" (on true masks). */
static enum mcs_status train(struct demo_run *run, const char *name, int true_masks, char sha256[65])
{
    const struct demo_options *o = run->o;
    struct unet_cases cases = {0};
    struct unet_plans plans;
    struct unet_model m = {0};
    char folder[MCS_PATH_BYTES];
    enum mcs_status st;
    MCS_TRY(mcs_path(folder, "%s/%s", o->output, name));
    struct unet_train_options t = {.cycle = {.form = o->form[MCS_FORM_TRAIN],
                                             .epochs = o->cycles * o->cycle_steps,
                                             .iterations = EPOCH_STEPS,
                                             .cycles = o->cycles,
                                             .checkpoints = o->cycle_checkpoints,
                                             .late = 0.2,
                                             .lr = o->network_lr,
                                             .gamma = 0.5},
                                   .optim = mcs_unet_adamw(),
                                   .deep_supervision = 1,
                                   .foreground = 0.33,
                                   .augment = mcs_augment_nnunet(DEMO_SIZE, DEMO_SIZE),
                                   .seed = (uint64_t)o->seed,
                                   .checkpoint_every = o->checkpoint_every,
                                   .run = folder,
                                   .config = run->config};
    MCS_TRY_GOTO(make_cases(run, true_masks, &cases), st, done);
    MCS_TRY_GOTO(mcs_unet_plans_make(1, 2, DEMO_SIZE, DEMO_SIZE, NETWORK_STAGES, (int)o->network_features,
                                     8 * (int)o->network_features, &plans),
                 st, done);
    plans.batch = o->network_batch;
    plans.batch_dice = 1;
    MCS_TRY_GOTO(mcs_unet_model_new(&plans, (uint64_t)o->seed, &run->device, &m), st, done);
    if (!true_masks) MCS_TRY_GOTO(write_timeline(run, &m, &cases, &t), st, done);
    struct network_task task = {&plans, &cases, t, sha256};
    const struct process_group_options group = {
        .device = &o->device, .gpus = o->gpus, .run = folder, .config = t.config};
    if (o->gpus > 1) {
        MCS_TRY_GOTO(mcs_folder_make(folder), st, done);
        MCS_TRY_GOTO(mcs_process_group_run(&group, network_rank, &task), st, done);
    } else {
        MCS_TRY_GOTO(mcs_unet_train(&m, &cases, &t), st, done);
        st = mcs_weights_sha256(m.params, sha256);
    }
done:
    mcs_unet_model_close(&m);
    mcs_unet_cases_free(&cases);
    return st;
}

/* Mean probabilities of the test images for each choice g: prob[g] (n, 2, H, W). */
static enum mcs_status predict(struct demo_run *run, const char *name, const enum ensemble_choice *choices,
                               int n_choices, float **prob)
{
    struct ensemble e = {0};
    char folder[MCS_PATH_BYTES];
    const int64_t n = run->test.n;
    const struct sliding_options o = mcs_sliding_defaults();
    float *images = malloc((size_t)(n * DEMO_PIXELS) * sizeof *images);
    enum mcs_status st;
    MCS_REQUIRE(images, MCS_E_NOMEM, "no memory for %lld images", (long long)n);
    MCS_TRY_GOTO(mcs_path(folder, "%s/%s", run->o->output, name), st, done);
    for (int64_t i = 0; i < n; i++)
        mcs_ensemble_normalise(run->test.cases[i].sample->image, NULL, DEMO_PIXELS, 1, images + i * DEMO_PIXELS);
    MCS_TRY_GOTO(mcs_ensemble_open(folder, choices, n_choices, &run->device, &e), st, done);
    st = mcs_ensemble_predict(&e, &o, images, n, DEMO_SIZE, DEMO_SIZE, choices, n_choices, prob);
done:
    mcs_ensemble_close(&e);
    free(images);
    return st;
}

/* Scores one group of checkpoints. The full ensemble is the result of the stage "network", so its masks are written. */
static enum mcs_status score_average(struct demo_run *run, enum demo_average average, const float *prob)
{
    struct error_pool pool = {0};
    double *dice = calloc((size_t)run->test.n + 1, sizeof *dice);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(dice, MCS_E_NOMEM, "no memory for the scores of %d images", run->test.n);
    for (int i = 0; i < run->test.n; i++) {
        const struct demo_case *c = &run->test.cases[i];
        const float *p = prob + (int64_t)i * 2 * DEMO_PIXELS;
        uint8_t mask[DEMO_PIXELS];
        float bits[DEMO_PIXELS];
        mcs_prob_labels(p, 2, DEMO_PIXELS, 0, mask);
        MCS_TRY_GOTO(mcs_entropy_map(p, 2, DEMO_PIXELS, bits), st, done);
        MCS_TRY_GOTO(mcs_error_pool_add(&pool, bits, mask, c->sample->truth[0], DEMO_SIZE, DEMO_SIZE, BAND_PX), st,
                     done);
        const struct mask_counts counts = mcs_metrics_count(mask, c->sample->truth[0], DEMO_PIXELS);
        dice[i] = mcs_metrics_dice(&counts);
        run->r.average_dice[average] += dice[i] / run->test.n;
        if (average != AVERAGE_ALL) continue;
        run->r.score[i] = mcs_uncertainty_score_area(bits, mask, DEMO_PIXELS); /* reason: docs/cli.md, demo */
        MCS_TRY_GOTO(mcs_demo_score_add(&run->r.stage[STAGE_NETWORK], i, mask, c->sample->truth[0]), st, done);
        MCS_TRY_GOTO(mcs_demo_write_mask(run, "stages/network", c->stem, mask), st, done);
        MCS_TRY_GOTO(mcs_demo_write_map(run, "stages/entropy", c->stem, bits, 255), st, done);
    }
    MCS_TRY_GOTO(mcs_error_pool_statistics(&pool, &run->r.errors[average]), st, done);
    if (average == AVERAGE_ALL) st = mcs_spearman(run->r.score, dice, run->test.n, &run->r.rank_correlation);
done:
    mcs_error_pool_free(&pool);
    free(dice);
    return st;
}

/* The upper bound: mean Dice of the test images by a network trained on the true masks. */
static enum mcs_status ceiling(struct demo_run *run)
{
    const enum ensemble_choice all = ENSEMBLE_ALL;
    char sha256[65];
    float *prob = malloc((size_t)run->test.n * 2 * DEMO_PIXELS * sizeof *prob);
    enum mcs_status st;
    MCS_REQUIRE(prob, MCS_E_NOMEM, "no memory for the ceiling");
    MCS_TRY_GOTO(train(run, "ceiling", 1, sha256), st, done);
    MCS_TRY_GOTO(predict(run, "ceiling", &all, 1, &prob), st, done);
    run->r.ceiling = 0;
    for (int i = 0; i < run->test.n; i++) {
        uint8_t mask[DEMO_PIXELS];
        mcs_prob_labels(prob + (int64_t)i * 2 * DEMO_PIXELS, 2, DEMO_PIXELS, 0, mask);
        const struct mask_counts c = mcs_metrics_count(mask, run->test.cases[i].sample->truth[0], DEMO_PIXELS);
        run->r.ceiling += mcs_metrics_dice(&c) / run->test.n;
    }
done:
    free(prob);
    return st;
}

enum mcs_status mcs_demo_network(struct demo_run *run)
{
    static const enum ensemble_choice choices[DEMO_AVERAGES] = {ENSEMBLE_LAST, ENSEMBLE_LAST_CYCLE, ENSEMBLE_ALL};
    const size_t one = (size_t)run->test.n * 2 * DEMO_PIXELS;
    float *prob[DEMO_AVERAGES];
    enum mcs_status st;
    prob[0] = malloc(DEMO_AVERAGES * one * sizeof **prob);
    MCS_REQUIRE(prob[0], MCS_E_NOMEM, "no memory for %d predictions", run->test.n);
    for (int a = 1; a < DEMO_AVERAGES; a++) prob[a] = prob[a - 1] + one;
    MCS_TRY_GOTO(train(run, "network", 0, run->r.network_sha256), st, done);
    MCS_TRY_GOTO(predict(run, "network", choices, DEMO_AVERAGES, prob), st, done);
    for (int a = 0; a < DEMO_AVERAGES; a++) MCS_TRY_GOTO(score_average(run, (enum demo_average)a, prob[a]), st, done);
    run->r.ceiling = NAN;
    if (!run->o->no_ceiling) st = ceiling(run);
done:
    free(prob[0]);
    return st;
}

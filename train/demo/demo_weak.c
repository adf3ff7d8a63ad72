/* The demo's weak supervision: a network trained in cycles on the pseudo-labels, its ensemble and uncertainty, and
 * a reference that is trained on true masks for longer ("ceiling"). */
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/image/prob_maps.h"
#include "infer/metrics/metrics.h"
#include "infer/unet/ensemble.h"
#include "infer/weights.h"
#include "train/demo/demo_results.h"
#include "train/run/process_group.h"
#include "train/unet/unet_train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
    NETWORK_STAGES = 5, /* resolution levels: 128 pixels down to 8 */
    CEILING_TIMES = 4,  /* a reference that stopped early would be no ceiling */
    EPOCH_STEPS = 1,    /* so that the options of the cycles count steps */
    BAND_PX = 2         /* auroc_outside_band leaves out pixels this close to a border of either mask */
};

static enum mcs_status make_cases(const struct demo_run *run, int true_masks, struct unet_cases *cases)
{
    mcs_unet_cases_init(cases, 1, 2);
    for (int i = 0; i < run->n_labelled; i++) {
        const struct demo_case *c = &run->train.cases[run->labelled[i]];
        uint8_t truth[DEMO_PIXELS];
        mcs_demo_truth_all(c, truth);
        MCS_TRY(mcs_unet_cases_add_image(cases, c->stem, &c->image, true_masks ? truth : run->label[i]));
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
                                             .epochs = o->cycles * o->cycle_steps * (true_masks ? CEILING_TIMES : 1),
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

/* Mean probabilities of a set's images for each choice g: prob[g] (n, 2, H, W). */
static enum mcs_status predict(struct demo_run *run, const char *name, const struct demo_set *set,
                               const enum ensemble_choice *choices, int n_choices, float **prob)
{
    struct ensemble e = {0};
    char folder[MCS_PATH_BYTES];
    const int64_t n = set->n;
    const struct sliding_options o = mcs_sliding_defaults();
    float *images = malloc((size_t)(n * DEMO_PIXELS + 1) * sizeof *images);
    enum mcs_status st;
    MCS_REQUIRE(images, MCS_E_NOMEM, "no memory for %lld images", (long long)n);
    MCS_TRY_GOTO(mcs_path(folder, "%s/%s", run->o->output, name), st, done);
    for (int64_t i = 0; i < n; i++)
        mcs_ensemble_normalise(set->cases[i].sample->image, NULL, DEMO_PIXELS, 1, images + i * DEMO_PIXELS);
    MCS_TRY_GOTO(mcs_ensemble_open(folder, choices, n_choices, &run->device, &e), st, done);
    st = mcs_ensemble_predict(&e, &o, images, n, DEMO_SIZE, DEMO_SIZE, choices, n_choices, prob);
done:
    mcs_ensemble_close(&e);
    free(images);
    return st;
}

/* Dice of all cycles' mean prediction with all lesions of each image of a set; of a healthy image 1 where anything is
 * found. folder NULL: masks are not written. */
static enum mcs_status predict_set(struct demo_run *run, const char *name, const struct demo_set *set,
                                   enum demo_list list, const char *folder)
{
    const enum ensemble_choice all = ENSEMBLE_ALL;
    float *prob = malloc((size_t)set->n * 2 * DEMO_PIXELS * sizeof *prob + 1);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(prob, MCS_E_NOMEM, "no memory for %d predictions", set->n);
    if (set->n) MCS_TRY_GOTO(predict(run, name, set, &all, 1, &prob), st, done);
    for (int i = 0; i < set->n; i++) {
        uint8_t mask[DEMO_PIXELS], truth[DEMO_PIXELS];
        mcs_prob_labels(prob + (int64_t)i * 2 * DEMO_PIXELS, 2, DEMO_PIXELS, 0, mask);
        mcs_demo_truth_all(&set->cases[i], truth);
        run->r.list[list].v[i] =
            set->cases[i].sample->n_lesions ? mcs_demo_dice(mask, truth) : memchr(mask, 1, DEMO_PIXELS) != NULL;
        if (folder) MCS_TRY_GOTO(mcs_demo_write_mask(run, folder, set->cases[i].stem, mask), st, done);
    }
done:
    free(prob);
    return st;
}

/* Scores one group of checkpoints. The full ensemble is the result of the stage "network", so its masks are written. */
static enum mcs_status score_average(struct demo_run *run, enum demo_average average, const float *prob)
{
    struct error_pool pool = {0};
    double *dice = run->r.list[mcs_demo_average_lists[average]].v;
    enum mcs_status st = MCS_OK;
    for (int i = 0; i < run->test.n; i++) {
        const struct demo_case *c = &run->test.cases[i];
        const float *p = prob + (int64_t)i * 2 * DEMO_PIXELS;
        uint8_t mask[DEMO_PIXELS], truth[DEMO_PIXELS];
        float bits[DEMO_PIXELS];
        mcs_prob_labels(p, 2, DEMO_PIXELS, 0, mask);
        mcs_demo_truth_all(c, truth);
        MCS_TRY_GOTO(mcs_entropy_map(p, 2, DEMO_PIXELS, bits), st, done);
        MCS_TRY_GOTO(mcs_error_pool_add(&pool, bits, mask, truth, DEMO_SIZE, DEMO_SIZE, BAND_PX), st, done);
        dice[i] = mcs_demo_dice(mask, truth);
        if (average != AVERAGE_ALL) continue;
        run->r.score[i] = mcs_uncertainty_score_area(bits, mask, DEMO_PIXELS); /* reason: docs/cli.md, demo */
        MCS_TRY_GOTO(mcs_demo_score_add(&run->r.stage[STAGE_NETWORK], i, mask, truth), st, done);
        MCS_TRY_GOTO(mcs_demo_write_mask(run, "stages/network", c->stem, mask), st, done);
        MCS_TRY_GOTO(mcs_demo_write_map(run, "stages/entropy", c->stem, bits, 255), st, done);
    }
    MCS_TRY_GOTO(mcs_error_pool_statistics(&pool, &run->r.errors[average]), st, done);
    if (average == AVERAGE_ALL) st = mcs_spearman(run->r.score, dice, run->test.n, &run->r.rank_correlation);
done:
    mcs_error_pool_free(&pool);
    return st;
}

enum mcs_status mcs_demo_network(struct demo_run *run)
{
    static const enum ensemble_choice choices[DEMO_AVERAGES] = {ENSEMBLE_LAST, ENSEMBLE_LAST_CYCLE, ENSEMBLE_ALL};
    const size_t one = (size_t)run->test.n * 2 * DEMO_PIXELS;
    char sha256[65];
    float *prob[DEMO_AVERAGES];
    enum mcs_status st;
    prob[0] = malloc(DEMO_AVERAGES * one * sizeof **prob);
    MCS_REQUIRE(prob[0], MCS_E_NOMEM, "no memory for %d predictions", run->test.n);
    for (int a = 1; a < DEMO_AVERAGES; a++) prob[a] = prob[a - 1] + one;
    MCS_TRY_GOTO(train(run, "network", 0, run->r.network_sha256), st, done);
    MCS_TRY_GOTO(predict(run, "network", &run->test, choices, DEMO_AVERAGES, prob), st, done);
    for (int a = 0; a < DEMO_AVERAGES; a++) MCS_TRY_GOTO(score_average(run, (enum demo_average)a, prob[a]), st, done);
    MCS_TRY_GOTO(predict_set(run, "network", &run->unseen, LIST_UNSEEN_WEAK, "stages/unseen_network"), st, done);
    MCS_TRY_GOTO(predict_set(run, "network", &run->none, LIST_WEAK_NONE, "stages/healthy_network"), st, done);
    if (!run->o->ceiling) goto done;
    MCS_TRY_GOTO(train(run, "ceiling", 1, sha256), st, done);
    st = predict_set(run, "ceiling", &run->test, LIST_CEILING, NULL);
done:
    free(prob[0]);
    return st;
}

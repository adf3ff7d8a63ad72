/* The demo's two trainings on a handful of images: the same files and figures as by the library's own calls with the
 * options that the demo is said to use. tests/train/test_demo.c checks a whole run. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/log.h"
#include "infer/clip/retrieve.h"
#include "infer/unet/ensemble.h"
#include "infer/weights.h"
#include "tests/support/support_figures.h"
#include "train/clip/finetune.h"
#include "train/demo/demo_run.h"
#include "train/unet/unet_train.h"

#include <criterion/criterion.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())
#define CLIP MCS_SOURCE_DIR "/data/demo/clip"

static char folder[] = "/tmp/mcs_demo_trainings_XXXXXX";
static struct demo_options options;
static struct demo_run run;

static void setup(void)
{
    mcs_log_quiet(1);
    cr_assert(mkdtemp(folder));
    omp_set_num_threads(1);
    options = (struct demo_options){.output = folder,
                                    .clip = CLIP,
                                    .data = mcs_demo_config_default(),
                                    .train_images = 6,
                                    .test_images = 2,
                                    .none_images = 2,
                                    .unseen_images = 2,
                                    .retrieval_images = 4,
                                    .finetune_steps = 2,
                                    .finetune_batch = 3,
                                    .finetune_warmup = 1,
                                    .finetune_lr = 0.002,
                                    .finetune_beta = 0.4,
                                    .finetune_temperature = 0.3,
                                    .cycles = 2,
                                    .cycle_steps = 5,
                                    .cycle_checkpoints = 2,
                                    .network_features = 2,
                                    .network_batch = 2,
                                    .network_lr = 0.02,
                                    .checkpoint_every = 1,
                                    .gpus = 1,
                                    .seed = 6,
                                    .device = {.threads = 1}};
    run = (struct demo_run){.o = &options, .config = "test: 1\n"};
    OK(mcs_cpu_open(1, &run.device));
    OK(mcs_demo_atlas_load(NULL, &run.atlas));
}

static void teardown(void)
{
    char line[64];
    for (int s = 0; s < DEMO_STAGES; s++) mcs_demo_score_free(&run.r.stage[s]);
    mcs_demo_set_free(&run.train);
    mcs_demo_set_free(&run.test);
    mcs_demo_set_free(&run.none);
    mcs_demo_set_free(&run.unseen);
    mcs_demo_set_free(&run.validation);
    mcs_demo_set_free(&run.validation_none);
    if (run.clip.params) mcs_clip_model_close(&run.clip);
    mcs_demo_atlas_free(&run.atlas);
    mcs_cpu_close(&run.device);
    mcs_arena_free(&run.arena);
    snprintf(line, sizeof line, "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}
TestSuite(demo_trainings, .init = setup, .fini = teardown, .timeout = 120);

static const char *at(const char *name)
{
    static char path[4][256];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

static int same_file(const char *a, const char *b)
{
    char *x, *y;
    int64_t n, m;
    OK(mcs_file_read(at(a), 1 << 26, &x, &n));
    OK(mcs_file_read(at(b), 1 << 26, &y, &m));
    const int same = n == m && !memcmp(x, y, (size_t)n);
    free(x);
    free(y);
    return same;
}

/* ---- CLIP ---- */

static void read_pairs(const char *name, struct pairs *pairs)
{
    char csv[256], images[256];
    snprintf(csv, sizeof csv, "%s/data/%s/pairs.csv", folder, name);
    snprintf(images, sizeof images, "%s/data/%s/images", folder, name);
    const struct pairs_options o = {.image_folder = images};
    OK(mcs_pairs_read(csv, &o, pairs));
}

static void expect_recall(const struct recall_result *got, const struct recall_result *want)
{
    for (int k = 0; k < 2; k++) {
        cr_expect_eq(got->image_to_text[k].mean, want->image_to_text[k].mean);
        cr_expect_eq(got->text_to_image[k].mean, want->text_to_image[k].mean);
    }
    cr_expect(got->n_batches == want->n_batches && got->n_left_out == want->n_left_out);
}

/* Fine-tunes `m` on the training pairs into `out` as the demo is said to do. */
static void finetune_again(struct clip_model *m, enum mcs_form form, const char *out)
{
    struct pairs pairs;
    struct pair_source source;
    read_pairs("train", &pairs);
    OK(mcs_pair_source_open(&source, &pairs, &m->config, 3, 0.9, 6));
    const struct clip_train_options o = {
        .batch = 3,
        .steps = 2,
        .warmup = 1,
        .checkpoint_every = 1,
        .lr = 0.002,
        .weight_decay = 0.05,
        .clip_norm = 1,
        .loss = {.b_image = 0.4f, .b_text = 0.4f, .inv_tau = (float)(1 / 0.3), .released = form == MCS_RELEASE},
        .seed = 6,
        .diagnose = 1,
        .run = at(out),
        .config = "test: 1\n"};
    OK(mcs_clip_train(m, &o, &(struct clip_source){mcs_pair_source_fill, &source}, NULL));
    mcs_pair_source_close(&source);
    mcs_pairs_free(&pairs);
}

static void check_finetune(enum mcs_form form)
{
    struct clip_model m;
    struct pairs test;
    const struct recall_options o = mcs_recall_defaults();
    struct recall_result want;
    char hash[2][65];
    options.form[MCS_FORM_LOSS] = form;
    OK(mcs_clip_model_open(CLIP, &run.device, &m));
    read_pairs("test", &test);
    cr_assert_eq(test.n, 5);
    test.n = 4; /* --retrieval-images: the first of them */
    OK(mcs_clip_model_open(CLIP, &run.device, &run.clip));
    OK(mcs_demo_finetune(&run));
    OK(mcs_retrieve(&m, &test, CLIP_VIEW_WHOLE, &o, &want));
    expect_recall(&run.r.before, &want);
    finetune_again(&m, form, "again");
    OK(mcs_clip_model_save(&m, at("again/model"), 0));
    OK(mcs_retrieve(&m, &test, CLIP_VIEW_WHOLE, &o, &want));
    expect_recall(&run.r.after, &want);
    cr_expect(same_file("finetune/metrics.jsonl", "again/metrics.jsonl"));
    cr_expect(same_file("finetune/model/open_clip_model.safetensors", "again/model/open_clip_model.safetensors"));
    OK(mcs_weights_sha256(run.clip.params, hash[0]));
    OK(mcs_weights_sha256(m.params, hash[1]));
    cr_expect_str_eq(hash[0], hash[1], "the demo goes on with the fine-tuned weights");
    test.n = 5;
    mcs_pairs_free(&test);
    mcs_clip_model_close(&m);
    mcs_clip_model_close(&run.clip);
}

Test(demo_trainings, finetuning)
{
    char line[600];
    options.test_images = 5;
    OK(mcs_demo_make_data(&run));
    check_finetune(MCS_PAPER);
    snprintf(line, sizeof line, "rm -rf %s %s", at("finetune"), at("again"));
    cr_assert_eq(system(line), 0);
    check_finetune(MCS_RELEASE);
}

/* ---- the network ---- */

enum { N_LABELLED = 3 };

/* Masks that a few steps can learn: everything as "true" mask, and as pseudo-label all but the first rows. */
static void make_labels(void)
{
    static int labelled[N_LABELLED] = {4, 0, 3};
    static uint8_t mask[N_LABELLED][DEMO_PIXELS], *label[N_LABELLED];
    for (int i = 0; i < N_LABELLED; i++) {
        struct demo_sample *s = run.train.cases[labelled[i]].sample;
        uint8_t *truth = s->truth[0];
        s->n_lesions = s->n_lesions ? s->n_lesions : 1;
        memset(truth, 1, DEMO_PIXELS);
        memcpy(mask[i] + 9 * DEMO_SIZE, truth, DEMO_PIXELS - 9 * DEMO_SIZE);
        label[i] = mask[i];
    }
    run.labelled = labelled, run.label = label, run.n_labelled = N_LABELLED;
}

/* The network's truth: all lesions of an image. */
static const uint8_t *all_lesions(const struct demo_case *c)
{
    static uint8_t truth[DEMO_PIXELS];
    for (int i = 0; i < DEMO_PIXELS; i++)
        truth[i] = c->sample->truth[0][i] | c->sample->truth[1][i] | c->sample->truth[2][i];
    return truth;
}

/* The training step's plan: its bytes with four times the parameters (weights, gradients, two moments), and the
 * timeline of its steps. */
static int64_t planned_bytes;
static json_t *planned_timeline;

static void plan_again(struct unet_model *m, const struct unet_cases *cases, const struct unet_train_options *o)
{
    struct unet_trainer t;
    static int64_t live[4000];
    OK(mcs_unet_trainer_open(&t, m, cases, o));
    cr_assert(t.graph->n_steps < 4000);
    planned_bytes = mcs_plan_bytes(&t.exec->plan) + 4 * t.exec->plan.param_bytes;
    mcs_plan_timeline(t.graph, live);
    json_decref(planned_timeline);
    planned_timeline = json_array();
    for (int i = 0; i < t.graph->n_steps; i++) json_array_append_new(planned_timeline, json_integer(live[i]));
    mcs_unet_trainer_close(&t);
}

static void network_again(int true_masks, const char *out, char sha256[65])
{
    struct unet_cases cases;
    struct unet_plans plans;
    struct unet_model m;
    mcs_unet_cases_init(&cases, 1, 2);
    for (int i = 0; i < N_LABELLED; i++) {
        const struct demo_case *c = &run.train.cases[run.labelled[i]];
        OK(mcs_unet_cases_add_image(&cases, c->stem, &c->image, true_masks ? all_lesions(c) : run.label[i]));
    }
    OK(mcs_unet_plans_make(1, 2, DEMO_SIZE, DEMO_SIZE, 5, 2, 16, &plans));
    plans.batch = 2, plans.batch_dice = 1;
    OK(mcs_unet_model_new(&plans, 6, &run.device, &m));
    const struct unet_train_options o = {.cycle = {.form = options.form[MCS_FORM_TRAIN],
                                                   .epochs = true_masks ? 40 : 10, /* the reference: four times */
                                                   .iterations = 1,
                                                   .cycles = 2,
                                                   .checkpoints = 2,
                                                   .late = 0.2,
                                                   .lr = 0.02,
                                                   .gamma = 0.5},
                                         .optim = mcs_unet_adamw(),
                                         .deep_supervision = 1,
                                         .foreground = 0.33,
                                         .augment = mcs_augment_nnunet(DEMO_SIZE, DEMO_SIZE),
                                         .seed = 6,
                                         .checkpoint_every = 1,
                                         .run = at(out),
                                         .config = "test: 1\n"};
    OK(mcs_unet_train(&m, &cases, &o));
    OK(mcs_weights_sha256(m.params, sha256));
    plan_again(&m, &cases, &o);
    mcs_unet_model_close(&m);
    mcs_unet_cases_free(&cases);
}

/* Mean foreground masks and entropies of the test images by the checkpoints that the choice takes. */
static void predict_again(const char *network, enum ensemble_choice choice, uint8_t *mask, float *bits)
{
    struct ensemble e;
    const struct sliding_options o = mcs_sliding_defaults();
    const int n = run.test.n;
    static float images[4 * DEMO_PIXELS];
    for (int i = 0; i < n; i++)
        mcs_ensemble_normalise(run.test.cases[i].sample->image, NULL, DEMO_PIXELS, 1, images + i * DEMO_PIXELS);
    OK(mcs_ensemble_open(at(network), &choice, 1, &run.device, &e));
    const struct ensemble_maps maps = {NULL, bits, mask};
    OK(mcs_ensemble_run(&e, &o, images, n, DEMO_SIZE, DEMO_SIZE, &choice, 1, 0, &maps));
    mcs_ensemble_close(&e);
}

static double mean_dice(const uint8_t *mask)
{
    double sum = 0;
    for (int i = 0; i < run.test.n; i++)
        sum += figure_dice(mask + i * DEMO_PIXELS, all_lesions(&run.test.cases[i]), DEMO_PIXELS) / run.test.n;
    return sum;
}

static double mean_of(enum demo_list list)
{
    double sum = 0;
    for (int i = 0; i < run.r.list[list].n; i++) sum += run.r.list[list].v[i] / run.r.list[list].n;
    return sum;
}

static void expect_png(const char *where, const char *stem, const uint8_t *want)
{
    char name[128];
    struct image img;
    snprintf(name, sizeof name, "%s/%s.png", where, stem);
    OK(mcs_image_read(at(name), 0, &img));
    cr_expect_eq(memcmp(img.pixels, want, DEMO_PIXELS), 0, "%s", name);
    mcs_image_free(&img);
}

/* Entropy at wrong and right pixels of one average, from the maps. */
static void check_errors(enum demo_average a, const uint8_t *mask, const float *bits)
{
    enum { MOST = 4 * DEMO_PIXELS };
    static uint8_t wrong[MOST], far_wrong[MOST], outside[DEMO_PIXELS];
    static float far_bits[MOST];
    double sum[2] = {0}, n[2] = {0};
    int64_t n_far = 0;
    for (int i = 0; i < run.test.n; i++) {
        const uint8_t *truth = all_lesions(&run.test.cases[i]);
        figure_outside_band(mask + i * DEMO_PIXELS, DEMO_SIZE, DEMO_SIZE, 2, outside);
        for (int k = 0; k < DEMO_PIXELS; k++) {
            const int64_t p = (int64_t)i * DEMO_PIXELS + k;
            wrong[p] = (mask[p] != 0) != (truth[k] != 0);
            sum[wrong[p]] += (double)bits[p], n[wrong[p]]++;
            if (outside[k]) far_bits[n_far] = bits[p], far_wrong[n_far++] = wrong[p];
        }
    }
    const struct error_statistics *e = &run.r.errors[a];
    cr_expect_float_eq(e->right, sum[0] / n[0], 1e-9);
    cr_expect_float_eq(e->wrong, sum[1] / n[1], 1e-9);
    cr_expect_float_eq(e->auroc, figure_auroc(bits, wrong, (int64_t)run.test.n * DEMO_PIXELS), 1e-9);
    cr_expect_float_eq(e->auroc_outside_band, figure_auroc(far_bits, far_wrong, n_far), 1e-9);
}

/* The ensemble of all is the network stage: scores, images, the uncertainty of each case. */
static void check_stage(const uint8_t *mask, const float *bits)
{
    const struct demo_score *s = &run.r.stage[STAGE_NETWORK];
    double dice[4], score[4];
    for (int i = 0; i < run.test.n; i++) {
        const struct demo_case *c = &run.test.cases[i];
        const uint8_t *m = mask + i * DEMO_PIXELS, *truth = all_lesions(c);
        uint8_t white[DEMO_PIXELS], grey[DEMO_PIXELS];
        double all = 0;
        int area = 0;
        for (int k = 0; k < DEMO_PIXELS; k++) {
            const double b = (double)bits[i * DEMO_PIXELS + k];
            white[k] = m[k] ? 255 : 0;
            grey[k] = (uint8_t)lrint(255 * fmin(b, 1));
            all += b, area += m[k] != 0;
        }
        expect_png("stages/network", c->stem, white);
        expect_png("stages/entropy", c->stem, grey);
        score[i] = 100 * all / (area > 1 ? area : 1);
        dice[i] = figure_dice(m, truth, DEMO_PIXELS);
        cr_expect_float_eq(run.r.score[i], score[i], 1e-9 * score[i], "%g, want %g", run.r.score[i], score[i]);
        cr_expect_float_eq(s->dice[i], dice[i], 1e-12);
        cr_expect_float_eq(s->iou[i], figure_iou(m, truth, DEMO_PIXELS), 1e-12);
        cr_expect_float_eq(s->nsd[i], figure_nsd(m, truth, DEMO_SIZE, DEMO_SIZE, 2), 1e-12);
    }
    const double rank = figure_spearman(score, dice, run.test.n);
    cr_expect_float_eq(run.r.rank_correlation, rank, 1e-12, "%g, want %g", run.r.rank_correlation, rank);
}

/* timeline.json: a name and a size for each step, of the network's training step. */
static void check_timeline(void)
{
    json_t *root = NULL;
    OK(mcs_json_read(at("timeline.json"), 1 << 26, 0, &root));
    const json_t *plan = json_array_get(json_object_get(root, "plans"), 0);
    const json_t *names = json_object_get(plan, "step_names"), *bytes = json_object_get(plan, "live_bytes");
    cr_expect_eq(json_array_size(json_object_get(root, "plans")), 1);
    cr_expect_str_eq(json_string_value(json_object_get(plan, "name")), "network, one training step");
    cr_assert(json_array_size(names) == json_array_size(bytes) && json_array_size(names) > 20);
    cr_expect(!strncmp(json_string_value(json_array_get(names, 0)), "conv", 4), "%s",
              json_string_value(json_array_get(names, 0)));
    cr_expect(json_equal(bytes, planned_timeline), "bytes that live at each step");
    cr_expect_eq(json_integer_value(json_object_get(plan, "planned_bytes")), planned_bytes);
    cr_expect_gt(json_integer_value(json_object_get(plan, "measured_peak_bytes")), 1 << 20);
    json_decref(planned_timeline);
    planned_timeline = NULL;
    json_decref(root);
}

/* The network on healthy images (1: it finds anything) and on unseen forms. */
static void check_others(void)
{
    static uint8_t mask[4 * DEMO_PIXELS];
    const struct demo_set test = run.test;
    run.test = run.unseen;
    predict_again("again", ENSEMBLE_ALL, mask, NULL);
    cr_expect_float_eq(mean_of(LIST_UNSEEN_WEAK), mean_dice(mask), 1e-12);
    run.test = run.none;
    predict_again("again", ENSEMBLE_ALL, mask, NULL);
    for (int i = 0; i < run.none.n; i++)
        cr_expect_eq(run.r.list[LIST_WEAK_NONE].v[i], memchr(mask + i * DEMO_PIXELS, 1, DEMO_PIXELS) != NULL);
    run.test = test;
}

static void check_network(int n_test, int ceiling)
{
    static const enum ensemble_choice choices[DEMO_AVERAGES] = {ENSEMBLE_LAST, ENSEMBLE_LAST_CYCLE, ENSEMBLE_ALL};
    static uint8_t mask[4 * DEMO_PIXELS];
    static float bits[4 * DEMO_PIXELS];
    char sha256[65];
    options.test_images = n_test;
    options.ceiling = ceiling;
    OK(mcs_demo_make_data(&run));
    make_labels();
    OK(mcs_demo_network(&run));
    network_again(0, "again", sha256);
    cr_expect_str_eq(run.r.network_sha256, sha256);
    cr_expect(same_file("network/metrics.jsonl", "again/metrics.jsonl"));
    cr_expect(same_file("network/checkpoints.json", "again/checkpoints.json"));
    cr_expect(same_file("network/cycle_1_checkpoint_1.safetensors", "again/cycle_1_checkpoint_1.safetensors"));
    for (int a = 0; a < DEMO_AVERAGES; a++) {
        predict_again("again", choices[a], mask, bits);
        const double dice = mean_dice(mask);
        static const enum demo_list lists[DEMO_AVERAGES] = {LIST_LAST, LIST_LAST_CYCLE, LIST_WEAK};
        const double got = mean_of(lists[a]);
        cr_expect_float_eq(got, dice, 1e-12, "average %d: %g, want %g", a, got, dice);
        check_errors((enum demo_average)a, mask, bits);
        if (a == AVERAGE_ALL) check_stage(mask, bits);
    }
    check_timeline();
    check_others();
}

Test(demo_trainings, network_and_its_ceiling)
{
    static uint8_t mask[4 * DEMO_PIXELS];
    char sha256[65];
    check_network(3, 1);
    network_again(1, "best", sha256);
    json_decref(planned_timeline);
    planned_timeline = NULL;
    cr_expect_str_neq(sha256, run.r.network_sha256);
    cr_expect(same_file("ceiling/metrics.jsonl", "best/metrics.jsonl"));
    predict_again("best", ENSEMBLE_ALL, mask, NULL);
    cr_expect_float_eq(mean_of(LIST_CEILING), mean_dice(mask), 1e-12, "%g, want %g", mean_of(LIST_CEILING),
                       mean_dice(mask));
}

Test(demo_trainings, network_without_a_ceiling)
{
    options.form[MCS_FORM_TRAIN] = MCS_PAPER;
    check_network(2, 0);
    cr_expect(isnan(mean_of(LIST_CEILING)));
    cr_expect(!mcs_folder_exists(at("ceiling")));
}

/* The demo's stages from saliency to pseudo-labels, each called on two or three images with the shipped models: every
 * figure and image against the library's own calls on the same images and prompts. tests/train/test_demo.c checks a
 * whole run. */
#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "tests/support/support_figures.h"
#include "tests/support/support_sessions.h"
#include "train/cmd/demo_command.h"

#include <criterion/criterion.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const struct mcs_verb mcs_verb_demo;

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static char folder[] = "/tmp/mcs_demo_stages_XXXXXX";
static struct demo_options options;
static struct demo_run run;

static void setup(void)
{
    mcs_log_quiet(1);
    cr_assert(mkdtemp(folder));
    omp_set_num_threads(1);
    options = (struct demo_options){.output = folder,
                                    .data = mcs_demo_config_default(),
                                    .saliency_layer = 2,
                                    .saliency_beta = 1,
                                    .saliency_steps = 2,
                                    .saliency_copies = 1,
                                    .grow = 6,
                                    .seed = 5};
    run = (struct demo_run){.o = &options, .r = {.prompt_dice = 5, .other_dice = 5, .presence_auroc = 5}};
    OK(mcs_cpu_open(1, &run.device));
    OK(mcs_clip_model_open(MCS_SOURCE_DIR "/data/demo/clip", &run.device, &run.clip));
    OK(mcs_sam_model_open(MCS_SOURCE_DIR "/data/demo/sam", &run.device, &run.sam));
    OK(mcs_demo_atlas_load(NULL, &run.atlas));
}

static void teardown(void)
{
    char line[64];
    for (int i = 0; run.segmented && i < run.test.n; i++) mcs_segment_case_free(&run.segmented[i]);
    free(run.segmented);
    for (int s = 0; s < DEMO_STAGES; s++) mcs_demo_score_free(&run.r.stage[s]);
    mcs_demo_set_free(&run.train);
    mcs_demo_set_free(&run.test);
    mcs_demo_set_free(&run.two);
    mcs_demo_set_free(&run.none);
    mcs_clip_model_close(&run.clip);
    mcs_sam_model_close(&run.sam);
    mcs_demo_atlas_free(&run.atlas);
    mcs_cpu_close(&run.device);
    mcs_arena_free(&run.arena);
    mcs_stop_reset();
    snprintf(line, sizeof line, "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}
TestSuite(demo_stages, .init = setup, .fini = teardown, .timeout = 120);

static void make_set(enum demo_split split, enum demo_kind kind, int n, struct demo_set *set)
{
    OK(mcs_demo_set_make(&run.atlas, &options, split, kind, n, set));
}

/* A PNG of the output must hold `want`. */
static void expect_image(const char *name, const uint8_t *want)
{
    char path[256];
    struct image img;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    OK(mcs_image_read(path, 0, &img));
    cr_assert(img.width == DEMO_SIZE && img.height == DEMO_SIZE && img.channels == 1);
    cr_expect_eq(memcmp(img.pixels, want, DEMO_PIXELS), 0, "%s holds something else", name);
    mcs_image_free(&img);
}

static void expect_mask(const char *where, const char *stem, const uint8_t *mask)
{
    char name[128];
    uint8_t white[DEMO_PIXELS];
    for (int i = 0; i < DEMO_PIXELS; i++) white[i] = mask[i] ? 255 : 0;
    snprintf(name, sizeof name, "%s/%s.png", where, stem);
    expect_image(name, white);
}

static int n_files(const char *name)
{
    char path[256];
    struct file_list files;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!mcs_folder_exists(path)) return 0;
    OK(mcs_folder_list(path, ".png", &files));
    const int n = files.n;
    mcs_file_list_free(&files);
    return n;
}

static void expect_score(const struct demo_score *s, int i, const uint8_t *mask, const uint8_t *truth)
{
    cr_expect_float_eq(s->dice[i], figure_dice(mask, truth, DEMO_PIXELS), 1e-12, "case %d: DSC %g", i, s->dice[i]);
    cr_expect_float_eq(s->iou[i], figure_iou(mask, truth, DEMO_PIXELS), 1e-12, "case %d: IoU %g", i, s->iou[i]);
    cr_expect_float_eq(s->nsd[i], figure_nsd(mask, truth, DEMO_SIZE, DEMO_SIZE, 2), 1e-12, "case %d: NSD %g", i,
                       s->nsd[i]);
}

static void expect_map(enum demo_stage stage, const char *where, int i, const float *map)
{
    uint8_t grey[DEMO_PIXELS], mask[DEMO_PIXELS];
    char name[128];
    for (int k = 0; k < DEMO_PIXELS; k++) {
        grey[k] = (uint8_t)lrint(255 * fmin(fmax((double)map[k], 0), 1));
        mask[k] = map[k] > 0.5f;
    }
    snprintf(name, sizeof name, "%s/test_%05d.png", where, i);
    expect_image(name, grey);
    expect_score(&run.r.stage[stage], i, mask, run.test.cases[i].sample->truth[0]);
}

/* The test cases as the library segments them, all at once as the demo does. */
static void segment_test(struct sam_model *sam, struct segment_case *cases)
{
    const struct segment_options o = mcs_demo_segment_options(&options);
    for (int i = 0; i < run.test.n; i++)
        cases[i] = (struct segment_case){.image = &run.test.cases[i].image,
                                         .text = run.test.cases[i].sample->lesion[0].prompt[DEMO_PROMPT_LOOK_PLACE],
                                         .stem = run.test.cases[i].stem};
    OK(segment_once(&run.clip, sam, &o, cases, run.test.n));
}

static void make_test(int n)
{
    make_set(DEMO_TEST, DEMO_SOME, n, &run.test);
    for (int s = 0; s < DEMO_STAGES; s++) OK(mcs_demo_score_new(n, &run.r.stage[s]));
    run.r.score = mcs_arena_alloc(&run.arena, 8 * sizeof(double));
    run.r.presence = mcs_arena_alloc(&run.arena, 8 * sizeof(double));
}

Test(demo_stages, from_saliency_to_sam)
{
    enum { N = 3 };
    struct segment_case before[N], after[N];
    make_test(N);
    segment_test(NULL, before);
    OK(mcs_demo_saliency_before(&run));
    cr_expect_eq(n_files("stages/saliency"), 0);
    for (int i = 0; i < N; i++) {
        expect_map(STAGE_SALIENCY_START, "stages/saliency_start", i, before[i].map.values);
        mcs_segment_case_free(&before[i]);
    }
    segment_test(&run.sam, after);
    OK(mcs_demo_zero_shot(&run));
    double found = 0;
    for (int i = 0; i < N; i++) {
        const uint8_t *truth = run.test.cases[i].sample->truth[0];
        const char *stem = run.test.cases[i].stem;
        expect_map(STAGE_SALIENCY, "stages/saliency", i, after[i].map.values);
        expect_mask("stages/post", stem, after[i].threshold_mask);
        expect_mask("stages/coarse", stem, after[i].coarse_mask);
        expect_mask("stages/sam", stem, after[i].mask);
        expect_score(&run.r.stage[STAGE_POST], i, after[i].threshold_mask, truth);
        expect_score(&run.r.stage[STAGE_COMPONENTS], i, after[i].coarse_mask, truth);
        expect_score(&run.r.stage[STAGE_SAM], i, after[i].mask, truth);
        cr_expect_eq(run.r.presence[i], (double)after[i].presence);
        cr_expect(i == 0 || run.r.presence[i] != run.r.presence[0]);
        found += run.r.stage[STAGE_SAM].dice[i];
        mcs_segment_case_free(&after[i]);
    }
    cr_expect(found > 0.1, "SAM finds nothing: the comparison says nothing");
    cr_expect(n_files("stages/sam") == N && n_files("stages/saliency") == N && n_files("stages/network") == 0);
}

/* ---- controls ---- */

static double presence_auroc(void)
{
    enum { MAX = 64, TEXTS = 1 + DEMO_NULL_PROMPTS };
    const struct clip_config *c = &run.clip.config;
    const char *texts[TEXTS] = {"axial t1 mri showing a lesion"};
    static float image[96 * 96 * 3], embedded[256], text[TEXTS * 256], score[MAX];
    uint8_t with[MAX];
    cr_assert(c->image_size == 96 && c->embed <= 256);
    for (int k = 0; k < DEMO_NULL_PROMPTS; k++) texts[1 + k] = mcs_demo_null_prompts[k];
    OK(mcs_clip_embed_texts(&run.clip, texts, TEXTS, 1, text));
    const int n = run.test.n + run.none.n;
    for (int i = 0; i < n; i++) {
        const struct demo_case *d = i < run.test.n ? &run.test.cases[i] : &run.none.cases[i - run.test.n];
        double s = 0;
        OK(mcs_clip_prepare(c, &d->image, CLIP_VIEW_WHOLE, image));
        OK(mcs_clip_embed_images(&run.clip, image, 1, 1, embedded));
        for (int t = 0; t < TEXTS; t++)
            for (int k = 0; k < c->embed; k++)
                s += (t ? -1.0 / DEMO_NULL_PROMPTS : 1) * (double)embedded[k] * (double)text[t * c->embed + k];
        score[i] = (float)s;
        with[i] = i < run.test.n;
    }
    return figure_auroc(score, with, n);
}

Test(demo_stages, controls)
{
    enum { N = 2 };
    options.saliency_steps = 10;
    const struct segment_options o = mcs_demo_segment_options(&options);
    struct segment_case cases[2 * N];
    char stems[2 * N][64];
    double asked = 0, other = 0;
    make_set(DEMO_TEST, DEMO_TWO, N, &run.two);
    make_set(DEMO_TEST, DEMO_NONE, 11, &run.none);
    make_set(DEMO_TEST, DEMO_SOME, 12, &run.test);
    for (int i = 0; i < 2 * N; i++) {
        const struct demo_case *c = &run.two.cases[i / 2];
        snprintf(stems[i], sizeof stems[i], "%s_prompt%d", c->stem, i % 2);
        cases[i] = (struct segment_case){
            .image = &c->image, .text = c->sample->lesion[i % 2].prompt[DEMO_PROMPT_LOOK_PLACE], .stem = stems[i]};
    }
    OK(segment_once(&run.clip, &run.sam, &o, cases, 2 * N));
    OK(mcs_demo_control(&run));
    for (int i = 0; i < 2 * N; i++) {
        const struct demo_sample *s = run.two.cases[i / 2].sample;
        expect_mask("stages/two", stems[i], cases[i].mask);
        asked += figure_dice(cases[i].mask, s->truth[i % 2], DEMO_PIXELS) / (2 * N);
        other += figure_dice(cases[i].mask, s->truth[1 - i % 2], DEMO_PIXELS) / (2 * N);
        mcs_segment_case_free(&cases[i]);
    }
    cr_expect_float_eq(run.r.prompt_dice, asked, 1e-12, "%g, want %g", run.r.prompt_dice, asked);
    cr_expect_float_eq(run.r.other_dice, other, 1e-12, "%g, want %g", run.r.other_dice, other);
    cr_expect(asked > 0 && asked != other, "%g and %g: the comparison says nothing", asked, other);
    cr_expect_eq(n_files("stages/two"), 2 * N);
    const double auroc = presence_auroc();
    cr_expect_float_eq(run.r.presence_auroc, auroc, 1e-12, "presence %g, want %g", run.r.presence_auroc, auroc);
}

Test(demo_stages, without_control_images)
{
    make_set(DEMO_TEST, DEMO_SOME, 1, &run.test);
    OK(mcs_demo_control(&run));
    cr_expect(isnan(run.r.prompt_dice) && isnan(run.r.other_dice) && isnan(run.r.presence_auroc));
    cr_expect_eq(n_files("stages/two"), 0);
}

/* ---- pseudo-labels ---- */

/* Of the training images those with lesions, the first ones in order; their true masks are for the score alone. */
static void check_labels(int wanted, int n_expected)
{
    const struct segment_options o = mcs_demo_segment_options(&options);
    struct segment_case cases[8];
    int n = 0, index[8];
    double sum = 0;
    options.label_images = wanted;
    run.r.label_dice = 0;
    for (int i = 0; i < run.train.n && n < wanted; i++) {
        const struct demo_case *c = &run.train.cases[i];
        if (!c->sample->n_lesions) continue;
        index[n] = i;
        cases[n++] = (struct segment_case){
            .image = &c->image, .text = c->sample->lesion[0].prompt[DEMO_PROMPT_LOOK_PLACE], .stem = c->stem};
    }
    cr_assert_eq(n, n_expected);
    OK(segment_once(&run.clip, &run.sam, &o, cases, n));
    OK(mcs_demo_labels(&run));
    cr_assert_eq(run.n_labelled, n);
    for (int i = 0; i < n; i++) {
        const struct demo_case *c = &run.train.cases[index[i]];
        cr_expect_eq(run.labelled[i], index[i]);
        cr_expect_eq(memcmp(run.label[i], cases[i].mask, DEMO_PIXELS), 0);
        expect_mask("labels", c->stem, cases[i].mask);
        sum += figure_dice(cases[i].mask, c->sample->truth[0], DEMO_PIXELS) / n;
        mcs_segment_case_free(&cases[i]);
    }
    cr_expect_float_eq(run.r.label_dice, sum, 1e-12, "%g, want %g", run.r.label_dice, sum);
    cr_expect_eq(n_files("labels"), n);
}

Test(demo_stages, pseudo_labels)
{
    options.data.without = 0.5;
    make_set(DEMO_TRAIN, DEMO_MIXED, 9, &run.train);
    int some = 0;
    for (int i = 0; i < run.train.n; i++) some += run.train.cases[i].sample->n_lesions > 0;
    cr_assert(some >= 2 && some < 9, "%d images with lesions", some);
    check_labels(1, 1);
    check_labels(50, some);
}

/* ---- the whole run ---- */

static int exists(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return mcs_file_exists(path) || mcs_folder_exists(path);
}

static struct demo_options whole_run(void)
{
    char *const argv[] = {"--output",
                          folder,
                          "--clip",
                          MCS_SOURCE_DIR "/data/demo/clip",
                          "--sam",
                          MCS_SOURCE_DIR "/data/demo/sam",
                          "--train-images",
                          "2",
                          "--finetune-batch",
                          "2",
                          "--threads",
                          "1"};
    struct demo_command c;
    OK(mcs_config_parse_env(&mcs_verb_demo, sizeof argv / sizeof *argv, (char **)(uintptr_t)argv, NULL, &run.arena,
                            &c));
    return mcs_demo_command_options(&c, &run.arena);
}

/* A stage is not begun once a stop is asked for. */
Test(demo_stages, a_stop_before_a_stage)
{
    const struct demo_options o = whole_run();
    mcs_stop_request();
    cr_expect_eq(mcs_demo_run(&o), MCS_E_STOPPED);
    mcs_error_clear();
    cr_expect(exists("config.yaml"));
    cr_expect(!exists("data") && !exists("summary.json") && !exists("report.html"));
}

/* Fewer training images than a batch of the fine-tuning; a batch of as many is none of the faults. */
Test(demo_stages, too_few_training_images)
{
    struct demo_options o = whole_run();
    o.finetune_batch = 3;
    cr_expect_eq(mcs_demo_run(&o), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "--train-images 2 is less than one batch of 3"), "%s", mcs_error_message());
    mcs_error_clear();
    cr_expect(!exists("data"));
}

/* A checkpoint of other options in any of the three trainings' folders is found before anything is written. */
Test(demo_stages, checkpoints_of_another_run)
{
    static const char *const trainings[] = {"finetune", "network", "ceiling"};
    const struct demo_options o = whole_run();
    char path[256];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, trainings[i]);
        OK(mcs_folder_make(path));
        snprintf(path, sizeof path, "%s/%s/checkpoint.h5", folder, trainings[i]);
        OK(mcs_file_write(path, "no checkpoint", 13));
        mcs_stop_request(); /* nothing but the refusal is wanted */
        cr_expect_eq(mcs_demo_run(&o), MCS_E_DATA, "%s", trainings[i]);
        mcs_stop_reset();
        cr_expect(strstr(mcs_error_message(), trainings[i]), "%s", mcs_error_message());
        mcs_error_clear();
        cr_expect(!exists("data"));
        remove(path);
    }
}

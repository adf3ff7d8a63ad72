/* The demo's stages from saliency to pseudo-labels, each called on two or three images with the shipped models: every
 * figure and image against the library's own calls on the same images and prompts. tests/train/test_demo.c checks a
 * whole run. */
#include "data/io/file.h"
#include "engine/base/log.h"
#include "tests/support/support_figures.h"
#include "tests/support/support_sessions.h"
#include "train/demo/demo_run.h"

#include <criterion/criterion.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    mcs_demo_free_cases(run.segmented, run.test.n);
    for (int s = 0; s < DEMO_STAGES; s++) mcs_demo_score_free(&run.r.stage[s]);
    mcs_demo_set_free(&run.train);
    mcs_demo_set_free(&run.test);
    mcs_demo_set_free(&run.two);
    mcs_demo_set_free(&run.none);
    mcs_demo_set_free(&run.unseen);
    mcs_demo_set_free(&run.validation);
    mcs_demo_set_free(&run.validation_none);
    mcs_clip_model_close(&run.clip);
    mcs_sam_model_close(&run.sam);
    mcs_demo_atlas_free(&run.atlas);
    mcs_cpu_close(&run.device);
    mcs_arena_free(&run.arena);
    snprintf(line, sizeof line, "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}
TestSuite(demo_stages, .init = setup, .fini = teardown, .timeout = 120);

static void make_set(enum demo_split split, enum demo_kind kind, int n, struct demo_set *set)
{
    OK(mcs_demo_set_make(&run.atlas, &options, split, kind, 0, n, set));
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

/* Of the lesions that the look of lesion[0] describes, or of all lesions. */
static const uint8_t *truth_of(const struct demo_case *c, int all)
{
    static uint8_t truth[DEMO_PIXELS];
    const unsigned described = mcs_demo_prompt_truth(c->sample, 0, DEMO_PROMPT_LOOK, truth);
    memset(truth, 0, sizeof truth);
    for (int k = 0; k < c->sample->n_lesions; k++)
        for (int i = 0; i < DEMO_PIXELS; i++) truth[i] |= (all || described >> k & 1) && c->sample->truth[k][i];
    return truth;
}

static const uint8_t *look_truth(const struct demo_case *c)
{
    return truth_of(c, 0);
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
    expect_score(&run.r.stage[stage], i, mask, look_truth(&run.test.cases[i]));
}

/* The test cases as the library segments them, all at once as the demo does. */
static void segment_test(struct sam_model *sam, struct segment_case *cases)
{
    const struct segment_options o = mcs_demo_segment_options(&options);
    for (int i = 0; i < run.test.n; i++)
        cases[i] = (struct segment_case){.image = &run.test.cases[i].image,
                                         .text = run.test.cases[i].sample->lesion[0].prompt[DEMO_PROMPT_LOOK],
                                         .stem = run.test.cases[i].stem};
    OK(segment_once(&run.clip, sam, &o, cases, run.test.n));
}

static void make_test(int n)
{
    make_set(DEMO_TEST, DEMO_SOME, n, &run.test);
    for (int s = 0; s < DEMO_STAGES; s++) OK(mcs_demo_score_new(n, &run.r.stage[s]));
    OK(mcs_demo_lists_new(&run));
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
        const uint8_t *truth = look_truth(&run.test.cases[i]);
        const char *stem = run.test.cases[i].stem;
        expect_map(STAGE_SALIENCY, "stages/saliency", i, after[i].map.values);
        expect_mask("stages/post", stem, after[i].threshold_mask);
        expect_mask("stages/coarse", stem, after[i].coarse_mask);
        expect_mask("stages/sam", stem, after[i].mask);
        expect_score(&run.r.stage[STAGE_POST], i, after[i].threshold_mask, truth);
        expect_score(&run.r.stage[STAGE_COMPONENTS], i, after[i].coarse_mask, truth);
        expect_score(&run.r.stage[STAGE_SAM], i, after[i].mask, truth);
        cr_expect_eq(run.r.list[LIST_LOOK].v[i], run.r.stage[STAGE_SAM].dice[i]);
        found += run.r.stage[STAGE_SAM].dice[i];
        mcs_segment_case_free(&after[i]);
    }
    cr_expect(found > 0.1, "SAM finds nothing: the comparison says nothing");
    cr_expect(n_files("stages/sam") == N && n_files("stages/saliency") == N && n_files("stages/network") == 0);
}

/* ---- prompts ---- */

/* Segments the images of a set with texts (NULL: left out) and compares Dice, by look of lesion[0] or of the level
 * given, and the masks written to `where`. */
static void expect_prompts(const struct demo_set *set, const char *const *texts, enum demo_prompt_level level,
                           enum demo_list list, const char *where)
{
    enum { MAX = 8 };
    const struct segment_options o = mcs_demo_segment_options(&options);
    struct segment_case cases[MAX];
    int of[MAX], n = 0;
    for (int i = 0; i < set->n; i++) {
        if (!texts[i]) continue;
        of[n] = i;
        cases[n++] = (struct segment_case){.image = &set->cases[i].image, .text = texts[i], .stem = set->cases[i].stem};
    }
    OK(segment_once(&run.clip, &run.sam, &o, cases, n));
    for (int k = 0; k < n; k++) {
        const struct demo_case *c = &set->cases[of[k]];
        uint8_t truth[DEMO_PIXELS];
        mcs_demo_prompt_truth(c->sample, 0, level, truth);
        cr_expect_float_eq(run.r.list[list].v[of[k]], figure_dice(cases[k].mask, truth, DEMO_PIXELS), 1e-12,
                           "%s, %d: %g", where, of[k], run.r.list[list].v[of[k]]);
        expect_mask(where, c->stem, cases[k].mask);
        mcs_segment_case_free(&cases[k]);
    }
    cr_expect_eq(n_files(where), n);
}

/* Two lesions of opposite grey: each is asked for, and its mask measured against both. */
static void expect_two(void)
{
    enum { N = 2 };
    const struct segment_options o = mcs_demo_segment_options(&options);
    struct segment_case cases[2 * N];
    char stems[2 * N][64];
    double asked = 0, other = 0;
    for (int i = 0; i < 2 * N; i++) {
        const struct demo_case *c = &run.two.cases[i / 2];
        snprintf(stems[i], sizeof stems[i], "%s_prompt%d", c->stem, i % 2);
        cases[i] = (struct segment_case){
            .image = &c->image, .text = c->sample->lesion[i % 2].prompt[DEMO_PROMPT_LOOK], .stem = stems[i]};
    }
    OK(segment_once(&run.clip, &run.sam, &o, cases, 2 * N));
    for (int i = 0; i < 2 * N; i++) {
        const struct demo_sample *s = run.two.cases[i / 2].sample;
        expect_mask("stages/two", stems[i], cases[i].mask);
        asked += figure_dice(cases[i].mask, s->truth[i % 2], DEMO_PIXELS) / (2 * N);
        other += figure_dice(cases[i].mask, s->truth[1 - i % 2], DEMO_PIXELS) / (2 * N);
        mcs_segment_case_free(&cases[i]);
    }
    cr_expect_float_eq(run.r.prompt_dice, asked, 1e-12, "%g, want %g", run.r.prompt_dice, asked);
    cr_expect_float_eq(run.r.other_dice, other, 1e-12, "%g, want %g", run.r.other_dice, other);
    cr_expect(asked != other, "%g and %g: the comparison says nothing", asked, other);
}

/* Each lesion of an image asked for by its look; masks united. */
static void unite_all(const struct demo_case *c, uint8_t *mask)
{
    const struct segment_options o = mcs_demo_segment_options(&options);
    memset(mask, 0, DEMO_PIXELS);
    for (int k = 0; k < c->sample->n_lesions; k++) {
        char stem[64];
        snprintf(stem, sizeof stem, k ? "%s_lesion%d" : "%s", c->stem, k);
        struct segment_case one = {
            .image = &c->image, .text = c->sample->lesion[k].prompt[DEMO_PROMPT_LOOK], .stem = stem};
        OK(segment_once(&run.clip, &run.sam, &o, &one, 1));
        for (int i = 0; i < DEMO_PIXELS; i++) mask[i] |= one.mask[i];
        mcs_segment_case_free(&one);
    }
}

Test(demo_stages, prompts)
{
    enum { N = 3 };
    const char *texts[N];
    options.data.two = 0.9, options.data.three = 0;
    options.saliency_steps = 10;
    make_set(DEMO_TEST, DEMO_TWO, 2, &run.two);
    make_set(DEMO_TEST, DEMO_UNSEEN, 2, &run.unseen);
    make_test(N);
    OK(mcs_demo_zero_shot(&run));
    OK(mcs_demo_prompts(&run));
    const struct demo_case *c = run.test.cases;
    for (int i = 0; i < N; i++) texts[i] = c[i].sample->lesion[0].prompt[DEMO_PROMPT_WORD];
    expect_prompts(&run.test, texts, DEMO_PROMPT_WORD, LIST_WORD, "stages/word");
    for (int i = 0; i < N; i++) texts[i] = c[i].sample->lesion[0].prompt[DEMO_PROMPT_LOOK_PLACE];
    expect_prompts(&run.test, texts, DEMO_PROMPT_LOOK_PLACE, LIST_PLACE, "stages/look_place");
    for (int i = 0; i < N; i++) texts[i] = "normal brain";
    expect_prompts(&run.test, texts, DEMO_PROMPT_LOOK, LIST_NO_PROMPT, "stages/no_prompt");
    for (int i = 0; i < N; i++) { /* the next image's look, or the one after that where both are the same */
        const char *own = c[i].sample->lesion[0].prompt[DEMO_PROMPT_LOOK];
        texts[i] = c[(i + 1) % N].sample->lesion[0].prompt[DEMO_PROMPT_LOOK];
        if (!strcmp(texts[i], own)) texts[i] = c[(i + 2) % N].sample->lesion[0].prompt[DEMO_PROMPT_LOOK];
        if (!strcmp(texts[i], own)) texts[i] = NULL;
        cr_expect_eq(isnan(run.r.list[LIST_OTHER].v[i]) != 0, !texts[i]);
    }
    expect_prompts(&run.test, texts, DEMO_PROMPT_LOOK, LIST_OTHER, "stages/other_look");
    for (int i = 0; i < 2; i++) texts[i] = run.unseen.cases[i].sample->lesion[0].prompt[DEMO_PROMPT_LOOK];
    expect_prompts(&run.unseen, texts, DEMO_PROMPT_LOOK, LIST_UNSEEN_ZERO_SHOT, "stages/unseen");
    expect_two();
    int several = 0;
    for (int i = 0; i < N; i++) {
        uint8_t mask[DEMO_PIXELS];
        unite_all(&c[i], mask);
        expect_mask("stages/sam_all", c[i].stem, mask);
        cr_expect_float_eq(run.r.list[LIST_ALL_ZERO_SHOT].v[i], figure_dice(mask, truth_of(&c[i], 1), DEMO_PIXELS),
                           1e-12);
        several += c[i].sample->n_lesions > 1;
    }
    cr_expect(several, "no image has two lesions: the comparison says less");
}

/* ---- healthy images ---- */

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

/* A healthy image is asked with the look of the test image in its place; a mask counts where the presence score passes
 * the threshold. */
Test(demo_stages, healthy_images)
{
    enum { N = 4, NONE = 5 };
    const struct segment_options o = mcs_demo_segment_options(&options);
    struct segment_case cases[NONE];
    options.test_images = N, options.none_images = NONE, options.validation_images = 3;
    options.train_images = 1, options.retrieval_images = 1;
    OK(mcs_demo_make_data(&run));
    OK(mcs_demo_zero_shot(&run));
    OK(mcs_demo_healthy(&run));
    const struct demo_list_values *l = run.r.list;
    const double least = run.r.tuned.min_presence;
    for (int i = 0; i < NONE; i++)
        cases[i] = (struct segment_case){.image = &run.none.cases[i].image,
                                         .text = run.test.cases[i % N].sample->lesion[0].prompt[DEMO_PROMPT_LOOK],
                                         .stem = run.none.cases[i].stem};
    OK(segment_once(&run.clip, &run.sam, &o, cases, NONE));
    for (int i = 0; i < NONE; i++) {
        const int mask = memchr(cases[i].mask, 1, DEMO_PIXELS) != NULL;
        cr_expect_eq(l[LIST_PRESENCE_NONE].v[i], (double)cases[i].presence);
        cr_expect_eq(l[LIST_MASK_NONE].v[i], mask);
        cr_expect_eq(l[LIST_PASSED_NONE].v[i], mask && (double)cases[i].presence >= least);
        expect_mask("stages/healthy", run.none.cases[i].stem, cases[i].mask);
        mcs_segment_case_free(&cases[i]);
    }
    for (int i = 0; i < N; i++) {
        const double presence = (double)run.segmented[i].presence;
        cr_expect_eq(l[LIST_PRESENCE].v[i], presence);
        cr_expect_eq(l[LIST_PASSED].v[i], presence >= least);
        cr_expect_eq(l[LIST_FOUND].v[i], presence >= least && run.r.stage[STAGE_SAM].dice[i] > 0.1);
    }
    const double auroc = presence_auroc();
    cr_expect_float_eq(run.r.presence_auroc, auroc, 1e-12, "presence %g, want %g", run.r.presence_auroc, auroc);
}

/* Scores of six images with a lesion, the fifth of which is not found, and four healthy ones. */
Test(demo_stages, presence_threshold)
{
    static const double lesion[] = {0.9, 0.8, 0.5, 0.4, 0.95, 0.3}, healthy[] = {0.1, 0.2, 0.35, 0.6};
    static const uint8_t all[] = {1, 1, 1, 1, 1, 1}, most[] = {1, 1, 1, 1, 0, 1}, none[6] = {0};
    /* at least 85 % of six are all six */
    cr_expect_eq(mcs_demo_presence_threshold(lesion, all, 6, healthy, 4), 0.3);
    /* five found are fewer than 85 %: at least 85 % of five, again all */
    cr_expect_eq(mcs_demo_presence_threshold(lesion, most, 6, healthy, 4), 0.3);
    cr_expect_eq(mcs_demo_presence_threshold(lesion, none, 6, healthy, 4), -INFINITY);
    double many[20], other[4] = {0.5, 1.5, 2.5, 30};
    uint8_t found[20];
    for (int i = 0; i < 20; i++) many[i] = i, found[i] = 1;
    /* above 3 would keep 16 of 20, below 85 %; at 3 the three lower healthy images are refused */
    cr_expect_eq(mcs_demo_presence_threshold(many, found, 20, other, 4), 3);
    other[0] = other[1] = other[2] = 0.5; /* refused from 1 on: a higher threshold only loses lesions */
    cr_expect_eq(mcs_demo_presence_threshold(many, found, 20, other, 4), 1);
}

Test(demo_stages, without_images_to_check_with)
{
    make_test(1);
    OK(mcs_demo_zero_shot(&run));
    OK(mcs_demo_prompts(&run));
    OK(mcs_demo_healthy(&run));
    cr_expect(isnan(run.r.prompt_dice) && isnan(run.r.other_dice) && isnan(run.r.presence_auroc));
    cr_expect(isnan(run.r.list[LIST_OTHER].v[0]) && run.r.tuned.min_presence == -INFINITY);
    cr_expect(n_files("stages/two") == 0 && n_files("stages/unseen") == 0 && n_files("stages/other_look") == 0);
}

/* ---- pseudo-labels ---- */

/* The first training images in order; their true masks are for the score alone. */
static void check_labels(int wanted, int n_expected)
{
    double sum = 0;
    int n_lesions = 0;
    options.label_images = wanted;
    OK(mcs_demo_labels(&run));
    cr_assert_eq(run.n_labelled, n_expected);
    for (int i = 0; i < n_expected; i++) {
        const struct demo_case *c = &run.train.cases[i];
        uint8_t mask[DEMO_PIXELS];
        unite_all(c, mask);
        cr_expect_eq(run.labelled[i], i);
        cr_expect_eq(memcmp(run.label[i], mask, DEMO_PIXELS), 0);
        expect_mask("labels", c->stem, mask);
        if (!c->sample->n_lesions) continue;
        sum += figure_dice(mask, truth_of(c, 1), DEMO_PIXELS);
        n_lesions++;
    }
    const double dice = n_lesions ? sum / n_lesions : NAN;
    cr_expect(n_lesions ? fabs(run.r.label_dice - dice) < 1e-12 : isnan(run.r.label_dice), "%g, want %g",
              run.r.label_dice, dice);
    cr_expect_eq(n_files("labels"), n_expected);
}

Test(demo_stages, pseudo_labels)
{
    options.data.without = 0.4, options.data.two = 0.5;
    make_set(DEMO_TRAIN, DEMO_MIXED, 6, &run.train);
    int healthy = 0, several = 0;
    for (int i = 0; i < run.train.n; i++) {
        healthy += run.train.cases[i].sample->n_lesions == 0;
        several += run.train.cases[i].sample->n_lesions > 1;
    }
    cr_assert(healthy && several, "%d healthy images, %d with several lesions", healthy, several);
    check_labels(1, 1);
    check_labels(50, 6);
}

/* Parts of the demo called separately with made-up numbers: the tables that a run writes (complete, against
 * tests/expected), means over seeds, scores, maps, options, the images of each set, and the baselines without a model.
 * tests/train/test_demo.c checks a run's numbers against its images. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/log.h"
#include "tests/support/support_expected.h"
#include "tests/support/support_figures.h"
#include "train/demo/demo_run.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/mcs_demo_parts_XXXXXX";

static void open_folder(void)
{
    mcs_log_quiet(1);
    cr_assert(mkdtemp(folder));
}

static void remove_folder(void)
{
    char line[64];
    snprintf(line, sizeof line, "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static char *read_text(const char *name)
{
    char *text;
    int64_t n;
    cr_assert_eq(mcs_file_read(in_folder(name), 1 << 20, &text, &n), MCS_OK, "%s", mcs_error_message());
    return text;
}

/* Redirects standard output to the file `printed`. */
static void print_to_file(void)
{
    fflush(stdout);
    cr_assert(freopen(in_folder("printed"), "w", stdout));
}

/* ---- files of a finished run ---- */

enum { N = 4 };

/* Lists with different values, two healthy images, two of unseen forms, and what was tuned. */
static void make_lists(struct demo_results *r, struct demo_case *cases, struct demo_sample *samples)
{
    for (int i = N; i < N + 4; i++) {
        cases[i] = (struct demo_case){.sample = &samples[i]};
        samples[i].n_lesions = i > N + 1;
        snprintf(cases[i].stem, sizeof cases[0].stem, "test_%05d", i % 2);
        snprintf(cases[i].prompt[DEMO_PROMPT_LOOK], sizeof cases[0].prompt[0], "asked of %d", i);
        snprintf(samples[i].caption, sizeof samples[0].caption, "caption of %d", i);
    }
    for (int k = 0; k < DEMO_N_LISTS; k++)
        for (int i = 0; i < r->list[k].n; i++) r->list[k].v[i] = 0.02 * k + 0.01 * i * i;
    r->list[LIST_OTHER].v[1] = NAN; /* no other look */
    for (int i = 0; i < N; i++) {
        r->list[LIST_PRESENCE].v[i] = 0.125 - 0.0625 * i;
        r->list[LIST_PASSED].v[i] = i < 3;
        r->list[LIST_FOUND].v[i] = i < 2;
    }
    for (int i = 0; i < 2; i++) r->list[LIST_PASSED_NONE].v[i] = i, r->list[LIST_MASK_NONE].v[i] = 1;
    r->list[LIST_PRESENCE_NONE].v[0] = -0.25, r->list[LIST_PRESENCE_NONE].v[1] = 0.03125;
    r->tuned = (struct demo_tuned){.rule = {.threshold = {{0.1, 0, 1}, {0.05, 1, 2}}, .dice = 0.41},
                                   .words = {.threshold = {{0.2, 1, 0}, {0.02, 0, 3}}, .reads = 5, .dice = 0.42},
                                   .rule_grow = 2,
                                   .words_grow = 4,
                                   .words_is_best = 1,
                                   .rule_sam = 0.43,
                                   .words_sam = 0.44,
                                   .min_presence = -0.03125,
                                   .presence_auroc = 0.91,
                                   .presence_found = 0.86,
                                   .presence_false = 0.14};
}

/* Four cases with different scores; all numbers of the results are distinct. */
static void make_run(struct demo_run *run, struct demo_options *o, struct demo_case *cases, struct demo_sample *samples)
{
    static double score[N];
    *o = (struct demo_options){.output = folder, .data = mcs_demo_config_default()};
    o->seed = 7;
    o->ceiling = 1;
    *run = (struct demo_run){.o = o, .n_labelled = 9, .test = {N, cases}, .two = {.n = 3}};
    run->none = (struct demo_set){2, cases + N}, run->unseen = (struct demo_set){2, cases + N + 2};
    run->validation.n = 5;
    cr_assert_eq(mcs_demo_lists_new(run), MCS_OK);
    struct demo_results *r = &run->r;
    for (int i = 0; i < N; i++) {
        struct demo_lesion *l = &samples[i].lesion[0];
        *l = (struct demo_lesion){
            .bright = i & 1, .large = i == 3, .blurred = i != 2, .rim = i > 1, .area = 100 + 11 * i};
        samples[i].n_lesions = 1 + i % 2;
        snprintf(samples[i].caption, sizeof samples[i].caption, "caption of %d", i);
        cases[i] = (struct demo_case){.sample = &samples[i]};
        snprintf(cases[i].prompt[DEMO_PROMPT_LOOK], sizeof cases[i].prompt[0], "look of %d", i);
        snprintf(cases[i].stem, sizeof cases[i].stem, "test_%05d", i);
        score[i] = 3.25 * (i + 1);
    }
    r->score = score;
    make_lists(r, cases, samples);
    for (int s = 0; s < DEMO_STAGES; s++) {
        cr_assert_eq(mcs_demo_score_new(N, &r->stage[s]), MCS_OK);
        for (int i = 0; i < N; i++) {
            r->stage[s].dice[i] = 0.1 * s + 0.01 * i * i;
            r->stage[s].iou[i] = 0.05 * s + 0.02 * i;
            r->stage[s].nsd[i] = 0.12 * s + 0.03 * i;
        }
    }
    struct mean_interval *const recalls[] = {&r->before.image_to_text[0], &r->before.image_to_text[1],
                                             &r->before.text_to_image[0], &r->before.text_to_image[1],
                                             &r->after.image_to_text[0],  &r->after.image_to_text[1],
                                             &r->after.text_to_image[0],  &r->after.text_to_image[1]};
    for (int i = 0; i < 8; i++)
        *recalls[i] = (struct mean_interval){.mean = 0.1 * (i + 1), .lo = 0.1 * i + 0.05, .hi = 0.1 * i + 0.17};
    r->prompt_dice = 0.71, r->other_dice = 0.13, r->presence_auroc = 0.93, r->label_dice = 0.52;
    for (int a = 0; a < DEMO_AVERAGES; a++) {
        r->errors[a] = (struct error_statistics){
            .right = 0.03 + a, .wrong = 0.4 + a, .auroc = 0.8 + 0.01 * a, .auroc_outside_band = 0.7 + 0.01 * a};
    }
    r->rank_correlation = -0.375;
    r->n_times = 2;
    r->time[0].name = "one part", r->time[0].seconds = 1.5;
    r->time[1].name = "another", r->time[1].seconds = 2.25;
    memset(r->clip_sha256, 'a', 64), memset(r->sam_sha256, 'b', 64), memset(r->network_sha256, 'c', 64);
}

/* The summary without the peak memory, which depends on the machine and is checked here. */
static char *summary_without_memory(void)
{
    json_t *s = NULL;
    cr_assert_eq(mcs_json_read(in_folder("summary.json"), 1 << 20, 0, &s), MCS_OK, "%s", mcs_error_message());
    const double memory = json_number_value(json_object_get(s, "peak_memory_bytes"));
    cr_expect(memory > 1 << 20 && memory < (double)((int64_t)1 << 40), "%g bytes", memory);
    json_object_del(s, "peak_memory_bytes");
    json_object_del(s, "version");
    char *text = json_dumps(s, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    json_decref(s);
    return text;
}

static void check_results(struct demo_run *run, const char *name)
{
    char *all;
    size_t bytes;
    FILE *f = open_memstream(&all, &bytes);
    cr_assert(f);
    print_to_file();
    cr_assert_eq(mcs_demo_write_results(run, 61.5), MCS_OK, "%s", mcs_error_message());
    fflush(stdout);
    char *const parts[] = {read_text("printed"), read_text("cases.csv"), summary_without_memory(),
                           read_text("cases.json"), read_text("scores.json")};
    for (int i = 0; i < 5; i++) {
        fprintf(f, "%s\n", parts[i]);
        free(parts[i]);
    }
    fclose(f);
    expected_check(name, all);
    free(all);
}

Test(demo_parts, results)
{
    static struct demo_run run;
    static struct demo_options o;
    static struct demo_case cases[N + 4];
    static struct demo_sample samples[N + 4];
    open_folder();
    make_run(&run, &o, cases, samples);
    check_results(&run, "demo_results.txt");
    /* The same with every note: a stage, an ensemble, a network and a pipeline that do not improve, true masks that are
     * no ceiling, the short run, the other start, the validation slabs; numbers that are NaN; no case of a kind. */
    struct demo_list_values *l = run.r.list;
    memcpy(l[LIST_WEAK].v, l[LIST_LAST].v, N * sizeof(double));
    memcpy(l[LIST_ALL_ZERO_SHOT].v, l[LIST_LAST].v, N * sizeof(double));
    memcpy(l[LIST_CEILING].v, l[LIST_LAST].v, N * sizeof(double));
    memcpy(l[LIST_LOOK].v, l[LIST_BEST_SAM].v, N * sizeof(double));
    o.quick = 1, o.start = DEMO_START_CAPTIONS;
    memcpy(run.r.stage[STAGE_SAM].dice, run.r.stage[STAGE_COMPONENTS].dice, N * sizeof(double));
    run.r.prompt_dice = run.r.other_dice = run.r.presence_auroc = NAN;
    samples[3].lesion[0].large = 0;
    o.evaluate = 1;
    check_results(&run, "demo_results_notes.txt");
    for (int s = 0; s < DEMO_STAGES; s++) mcs_demo_score_free(&run.r.stage[s]);
    mcs_arena_free(&run.arena);
    remove_folder();
}

/* True masks are called a ceiling only where they lie above the weak network in every seed. */
static void expect_a_ceiling(int seeds)
{
    for (int above = 1; above <= seeds; above++) {
        char path[160];
        json_t *scores = NULL;
        snprintf(path, sizeof path, "%s/seed%d/scores.json", folder, 10 + above);
        cr_assert_eq(mcs_json_read(path, 1 << 20, 0, &scores), MCS_OK);
        for (int i = 0; i < N; i++)
            json_array_set_new(json_object_get(scores, "true_masks"), (size_t)i, json_real(0.99));
        cr_assert_eq(mcs_json_write(scores, 0, "%s", path), MCS_OK);
        cr_assert_eq(mcs_demo_seeds(folder, 11, seeds), MCS_OK, "%s", mcs_error_message());
        char *csv = read_text("seeds.csv");
        cr_expect_eq(strstr(csv, "ceiling: true masks") != NULL, above == seeds);
        cr_expect_eq(strstr(csv, "the network on true masks") != NULL, above < seeds);
        free(csv);
    }
}

/* Both summaries are written by the function tested above, with different numbers. */
Test(demo_parts, means_over_seeds)
{
    static struct demo_run run;
    static struct demo_options o;
    static struct demo_case cases[N + 4];
    static struct demo_sample samples[N + 4];
    char seed[2][64], *all;
    size_t bytes;
    open_folder();
    print_to_file();
    make_run(&run, &o, cases, samples);
    for (int k = 0; k < 2; k++) {
        snprintf(seed[k], sizeof seed[k], "%s/seed%d", folder, 11 + k);
        cr_assert_eq(mcs_folder_make(seed[k]), MCS_OK);
        o.output = seed[k];
        cr_assert_eq(mcs_demo_write_results(&run, 50 + 10 * k), MCS_OK, "%s", mcs_error_message());
        json_t *s = NULL;
        char path[160];
        snprintf(path, sizeof path, "%s/summary.json", seed[k]);
        cr_assert_eq(mcs_json_read(path, 1 << 20, 0, &s), MCS_OK);
        json_object_set_new(s, "peak_memory_bytes", json_integer(1000 + k));
        cr_assert_eq(mcs_json_write(s, JSON_INDENT(1) | JSON_REAL_PRECISION(6), "%s", path), MCS_OK);
        for (int st = 0; st < DEMO_STAGES; st++) run.r.stage[st].dice[1] += 0.07 * (st + 1);
        for (int i = 0; i < N; i++) { /* the second seed's images are scored differently */
            run.r.list[LIST_WEAK].v[i] += 0.05 * i, run.r.list[LIST_OTHER].v[i] -= 0.03 * i;
            run.r.list[LIST_PRESENCE].v[i] -= 0.03125 * i, run.r.list[LIST_BEST_SAM].v[i] += 0.01 * i;
        }
        run.r.label_dice += 0.1, run.r.prompt_dice += 0.02, run.r.other_dice += 0.03, run.r.presence_auroc += 0.04;
        run.r.errors[AVERAGE_ALL].auroc += 0.01, run.r.errors[AVERAGE_ALL].auroc_outside_band += 0.02;
        run.r.rank_correlation += 0.2;
    }
    print_to_file();
    cr_assert_eq(mcs_demo_seeds(folder, 11, 2), MCS_OK, "%s", mcs_error_message());
    fflush(stdout);
    char *printed = read_text("printed"), *csv = read_text("seeds.csv"), *md = read_text("seeds.md");
    FILE *f = open_memstream(&all, &bytes);
    cr_assert(f);
    fprintf(f, "%s\n%s\n%s", printed, csv, md);
    fclose(f);
    expected_check("demo_seeds.txt", all);
    expect_a_ceiling(2);
    cr_expect_eq(mcs_demo_seeds(folder, 11, 3), MCS_E_NOINPUT, "there is no seed13");
    cr_expect(strstr(mcs_error_message(), "seed13"), "%s", mcs_error_message());
    mcs_error_clear();
    free(printed);
    free(csv);
    free(md);
    free(all);
    for (int st = 0; st < DEMO_STAGES; st++) mcs_demo_score_free(&run.r.stage[st]);
    mcs_arena_free(&run.arena);
    remove_folder();
}

/* ---- scores, maps, options ---- */

Test(demo_parts, quick_is_a_fifth)
{
    struct demo_options o = {.train_images = 2000, .label_images = 500, .test_images = 55, .two_images = 54};
    o.unseen_images = 50, o.validation_images = 60, o.ceiling = 1;
    o.none_images = 4, o.finetune_steps = 400, o.cycle_steps = 61, o.retrieval_images = 300, o.cycles = 3;
    mcs_demo_options_quick(&o);
    cr_expect(o.train_images == 400 && o.label_images == 100 && o.test_images == 11 && o.two_images == 10);
    cr_expect(o.none_images == 10 && o.finetune_steps == 80 && o.cycle_steps == 12 && o.cycles == 3);
    cr_expect(o.retrieval_images == 100 && o.ceiling == 0);
    cr_expect(o.unseen_images == 10 && o.validation_images == 12);
    o.retrieval_images = 99;
    mcs_demo_options_quick(&o);
    cr_expect_eq(o.retrieval_images, 99);
}

Test(demo_parts, scores)
{
    struct demo_score s;
    static uint8_t mask[DEMO_PIXELS], truth[DEMO_PIXELS];
    for (int i = 0; i < DEMO_PIXELS; i++) {
        const int x = i % DEMO_SIZE, y = i / DEMO_SIZE;
        mask[i] = x >= 20 && x < 60 && y >= 30 && y < 50;
        truth[i] = x >= 25 && x < 70 && y >= 32 && y < 51;
    }
    cr_assert_eq(mcs_demo_score_new(2, &s), MCS_OK);
    cr_assert_eq(mcs_demo_score_add(&s, 1, mask, truth), MCS_OK);
    cr_expect_float_eq(s.dice[1], figure_dice(mask, truth, DEMO_PIXELS), 1e-12);
    cr_expect_float_eq(s.iou[1], figure_iou(mask, truth, DEMO_PIXELS), 1e-12);
    cr_expect_float_eq(s.nsd[1], figure_nsd(mask, truth, DEMO_SIZE, DEMO_SIZE, 2), 1e-12);
    cr_expect(s.dice[0] == 0 && s.iou[0] == 0 && s.nsd[0] == 0 && s.n == 2);
    mcs_demo_score_free(&s);
    cr_expect(!s.dice && !s.n);
}

Test(demo_parts, masks_and_maps_as_images)
{
    static const float map[] = {-1, 0, 0.001f, 0.4f, 0.5f, 0.998f, 1, 2};
    static const uint8_t grey[] = {0, 0, 0, 102, 128, 254, 255, 255}, half[] = {0, 0, 0, 40, 50, 100, 100, 200};
    static float values[DEMO_PIXELS];
    static uint8_t mask[DEMO_PIXELS];
    const struct demo_options o = {.output = folder};
    const struct demo_run run = {.o = &o};
    struct image img;
    open_folder();
    for (int i = 0; i < DEMO_PIXELS; i++) values[i] = map[i % 8], mask[i] = i % 3 == 0;
    cr_assert_eq(mcs_demo_write_map(&run, "stages/a", "one", values, 255), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_demo_write_map(&run, "stages/a", "two", values, 100), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_demo_write_mask(&run, "b", "three", mask), MCS_OK, "%s", mcs_error_message());
    static const char *const names[] = {"stages/a/one.png", "stages/a/two.png", "b/three.png"};
    for (int k = 0; k < 3; k++) {
        cr_assert_eq(mcs_image_read(in_folder(names[k]), 0, &img), MCS_OK, "%s", mcs_error_message());
        cr_assert(img.width == DEMO_SIZE && img.height == DEMO_SIZE && img.channels == 1);
        for (int i = 0; i < DEMO_PIXELS; i++)
            cr_assert_eq(img.pixels[i], k == 2 ? 255 * mask[i] : (k ? half : grey)[i % 8], "%s, pixel %d", names[k], i);
        mcs_image_free(&img);
    }
    remove_folder();
}

Test(demo_parts, segmentation_takes_the_demos_options)
{
    const struct demo_options o = {.saliency_layer = 1,
                                   .saliency_beta = 0.75,
                                   .saliency_steps = 13,
                                   .saliency_copies = 6,
                                   .rank = 2,
                                   .min_confidence = 0.25,
                                   .grow = 9,
                                   .seed = 41};
    const struct segment_options want = mcs_segment_defaults(o.form), s = mcs_demo_segment_options(&o);
    cr_expect(s.saliency.layer == 1 && s.saliency.beta == 0.75f && s.saliency.steps == 13 && s.saliency.copies == 6);
    cr_expect(s.saliency.seed == 41 && s.coarse.seed == 41);
    cr_expect((int)s.coarse.rank == 2 && s.coarse.min_confidence == 0.25f && s.coarse.grow_px == 9);
    cr_expect(s.saliency.null_texts == mcs_demo_null_prompts && s.saliency.n_null == DEMO_NULL_PROMPTS);
    cr_expect(s.coarse.keep == want.coarse.keep && s.sam.grow_px == want.sam.grow_px);
}

/* ---- sets of images ---- */

static struct demo_atlas atlas;

static int same_set(const struct demo_set *set, const struct demo_options *o, enum demo_split split,
                    enum demo_kind kind, int first, const char *word)
{
    static struct demo_sample want;
    char stem[32];
    for (int i = 0; i < set->n; i++) {
        mcs_demo_lesion_sample(&atlas, &o->data, split, kind, (uint64_t)o->seed, (uint32_t)(first + i), &want);
        snprintf(stem, sizeof stem, "%s_%05d", word, first + i);
        const struct demo_case *c = &set->cases[i];
        if (memcmp(&want, c->sample, sizeof want) || strcmp(stem, c->stem)) return 0;
        if (c->image.pixels != c->sample->image || c->image.width != DEMO_SIZE || c->image.height != DEMO_SIZE ||
            c->image.channels != 1)
            return 0;
        for (int level = 0; level < DEMO_PROMPT_LEVELS && want.n_lesions; level++)
            if (strcmp(c->prompt[level], want.lesion[0].prompt[level]) != 0) return 0;
    }
    return 1;
}

static int n_images(const char *name)
{
    struct file_list files;
    if (!mcs_folder_exists(in_folder(name))) return -1;
    cr_assert_eq(mcs_folder_list(in_folder(name), ".png", &files), MCS_OK, "%s", mcs_error_message());
    const int n = files.n;
    mcs_file_list_free(&files);
    return n;
}

static void check_sets(struct demo_options *o, enum demo_split split, const char *word, const int *wanted)
{
    static const char *const names[] = {"data/train/images", "data/test/images", "data/test_two/images",
                                        "data/test_none/images", "data/test_unseen/images"};
    struct demo_run run = {.o = o, .atlas = atlas};
    cr_assert_eq(mcs_demo_make_data(&run), MCS_OK, "%s", mcs_error_message());
    cr_expect(run.train.n == o->train_images && run.test.n == o->test_images && run.two.n == o->two_images &&
              run.none.n == o->none_images && run.unseen.n == (o->evaluate ? 0 : o->unseen_images));
    cr_expect(run.validation.n == o->validation_images && run.validation_none.n == o->validation_images);
    cr_expect(same_set(&run.train, o, DEMO_TRAIN, DEMO_MIXED, 0, "train"));
    cr_expect(same_set(&run.test, o, split, DEMO_SOME, 0, word));
    cr_expect(same_set(&run.two, o, split, DEMO_TWO, 0, word));
    cr_expect(same_set(&run.none, o, split, DEMO_NONE, 0, word));
    cr_expect(same_set(&run.unseen, o, DEMO_TEST, DEMO_UNSEEN, 0, "test"));
    /* images that tune are others than those of --evaluate validation */
    cr_expect(same_set(&run.validation, o, DEMO_VALIDATION, DEMO_SOME, 50000, "validation"));
    cr_expect(same_set(&run.validation_none, o, DEMO_VALIDATION, DEMO_NONE, 50000, "validation"));
    for (int i = 0; i < run.none.n; i++) /* asked like the images with lesions */
        cr_expect_str_eq(run.none.cases[i].prompt[DEMO_PROMPT_LOOK],
                         run.test.cases[i % run.test.n].prompt[DEMO_PROMPT_LOOK]);
    for (int k = 0; k < 5; k++) cr_expect_eq(n_images(names[k]), wanted[k], "%s: %d", names[k], n_images(names[k]));
    for (int s = 0; s < DEMO_STAGES; s++) {
        cr_expect_eq(run.r.stage[s].n, run.test.n);
        mcs_demo_score_free(&run.r.stage[s]);
    }
    cr_expect(run.r.score && run.r.list[LIST_WORD].n == run.test.n && isnan(run.r.list[LIST_WORD].v[0]));
    mcs_demo_set_free(&run.train);
    mcs_demo_set_free(&run.test);
    mcs_demo_set_free(&run.two);
    mcs_demo_set_free(&run.none);
    mcs_demo_set_free(&run.unseen);
    mcs_demo_set_free(&run.validation);
    mcs_demo_set_free(&run.validation_none);
    cr_expect(!run.none.cases && !run.none.n);
    mcs_arena_free(&run.arena);
}

Test(demo_parts, sets_of_images)
{
    struct demo_options o = {.output = folder, .data = mcs_demo_config_default()};
    o.seed = 5;
    open_folder();
    cr_assert_eq(mcs_demo_atlas_load(NULL, &atlas), MCS_OK, "%s", mcs_error_message());
    o.train_images = 3, o.test_images = 2, o.retrieval_images = 4, o.two_images = 1, o.none_images = 3;
    o.unseen_images = 1, o.validation_images = 2;
    check_sets(&o, DEMO_TEST, "test", (const int[]){3, 4, 1, 3, 1});
    remove_folder();
    snprintf(strrchr(folder, '_'), 8, "_XXXXXX");
    open_folder();
    o.test_images = 3, o.retrieval_images = 2, o.two_images = 0, o.none_images = 0, o.evaluate = 1;
    check_sets(&o, DEMO_VALIDATION, "validation", (const int[]){3, 3, -1, -1, -1});
    remove_folder();
    mcs_demo_atlas_free(&atlas);
}

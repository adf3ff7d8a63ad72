/* A tiny run of `mcsam demo`: every reported number is recomputed from the images on disk by code that shares nothing
 * with train/demo (tests/support/support_figures.c, the other verbs, the training functions); slabs, labels, pairs and
 * prompts are checked. The run is made once before the tests, in the folder that MCS_TEST_DEMO names. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/io/store.h"
#include "data/lesions/demo_sample.h"
#include "engine/backend.h"
#include "infer/weights.h"
#include "tests/support/support_figures.h"
#include "train/unet/unet_train.h"

#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <math.h>
#include <omp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_TEST = 6, N_TRAIN = 40, N_LABELS = 5, N_TWO = 2, N_NONE = 3, N_RETRIEVAL = 100, SEED = 3, THREADS = 2 };
enum { CYCLES = 2, CYCLE_STEPS = 5, KEPT = 2, FEATURES = 4, PATCHES = 4 };

/* Options shared by the demo run and the verbs that repeat parts of it. */
#define SALIENCY "--steps 10 --copies 2 --layer 2 --beta 1 --seed 3 --threads 2"
#define DEMO                                                                                                           \
    "--seed 3 --threads 2 --train-images 40 --label-images 5 --test-images 6 --two-images 2 --none-images 3 "          \
    "--retrieval-images 100 --finetune-steps 4 --finetune-batch 8 --finetune-warmup 2 --cycles 2 --cycle-steps 5 "     \
    "--cycle-checkpoints 2 --saliency-steps 10 --saliency-copies 2 --network-features 4 --network-batch 4 --grow 12"

/* ---- the run, once for all tests ---- */

static int shell_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int shell_line(const char *fmt, ...)
{
    char line[8192];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    return n < (int)sizeof line ? system(line) : -1;
}

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    static char folder[] = "/tmp/mcs_demo_XXXXXX";
    (void)tests;
    if (!mkdtemp(folder) || setenv("MCS_TEST_DEMO", folder, 1)) return;
    if (shell_line("cd %s && %s demo -o %s/run/seed3 " DEMO " >%s/log 2>&1", MCS_SOURCE_DIR, MCS_BINARY, folder,
                   folder))
        shell_line("tail -n 20 %s/log >&2", folder);
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
    (void)stats;
    const char *folder = getenv("MCS_TEST_DEMO");
    if (folder) shell_line("rm -rf %s", folder);
}

/* ---- its files ---- */

static const char *at(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The path of a file of the run; valid for the next three calls. */
static const char *at(const char *fmt, ...)
{
    static char paths[4][1024];
    static int turn;
    char name[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    turn = (turn + 1) % 4;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", getenv("MCS_TEST_DEMO"), name);
    return paths[turn];
}

/* Runs a shell line in the tests' folder; $DEMO is data/demo, mcsam the program. */
static void run_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void run_line(const char *fmt, ...)
{
    char line[4096];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    cr_assert_eq(shell_line("cd %s && DEMO=%s/data/demo && mcsam() { %s \"$@\" --quiet >/dev/null; } && %s",
                            getenv("MCS_TEST_DEMO"), MCS_SOURCE_DIR, MCS_BINARY, line),
                 0, "%s", line);
}

static json_t *read_json(const char *name)
{
    json_t *root = NULL;
    cr_assert_eq(mcs_json_read(at("%s", name), 1 << 26, 0, &root), MCS_OK, "%s", mcs_error_message());
    return root;
}

/* A PNG of the demo's size, into pixels (DEMO_PIXELS). */
static void read_grey(const char *path, uint8_t *pixels)
{
    struct image img;
    cr_assert_eq(mcs_image_read(path, 1, &img), MCS_OK, "%s", mcs_error_message());
    cr_assert(img.width == DEMO_SIZE && img.height == DEMO_SIZE, "%s", path);
    memcpy(pixels, img.pixels, DEMO_PIXELS);
    mcs_image_free(&img);
}

/* Reads a mask, which must have only the values 0 and 255. */
static void read_mask(const char *path, uint8_t *mask)
{
    read_grey(path, mask);
    for (int i = 0; i < DEMO_PIXELS; i++) cr_assert(mask[i] == 0 || mask[i] == 255, "%s", path);
}

static void read_test_truth(int i, uint8_t *truth)
{
    read_mask(at("run/seed3/data/test/masks/test_%05d.png", i), truth);
}

static int count_files(const char *folder)
{
    struct file_list files;
    cr_assert_eq(mcs_folder_list(at("%s", folder), ".png", &files), MCS_OK, "%s", mcs_error_message());
    const int n = files.n;
    mcs_file_list_free(&files);
    return n;
}

/* The number of a key; fails the test if there is none. */
static double number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    cr_assert(json_is_number(v), "no number '%s'", key);
    return json_number_value(v);
}

static const json_t *row_of(const json_t *list, const char *key, const char *name)
{
    size_t i;
    json_t *row;
    json_array_foreach(list, i, row) if (!strcmp(json_string_value(json_object_get(row, key)), name)) return row;
    cr_assert_fail("no row '%s'", name);
    return NULL;
}

/* summary.json has six digits. */
static int near(double got, double want)
{
    return fabs(got - want) <= 6e-6 * fabs(want) + 1e-12;
}
#define expect_near(got, want, ...) cr_expect(near(got, want), __VA_ARGS__)

/* ---- data: slabs, kinds, prompts, labels ---- */

static void check_slabs(const char *folder, const char *split, const char *kind, int n, const int (*slabs)[2],
                        int n_slabs)
{
    char name[128];
    snprintf(name, sizeof name, "run/seed3/data/%s/demo.json", folder);
    json_t *what = read_json(name);
    cr_expect_str_eq(json_string_value(json_object_get(what, "split")), split);
    cr_expect_str_eq(json_string_value(json_object_get(what, "kind")), kind);
    cr_expect_eq(json_integer_value(json_object_get(what, "seed")), SEED);
    json_decref(what);
    snprintf(name, sizeof name, "run/seed3/data/%s/attributes.json", folder);
    json_t *all = read_json(name), *one;
    const char *key;
    cr_expect_eq((int)json_object_size(all), n, "%s: %zu", folder, json_object_size(all));
    json_object_foreach(all, key, one)
    {
        const int z = (int)number(one, "z");
        int inside = 0;
        for (int k = 0; k < n_slabs; k++) inside |= z >= slabs[k][0] && z <= slabs[k][1];
        cr_expect(inside, "%s: %s was cut at z = %d", folder, key, z);
        cr_expect(strcmp(kind, "mixed") == 0 || !strcmp(json_string_value(json_object_get(one, "kind")), kind));
    }
    json_decref(all);
    snprintf(name, sizeof name, "run/seed3/data/%s/images", folder);
    cr_expect_eq(count_files(name), n);
}

Test(demo, slabs_of_training_and_test_are_apart)
{
    static const int test[][2] = {{46, 51}, {70, 75}, {94, 99}, {118, 123}},
                     train[][2] = {{30, 42}, {62, 66}, {86, 90}, {103, 107}, {127, 135}};
    check_slabs("train", "train", "mixed", N_TRAIN, train, 5);
    check_slabs("test", "test", "one", N_RETRIEVAL, test, 4);
    check_slabs("test_two", "test", "two", N_TWO, test, 4);
    check_slabs("test_none", "test", "none", N_NONE, test, 4);
    for (int i = 0; i < 4; i++) /* three unused slices separate adjacent slabs */
        for (int k = 0; k < 5; k++) cr_expect(train[k][1] < test[i][0] - 3 || train[k][0] > test[i][1] + 3);
}

Test(demo, pseudo_labels_are_of_the_first_training_images_with_one_lesion)
{
    json_t *summary = read_json("run/seed3/summary.json"), *all = read_json("run/seed3/data/train/attributes.json");
    int found = 0;
    double sum = 0;
    for (int i = 0; i < N_TRAIN && found < N_LABELS; i++) {
        char name[32];
        uint8_t label[DEMO_PIXELS], truth[DEMO_PIXELS];
        snprintf(name, sizeof name, "train_%05d.png", i);
        const json_t *one = json_object_get(all, name);
        if (strcmp(json_string_value(json_object_get(one, "kind")), "one")) continue;
        read_mask(at("run/seed3/labels/%s", name), label);
        read_mask(at("run/seed3/data/train/masks/%s", name), truth);
        cr_expect(memcmp(label, truth, DEMO_PIXELS), "%s: the pseudo-label is the true mask", name);
        sum += figure_dice(label, truth, DEMO_PIXELS);
        found++;
    }
    cr_expect_eq(found, N_LABELS);
    cr_expect_eq(count_files("run/seed3/labels"), N_LABELS);
    const json_t *told = json_object_get(summary, "pseudo_labels");
    cr_expect_eq((int)number(told, "images"), N_LABELS);
    expect_near(number(told, "dsc"), sum / N_LABELS, "%g, recomputed %g", number(told, "dsc"), sum / N_LABELS);
    json_decref(summary);
    json_decref(all);
}

/* ---- stages ---- */

static const struct {
    const char *name, *folder;
    int map; /* 1: an 8-bit map, to be thresholded at 0.5 */
} stages[] = {{"saliency, starting weights", "saliency_start", 1},
              {"+ fine-tuning", "saliency", 1},
              {"+ post-processing", "post", 0},
              {"+ components", "coarse", 0},
              {"+ SAM", "sam", 0},
              {"+ network ensemble", "network", 0}};
enum { N_STAGES = 6 };

static void read_stage(int s, int i, uint8_t *mask)
{
    const char *path = at("run/seed3/stages/%s/test_%05d.png", stages[s].folder, i);
    if (!stages[s].map) {
        read_mask(path, mask);
        return;
    }
    read_grey(path, mask);
    for (int k = 0; k < DEMO_PIXELS; k++) mask[k] = mask[k] >= 128; /* round(255 v) >= 128 where v > 0.5 */
}

Test(demo, every_stages_scores_are_those_of_its_masks)
{
    json_t *summary = read_json("run/seed3/summary.json"), *cases = read_json("run/seed3/cases.json");
    static const char *const keys[N_STAGES] = {NULL, "saliency", NULL, "coarse", "sam", "network"};
    double best = 0;
    for (int s = 0; s < N_STAGES; s++) {
        const json_t *told = row_of(json_object_get(summary, "stages"), "stage", stages[s].name);
        const json_t *interval = json_object_get(told, "dsc_interval");
        double dice[N_TEST], iou[N_TEST], nsd[N_TEST], mean, half;
        for (int i = 0; i < N_TEST; i++) {
            uint8_t mask[DEMO_PIXELS], truth[DEMO_PIXELS];
            char stem[32];
            snprintf(stem, sizeof stem, "test_%05d", i);
            read_stage(s, i, mask);
            read_test_truth(i, truth);
            dice[i] = figure_dice(mask, truth, DEMO_PIXELS);
            iou[i] = figure_iou(mask, truth, DEMO_PIXELS);
            nsd[i] = figure_nsd(mask, truth, DEMO_SIZE, DEMO_SIZE, 2);
            best = fmax(best, dice[i]);
            if (!keys[s]) continue;
            const double by_case = number(json_object_get(row_of(cases, "stem", stem), "dsc"), keys[s]);
            expect_near(by_case, dice[i], "%s, %s: %g, recomputed %g", stages[s].name, stem, by_case, dice[i]);
        }
        figure_mean(dice, N_TEST, &mean, &half);
        expect_near(number(told, "dsc"), mean, "%s: %g, recomputed %g", stages[s].name, number(told, "dsc"), mean);
        for (int e = 0; e < 2; e++) {
            const double end = json_number_value(json_array_get(interval, (size_t)e));
            cr_expect(fabs(end - (mean + (e ? half : -half))) < 1e-6 + 1e-5 * half, "%s: %g", stages[s].name, end);
        }
        figure_mean(iou, N_TEST, &mean, &half);
        expect_near(number(told, "iou"), mean, "%s: IoU", stages[s].name);
        figure_mean(nsd, N_TEST, &mean, &half);
        expect_near(number(told, "nsd"), mean, "%s: NSD %g, recomputed %g", stages[s].name, number(told, "nsd"), mean);
    }
    cr_expect_gt(best, 0.1, "no stage hits a lesion: the comparison says nothing");
    json_decref(summary);
    json_decref(cases);
}

Test(demo, scores_by_kind_of_lesion)
{
    static const struct {
        const char *name, *key, *word; /* word NULL: the flag is true; "": it is false */
    } kinds[] = {{"small", "size", "small"},    {"large", "size", "large"},  {"bright", "intensity", "bright"},
                 {"dark", "intensity", "dark"}, {"with a rim", "rim", NULL}, {"without a rim", "rim", ""}};
    json_t *summary = read_json("run/seed3/summary.json"), *all = read_json("run/seed3/data/test/attributes.json");
    for (int k = 0; k < 6; k++) {
        const json_t *told = row_of(json_object_get(summary, "by_type"), "name", kinds[k].name);
        double sum[2] = {0, 0};
        int n = 0;
        for (int i = 0; i < N_TEST; i++) {
            char name[32];
            uint8_t mask[DEMO_PIXELS], truth[DEMO_PIXELS];
            snprintf(name, sizeof name, "test_%05d.png", i);
            const json_t *lesion = json_array_get(json_object_get(json_object_get(all, name), "lesions"), 0);
            const json_t *v = json_object_get(lesion, kinds[k].key);
            if (json_is_string(v) ? strcmp(json_string_value(v), kinds[k].word) : json_is_true(v) != !kinds[k].word)
                continue;
            read_test_truth(i, truth);
            for (int s = 0; s < 2; s++) {
                read_stage(s ? 5 : 4, i, mask);
                sum[s] += figure_dice(mask, truth, DEMO_PIXELS);
            }
            n++;
        }
        cr_expect_eq((int)number(told, "n"), n, "%s: %d", kinds[k].name, n);
        if (!n) continue;
        expect_near(number(told, "zero_shot"), sum[0] / n, "%s: zero-shot", kinds[k].name);
        expect_near(number(told, "network"), sum[1] / n, "%s: network", kinds[k].name);
    }
    json_decref(summary);
    json_decref(all);
}

/* ---- CLIP: pairs, retrieval, prompts ---- */

Test(demo, fine_tuning_takes_the_training_pairs)
{
    run_line("mcsam finetune -m $DEMO/clip --pairs run/seed3/data/train/pairs.csv -i run/seed3/data/train/images "
             "-o again --steps 4 --batch 8 --warmup 2 --lr 0.0005 --temperature 0.08 --beta 0.15 --weight-decay 0.05 "
             "--clip-norm 1 --crop 0.9 --seed 3 --threads 2");
    run_line("cmp again/model/open_clip_model.safetensors run/seed3/finetune/model/open_clip_model.safetensors");
    run_line("! cmp -s again/model/open_clip_model.safetensors $DEMO/clip/open_clip_model.safetensors");
}

/* Embeddings (n, *dim) of OUT.h5; malloc'ed. */
static float *read_embeddings(const char *name, const char *dataset, int n, int *dim)
{
    struct store *s;
    struct store_info info;
    cr_assert_eq(mcs_store_open(at("%s", name), &s), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_store_get_info(s, dataset, &info), MCS_OK);
    cr_assert(info.nd == 2 && info.dims[0] == n, "%s: %lld rows", dataset, (long long)info.dims[0]);
    *dim = (int)info.dims[1];
    float *x = malloc((size_t)info.n_values * sizeof *x);
    cr_assert(x);
    cr_assert_eq(mcs_store_get(s, dataset, MCS_ARRAY_F32, 2, info.dims, x), MCS_OK);
    mcs_store_close(s);
    return x;
}

static double dot(const float *a, const float *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Recall at k in batches of 50 in the table's order: mean over batches. */
static double recall(const float *query, const float *candidate, int dim, int k)
{
    int found = 0;
    for (int i = 0; i < N_RETRIEVAL; i++) {
        const int first = i / 50 * 50;
        const double right = dot(query + i * dim, candidate + i * dim, dim);
        int better = 0;
        for (int j = first; j < first + 50; j++)
            better += j != i && dot(query + i * dim, candidate + j * dim, dim) >= right;
        found += better < k;
    }
    return (double)found / N_RETRIEVAL;
}

Test(demo, retrieval_is_of_test_pairs)
{
    json_t *summary = read_json("run/seed3/summary.json");
    run_line("tail -n +2 run/seed3/data/test/pairs.csv | cut -d, -f2- >captions.txt");
    for (int after = 0; after < 2; after++) {
        int dim, same;
        run_line("mcsam embed -m %s -i run/seed3/data/test/images --texts captions.txt -o embed%d.h5",
                 after ? "run/seed3/finetune/model" : "$DEMO/clip", after);
        char name[32];
        snprintf(name, sizeof name, "embed%d.h5", after);
        float *images = read_embeddings(name, "image_embeddings", N_RETRIEVAL, &dim),
              *texts = read_embeddings(name, "text_embeddings", N_RETRIEVAL, &same);
        const json_t *told = json_object_get(json_object_get(summary, "retrieval"), after ? "after" : "before");
        for (int k = 1; k <= 2; k++) {
            const double i2t = recall(images, texts, dim, k), t2i = recall(texts, images, dim, k);
            expect_near(number(told, k == 1 ? "i2t_r1" : "i2t_r2"), i2t, "image to text at %d: %g", k, i2t);
            expect_near(number(told, k == 1 ? "t2i_r1" : "t2i_r2"), t2i, "text to image at %d: %g", k, t2i);
        }
        free(images);
        free(texts);
    }
    json_decref(summary);
}

#define NULL_PROMPTS                                                                                                   \
    "--null 'normal brain' --null 'no lesion' --null 'axial t1 mri showing a normal brain' "                           \
    "--null 'healthy brain without a lesion' --null 'axial t1 mri of a healthy brain' "                                \
    "--null 't1 mri of an unremarkable brain no mass'"

/* The same cases by the verb segment, with the prompts of the test folder's prompts.json. */
Test(demo, zero_shot_masks_are_those_of_the_verb_segment)
{
    json_t *cases = read_json("run/seed3/cases.json"), *prompts = read_json("run/seed3/data/test/prompts.json");
    run_line("mkdir few && cp run/seed3/data/test/images/test_0000[0-5].png few/");
    run_line("mcsam segment --clip run/seed3/finetune/model --sam $DEMO/sam -i few "
             "--prompts run/seed3/data/test/prompts.json -o seg --keep-stages --rank both --min-confidence 0 "
             "--grow 12 " SALIENCY " " NULL_PROMPTS);
    run_line("mcsam coarse -i seg/saliency -o all --keep 0 --min-confidence 0");
    run_line("mcsam saliency -m $DEMO/clip -i few --prompts run/seed3/data/test/prompts.json -o start " SALIENCY);
    json_t *summary = read_json("seg/summary.json");
    for (int i = 0; i < N_TEST; i++) {
        char stem[32], name[40];
        snprintf(stem, sizeof stem, "test_%05d", i);
        snprintf(name, sizeof name, "%s.png", stem);
        static const char *const same[][2] = {{"stages/sam", "seg"},
                                              {"stages/coarse", "seg/coarse"},
                                              {"stages/post", "all"},
                                              {"stages/saliency", "seg/saliency"},
                                              {"stages/saliency_start", "start"}};
        for (int k = 0; k < 5; k++) {
            uint8_t demo[DEMO_PIXELS], verb[DEMO_PIXELS];
            read_grey(at("run/seed3/%s/%s", same[k][0], name), demo);
            read_grey(at("%s/%s", same[k][1], name), verb);
            cr_expect_arr_eq(demo, verb, DEMO_PIXELS, "%s/%s", same[k][0], name);
        }
        const json_t *told = row_of(cases, "stem", stem);
        const char *prompt = json_string_value(json_object_get(told, "prompt"));
        cr_expect_str_eq(prompt, json_string_value(json_array_get(json_object_get(prompts, name), 0)));
        cr_expect(strstr(prompt, " in the "), "'%s' says no place", prompt);
        const json_t *verb = row_of(json_object_get(summary, "cases"), "image", name);
        expect_near(number(told, "presence"), number(verb, "presence"), "%s: presence", name);
    }
    json_decref(summary);
    json_decref(cases);
    json_decref(prompts);
}

Test(demo, controls)
{
    json_t *summary = read_json("run/seed3/summary.json");
    const json_t *told = json_object_get(summary, "control");
    double asked = 0, other = 0;
    for (int i = 0; i < N_TWO; i++)
        for (int p = 0; p < 2; p++) {
            uint8_t mask[DEMO_PIXELS], truth[2][DEMO_PIXELS];
            read_mask(at("run/seed3/stages/two/test_%05d_prompt%d.png", i, p), mask);
            for (int t = 0; t < 2; t++)
                read_mask(at("run/seed3/data/test_two/masks_each/test_%05d_%d.png", i, t), truth[t]);
            asked += figure_dice(mask, truth[p], DEMO_PIXELS) / (2 * N_TWO);
            other += figure_dice(mask, truth[1 - p], DEMO_PIXELS) / (2 * N_TWO);
        }
    expect_near(number(told, "prompt_dsc"), asked, "asked for: %g", asked);
    expect_near(number(told, "other_dsc"), other, "the other: %g", other);
    cr_expect_eq((int)number(told, "n_two_lesion_images"), N_TWO);
    cr_expect(asked > 0 && other > 0, "%g and %g: the comparison says nothing", asked, other);

    int dim, same;
    float score[N_TEST + N_NONE];
    uint8_t lesion[N_TEST + N_NONE];
    run_line(
        "mkdir both && for i in 0 1 2 3 4 5; do cp run/seed3/data/test/images/test_0000$i.png both/a$i.png; done && "
        "for i in 0 1 2; do cp run/seed3/data/test_none/images/test_0000$i.png both/b$i.png; done && "
        "printf 'axial t1 mri showing a lesion\\nnormal brain\\nno lesion\\naxial t1 mri showing a normal brain\\n"
        "healthy brain without a lesion\\naxial t1 mri of a healthy brain\\n"
        "t1 mri of an unremarkable brain no mass\\n' >presence.txt && "
        "mcsam embed -m run/seed3/finetune/model -i both --texts presence.txt -o both.h5");
    float *images = read_embeddings("both.h5", "image_embeddings", N_TEST + N_NONE, &dim),
          *texts = read_embeddings("both.h5", "text_embeddings", 7, &same);
    for (int i = 0; i < N_TEST + N_NONE; i++) {
        double s = dot(images + i * dim, texts, dim);
        for (int t = 1; t < 7; t++) s -= dot(images + i * dim, texts + t * dim, dim) / 6;
        score[i] = (float)s;
        lesion[i] = i < N_TEST;
    }
    const double auroc = figure_auroc(score, lesion, N_TEST + N_NONE);
    expect_near(number(told, "presence_auroc"), auroc, "presence: %g, recomputed %g", number(told, "presence_auroc"),
                auroc);
    free(images);
    free(texts);
    json_decref(summary);
}

/* ---- the network ---- */

/* Trains a network on the images that have a pseudo-label, with the masks in `labels`; sha256: of its weights. */
static void train_on(const char *labels, const char *out, char sha256[65])
{
    struct unet_cases cases;
    struct unet_plans plans;
    struct unet_model m = {0};
    struct device d;
    struct file_list files;
    omp_set_num_threads(THREADS);
    cr_assert_eq(mcs_cpu_open(THREADS, &d), MCS_OK);
    mcs_unet_cases_init(&cases, 1, 2);
    cr_assert_eq(mcs_folder_list(at("run/seed3/labels"), ".png", &files), MCS_OK);
    for (int i = 0; i < files.n; i++) {
        struct image image;
        uint8_t mask[DEMO_PIXELS];
        cr_assert_eq(mcs_image_read(at("run/seed3/data/train/images/%s", files.names[i]), 1, &image), MCS_OK);
        read_mask(at("run/seed3/%s/%s", labels, files.names[i]), mask);
        for (int k = 0; k < DEMO_PIXELS; k++) mask[k] = mask[k] != 0;
        cr_assert_eq(mcs_unet_cases_add_image(&cases, files.names[i], &image, mask), MCS_OK);
        mcs_image_free(&image);
    }
    mcs_file_list_free(&files);
    cr_assert_eq(mcs_unet_plans_make(1, 2, DEMO_SIZE, DEMO_SIZE, 5, FEATURES, 8 * FEATURES, &plans), MCS_OK);
    plans.batch = PATCHES;
    plans.batch_dice = 1;
    cr_assert_eq(mcs_unet_model_new(&plans, SEED, &d, &m), MCS_OK);
    char folder[1024];
    snprintf(folder, sizeof folder, "%s", at("%s", out));
    const struct unet_train_options o = {.cycle = {.form = MCS_PAPER,
                                                   .epochs = CYCLES * CYCLE_STEPS,
                                                   .iterations = 1,
                                                   .cycles = CYCLES,
                                                   .checkpoints = KEPT,
                                                   .late = 0.2,
                                                   .lr = 0.005,
                                                   .gamma = 0.5},
                                         .optim = mcs_unet_adamw(),
                                         .deep_supervision = 1,
                                         .foreground = 0.33,
                                         .augment = mcs_augment_nnunet(DEMO_SIZE, DEMO_SIZE),
                                         .seed = SEED,
                                         .run = folder,
                                         .config = "test: 1\n"};
    cr_assert_eq(mcs_unet_train(&m, &cases, &o), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_weights_sha256(m.params, sha256), MCS_OK);
    mcs_unet_model_close(&m);
    mcs_unet_cases_free(&cases);
    mcs_device_close(&d);
}

Test(demo, network_is_trained_on_pseudo_labels_and_the_ceiling_on_true_masks)
{
    json_t *summary = read_json("run/seed3/summary.json");
    char sha256[65];
    train_on("labels", "network_again", sha256);
    cr_expect_str_eq(json_string_value(json_object_get(json_object_get(summary, "weights"), "network_sha256")), sha256);
    run_line("cmp network_again/cycle_2_checkpoint_2.safetensors run/seed3/network/cycle_2_checkpoint_2.safetensors");
    train_on("data/train/masks", "ceiling_again", sha256);
    run_line("cmp ceiling_again/cycle_2_checkpoint_2.safetensors run/seed3/ceiling/cycle_2_checkpoint_2.safetensors");
    json_decref(summary);
}

static double mean_dice(const char *folder)
{
    double sum = 0;
    for (int i = 0; i < N_TEST; i++) {
        uint8_t mask[DEMO_PIXELS], truth[DEMO_PIXELS];
        read_mask(at("%s/test_%05d.png", folder, i), mask);
        read_test_truth(i, truth);
        sum += figure_dice(mask, truth, DEMO_PIXELS) / N_TEST;
    }
    return sum;
}

/* The entropy map that predict --uncertainty wrote, bits (DEMO_PIXELS). */
static void read_entropy(const char *folder, int i, float *bits)
{
    struct store *s;
    const int64_t dims[] = {1, DEMO_SIZE, DEMO_SIZE};
    cr_assert_eq(mcs_store_open(at("%s/uncertainty/test_%05d_entropy.h5", folder, i), &s), MCS_OK, "%s",
                 mcs_error_message());
    cr_assert_eq(mcs_store_get(s, "entropy", MCS_ARRAY_F32, 3, dims, bits), MCS_OK);
    mcs_store_close(s);
}

/* Entropy and errors pooled over all test cases, for one group of checkpoints. */
struct pooled {
    double right, wrong, auroc, auroc_outside, rank;
};

static struct pooled pool_errors(const char *folder, const json_t *cases, int check_scores)
{
    enum { ALL = N_TEST * DEMO_PIXELS };
    float *bits = malloc(ALL * sizeof *bits), *far_bits = malloc(ALL * sizeof *far_bits);
    uint8_t *wrong = malloc(ALL), *far_wrong = malloc(ALL);
    double sum[2] = {0, 0}, score[N_TEST], dice[N_TEST];
    int64_t n[2] = {0, 0}, n_far = 0;
    cr_assert(bits && far_bits && wrong && far_wrong);
    for (int i = 0; i < N_TEST; i++) {
        uint8_t mask[DEMO_PIXELS], truth[DEMO_PIXELS], outside[DEMO_PIXELS];
        float *b = bits + i * DEMO_PIXELS;
        double all = 0;
        int area = 0;
        read_mask(at("%s/test_%05d.png", folder, i), mask);
        read_test_truth(i, truth);
        read_entropy(folder, i, b);
        figure_outside_band(mask, DEMO_SIZE, DEMO_SIZE, 2, outside);
        for (int k = 0; k < DEMO_PIXELS; k++) {
            const int w = mask[k] != truth[k];
            wrong[i * DEMO_PIXELS + k] = (uint8_t)w;
            sum[w] += (double)b[k], n[w]++;
            all += (double)b[k], area += mask[k] != 0;
            if (outside[k]) far_bits[n_far] = b[k], far_wrong[n_far++] = (uint8_t)w;
        }
        score[i] = 100 * all / (area > 1 ? area : 1);
        dice[i] = figure_dice(mask, truth, DEMO_PIXELS);
        char stem[32];
        snprintf(stem, sizeof stem, "test_%05d", i);
        const double told = number(row_of(cases, "stem", stem), "uncertainty_score");
        if (check_scores)
            cr_expect(fabs(told - score[i]) <= 1e-5 * score[i], "%s: score %g, recomputed %g", stem, told, score[i]);
    }
    const struct pooled p = {sum[0] / (double)n[0], sum[1] / (double)n[1], figure_auroc(bits, wrong, ALL),
                             figure_auroc(far_bits, far_wrong, n_far), figure_spearman(score, dice, N_TEST)};
    free(bits);
    free(far_bits);
    free(wrong);
    free(far_wrong);
    return p;
}

Test(demo, ensembles_and_uncertainty)
{
    static const struct {
        const char *name, *folder;
    } averages[] = {{"last checkpoint", "pred/last"}, {"last cycle", "pred/last-cycle"}, {"all cycles", "pred"}};
    json_t *summary = read_json("run/seed3/summary.json"), *cases = read_json("run/seed3/cases.json");
    run_line("mkdir few2 && cp run/seed3/data/test/images/test_0000[0-5].png few2/");
    run_line("mcsam predict -m run/seed3/network -i few2 -o pred --checkpoints all,last-cycle,last --uncertainty "
             "--threads 2");
    run_line("mcsam predict -m run/seed3/ceiling -i few2 -o best --threads 2");
    for (int a = 0; a < 3; a++) {
        const json_t *told = row_of(json_object_get(summary, "ensemble"), "name", averages[a].name);
        const double dice = mean_dice(averages[a].folder);
        const struct pooled p = pool_errors(averages[a].folder, cases, a == 2);
        expect_near(number(told, "dsc"), dice, "%s: %g, recomputed %g", averages[a].name, number(told, "dsc"), dice);
        expect_near(number(told, "error_auroc"), p.auroc, "%s: AUROC %g", averages[a].name, p.auroc);
        expect_near(number(told, "error_auroc_outside_band"), p.auroc_outside, "%s: AUROC outside the band %g",
                    averages[a].name, p.auroc_outside);
        if (a < 2) continue;
        const json_t *u = json_object_get(summary, "uncertainty");
        expect_near(number(u, "right"), p.right, "entropy of right pixels: %g", p.right);
        expect_near(number(u, "wrong"), p.wrong, "entropy of wrong pixels: %g", p.wrong);
        expect_near(number(u, "error_auroc"), p.auroc, "AUROC");
        expect_near(number(u, "error_auroc_outside_band"), p.auroc_outside, "AUROC outside the band");
        expect_near(number(u, "rank_correlation"), p.rank, "rank correlation %g, recomputed %g",
                    number(u, "rank_correlation"), p.rank);
        for (int i = 0; i < N_TEST; i++) {
            uint8_t demo[DEMO_PIXELS], verb[DEMO_PIXELS];
            read_mask(at("run/seed3/stages/network/test_%05d.png", i), demo);
            read_mask(at("pred/test_%05d.png", i), verb);
            cr_expect_arr_eq(demo, verb, DEMO_PIXELS, "network, case %d", i);
        }
    }
    const double ceiling = number(row_of(json_object_get(summary, "baselines"), "name", "ceiling: true masks"), "dsc");
    expect_near(ceiling, mean_dice("best"), "ceiling: %g, recomputed %g", ceiling, mean_dice("best"));
    json_decref(summary);
    json_decref(cases);
}

/* ---- tables ---- */

Test(demo, table_of_cases)
{
    static const char *const folders[] = {"saliency_start", "saliency", "post", "coarse", "sam", "network"};
    json_t *all = read_json("run/seed3/data/test/attributes.json"), *cases = read_json("run/seed3/cases.json");
    FILE *f = fopen(at("run/seed3/cases.csv"), "r");
    char line[512];
    cr_assert(f && fgets(line, sizeof line, f));
    cr_expect_str_eq(line, "case,dsc_saliency_start,dsc_saliency,dsc_post,dsc_coarse,dsc_sam,dsc_network,"
                           "uncertainty_score,presence,area,bright,large,blurred,rim\n");
    for (int i = 0; i < N_TEST; i++) {
        char stem[32], name[40];
        double v[13];
        cr_assert(fgets(line, sizeof line, f));
        cr_assert_eq(sscanf(line, "%31[^,],%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf", stem, &v[0], &v[1],
                            &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8], &v[9], &v[10], &v[11], &v[12]),
                     14);
        snprintf(name, sizeof name, "%s.png", stem);
        const json_t *told = row_of(cases, "stem", stem);
        const json_t *lesion = json_array_get(json_object_get(json_object_get(all, name), "lesions"), 0);
        uint8_t truth[DEMO_PIXELS], mask[DEMO_PIXELS];
        int area = 0;
        read_test_truth(i, truth);
        for (int k = 0; k < DEMO_PIXELS; k++) area += truth[k] != 0;
        for (int s = 0; s < N_STAGES; s++) {
            cr_assert_str_eq(folders[s], stages[s].folder);
            read_stage(s, i, mask);
            cr_expect_float_eq(v[s], figure_dice(mask, truth, DEMO_PIXELS), 5.1e-5, "%s, %s", stem, folders[s]);
        }
        cr_expect_float_eq(v[6], number(told, "uncertainty_score"), 6e-5 + 6e-6 * v[6]);
        cr_expect_float_eq(v[7], number(told, "presence"), 6e-5);
        cr_expect_eq((int)v[8], area);
        cr_expect_eq((int)v[8], (int)number(lesion, "area"));
        static const char *const words[][2] = {{"intensity", "bright"}, {"size", "large"}, {"border", "blurred"}};
        for (int k = 0; k < 3; k++)
            cr_expect_eq((int)v[9 + k], !strcmp(json_string_value(json_object_get(lesion, words[k][0])), words[k][1]));
        cr_expect_eq((int)v[12], json_is_true(json_object_get(lesion, "rim")));
    }
    cr_expect(!fgets(line, sizeof line, f), "more rows than cases: %s", line);
    fclose(f);
    json_decref(all);
    json_decref(cases);
}

/* One folder per seed, and a line for each of the 22 numbers (tests/train/test_demo_parts.c checks their values). */
Test(demo, several_seeds)
{
    run_line("mcsam demo -o seeds --seeds 2 --seed 8 --threads 2 --train-images 4 --label-images 1 --test-images 2 "
             "--two-images 0 --none-images 0 --retrieval-images 2 --finetune-steps 1 --finetune-batch 2 "
             "--finetune-warmup 0 --cycles 1 --cycle-steps 5 --cycle-checkpoints 1 --saliency-steps 2 "
             "--saliency-copies 1 --network-features 1 --network-batch 1 --no-ceiling");
    run_line(
        "test $(wc -l <seeds/seeds.csv) -eq 23 && head -1 seeds/seeds.csv | grep -x figure,mean,low,high,seed8,seed9");
    for (int k = 8; k < 10; k++) {
        char name[64];
        snprintf(name, sizeof name, "seeds/seed%d/summary.json", k);
        json_t *s = read_json(name);
        cr_expect_eq((int)number(s, "seed"), k);
        cr_expect(json_is_null(json_object_get(json_object_get(s, "control"), "prompt_dsc")),
                  "no image has two lesions");
        cr_expect_eq(json_array_size(json_object_get(s, "baselines")), 5, "no ceiling");
        json_decref(s);
    }
    run_line("! cmp -s seeds/seed8/data/test/images/test_00000.png seeds/seed9/data/test/images/test_00000.png");
    run_line("test ! -e seeds/seed8/ceiling && test ! -e seeds/seed8/data/test_two");
}

/* ---- the starting weights ---- */

Test(demo, starting_weights_can_be_made)
{
    run_line("mcsam demo-start clip -o clip0 --steps 4 --batch 4 --checkpoint-every 2 --threads 2");
    run_line("mcsam demo-start clip -o clip1 --steps 4 --batch 4 --checkpoint-every 2 --threads 2");
    run_line("mcsam demo-start sam -o sam0 --steps 4 --batch 2 --checkpoint-every 2 --threads 2");
    run_line("cmp clip0/model/open_clip_model.safetensors clip1/model/open_clip_model.safetensors");
    run_line("cmp clip0/model/vocab.txt $DEMO/clip/vocab.txt");
    run_line("mcsam embed -m clip0/model -i run/seed3/data/test_none/images -o start.h5");
    int dim;
    float *x = read_embeddings("start.h5", "image_embeddings", N_NONE, &dim);
    for (int i = 0; i < N_NONE; i++) cr_expect_float_eq(dot(x + i * dim, x + i * dim, dim), 1, 1e-5);
    free(x);
    run_line("mcsam sam -m sam0/model -i run/seed3/data/test/images/test_00000.png --box 20,20,60,60 -o sam_mask");
}

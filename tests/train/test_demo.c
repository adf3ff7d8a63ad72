/* A tiny run of `mcsam demo`: every reported number is recomputed from the images on disk by code that shares nothing
 * with train/demo (tests/support/support_figures.c, the other verbs, the training functions); slabs, labels, pairs and
 * prompts are checked. The run is made once before the tests of this file, test_demo.clip.c and test_demo.networks.c,
 * in the folder that MCS_TEST_DEMO names. */
#include "data/io/file.h"
#include "engine/backend.h"
#include "infer/metrics/bootstrap.h"
#include "tests/support/support_demo_run.h"
#include "tests/support/support_figures.h"

#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the run, once for all tests ---- */

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    static char folder[] = "/tmp/mcs_demo_XXXXXX";
    if (!mkdtemp(folder) || setenv("MCS_TEST_DEMO", folder, 1)) return;
    if (demo_shell("cd %s && %s demo -o %s/run/seed3 " DEMO " >%s/log 2>&1", MCS_SOURCE_DIR, MCS_BINARY, folder,
                   folder))
        demo_shell("tail -n 20 %s/log >&2", folder);
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
    const char *folder = getenv("MCS_TEST_DEMO");
    if (folder) demo_shell("rm -rf %s", folder);
}

/* ---- its files ---- */

static int count_files(const char *folder)
{
    struct file_list files;
    cr_assert_eq(mcs_folder_list(demo_path("%s", folder), ".png", &files), MCS_OK, "%s", mcs_error_message());
    const int n = files.n;
    mcs_file_list_free(&files);
    return n;
}

/* ---- data: slabs, kinds, prompts, labels ---- */

static void check_slabs(const char *folder, const char *split, const char *kind, int n, const int (*slabs)[2],
                        int n_slabs)
{
    char name[128];
    snprintf(name, sizeof name, "run/seed3/data/%s/demo.json", folder);
    json_t *what = demo_json(name);
    cr_expect_str_eq(json_string_value(json_object_get(what, "split")), split);
    cr_expect_str_eq(json_string_value(json_object_get(what, "kind")), kind);
    cr_expect_eq(json_integer_value(json_object_get(what, "seed")), SEED);
    json_decref(what);
    snprintf(name, sizeof name, "run/seed3/data/%s/attributes.json", folder);
    json_t *all = demo_json(name), *one;
    const char *key;
    cr_expect_eq((int)json_object_size(all), n, "%s: %zu", folder, json_object_size(all));
    json_object_foreach(all, key, one)
    {
        const int z = (int)demo_number(one, "z");
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
    check_slabs("test", "test", "some", N_RETRIEVAL, test, 4);
    check_slabs("test_two", "test", "two", N_TWO, test, 4);
    check_slabs("test_none", "test", "none", N_NONE, test, 4);
    check_slabs("test_unseen", "test", "unseen", N_UNSEEN, test, 4);
    for (int i = 0; i < 4; i++) /* three unused slices separate adjacent slabs */
        for (int k = 0; k < 5; k++) cr_expect(train[k][1] < test[i][0] - 3 || train[k][0] > test[i][1] + 3);
}

/* Masks of images with lesions are made from prompts; healthy images have none. */
Test(demo, pseudo_labels_are_of_the_first_training_images)
{
    json_t *summary = demo_json("run/seed3/summary.json"), *all = demo_json("run/seed3/data/train/attributes.json");
    int found = 0;
    double sum = 0;
    for (int i = 0; i < N_LABELS; i++) {
        char name[32];
        uint8_t label[DEMO_PIXELS], truth[DEMO_PIXELS];
        snprintf(name, sizeof name, "train_%05d.png", i);
        const json_t *one = json_object_get(all, name);
        demo_mask(demo_path("run/seed3/labels/%s", name), label);
        demo_mask(demo_path("run/seed3/data/train/masks/%s", name), truth);
        if (!json_array_size(json_object_get(one, "lesions"))) {
            cr_expect(!memchr(label, 255, DEMO_PIXELS), "%s: a healthy image has a label", name);
            continue;
        }
        cr_expect(memcmp(label, truth, DEMO_PIXELS), "%s: the pseudo-label is the true mask", name);
        sum += figure_dice(label, truth, DEMO_PIXELS);
        found++;
    }
    cr_expect(found > 0 && found < N_LABELS, "%d of %d have lesions: the comparison says less", found, N_LABELS);
    cr_expect_eq(count_files("run/seed3/labels"), N_LABELS);
    const json_t *told = json_object_get(summary, "pseudo_labels");
    cr_expect_eq((int)demo_number(told, "images"), N_LABELS);
    expect_near(demo_number(told, "dsc"), sum / found, "%g, recomputed %g", demo_number(told, "dsc"), sum / found);
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

/* The network has no prompt: it is measured against all lesions. */
static void read_truth(int s, int i, uint8_t *truth)
{
    if (s == N_STAGES - 1)
        demo_truth(i, truth);
    else
        demo_look_truth(i, truth);
}

static void read_stage(int s, int i, uint8_t *mask)
{
    const char *path = demo_path("run/seed3/stages/%s/test_%05d.png", stages[s].folder, i);
    if (!stages[s].map) {
        demo_mask(path, mask);
        return;
    }
    demo_grey(path, mask);
    for (int k = 0; k < DEMO_PIXELS; k++) mask[k] = mask[k] >= 128; /* round(255 v) >= 128 where v > 0.5 */
}

Test(demo, every_stages_scores_are_those_of_its_masks)
{
    json_t *summary = demo_json("run/seed3/summary.json"), *cases = demo_json("run/seed3/cases.json");
    static const char *const keys[N_STAGES] = {NULL, "saliency", NULL, "coarse", "sam", "network"};
    double best = 0;
    for (int s = 0; s < N_STAGES; s++) {
        const json_t *told = demo_row(json_object_get(summary, "stages"), "stage", stages[s].name);
        const json_t *interval = json_object_get(told, "dsc_interval");
        double dice[N_TEST], iou[N_TEST], nsd[N_TEST], mean, half;
        struct bootstrap_interval want;
        for (int i = 0; i < N_TEST; i++) {
            uint8_t mask[DEMO_PIXELS], truth[DEMO_PIXELS];
            char stem[32];
            snprintf(stem, sizeof stem, "test_%05d", i);
            read_stage(s, i, mask);
            read_truth(s, i, truth);
            dice[i] = figure_dice(mask, truth, DEMO_PIXELS);
            iou[i] = figure_iou(mask, truth, DEMO_PIXELS);
            nsd[i] = figure_nsd(mask, truth, DEMO_SIZE, DEMO_SIZE, 2);
            best = fmax(best, dice[i]);
            if (!keys[s]) continue;
            const double by_case = demo_number(json_object_get(demo_row(cases, "stem", stem), "dsc"), keys[s]);
            expect_near(by_case, dice[i], "%s, %s: %g, recomputed %g", stages[s].name, stem, by_case, dice[i]);
        }
        figure_mean(dice, N_TEST, &mean, &half);
        expect_near(demo_number(told, "dsc"), mean, "%s: %g, recomputed %g", stages[s].name, demo_number(told, "dsc"),
                    mean);
        cr_assert_eq(mcs_bootstrap_mean(dice, N_TEST, SEED, &want), MCS_OK);
        for (int e = 0; e < 2; e++) {
            const double end = json_number_value(json_array_get(interval, (size_t)e));
            expect_near(end, e ? want.hi : want.lo, "%s: %g, recomputed %g", stages[s].name, end,
                        e ? want.hi : want.lo);
        }
        figure_mean(iou, N_TEST, &mean, &half);
        expect_near(demo_number(told, "iou"), mean, "%s: IoU", stages[s].name);
        figure_mean(nsd, N_TEST, &mean, &half);
        expect_near(demo_number(told, "nsd"), mean, "%s: NSD %g, recomputed %g", stages[s].name,
                    demo_number(told, "nsd"), mean);
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
    json_t *summary = demo_json("run/seed3/summary.json"), *all = demo_json("run/seed3/data/test/attributes.json");
    for (int k = 0; k < 6; k++) {
        const json_t *told = demo_row(json_object_get(summary, "by_type"), "name", kinds[k].name);
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
            for (int s = 0; s < 2; s++) {
                read_stage(s ? 5 : 4, i, mask);
                read_truth(s ? 5 : 4, i, truth);
                sum[s] += figure_dice(mask, truth, DEMO_PIXELS);
            }
            n++;
        }
        cr_expect_eq((int)demo_number(told, "n"), n, "%s: %d", kinds[k].name, n);
        if (!n) continue;
        expect_near(demo_number(told, "zero_shot"), sum[0] / n, "%s: zero-shot", kinds[k].name);
        expect_near(demo_number(told, "network"), sum[1] / n, "%s: network", kinds[k].name);
    }
    json_decref(summary);
    json_decref(all);
}

/* ---- tables ---- */

Test(demo, table_of_cases)
{
    static const char *const folders[] = {"saliency_start", "saliency", "post", "coarse", "sam", "network"};
    json_t *all = demo_json("run/seed3/data/test/attributes.json"), *cases = demo_json("run/seed3/cases.json");
    cr_expect_eq(json_array_size(cases), N_TEST + N_NONE + N_UNSEEN);
    FILE *f = fopen(demo_path("run/seed3/cases.csv"), "r");
    char line[512];
    cr_assert(f && fgets(line, sizeof line, f));
    cr_expect_str_eq(line, "case,dsc_saliency_start,dsc_saliency,dsc_post,dsc_coarse,dsc_sam,dsc_network,"
                           "uncertainty_score,presence,passed,lesions,area,bright,large,blurred,rim\n");
    for (int i = 0; i < N_TEST; i++) {
        char stem[32], name[40];
        double v[15];
        cr_assert(fgets(line, sizeof line, f));
        cr_assert_eq(sscanf(line, "%31[^,],%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf", stem, &v[0],
                            &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8], &v[9], &v[10], &v[11], &v[12],
                            &v[13], &v[14]),
                     16);
        snprintf(name, sizeof name, "%s.png", stem);
        const json_t *told = demo_row(cases, "stem", stem);
        const json_t *lesion = json_array_get(json_object_get(json_object_get(all, name), "lesions"), 0);
        uint8_t truth[DEMO_PIXELS], mask[DEMO_PIXELS];
        for (int s = 0; s < N_STAGES; s++) {
            cr_assert_str_eq(folders[s], stages[s].folder);
            read_stage(s, i, mask);
            read_truth(s, i, truth);
            cr_expect_float_eq(v[s], figure_dice(mask, truth, DEMO_PIXELS), 5.1e-5, "%s, %s", stem, folders[s]);
        }
        cr_expect_float_eq(v[6], demo_number(told, "uncertainty_score"), 6e-5 + 6e-6 * v[6]);
        cr_expect_float_eq(v[7], demo_number(told, "presence"), 6e-5);
        cr_expect_eq((int)v[8], json_is_true(json_object_get(told, "passed")));
        cr_expect_eq((int)v[9], (int)json_array_size(json_object_get(json_object_get(all, name), "lesions")));
        cr_expect_eq((int)v[10], (int)demo_number(lesion, "area"));
        static const char *const words[][2] = {{"intensity", "bright"}, {"size", "large"}, {"border", "blurred"}};
        for (int k = 0; k < 3; k++)
            cr_expect_eq((int)v[11 + k], !strcmp(json_string_value(json_object_get(lesion, words[k][0])), words[k][1]));
        cr_expect_eq((int)v[14], json_is_true(json_object_get(lesion, "rim")));
    }
    cr_expect(!fgets(line, sizeof line, f), "more rows than cases: %s", line);
    fclose(f);
    json_decref(all);
    json_decref(cases);
}

/* One folder per seed, and a line for each of the 42 figures (tests/train/test_demo_parts.c checks their values). */
Test(demo, several_seeds)
{
    demo_line("mcsam demo -o seeds --seeds 2 --seed 8 --threads 2 --train-images 4 --label-images 1 --test-images 2 "
              "--two-images 0 --none-images 0 --unseen-images 0 --validation-images 2 --retrieval-images 2 "
              "--finetune-steps 1 --finetune-batch 2 "
              "--finetune-warmup 0 --cycles 1 --cycle-steps 5 --cycle-checkpoints 1 --saliency-steps 2 "
              "--saliency-copies 1 --network-features 1 --network-batch 1");
    demo_line("test $(wc -l <seeds/seeds.csv) -eq 43 && head -1 seeds/seeds.csv | grep -x "
              "figure,mean,low,high,seed8,seed9,interval,n");
    for (int k = 8; k < 10; k++) {
        char name[64];
        snprintf(name, sizeof name, "seeds/seed%d/summary.json", k);
        json_t *s = demo_json(name);
        cr_expect_eq((int)demo_number(s, "seed"), k);
        cr_expect(json_is_null(json_object_get(json_object_get(s, "control"), "prompt_dsc")),
                  "no image has two lesions");
        cr_expect_eq(json_array_size(json_object_get(s, "baselines")), 7, "no network on true masks");
        json_decref(s);
    }
    demo_line("! cmp -s seeds/seed8/data/test/images/test_00000.png seeds/seed9/data/test/images/test_00000.png");
    demo_line("test ! -e seeds/seed8/ceiling && test ! -e seeds/seed8/data/test_two");
}

/* ---- choices ---- */

/* One row for each value of each option; this run's own values have one figure, and no difference to themselves. The
 * best row of a choice has its greatest figure. */
Test(demo, table_of_choices)
{
    demo_line(
        "mcsam demo --choose -o choose --seed 8 --threads 2 --train-images 4 --validation-images 3 "
        "--test-images 2 --two-images 0 --none-images 0 --unseen-images 0 --retrieval-images 2 --finetune-steps 1 "
        "--finetune-batch 2 --finetune-warmup 0 --saliency-steps 3 --saliency-copies 1");
    demo_line("test ! -e choose/summary.json && test ! -e choose/network");
    static const struct {
        const char *choice;
        int rows, is_tuned;
    } choices[] = {{"rank", 4, 0},           {"saliency-layer", 3, 0}, {"saliency-beta", 5, 0}, {"grow", 3, 0},
                   {"presence", 3, 0},       {"rule", 1, 1},           {"rule_words", 1, 1},    {"rule_sam", 1, 1},
                   {"rule_words_sam", 1, 1}, {"min-presence", 1, 1}};
    FILE *f = fopen(demo_path("choose/choices.csv"), "r");
    char line[512];
    cr_assert(f && fgets(line, sizeof line, f));
    cr_expect_str_eq(line,
                     "choice,value,figure,mean,low,high,difference,difference_low,difference_high,best,default\n");
    double own = NAN;
    for (size_t c = 0; c < sizeof choices / sizeof *choices; c++) {
        double greatest = -1, best = -2;
        int n_own = 0;
        for (int k = 0; k < choices[c].rows; k++) {
            cr_assert(fgets(line, sizeof line, f), "%s, row %d", choices[c].choice, k);
            const size_t n = strlen(choices[c].choice);
            cr_assert(!strncmp(line, choices[c].choice, n) && line[n] == ',', "%s", line);
            char *at = strstr(line, "\",") + 2; /* behind the value: figure,mean,... */
            const double mean = atof(strchr(at, ',') + 1);
            const char *flags = strrchr(line, ',') - 1;
            greatest = fmax(greatest, mean);
            if (flags[0] == '1') best = mean;
            if (flags[2] != '1') continue;
            n_own++;
            if (choices[c].is_tuned || c == 4) continue;
            cr_expect(isnan(own) || mean == own, "%s", line);
            own = mean;
            cr_expect(strstr(line, ",0.0000,0.0000,0.0000,"), "%s", line);
        }
        cr_expect_eq(n_own, 1, "%s: %d rows are this run's", choices[c].choice, n_own);
        if (!choices[c].is_tuned) cr_expect_eq(best, greatest, "%s", choices[c].choice);
    }
    cr_expect(!fgets(line, sizeof line, f), "more rows: %s", line);
    fclose(f);
}

/* ---- the starting weights ---- */

Test(demo, starting_weights_can_be_made)
{
    demo_line("mcsam demo-start clip -o clip0 --steps 4 --batch 4 --checkpoint-every 2 --threads 2");
    demo_line("mcsam demo-start clip -o clip1 --steps 4 --batch 4 --checkpoint-every 2 --threads 2");
    demo_line("mcsam demo-start sam -o sam0 --steps 4 --batch 2 --checkpoint-every 2 --threads 2");
    demo_line("cmp clip0/model/open_clip_model.safetensors clip1/model/open_clip_model.safetensors");
    demo_line("cmp clip0/model/vocab.txt $DEMO/clip/vocab.txt");
    demo_line("mcsam embed -m clip0/model -i run/seed3/data/test_none/images -o start.h5");
    int dim;
    float *x = demo_embeddings("start.h5", "image_embeddings", N_NONE, &dim);
    for (int i = 0; i < N_NONE; i++) cr_expect_float_eq(demo_dot(x + i * dim, x + i * dim, dim), 1, 1e-5);
    free(x);
    demo_line("mcsam sam -m sam0/model -i run/seed3/data/test/images/test_00000.png --box 20,20,60,60 -o sam_mask");
}

/* The first step has equal weights, so that its loss differs by the roundings of float32 sums alone. Later ones differ
 * by more: AdamW divides gradients that are exactly 0 but for rounding by their own size. */
Test(demo, starting_weights_on_two_ranks)
{
    demo_line("mcsam demo-start sam -o one --steps 2 --batch 2 --threads 2");
    demo_line("mcsam demo-start sam -o two --steps 2 --batch 2 --threads 2 --gpus 2");
    demo_line("! cmp -s one/model/sam.safetensors two/model/sam.safetensors");
    demo_line(
        "for run in one two; do sed -n '1s/.*\"loss\": *\\([0-9.e-]*\\).*/\\1/p' $run/metrics.jsonl; done >losses.txt");
    demo_line("awk '{ l[NR] = $1 } END { d = l[1] - l[2]; exit !(NR == 2 && l[1] > 0 && d * d < 1e-10 * l[1] * l[1]) "
              "}' losses.txt");
    demo_line("mcsam demo-start clip -o none --steps 4 --batch 4 --gpus 2 2>none.txt; test $? = 2");
    demo_line("grep -q 'need a single rank' none.txt");
}

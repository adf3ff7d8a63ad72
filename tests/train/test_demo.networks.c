/* The demo's run (test_demo.c): the networks that are trained on pseudo-labels and on true masks, ensembles,
 * uncertainty. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "data/io/store.h"
#include "engine/backend.h"
#include "infer/weights.h"
#include "tests/support/support_demo_run.h"
#include "tests/support/support_figures.h"
#include "train/unet/unet_train.h"

#include <criterion/criterion.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the network ---- */

/* Trains a network on the images that have a pseudo-label, with the masks in `labels`, `times` as long as
 * the demo's network; sha256: of its weights. */
static void train_on(const char *labels, int times, const char *out, char sha256[65])
{
    struct unet_cases cases;
    struct unet_plans plans;
    struct unet_model m = {0};
    struct device d;
    struct file_list files;
    omp_set_num_threads(THREADS);
    cr_assert_eq(mcs_cpu_open(THREADS, &d), MCS_OK);
    mcs_unet_cases_init(&cases, 1, 2);
    cr_assert_eq(mcs_folder_list(demo_path("run/seed3/labels"), ".png", &files), MCS_OK);
    for (int i = 0; i < files.n; i++) {
        struct image image;
        uint8_t mask[DEMO_PIXELS];
        cr_assert_eq(mcs_image_read(demo_path("run/seed3/data/train/images/%s", files.names[i]), 1, &image), MCS_OK);
        demo_mask(demo_path("run/seed3/%s/%s", labels, files.names[i]), mask);
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
    snprintf(folder, sizeof folder, "%s", demo_path("%s", out));
    const struct unet_train_options o = {.cycle = {.form = MCS_PAPER,
                                                   .epochs = CYCLES * CYCLE_STEPS * times,
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
    json_t *summary = demo_json("run/seed3/summary.json");
    char sha256[65];
    train_on("labels", 1, "network_again", sha256);
    cr_expect_str_eq(json_string_value(json_object_get(json_object_get(summary, "weights"), "network_sha256")), sha256);
    demo_line("cmp network_again/cycle_2_checkpoint_2.safetensors run/seed3/network/cycle_2_checkpoint_2.safetensors");
    train_on("data/train/masks", 4, "ceiling_again", sha256);
    demo_line("cmp ceiling_again/cycle_2_checkpoint_2.safetensors run/seed3/ceiling/cycle_2_checkpoint_2.safetensors");
    json_decref(summary);
}

static double mean_dice(const char *folder)
{
    double sum = 0;
    for (int i = 0; i < N_TEST; i++) {
        uint8_t mask[DEMO_PIXELS], truth[DEMO_PIXELS];
        demo_mask(demo_path("%s/test_%05d.png", folder, i), mask);
        demo_truth(i, truth);
        sum += figure_dice(mask, truth, DEMO_PIXELS) / N_TEST;
    }
    return sum;
}

/* The entropy map that predict --uncertainty wrote, bits (DEMO_PIXELS). */
static void read_entropy(const char *folder, int i, float *bits)
{
    struct store *s;
    const int64_t dims[] = {1, DEMO_SIZE, DEMO_SIZE};
    cr_assert_eq(mcs_store_open(demo_path("%s/uncertainty/test_%05d_entropy.h5", folder, i), &s), MCS_OK, "%s",
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
        demo_mask(demo_path("%s/test_%05d.png", folder, i), mask);
        demo_truth(i, truth);
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
        const double told = demo_number(demo_row(cases, "stem", stem), "uncertainty_score");
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
    json_t *summary = demo_json("run/seed3/summary.json"), *cases = demo_json("run/seed3/cases.json");
    demo_line("mkdir few2 && cp run/seed3/data/test/images/test_0000[0-5].png few2/");
    demo_line("mcsam predict -m run/seed3/network -i few2 -o pred --checkpoints all,last-cycle,last --uncertainty "
              "--threads 2");
    demo_line("mcsam predict -m run/seed3/ceiling -i few2 -o best --threads 2");
    for (int a = 0; a < 3; a++) {
        const json_t *told = demo_row(json_object_get(summary, "ensemble"), "name", averages[a].name);
        const double dice = mean_dice(averages[a].folder);
        const struct pooled p = pool_errors(averages[a].folder, cases, a == 2);
        expect_near(demo_number(told, "dsc"), dice, "%s: %g, recomputed %g", averages[a].name, demo_number(told, "dsc"),
                    dice);
        expect_near(demo_number(told, "error_auroc"), p.auroc, "%s: AUROC %g", averages[a].name, p.auroc);
        expect_near(demo_number(told, "error_auroc_outside_band"), p.auroc_outside, "%s: AUROC outside the band %g",
                    averages[a].name, p.auroc_outside);
        if (a < 2) continue;
        const json_t *u = json_object_get(summary, "uncertainty");
        expect_near(demo_number(u, "right"), p.right, "entropy of right pixels: %g", p.right);
        expect_near(demo_number(u, "wrong"), p.wrong, "entropy of wrong pixels: %g", p.wrong);
        expect_near(demo_number(u, "error_auroc"), p.auroc, "AUROC");
        expect_near(demo_number(u, "error_auroc_outside_band"), p.auroc_outside, "AUROC outside the band");
        expect_near(demo_number(u, "rank_correlation"), p.rank, "rank correlation %g, recomputed %g",
                    demo_number(u, "rank_correlation"), p.rank);
        for (int i = 0; i < N_TEST; i++) {
            uint8_t demo[DEMO_PIXELS], verb[DEMO_PIXELS];
            demo_mask(demo_path("run/seed3/stages/network/test_%05d.png", i), demo);
            demo_mask(demo_path("pred/test_%05d.png", i), verb);
            cr_expect_arr_eq(demo, verb, DEMO_PIXELS, "network, case %d", i);
        }
    }
    const double ceiling = demo_number(demo_row(json_object_get(summary, "baselines"), "name", "true_masks"), "dsc");
    expect_near(ceiling, mean_dice("best"), "ceiling: %g, recomputed %g", ceiling, mean_dice("best"));
    json_decref(summary);
    json_decref(cases);
}

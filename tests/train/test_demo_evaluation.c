/* The evaluation behind demo-start sam: the mean DSC of a trained SAM on validation lesions, by jitter of the box and
 * by kind of lesion, computed again lesion by lesion. The training is one that a checkpoint says is finished. */
#include "data/io/file.h"
#include "data/lesions/demo_sample.h"
#include "engine/base/log.h"
#include "infer/sam/sam_model.h"
#include "tests/support/support_figures.h"
#include "train/demo/start_models.h"
#include "train/run/checkpoint.h"
#include "train/run/training_data.h"
#include "train/sam/sam_train.h"

#include <criterion/criterion.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LESIONS = 100, SEED = 5, STEPS = 2 };

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static char folder[] = "/tmp/mcs_demo_evaluation_XXXXXX";
static struct device cpu;
static struct demo_atlas atlas;
static struct sam_model model;

/* The shipped model's weights as the state of a training that has done all its steps. */
static void write_state(void)
{
    struct optim *optim;
    struct arena a = {0};
    const struct sam_train_options t = mcs_sam_train_defaults();
    const struct optim_options adamw = {.kind = OPTIM_ADAMW,
                                        .beta1 = 0.9f,
                                        .beta2 = 0.999f,
                                        .eps = 1e-8f,
                                        .weight_decay = (float)t.weight_decay,
                                        .clip_norm = (float)t.clip_norm};
    OK(mcs_params_alloc_grad(model.params));
    OK(mcs_optim_new(model.params, &adamw, NULL, &optim));
    OK(mcs_checkpoint_save(mcs_arena_printf(&a, "%s/checkpoint.h5", folder), model.params, optim, STEPS,
                           mcs_arena_printf(&a, "test: 1\n%s", mcs_training_atlas_lines(&atlas, &a))));
    mcs_optim_free(optim);
    mcs_arena_free(&a);
}

/* DSC of the lesion of validation image `id` from its box, tight and jittered by .3 and .6 of its sides. */
static void score(uint32_t id, const struct demo_config *config, double dsc[3], int *small, int *rim)
{
    static const double jitter[3] = {0, 0.3, 0.6};
    static struct demo_sample s;
    static float pixels[DEMO_PIXELS * 3], embedding[1 << 16], low[3 * SAM_MASKS * 64 * 64];
    float iou[3 * SAM_MASKS];
    struct sam_prompts prompt[3] = {{.has_box = 1}, {.has_box = 1}, {.has_box = 1}};
    const int64_t side = mcs_sam_side(&model.config);
    struct sam_frame frame;
    mcs_demo_lesion_sample(&atlas, config, DEMO_VALIDATION, DEMO_SOME, SEED, id, &s);
    const struct image img = {DEMO_SIZE, DEMO_SIZE, 1, s.image};
    OK(mcs_sam_prepare(&model.config, &img, pixels, &frame));
    OK(mcs_sam_encode_images(&model, pixels, 1, embedding));
    for (int k = 0; k < 3; k++)
        mcs_sam_jitter_box(s.lesion[0].box, DEMO_SIZE, jitter[k], 0, SEED, id, (uint32_t)k, prompt[k].box);
    OK(mcs_sam_predict(&model, embedding, &frame, 1, prompt, 3, low, iou));
    for (int k = 0; k < 3; k++) {
        struct map2 logits;
        uint8_t mask[DEMO_PIXELS];
        OK(mcs_sam_upscale(&model.config, low + k * SAM_MASKS * side * side, &frame, &logits));
        for (int i = 0; i < DEMO_PIXELS; i++) mask[i] = logits.values[i] > 0;
        dsc[k] = figure_dice(mask, s.truth[0], DEMO_PIXELS);
        mcs_map_free(&logits);
    }
    *small = !s.lesion[0].large;
    *rim = s.lesion[0].rim;
}

Test(demo_evaluation, dsc_by_jitter_and_kind, .timeout = 120)
{
    const struct demo_config config = mcs_demo_config_default();
    double mean[3] = {0}, part[4] = {0};
    char want[512], path[128], *text;
    int n[4] = {0};
    int64_t bytes;
    mcs_log_quiet(1);
    cr_assert(mkdtemp(folder));
    omp_set_num_threads(1);
    OK(mcs_cpu_open(1, &cpu));
    OK(mcs_demo_atlas_load(NULL, &atlas));
    OK(mcs_sam_model_open(MCS_SOURCE_DIR "/data/demo/sam", &cpu, &model));
    cr_assert(model.config.image_size == DEMO_SIZE && mcs_sam_side(&model.config) <= 64);
    cr_assert(mcs_sam_embedding_values(&model.config) <= 1 << 16);
    write_state();
    const struct demo_start_options o = {.out = folder,
                                         .config = "test: 1\n",
                                         .steps = STEPS,
                                         .batch = 2,
                                         .seed = SEED,
                                         .lr = 0.001,
                                         .data = config,
                                         .device = &cpu};
    OK(mcs_demo_start_sam(&o));
    for (uint32_t id = 0; id < LESIONS; id++) {
        double dsc[3];
        int small, rim;
        score(id, &config, dsc, &small, &rim);
        for (int k = 0; k < 3; k++) mean[k] += dsc[k] / LESIONS;
        part[small] += dsc[1], n[small]++;
        part[2 + rim] += dsc[1], n[2 + rim]++;
    }
    for (int k = 0; k < 4; k++) part[k] /= n[k];
    snprintf(want, sizeof want,
             "{\"split\": \"validation\", \"images\": 100, \"dsc\": {\"tight\": %.4f, \"jitter 0.3\": %.4f, \"jitter "
             "0.6\": %.4f},\n \"jitter 0.3 by kind\": {\"large\": %.4f, \"small\": %.4f, \"no rim\": %.4f, \"rim\": "
             "%.4f}}\n",
             mean[0], mean[1], mean[2], part[0], part[1], part[2], part[3]);
    snprintf(path, sizeof path, "%s/evaluation.json", folder);
    OK(mcs_file_read(path, 1 << 16, &text, &bytes));
    cr_expect_str_eq(text, want);
    if (getenv("MCS_SHOW")) fprintf(stderr, "%s", text);
    cr_expect(mean[0] > 0.7, "the shipped model finds no lesion: DSC %g", mean[0]);
    free(text);
    mcs_sam_model_close(&model);
    mcs_demo_atlas_free(&atlas);
    mcs_cpu_close(&cpu);
    snprintf(path, sizeof path, "rm -rf %s", folder);
    cr_expect_eq(system(path), 0);
}

/* Each allocation of a pipeline fails once: the call returns an error, holds no memory, and works the next time. */
#include <criterion/criterion.h>

#include "engine/device_ops.h"
#include "infer/clip/saliency.h"
#include "infer/coarse/coarse.h"
#include "infer/sam/sam_prompts.h"
#include "infer/unet/ensemble.h"
#include "tests/support/support_pipeline.h"
#include "tests/support/support_sessions.h"
#include "tests/support/support_tiny.h"
#include "train/unet/unet_train.h"

static enum mcs_status one_saliency(void)
{
    const struct clip_config c = tiny_clip_config();
    struct saliency_options o = mcs_saliency_defaults();
    struct saliency_case one = {.text = "a bright lesion", .key = 1};
    struct clip_model m;
    struct image img;
    o.pairs = 1, o.steps = 2, o.copies = 1;
    draw(&img, 20, 18, 1);
    one.image = &img;
    enum mcs_status st = mcs_clip_model_new(&c, VOCABULARY, 1, &device[GPU], NULL, &m);
    if (st == MCS_OK) {
        st = saliency_once(&m, &o, &one, 1);
        mcs_clip_model_close(&m);
    }
    mcs_map_free(&one.map);
    mcs_image_free(&img);
    return st;
}

static const char *run_folder;
static enum mcs_status one_ensemble(void)
{
    static float image[PATCH * PATCH], bits[PATCH * PATCH];
    const enum ensemble_choice last = ENSEMBLE_LAST;
    const struct ensemble_maps maps = {.bits = bits};
    const struct sliding_options o = {.step = 1, .batch = 1};
    struct ensemble e;
    enum mcs_status st = mcs_ensemble_open(run_folder, &last, 1, &device[GPU], &e);
    if (st == MCS_OK) {
        st = mcs_ensemble_run(&e, &o, image, 1, PATCH, PATCH, &last, 1, 0, &maps);
        mcs_ensemble_close(&e);
    }
    return st;
}

static enum mcs_status one_coarse(void)
{
    struct device_scratch on = {.device = &device[GPU]};
    const struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
    struct coarse_result r;
    struct map2 map;
    uint8_t mask[30 * 20];
    draw_map(&map, 30, 20, BUMPS);
    const enum mcs_status st = mcs_coarse_mask(&on, &map, "a", &o, NULL, NULL, mask, &r);
    if (st == MCS_OK) mcs_coarse_free(&r);
    mcs_map_free(&map);
    mcs_device_scratch_free(&on);
    return st;
}

static enum mcs_status one_mask(void)
{
    struct box_component box = {.x1 = 9, .y1 = 9};
    const struct box_case prompts = {.image = "a", .width = 26, .height = 24, .n_components = 1, .components = &box};
    const struct sam_options o = mcs_sam_defaults(MCS_PAPER);
    const struct sam_config c = tiny_sam_config();
    struct sam_result result = {0};
    struct sam_model m;
    struct image img;
    draw(&img, 26, 24, 1);
    enum mcs_status st = mcs_sam_model_new(&c, 5, &device[GPU], &m);
    if (st == MCS_OK) {
        st = mcs_sam_segment(&m, &o, &(struct sam_case){&img, &prompts}, 1, &result);
        mcs_sam_model_close(&m);
    }
    mcs_sam_result_free(&result);
    mcs_image_free(&img);
    return st;
}

static enum mcs_status one_step_of_training(void)
{
    const struct unet_train_options o = training_options(NULL);
    struct unet_cases cases;
    struct unet_trainer t;
    struct unet_model m;
    double loss, norm;
    training_cases(&cases);
    enum mcs_status st = training_model(&device[GPU], &m);
    if (st == MCS_OK) {
        st = mcs_unet_trainer_open(&t, &m, &cases, &o);
        if (st == MCS_OK) st = mcs_unet_trainer_step(&t, 0, &loss, &norm);
        mcs_unet_trainer_close(&t);
        mcs_unet_model_close(&m);
    }
    mcs_unet_cases_free(&cases);
    return st;
}

/* Each allocation fails once: the call returns a status, holds no memory, and the next call works. */
static void expect_clean_failures(enum mcs_status (*stage)(void), int at_least)
{
    int n = 1;
    open_devices();
    for (; n < 100; n++) {
        fail_alloc(n);
        const enum mcs_status st = stage();
        if (st == MCS_OK) break;
        cr_expect_eq(st, MCS_E_NOMEM, "allocation %d: %s", n, mcs_error_message());
        mcs_error_clear();
    }
    fail_alloc(0);
    cr_expect(n < 100 && n > at_least, "%d allocations", n - 1);
    close_devices(); /* checks that no memory is held */
}

Test(pipeline, out_of_memory, .timeout = 400)
{
    run_folder = tiny_folder("pipeline");
    open_devices();
    make_run(run_folder, 2);
    close_devices();
    expect_clean_failures(one_saliency, 15);
    expect_clean_failures(one_ensemble, 10);
    expect_clean_failures(one_coarse, 0);
    expect_clean_failures(one_mask, 6);
    expect_clean_failures(one_step_of_training, 6);
    tiny_remove(run_folder);
}

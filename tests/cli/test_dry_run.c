/* The memory that --dry-run of `train` reports is the memory that a run allocates on its device: with SGD's one moment
 * and AdamW's two. (Fine-tuning is compared in tests/train/test_caption_lengths.c.) */
#include "tests/support/support_counting.h"
#include "train/run/memory_table.h"
#include "train/unet/unet_train.h"

#include <criterion/criterion.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

enum { SIDE = 16, CASES = 4 };

static void make_cases(struct unet_cases *cases)
{
    struct image img;
    uint8_t mask[SIDE * SIDE];
    OK(mcs_image_alloc(&img, SIDE, SIDE, 1));
    for (int i = 0; i < SIDE * SIDE; i++) img.pixels[i] = (uint8_t)i, mask[i] = i % SIDE > 8;
    mcs_unet_cases_init(cases, 1, 2);
    for (int k = 0; k < CASES; k++) OK(mcs_unet_cases_add_image(cases, "half", &img, mask));
    mcs_image_free(&img);
}

static void compare(struct optim_options optim, int n_arrays)
{
    struct device d;
    struct counting counted;
    struct unet_cases cases;
    struct unet_plans p;
    struct unet_model m;
    struct unet_trainer t;
    double loss;
    const struct unet_train_options o = {
        .cycle =
            {.form = MCS_PAPER, .epochs = 1, .iterations = 2, .cycles = 1, .checkpoints = 1, .late = 1, .lr = 1e-3},
        .optim = optim,
        .deep_supervision = 1,
        .augment = mcs_augment_none()};
    OK(mcs_cpu_open(1, &d));
    count_device(&d, &counted);
    make_cases(&cases);
    OK(mcs_unet_plans_make(1, 2, SIDE, SIDE, 2, 8, 16, &p));
    p.batch = 2;
    OK(mcs_unet_model_new(&p, 5, &d, &m));
    OK(mcs_unet_trainer_open(&t, &m, &cases, &o));
    struct train_memory memory = mcs_memory_of(m.params, optim.kind);
    memory.plan = t.exec->plan;
    for (int i = 0; i < 2; i++) OK(mcs_unet_trainer_step(&t, i, &loss, NULL));
    cr_expect_eq(mcs_memory_bytes(&memory), counted.peak, "%lld bytes, a run takes %lld",
                 (long long)mcs_memory_bytes(&memory), (long long)counted.peak);
    cr_expect_eq(memory.weights + memory.gradients + memory.moments,
                 n_arrays * m.params->n_values * (int64_t)sizeof(float));
    mcs_unet_trainer_close(&t);
    mcs_unet_model_close(&m);
    mcs_unet_cases_free(&cases);
    mcs_device_close(&d);
}

Test(dry_run, of_train_with_sgd)
{
    compare(mcs_unet_nnunet_sgd(), 3);
}
Test(dry_run, of_train_with_adamw)
{
    compare(mcs_unet_adamw(), 4);
}

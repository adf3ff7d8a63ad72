/* The pipelines of infer/ and train/ on a device, compared with the CPU: the devices, tiny models and data. The device
 * is the simulated GPU with TEST_CUDASIM, otherwise the guarded memory of support_guarded.h. For the files of one
 * program, each of which has its own devices. */
#ifndef MCS_SUPPORT_PIPELINE_H
#define MCS_SUPPORT_PIPELINE_H

#include <criterion/criterion.h>
#include <math.h>

#include "engine/base/rng.h"
#include "engine/device_ops.h"
#include "infer/clip/saliency.h"
#include "infer/coarse/coarse.h"
#include "infer/weights.h"
#ifdef TEST_CUDASIM
#include "tests/support/support_device.h"
#else
#include "tests/support/support_guarded.h"
#endif
#include "tests/support/support_tiny.h"
#include "train/unet/unet_train.h"

#define VOCABULARY MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt"
#define OK(call) cr_assert_eq(call, MCS_OK, "%s", mcs_error_message())

enum { CPU, GPU, DEVICES };
static struct device device[DEVICES] __attribute__((unused));
static int half __attribute__((unused)); /* activations on the simulated device are bf16 */

static inline void choose_precision(int d)
{
    device[d].activations = half && d == GPU ? MCS_BF16 : MCS_F32;
}

#ifdef TEST_CUDASIM
enum { HALF = MCS_BF16 }; /* type of activations in the tests with `half` */
static inline enum mcs_status open_device(struct device *d)
{
    test_devices(1);
    cudasim_seed(3);
    return mcs_cuda_module.open(0, d);
}

static inline void check_device(void)
{
    cr_expect_null(test_reports(), "%s", test_reports());
    cr_expect_eq(cudasim_bytes_held(), 0, "device memory is still held");
}

static inline void fail_alloc(int n)
{
    cudasim_fail_alloc(n);
}
#else
enum { HALF = MCS_F32 }; /* the CPU has no bf16 */
#define open_device support_guarded_open
#define fail_alloc support_guarded_fail_alloc

static inline void check_device(void)
{
    cr_expect_eq(support_guarded_held(), 0, "device memory is still held");
    cr_expect_eq(support_guarded_damaged(), 0, "written outside of a block");
}
#endif

static inline void open_devices(void)
{
    OK(open_device(&device[GPU]));
    OK(mcs_cpu_open(1, &device[CPU]));
}

static inline void close_devices(void)
{
    for (int d = 0; d < DEVICES; d++) mcs_device_close(&device[d]);
    check_device();
}

/* A bright disc on a noisy background; `id` places it. */
static inline void draw(struct image *img, int width, int height, uint32_t id)
{
    const struct mcs_rng r = {5, 1, id, 0};
    const double cy = height * mcs_rng_range(r, 0, 0.3, 0.7), cx = width * mcs_rng_range(r, 1, 0.3, 0.7);
    OK(mcs_image_alloc(img, width, height, 1));
    for (int i = 0; i < width * height; i++) {
        const double dy = i / width - cy, dx = i % width - cx;
        img->pixels[i] = (uint8_t)(60 + 120 * (dy * dy + dx * dx < 30) + 20 * mcs_rng_range(r, 9 + (uint32_t)i, 0, 1));
    }
}

/* ---- a run of networks ---- */

enum { CHECKPOINTS = 3, PATCH = 16 };

/* A run folder with networks of different seeds, two of them of the last cycle. */
static inline void make_run(const char *folder, int classes)
{
    struct unet_checkpoint c[CHECKPOINTS];
    struct unet_plans p;
    OK(mcs_unet_plans_make(1, classes, PATCH, PATCH, 2, 4, 8, &p));
    OK(mcs_unet_plans_write(folder, &p));
    for (int i = 0; i < CHECKPOINTS; i++) {
        struct unet_model m;
        c[i] = (struct unet_checkpoint){.cycle = 1 + (i > 0), .index = 1 + (i > 1), .step = 10 * (i + 1)};
        snprintf(c[i].file, sizeof c[i].file, "w%d.safetensors", i);
        OK(mcs_unet_model_new(&p, 40 + (uint64_t)i, &device[CPU], &m));
        OK(mcs_weights_write(tiny_path(folder, "w%d.safetensors", i), m.params, 0, NULL, "a test"));
        mcs_unet_model_close(&m);
    }
    OK(mcs_unet_checkpoints_write(folder, c, CHECKPOINTS));
}

/* ---- maps ---- */

enum map_kind { BUMPS, NOISE, CONSTANT, LEVELS, DARK, MAP_KINDS };

/* Values are multiples of 2^-10, so sums are exact in any order. */
static inline void draw_map(struct map2 *m, int width, int height, enum map_kind kind)
{
    const struct mcs_rng r = {8, 2, (uint32_t)kind, 0};
    OK(mcs_map_alloc(m, width, height));
    for (int i = 0; i < width * height; i++) {
        const double y = i / width % 16 - 8, x = i % width % 20 - 9, u = mcs_rng_range(r, (uint32_t)i, 0, 1);
        const double bump = (y * y + x * x < 20) * (0.5 + 0.1 * (i % width / 20 + i / width / 16 * 2));
        const double v[MAP_KINDS] = {0.8 * bump + 0.2 * u, u, 0.625, floor(3 * u) / 4, u / 512};
        m->values[i] = (float)(round(1024 * v[kind]) / 1024);
    }
}

/* ---- a training ---- */

enum { BATCH = 4, TRAINED = 3 };

static inline void training_cases(struct unet_cases *c)
{
    uint8_t mask[24 * 20];
    struct image img;
    mcs_unet_cases_init(c, 1, 2);
    for (uint32_t k = 0; k < 3; k++) {
        draw(&img, 24, 20, 90 + k);
        for (int i = 0; i < 24 * 20; i++) mask[i] = img.pixels[i] > 120;
        OK(mcs_unet_cases_add_image(c, "disc", &img, mask));
        mcs_image_free(&img);
    }
}

static inline struct unet_train_options training_options(const char *run)
{
    return (struct unet_train_options){
        .cycle = {.form = MCS_PAPER,
                  .epochs = 1,
                  .iterations = TRAINED,
                  .cycles = 1,
                  .checkpoints = 1,
                  .late = 1,
                  .lr = 1e-2},
        .optim = mcs_unet_nnunet_sgd(),
        .deep_supervision = 1,
        .foreground = 0.33,
        .augment = mcs_augment_nnunet(PATCH, PATCH),
        .seed = 6,
        .run = run,
        .config = "a: 1\n",
    };
}

static inline enum mcs_status training_model(struct device *d, struct unet_model *m)
{
    struct unet_plans p;
    MCS_TRY(mcs_unet_plans_make(1, 2, PATCH, PATCH, 4, 4, 8, &p));
    p.batch = BATCH;
    return mcs_unet_model_new(&p, 5, d, m);
}

#endif

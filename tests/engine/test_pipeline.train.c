/* Augmented batches and the training of a U-Net on a device against the CPU (support_pipeline.h). */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/rng.h"
#include "engine/device_ops.h"
#include "infer/clip/saliency.h"
#include "infer/weights.h"
#include "tests/support/support_pipeline.h"
#include "tests/support/support_tiny.h"
#include "train/unet/unet_train.h"

/* ---- augmented batches ---- */

enum { TARGETS = 3, MOST = 3 * 32 * 30 * 5 };

static struct tensor on_device(enum mcs_dtype dt, int n, int height, int width, int channels)
{
    struct tensor t = {.dt = dt, .nd = channels ? 4 : 3, .dim = {n, height, width, channels}};
    OK(device[GPU].backend->alloc(&device[GPU], mcs_bytes(&t), &t.data));
    return t;
}

/* One batch on the device, with the host's arrays overwritten directly after the call, against mcs_augment_apply.
 * Values are below 10; test_sim_augment.cpp derives 2e-4 of that. */
static void expect_augmented(enum mcs_dtype dt, uint32_t key, int n, int channels, const int from[2], const int to[2])
{
    static float src[MOST], want[MOST], got[MOST], scratch[2 * MOST];
    static int32_t src_label[MOST], want_label[MOST], got_label[MOST];
    struct augment_draw draws[5];
    struct device *d = &device[GPU];
    const int pixels = from[0] * from[1], out = to[0] * to[1];
    const struct augment_options o = mcs_augment_nnunet(to[0], to[1]);
    struct tensor image = on_device(dt, n, to[0], to[1], channels), label[TARGETS], *labels[TARGETS];
    cr_assert(n * pixels * channels <= MOST);
    mcs_rng_fill_normal((struct mcs_rng){1, 2, key, 4}, src, n * pixels * channels);
    for (int i = 0; i < n * pixels; i++)
        src_label[i] = (int32_t)mcs_rng_below((struct mcs_rng){key, 1, 2, 3}, (uint32_t)i / 3, 5) - 1;
    for (int i = 0; i < n; i++) {
        const struct augment_patch a = {from[0], from[1], channels, src + i * pixels * channels,
                                        src_label + i * pixels},
                                   b = {to[0], to[1], channels, want + i * out * channels, want_label + i * out};
        const struct mcs_rng own = {8, 9, (uint32_t)i, key};
        mcs_augment_draw(&o, own, channels, &draws[i]);
        mcs_augment_apply(&draws[i], &a, &b, scratch);
    }
    for (int k = 0; k < TARGETS; k++) {
        label[k] = on_device(MCS_I32, n, (to[0] + k) / (k + 1), to[1] / (k + 1), 0);
        labels[k] = &label[k];
    }
    const struct augment_args a = {n, channels, from[0], from[1], src, src_label, draws, &image, TARGETS, labels};
    OK(d->backend->device_ops->augment(d, &a));
    memset(src, 77, sizeof src), memset(src_label, 77, sizeof src_label), memset(draws, 77, sizeof draws);
    struct exec e = {.device = d};
    image.root = &image, image.role = TENSOR_INPUT;
    OK(mcs_exec_get(&e, &image, got));
    for (int i = 0; i < n * out * channels; i++)
        cr_assert_float_eq(got[i], want[i], 2e-3 + (dt == MCS_BF16 ? 0x1p-8 * fabs((double)want[i]) : 0),
                           "%d: %g, on the CPU %g", i, (double)got[i], (double)want[i]);
    for (int k = 0; k < TARGETS; k++) {
        const int h = (int)label[k].dim[1], w = (int)label[k].dim[2];
        mcs_augment_target(want_label, n, to[0], to[1], h, w, src_label); /* level 0: the labels themselves */
        OK(d->backend->download(d, got_label, label[k].data, mcs_bytes(&label[k])));
        cr_expect_eq(memcmp(got_label, src_label, (size_t)mcs_bytes(&label[k])), 0, "level %d", k);
        d->backend->free(d, label[k].data);
    }
    d->backend->free(d, image.data);
}

Test(pipeline, augmented_batches)
{
    open_devices();
    for (uint32_t i = 0; i < 4; i++) { /* batch size grows, shrinks and grows again */
        expect_augmented(MCS_F32, i, 2, 1, (const int[]){20, 19}, (const int[]){16, 12});
        expect_augmented(i & 1 ? MCS_F32 : HALF, i, 3 + i % 3, 3, (const int[]){30, 32}, (const int[]){17, 22});
    }
    close_devices();
}

/* A trainer's inputs on both devices at each step. On the device, a step whose batch is prepared while the previous
 * step runs (mcs_unet_train) gives the same bits as one prepared after it. */
Test(pipeline, training, .timeout = 400)
{
    static float image[DEVICES][BATCH * PATCH * PATCH];
    static int32_t target[DEVICES][2][BATCH * PATCH * PATCH];
    const char *folder = tiny_folder("pipeline");
    struct unet_cases cases;
    struct unet_trainer t[DEVICES];
    struct unet_model m[DEVICES], other;
    const struct unet_train_options o = training_options(folder);
    char hash[2][65];
    double loss, norm;
    open_devices();
    training_cases(&cases);
    for (int d = 0; d < DEVICES; d++) {
        OK(training_model(&device[d], &m[d]));
        OK(mcs_unet_trainer_open(&t[d], &m[d], &cases, &o));
        cr_assert_eq(t[d].n_losses, 2);
    }
    for (int step = 0; step < TRAINED; step++) {
        for (int d = 0; d < DEVICES; d++) {
            OK(mcs_unet_trainer_step(&t[d], step, &loss, &norm));
            OK(mcs_exec_get(t[d].exec, t[d].image, image[d]));
            for (int k = 0; k < 2; k++) OK(mcs_exec_get(t[d].exec, t[d].target[k], target[d][k]));
        }
        for (int i = 0; i < BATCH * PATCH * PATCH; i++)
            cr_assert_float_eq(image[GPU][i], image[CPU][i], 1e-3, "step %d, value %d: %g, on the CPU %g", step, i,
                               (double)image[GPU][i], (double)image[CPU][i]);
        cr_expect_eq(memcmp(target[GPU], target[CPU], sizeof target[CPU]), 0);
    }
    OK(mcs_weights_sha256(m[GPU].params, hash[0]));
    OK(training_model(&device[GPU], &other));
    OK(mcs_unet_train(&other, &cases, &o));
    OK(mcs_weights_sha256(other.params, hash[1]));
    cr_expect_str_eq(hash[0], hash[1]);
    for (int d = 0; d < DEVICES; d++) {
        mcs_unet_trainer_close(&t[d]);
        mcs_unet_model_close(&m[d]);
    }
    mcs_unet_model_close(&other);
    mcs_unet_cases_free(&cases);
    close_devices();
    tiny_remove(folder);
}

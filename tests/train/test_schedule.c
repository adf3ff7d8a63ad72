/* open_clip's warm-up and cosine schedule, and the constants of nnU-Net's optimizers. */
#include "train/run/schedule.h"
#include "train/unet/unet_train.h"

#include <criterion/criterion.h>
#include <math.h>

/* open_clip's scheduler.py (cosine_lr): base (step + 1) / warmup if step < warmup, which is not 0 in the first step;
 * then base (1 + cos(pi e / es)) / 2 with e = step - warmup and es = steps - warmup. */
Test(schedule, cosine_with_warmup_as_in_open_clip)
{
    enum { WARMUP = 4, STEPS = 12 };
    /* (1 + cos(k pi / 8)) / 2 for k = 0 .. 7 */
    static const double want[STEPS] = {0.25,
                                       0.5,
                                       0.75,
                                       1,
                                       1,
                                       0.9619397662556434,
                                       0.8535533905932737,
                                       0.6913417161825449,
                                       0.5,
                                       0.3086582838174551,
                                       0.1464466094067263,
                                       0.0380602337443566};
    for (int64_t step = 0; step < STEPS; step++)
        cr_expect_float_eq(mcs_lr_cosine(step, 0.003, WARMUP, STEPS), 0.003 * want[step], 1e-15, "step %d", (int)step);
    cr_expect_float_eq(mcs_lr_cosine(STEPS, 0.003, WARMUP, STEPS), 0, 1e-15);
    cr_expect_eq(mcs_lr_cosine(0, 0.003, 0, STEPS), 0.003, "without a warm-up the first step has the peak rate");
    cr_expect_float_eq(mcs_lr_cosine(0, 1, 1000, 2000), 0.001, 1e-15, "1/n of the peak in step 0, not 0");
    cr_expect_float_eq(mcs_lr_cosine(1500, 1, 1000, 2000), 0.5, 1e-15, "half of the way down, not three quarters");
    cr_expect_eq(mcs_lr_cosine(3, 1, 4, 4), 1, "a run that ends with its warm-up");
}

/* nnUNetTrainer.configure_optimizers and the clipping of its train_step. */
Test(schedule, nnunet_optimizers)
{
    const struct optim_options sgd = mcs_unet_nnunet_sgd(), adamw = mcs_unet_adamw();
    cr_expect_eq(sgd.kind, OPTIM_SGD);
    cr_expect_eq(sgd.momentum, 0.99f);
    cr_expect_eq(sgd.weight_decay, 3e-5f);
    cr_expect_eq(sgd.clip_norm, 12);
    cr_expect(sgd.decay_all, "torch decays biases and norms like all else");
    cr_expect_eq(adamw.kind, OPTIM_ADAMW);
    cr_expect_eq(adamw.beta1, 0.9f);
    cr_expect_eq(adamw.beta2, 0.999f);
    cr_expect_eq(adamw.eps, 1e-8f);
    cr_expect_eq(adamw.weight_decay, 0.01f);
    cr_expect_eq(adamw.clip_norm, 12);
    cr_expect(adamw.decay_all);
}

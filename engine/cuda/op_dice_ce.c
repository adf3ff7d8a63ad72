/* dice_ce on the device. A label outside the network's classes, an error on the CPU, makes the loss NaN here: the host
 * does not read the labels while the step runs. */
#include "engine/cuda/cuda.h"

static struct k_dice_ce args(const struct step *s)
{
    const struct dice_ce_attr *a = s->attr;
    const struct tensor *x = s->in[0];
    return (struct k_dice_ce){
        .n = x->dim[0],
        .voxels = mcs_rows(x) / x->dim[0],
        .c = (int)mcs_last(x),
        .batch_dice = a->batch_dice,
        .smooth = a->smooth,
        .weight_ce = a->weight_ce,
        .weight_dice = a->weight_dice,
        .logits = mcs_f32(x),
        .target = mcs_i32(s->in[1]),
        .sums = mcs_f32(s->out[1]),
        .workspace = s->workspace,
    };
}

static enum mcs_status prepare(struct step *s)
{
    const struct k_dice_ce a = args(s);
    MCS_REQUIRE(a.c <= K_DICE_CLASSES, MCS_E_SHAPE, "%s: dice_ce takes at most %d classes, got %d", s->scope,
                K_DICE_CLASSES, a.c);
    s->workspace_bytes = s->backward ? k_dice_ce_bwd_bytes(a.n, a.c) : k_dice_ce_fwd_bytes(a.n, a.voxels, a.c);
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_dice_ce a = args(s);
    a.loss = mcs_f32(s->out[0]);
    return MCS_CUDA_STATUS(k_dice_ce_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    struct k_dice_ce a = args(s);
    a.dloss = mcs_f32(s->dout[0]);
    a.dlogits = mcs_f32(s->din[0]);
    a.beta = s->beta[0];
    return MCS_CUDA_STATUS(k_dice_ce_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_dice_ce = {prepare, fwd, bwd, NULL};

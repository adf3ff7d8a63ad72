/* contrastive on the device: one rank that holds the whole batch. For several ranks see kernels/loss/losses.h. */
#include "engine/cuda/cuda.h"

/* x: the image embeddings of the forward step. */
static struct k_contrastive args(const struct step *s)
{
    const struct contrastive_attr *a = s->attr;
    const struct tensor *x = s->in[0];
    return (struct k_contrastive){
        .dtype = mcs_cuda_dtype(x),
        .batch = x->dim[0],
        .rows = x->dim[0],
        .d = (int)x->dim[1],
        .released = a->released,
        .a = a->a,
        .b_image = a->b_image,
        .b_text = a->b_text,
        .inv_tau = a->inv_tau,
        .image = x->data,
        .text = s->in[1]->data,
        .log_scale = mcs_f32(s->in[2]),
        .stats = mcs_f32(s->out[1]),
        .workspace = s->workspace,
    };
}

static enum mcs_status prepare(struct step *s)
{
    const struct contrastive_attr *a = s->attr;
    const int64_t batch = s->in[0]->dim[0];
    MCS_REQUIRE(!a->released || a->a == 0, MCS_E_USAGE,
                "%s: the released form of the loss is known for alpha 0 alone, not %g", s->scope, (double)a->a);
    s->workspace_bytes = s->backward ? k_contrastive_bwd_bytes(batch, batch) : k_contrastive_fwd_bytes(batch, batch);
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    struct k_contrastive a = args(s);
    a.loss = mcs_f32(s->out[0]);
    return MCS_CUDA_STATUS(k_contrastive_fwd(&a, mcs_cuda_stream(s)));
}

static enum mcs_status bwd(const struct step *s)
{
    struct k_contrastive a = args(s);
    a.dloss = mcs_f32(s->dout[0]);
    a.dimage = mcs_cuda_data(s->din[0]);
    a.dtext = mcs_cuda_data(s->din[1]);
    a.dlog_scale = mcs_f32(s->din[2]);
    a.beta_image = s->beta[0];
    a.beta_text = s->beta[1];
    a.beta_scale = s->beta[2];
    return MCS_CUDA_STATUS(k_contrastive_bwd(&a, mcs_cuda_stream(s)));
}

const struct op_impl mcs_cuda_contrastive = {prepare, fwd, bwd, NULL};

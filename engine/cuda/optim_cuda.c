/* optim_update and optim_norm of backend.h on the device (kernels/common/optimizers.h). The host waits only in
 * optim_norm. */
#include "engine/optim.h"

#include <math.h>
#include <stdlib.h>

#include "engine/cuda/cuda.h"

/* Created on first use, freed with the device. */
struct cuda_optim {
    struct k_optim_state *state, *seen; /* `state` on the device; `seen`: its copy in pinned host memory */
    void *workspace;                    /* K_SQUARES_BYTES of device memory */
    struct k_range *ranges;             /* (n_ranges), in the kernels' form */
    int n_ranges;
    cudaEvent_t written; /* the copy to `seen` is complete */
};

void mcs_cuda_optim_close(struct cuda_device *c)
{
    struct cuda_optim *o = c->optim;
    if (!o) return;
    if (o->state) (void)cudaFree(o->state);
    if (o->workspace) (void)cudaFree(o->workspace);
    if (o->seen) (void)cudaFreeHost(o->seen);
    if (o->written) (void)cudaEventDestroy(o->written);
    free(o->ranges);
    free(o);
    c->optim = NULL;
}

static enum mcs_status alloc_memory(const struct cuda_device *c, struct cuda_optim *o)
{
    MCS_TRY(mcs_cuda_alloc(c, sizeof *o->state, (void **)&o->state));
    MCS_TRY(mcs_cuda_alloc(c, K_SQUARES_BYTES, &o->workspace));
    MCS_CUDA(cudaMallocHost((void **)&o->seen, sizeof *o->seen));
    return MCS_CUDA_STATUS(cudaEventCreateWithFlags(&o->written, cudaEventDisableTiming));
}

static enum mcs_status optim_of(struct cuda_device *c, const struct optim_range *r, int n, struct cuda_optim **out)
{
    if (!c->optim) {
        c->optim = calloc(1, sizeof(struct cuda_optim));
        MCS_REQUIRE(c->optim, MCS_E_NOMEM, "no memory for an optimizer");
        const enum mcs_status st = alloc_memory(c, c->optim);
        if (st != MCS_OK) return mcs_cuda_optim_close(c), st;
    }
    struct cuda_optim *o = c->optim;
    if (n > o->n_ranges) {
        struct k_range *ranges = realloc(o->ranges, (size_t)n * sizeof *ranges);
        MCS_REQUIRE(ranges, MCS_E_NOMEM, "no memory for %d ranges of weights", n);
        o->ranges = ranges;
        o->n_ranges = n;
    }
    for (int i = 0; i < n; i++) o->ranges[i] = (struct k_range){r[i].first, r[i].n, r[i].decay};
    *out = o;
    return MCS_OK;
}

/* Waits for the last update. Before the first one the norm is 0. */
enum mcs_status mcs_cuda_optim_norm(struct device *d, double *norm)
{
    const struct cuda_device *c = d->state;
    const struct cuda_optim *o = c->optim;
    *norm = 0;
    if (!o) return MCS_OK;
    MCS_CUDA(cudaEventSynchronize(o->written));
    *norm = o->seen->norm;
    return MCS_OK;
}

enum mcs_status mcs_cuda_optim_update(struct device *d, const struct optim_update *u)
{
    struct cuda_device *c = d->state;
    struct cuda_optim *o = NULL;
    const double beta1 = mcs_optim_decimal(u->o->beta1), beta2 = mcs_optim_decimal(u->o->beta2), t = (double)u->step;
    MCS_TRY(optim_of(c, u->ranges, u->n_ranges, &o));
    const struct k_optim a = {
        .ranges = o->ranges,
        .n_ranges = u->n_ranges,
        .w = u->w,
        .m = u->m,
        .v = u->v,
        .g = u->g,
        .beta2 = (float)beta2,
        .one1 = (float)(1 - beta1),
        .one2 = (float)(1 - beta2),
        .eps = u->o->eps,
        .momentum = u->o->momentum,
        .state = o->state,
    };
    const struct k_optim_state now = {
        .lr = u->lr,
        .step = (float)(u->lr / (1 - pow(beta1, t))),
        .rbias = (float)(1 / sqrt(1 - pow(beta2, t))),
    };
    MCS_CUDA(k_optim_set(now, o->state, c->compute));
    MCS_CUDA(k_grad_norm(u->g, o->ranges, u->n_ranges, u->o->clip_norm, o->workspace, o->state, c->compute));
    MCS_CUDA(u->o->kind == OPTIM_ADAMW ? k_adamw(&a, c->compute) : k_sgd_nesterov(&a, c->compute));
    MCS_CUDA(cudaMemcpyAsync(o->seen, o->state, sizeof *o->seen, cudaMemcpyDeviceToHost, c->compute));
    return MCS_CUDA_STATUS(cudaEventRecord(o->written, c->compute));
}

/* engine/device_ops.h on the device: kernels/image/inference.h, images.h, masks.h, augmentation.h, pointwise.h,
 * optimizers.h. */
#include "engine/device_ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/cuda.h"

/* Created on first use, freed with the device. */
struct ops_state {
    struct k_optim_state *adam;
    void *workspace; /* of the operation that runs; grows */
    size_t bytes;
    struct cuda_stage batch; /* staging buffer for the inputs of augment; grows */
    size_t batch_bytes;
};

void mcs_cuda_device_ops_close(struct cuda_device *c)
{
    struct ops_state *t = c->ops_state;
    if (!t) return;
    if (t->adam) (void)cudaFree(t->adam);
    if (t->workspace) (void)cudaFree(t->workspace);
    mcs_cuda_stage_close(&t->batch);
    free(t);
    c->ops_state = NULL;
}

static enum mcs_status state_of(struct cuda_device *c, size_t bytes, struct ops_state **out)
{
    struct ops_state *t = c->ops_state;
    if (!t) {
        t = c->ops_state = calloc(1, sizeof *t);
        MCS_REQUIRE(t, MCS_E_NOMEM, "no memory for the state of a device");
    }
    if (!t->adam) MCS_TRY(mcs_cuda_alloc(c, sizeof *t->adam, (void **)&t->adam));
    if (bytes > t->bytes) { /* waits for enqueued operations that use the old workspace */
        MCS_CUDA(cudaStreamSynchronize(c->compute));
        MCS_CUDA(cudaFree(t->workspace));
        t->workspace = NULL;
        t->bytes = 0;
        MCS_TRY(mcs_cuda_alloc(c, bytes, &t->workspace));
        t->bytes = bytes;
    }
    *out = t;
    return MCS_OK;
}

// NOLINTNEXTLINE(readability-non-const-parameter): the kernel writes to it through k_cast.y
static enum mcs_status copy(struct device *d, const struct tensor *from, float *to)
{
    struct cuda_device *c = d->state;
    const struct k_cast a = {.from = mcs_cuda_dtype(from), .to = K_F32, .n = mcs_count(from), .x = from->data, .y = to};
    return MCS_CUDA_STATUS(k_cast(&a, c->compute));
}

/* Seed and step go to c->run, which the next begin_run overwrites; both writes are enqueued on the compute stream. */
static enum mcs_status noise(struct device *d, const struct noise_args *n)
{
    struct cuda_device *c = d->state;
    const struct k_rng a = {.run = c->run,
                            .site = n->site,
                            .sample = (const int32_t *)n->keys,
                            .rows = n->n_keys * n->copies,
                            .n = n->n,
                            .y = n->y,
                            .copies = (int)n->copies};
    MCS_CUDA(k_run_set((struct k_run){.seed = n->seed, .step = n->step}, c->run, c->compute));
    return MCS_CUDA_STATUS(k_rng_normal(&a, c->compute));
}

static enum mcs_status adam(struct device *d, const struct adam_args *a)
{
    struct cuda_device *c = d->state;
    struct ops_state *t = NULL;
    const struct k_range all = {.first = 0, .n = a->n};
    MCS_TRY(state_of(c, 0, &t));
    const struct k_optim_state now = {
        .lr = (double)a->lr,
        .step = (float)((double)a->lr / (1 - pow(0.9, a->step))),
        .rbias = (float)(1 / sqrt(1 - pow(0.999, a->step))),
        .scale = 1,
        .finite = 1, /* no check here: values that are not finite show in the map, as on the CPU */
    };
    const struct k_optim o = {.ranges = &all,
                              .n_ranges = 1,
                              .w = a->w,
                              .m = a->m,
                              .v = a->v,
                              .g = a->g,
                              .beta2 = 0.999f,
                              .one1 = 0.1f,
                              .one2 = 0.001f,
                              .eps = 1e-8f,
                              .state = t->adam};
    MCS_CUDA(k_optim_set(now, t->adam, c->compute));
    return MCS_CUDA_STATUS(k_adamw(&o, c->compute));
}

static enum mcs_status saliency_map(struct device *d, const struct saliency_map_args *s)
{
    struct cuda_device *c = d->state;
    struct ops_state *t = NULL;
    struct k_saliency_map a = {.dtype = K_F32,
                               .n = 1,
                               .side = s->side,
                               .view_side = s->view_side,
                               .height = s->height,
                               .width = s->width,
                               .tokens = s->tokens,
                               .maps = s->map};
    MCS_TRY(state_of(c, k_saliency_map_bytes(&a), &t));
    a.workspace = t->workspace;
    return MCS_CUDA_STATUS(k_saliency_map_run(&a, c->compute));
}

static struct k_windows windows_of(const struct windows_args *a)
{
    return (struct k_windows){.dtype = mcs_cuda_dtype(a->values),
                              .count = a->count,
                              .channels = a->channels,
                              .depth = 1,
                              .height = a->height,
                              .width = a->width,
                              .window_depth = 1,
                              .window_height = a->window_height,
                              .window_width = a->window_width,
                              .list = a->list,
                              .values = a->values->data,
                              .images = a->images,
                              .weight = a->weight};
}

static enum mcs_status windows_cut(struct device *d, const struct windows_args *a)
{
    const struct cuda_device *c = d->state;
    const struct k_windows k = windows_of(a);
    return MCS_CUDA_STATUS(k_windows_cut(&k, c->compute));
}

static enum mcs_status windows_paste(struct device *d, const struct windows_args *a)
{
    const struct cuda_device *c = d->state;
    const struct k_windows k = windows_of(a);
    return MCS_CUDA_STATUS(k_windows_paste(&k, c->compute));
}

static enum mcs_status windows_mean(struct device *d, const struct windows_mean_args *a)
{
    const struct cuda_device *c = d->state;
    const struct k_windows_mean k = {.n = a->n,
                                     .channels = a->channels,
                                     .padded = {1, a->padded[0], a->padded[1]},
                                     .before = {0, a->before[0], a->before[1]},
                                     .depth = 1,
                                     .height = a->height,
                                     .width = a->width,
                                     .flips = a->flips,
                                     .sums = a->sums,
                                     .weights = a->weights,
                                     .logits = a->logits,
                                     .bad = a->bad};
    return MCS_CUDA_STATUS(k_windows_mean_run(&k, c->compute));
}

static enum mcs_status softmax(struct device *d, const struct softmax_args *a)
{
    const struct cuda_device *c = d->state;
    const struct k_softmax_mean k = {.dtype = K_F32,
                                     .n = a->n,
                                     .classes = a->classes,
                                     .pixels = a->pixels,
                                     .logits = a->logits,
                                     .prob = a->prob,
                                     .share = a->share,
                                     .beta = a->first ? 0 : 1};
    return MCS_CUDA_STATUS(k_softmax_mean_run(&k, c->compute));
}

static enum mcs_status prob_maps(struct device *d, const struct prob_maps_args *a)
{
    const struct cuda_device *c = d->state;
    for (int i = 0; i < a->n; i++) {
        const float *prob = a->prob + i * a->classes * a->pixels;
        if (a->bits) {
            const struct k_entropy k = {a->classes, a->pixels, prob, a->bits + i * a->pixels, a->bad};
            MCS_CUDA(k_entropy_run(&k, c->compute));
        }
        if (a->labels) {
            const struct k_labels k = {a->classes, a->pixels, a->threshold, prob, a->labels + i * a->pixels};
            MCS_CUDA(k_labels_run(&k, c->compute));
        }
    }
    return MCS_OK;
}

static enum mcs_status coarse(struct device *d, const struct coarse_args *a)
{
    struct cuda_device *c = d->state;
    struct ops_state *t = NULL;
    const int most = (a->height + 1) / 2 * ((a->width + 1) / 2);
    const size_t cut_bytes = k_threshold_bytes(a->height, a->width),
                 bytes = k_components_bytes(1, a->height, a->width, most);
    MCS_TRY(state_of(c, bytes > cut_bytes ? bytes : cut_bytes, &t));
    const struct k_threshold cut = {.kind = a->cut,
                                    .height = a->height,
                                    .width = a->width,
                                    .value = a->value,
                                    .map = a->map,
                                    .mask = a->above,
                                    .result = &a->found->level,
                                    .workspace = t->workspace};
    const struct k_components k = {.depth = 1,
                                   .height = a->height,
                                   .width = a->width,
                                   .capacity = most,
                                   .mask = a->above,
                                   .map = a->map,
                                   .labels = a->labels,
                                   .items = a->items,
                                   .n = &a->found->n,
                                   .workspace = t->workspace};
    MCS_CUDA(k_threshold_run(&cut, c->compute));
    return MCS_CUDA_STATUS(k_components_run(&k, c->compute));
}

static enum mcs_status coarse_keep(struct device *d, const struct coarse_args *a)
{
    const struct cuda_device *c = d->state;
    return MCS_CUDA_STATUS(
        k_components_mask(a->labels, a->keep, a->most_label, (int64_t)a->height * a->width, a->mask, c->compute));
}

static enum mcs_status masks(struct device *d, const struct masks_args *a)
{
    const struct cuda_device *c = d->state;
    const struct k_mask_upscale k = {.dtype = K_F32,
                                     .n = a->n,
                                     .side = a->side,
                                     .frame = a->frame,
                                     .in_height = a->in_height,
                                     .in_width = a->in_width,
                                     .height = a->height,
                                     .width = a->width,
                                     .threshold = 0,
                                     .offset = 1,
                                     .weight = a->weight,
                                     .on = 1,
                                     .low_res = a->low_res,
                                     .plane = a->plane,
                                     .united = a->united,
                                     .counts = a->counts};
    return MCS_CUDA_STATUS(k_mask_upscale_run(&k, c->compute));
}

/* Copies three host arrays to device memory, one after the other from *first on, each rounded up to 256 bytes. The host
 * waits until the previous batch has left pinned memory. The copy stream waits until the device has read the previous
 * batch; later steps may still run. */
static enum mcs_status send_batch(struct cuda_device *c, struct ops_state *t, const void *const src[3],
                                  const size_t bytes[3], char **first)
{
    const size_t all = mcs_cuda_round(bytes[0]) + mcs_cuda_round(bytes[1]) + bytes[2];
    size_t at = 0;
    if (all > t->batch_bytes) {
        MCS_CUDA(cudaStreamSynchronize(c->copy));
        MCS_CUDA(cudaStreamSynchronize(c->compute));
        mcs_cuda_stage_close(&t->batch);
        t->batch_bytes = 0;
        MCS_TRY(mcs_cuda_stage_open(c, all, &t->batch));
        t->batch_bytes = all;
    }
    MCS_CUDA(cudaEventSynchronize(t->batch.copied));
    for (int i = 0; i < 3; at += mcs_cuda_round(bytes[i++])) memcpy((char *)t->batch.pinned + at, src[i], bytes[i]);
    MCS_CUDA(cudaStreamWaitEvent(c->copy, t->batch.used, 0));
    MCS_CUDA(cudaMemcpyAsync(t->batch.device, t->batch.pinned, all, cudaMemcpyHostToDevice, c->copy));
    MCS_CUDA(cudaEventRecord(t->batch.copied, c->copy));
    MCS_CUDA(cudaStreamWaitEvent(c->compute, t->batch.copied, 0));
    *first = t->batch.device;
    return MCS_OK;
}

static enum mcs_status augment(struct device *d, const struct augment_args *a)
{
    struct cuda_device *c = d->state;
    struct ops_state *t = NULL;
    const size_t n = (size_t)a->n, pixels = n * (size_t)a->src_height * (size_t)a->src_width,
                 bytes[3] = {n * sizeof *a->draws, pixels * (size_t)a->channels * sizeof *a->src,
                             pixels * sizeof *a->src_label};
    struct k_augment k = {.dtype = mcs_cuda_dtype(a->image),
                          .n = a->n,
                          .channels = a->channels,
                          .src_height = a->src_height,
                          .src_width = a->src_width,
                          .height = (int)a->image->dim[1],
                          .width = (int)a->image->dim[2],
                          .dst = a->image->data,
                          .label = a->labels[0]->data};
    char *batch = NULL;
    MCS_TRY(state_of(c, k_augment_bytes(&k), &t));
    MCS_TRY(send_batch(c, t, (const void *[3]){a->draws, a->src, a->src_label}, bytes, &batch));
    k.workspace = t->workspace;
    k.samples = (const void *)batch;
    k.src = (const void *)(batch += mcs_cuda_round(bytes[0]));
    k.src_label = (const void *)(batch + mcs_cuda_round(bytes[1]));
    MCS_CUDA(k_augment_run(&k, c->compute));
    MCS_CUDA(cudaEventRecord(t->batch.used, c->compute));
    for (int i = 1; i < a->n_labels; i++) {
        const struct tensor *to = a->labels[i];
        const struct k_target target = {a->n, k.height, k.width, (int)to->dim[1], (int)to->dim[2], k.label, to->data};
        MCS_CUDA(k_target_run(&target, c->compute));
    }
    return MCS_OK;
}

const struct device_ops mcs_cuda_device_ops = MCS_DEVICE_OPS_TABLE;

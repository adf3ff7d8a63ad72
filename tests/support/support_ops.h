/* The CPU's operations between graphs (engine/device_ops.h) as plain calls; a failure ends the test. In C and C++. */
#ifndef MCS_SUPPORT_OPS_H
#define MCS_SUPPORT_OPS_H

#include "data/image/image.h"
#include "engine/device_ops.h"
#include "train/unet/unet_data.h"

#include <criterion/criterion.h>

/* A CPU device with all cores, opened at first use and never closed, and its scratch memory. */
static inline struct device_scratch *support_cpu_scratch(void)
{
    static struct device cpu;
    static struct device_scratch scratch;
    if (!scratch.device) cr_assert_eq(mcs_cpu_open(0, &cpu), MCS_OK);
    scratch.device = &cpu;
    return &scratch;
}
static inline struct device *support_cpu(void)
{
    return support_cpu_scratch()->device;
}

/* tokens (side, side) -> dst of the size, allocated. */
static inline void support_saliency_map(const float *tokens, int side, int view_side, int width, int height,
                                        struct map2 *dst)
{
    struct saliency_map_args a = {side, view_side, height, width, tokens, NULL};
    cr_assert_eq(mcs_map_alloc(dst, width, height), MCS_OK);
    a.map = dst->values;
    cr_assert_eq(support_cpu()->backend->device_ops->saliency_map(support_cpu(), &a), MCS_OK);
}

/* Draws and applies. */
static inline void support_augment(const struct augment_options *o, struct mcs_rng key, const struct augment_patch *src,
                                   const struct augment_patch *dst, float *scratch)
{
    struct augment_draw draw;
    mcs_augment_draw(o, key, dst->channels, &draw);
    mcs_augment_apply(&draw, src, dst, scratch);
}

/* A loader's part of a batch, augmented: images (n, height, width, channels), labels (n, height, width). */
static inline void support_loader_fill(const struct unet_loader *l, int64_t step, float *images, int32_t *labels)
{
    struct tensor image, label, *all = &label;
    struct augment_args a;
    memset(&image, 0, sizeof image), memset(&a, 0, sizeof a);
    image.nd = 4, image.dim[0] = l->n, image.dim[1] = l->height, image.dim[2] = l->width;
    image.dim[3] = l->cases->channels;
    label = image;
    image.data = images, label.data = labels;
    a.n = l->n, a.channels = l->cases->channels, a.src_height = l->loader_size[0], a.src_width = l->loader_size[1];
    a.src = l->patches, a.src_label = l->patch_labels, a.draws = l->draws;
    a.image = &image, a.n_labels = 1, a.labels = &all;
    mcs_unet_loader_load(l, step);
    cr_assert_eq(support_cpu()->backend->device_ops->augment(support_cpu(), &a), MCS_OK);
}

/* Of a mask's logits: pixels above 1 over pixels above -1. */
static inline double support_stability(const struct map2 *logits)
{
    int64_t inner = 0, outer = 0;
    for (int64_t i = 0, n = (int64_t)logits->width * logits->height; i < n; i++) {
        inner += logits->values[i] > 1;
        outer += logits->values[i] > -1;
    }
    return outer ? (double)inner / (double)outer : 1;
}

#endif

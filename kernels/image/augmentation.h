/* nnU-Net's augmentation of training patches, on the device: engine/image/augment_apply.c is the reference,
 * train/unet/augment.c draws the parameters of each sample (mcs_augment_draw), and these kernels apply them. General
 * conventions: kernels.h. */
#ifndef MCS_KERNELS_AUGMENTATION_H
#define MCS_KERNELS_AUGMENTATION_H

#include "kernels/common/kernels.h"
#include "kernels/image/records.h"

#ifdef __cplusplus
extern "C" {
#endif

/* src (n, src_height, src_width, channels) float and src_label (n, src_height, src_width) -> dst (n, height, width,
 * channels) of `dtype` and label (n, height, width), each sample as mcs_augment_apply. One block per channel of a
 * sample makes the intensity transforms. */
struct k_augment {
    enum k_dtype dtype;
    int n, channels, src_height, src_width, height, width;
    const struct augment_draw
        *samples; /* (n), in device memory, so that a captured graph reads new ones at each replay */
    const float *src;
    const int32_t *src_label;
    void *dst;
    int32_t *label;
    void *workspace; /* k_augment_bytes */
};
size_t k_augment_bytes(const struct k_augment *a);
cudaError_t k_augment_run(const struct k_augment *a, cudaStream_t s);

/* label (n, height, width) -> target (n, target_height, target_width), as mcs_augment_target; both
 * below 2^31 values. */
struct k_target {
    int n, height, width, target_height, target_width;
    const int32_t *label;
    int32_t *target;
};
cudaError_t k_target_run(const struct k_target *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif

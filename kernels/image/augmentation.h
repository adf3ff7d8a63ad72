/* nnU-Net's augmentation of training patches, on the device: engine/image/augment_apply.c defines the results,
 * train/unet/augment.c draws each sample's transforms (mcs_augment_draw) and these kernels apply them. See kernels.h
 * for the rules of all kernels. */
#ifndef MCS_KERNELS_AUGMENTATION_H
#define MCS_KERNELS_AUGMENTATION_H

#include "kernels/common/kernels.h"
#include "kernels/image/records.h"

#ifdef __cplusplus
extern "C" {
#endif

/* src (n, src_height, src_width, channels) float and src_label (n, src_height, src_width) -> dst (n, height, width,
 * channels) of `dtype` and label (n, height, width), sample by sample as mcs_augment_apply. A block of threads takes a
 * channel of a sample through its intensities. */
struct k_augment {
    enum k_dtype dtype;
    int n, channels, src_height, src_width, height, width;
    const struct augment_draw *samples; /* (n), in device memory: a captured step reads new ones */
    const float *src;
    const int32_t *src_label;
    void *dst;
    int32_t *label;
    void *workspace; /* k_augment_bytes */
};
size_t k_augment_bytes(const struct k_augment *a);
cudaError_t k_augment_run(const struct k_augment *a, cudaStream_t s);

/* label (n, height, width) -> target (n, target_height, target_width), both below 2^31 values: mcs_augment_target. */
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

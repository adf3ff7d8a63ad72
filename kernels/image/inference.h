/* Kernels of inference outside the tape: sliding windows, ensemble probabilities, uncertainty. General conventions:
 * kernels.h. The CPU code in infer/ and data/ is the reference. A workspace is 16-byte aligned device memory, and its
 * contents are undefined after the call. k_NAME_run takes a struct k_NAME. */
#ifndef MCS_KERNELS_INFERENCE_H
#define MCS_KERNELS_INFERENCE_H

#include "kernels/common/kernels.h"
#include "kernels/image/augmentation.h"
#include "kernels/image/images.h"
#include "kernels/image/masks.h"
#include "kernels/image/records.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- sliding windows (engine/cpu/device_ops_cpu.c) ---- */

/* A batch of windows cut from images or pasted into them; two dimensions: depth and window_depth 1. images (n, depth,
 * height, width, channels) float, padded so that each window lies inside; values (count, window_depth, window_height,
 * window_width, channels) of `dtype`; weight (window_depth, window_height, window_width), for pasting. A window has
 * fewer than 2^31 values. */
struct k_windows {
    enum k_dtype dtype;
    int count, channels, depth, height, width, window_depth, window_height, window_width;
    const struct sliding_window *list; /* (count) */
    void *values;
    float *images;
    const float *weight;
};
/* values = windows of images, mirrored. */
cudaError_t k_windows_cut(const struct k_windows *a, cudaStream_t s);
/* images += weight * values, mirrored back. Overlapping windows are added in the order of the list. */
cudaError_t k_windows_paste(const struct k_windows *a, cudaStream_t s);

/* Mean of pasted windows: logits (n, depth, height, width, channels) = sums (n, padded, channels) / (weights (padded) *
 * flips), without the padding; fewer than 2^31 per image. padded, before: z, y, x. *bad |= 1 where a value is not
 * finite. */
struct k_windows_mean {
    int n, channels, padded[3], before[3], depth, height, width;
    float flips; /* mirrored copies of each window that were pasted; 1 without mirroring */
    const float *sums, *weights;
    float *logits;
    uint32_t *bad;
};
cudaError_t k_windows_mean_run(const struct k_windows_mean *a, cudaStream_t s);

/* ---- probabilities (engine/cpu/device_ops_cpu.c, engine/image/prob_maps.c, infer/unet/uncertainty.c) ---- */

/* prob (n, classes, pixels) = beta prob + share * softmax of logits (n, pixels, classes). For the mean of an ensemble:
 * share 1/checkpoints, one call per checkpoint, the first with beta 0. */
struct k_softmax_mean {
    enum k_dtype dtype; /* of the logits */
    int n, classes;
    int64_t pixels;
    const void *logits;
    float *prob;
    float share, beta;
};
cudaError_t k_softmax_mean_run(const struct k_softmax_mean *a, cudaStream_t s);

/* prob (classes, n) -> bits (n), the entropy in bits, as mcs_entropy_map (a single class is the foreground's
 * probability). *bad |= 1 where a value is not a probability. */
struct k_entropy {
    int classes;
    int64_t n;
    const float *prob;
    float *bits;
    uint32_t *bad;
};
cudaError_t k_entropy_run(const struct k_entropy *a, cudaStream_t s);

/* prob (classes, n) -> labels (n): mcs_prob_labels. */
struct k_labels {
    int classes;
    int64_t n;
    double threshold;
    const float *prob;
    uint8_t *labels;
};
cudaError_t k_labels_run(const struct k_labels *a, cudaStream_t s);

/* Sums for mcs_uncertainty_score and mcs_uncertainty_area; bits, mask (height, width). Summed in double, in a fixed
 * order. */
struct k_uncertainty_sums {
    double bits;
    uint64_t edge; /* pixels outside the mask that touch it (8-connectivity) */
    uint64_t area; /* pixels of the mask */
};
struct k_uncertainty {
    int height, width;
    const float *bits;
    const uint8_t *mask;
    struct k_uncertainty_sums *sums; /* (1) */
    void *workspace;                 /* k_uncertainty_bytes */
};
size_t k_uncertainty_bytes(int height, int width);
cudaError_t k_uncertainty_run(const struct k_uncertainty *a, cudaStream_t s);

/* dst (n, channels) = (src - mean) / max(deviation, 1e-8) per channel, as mcs_ensemble_normalise; src is `bytes`, or
 * `values` if bytes is NULL. Sums are in double, in a fixed order. Fewer than 2^31 values. */
struct k_zscore {
    int64_t n;
    int channels;
    const uint8_t *bytes;
    const float *values;
    float *dst;
    void *workspace; /* k_zscore_bytes */
};
size_t k_zscore_bytes(int64_t n, int channels);
cudaError_t k_zscore_run(const struct k_zscore *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif

/* Resizing of images and maps: Pillow's resampling of 8-bit images, torch's of float maps, SAM's low-resolution masks
 * to the image's size. General conventions: kernels.h; workspaces: inference.h. References: data/image/resample.c,
 * engine/image/bilinear.c, engine/cpu/device_ops_cpu.c and infer/clip/clip_embed.c. k_NAME_run takes
 * a struct k_NAME. */
#ifndef MCS_KERNELS_IMAGES_H
#define MCS_KERNELS_IMAGES_H

#include "kernels/common/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- 8-bit images ---- */

enum k_filter { K_NEAREST, K_BILINEAR, K_BICUBIC };
/* src (src_height, src_width, channels) -> dst (height, width, channels): mcs_image_resize, byte for byte. */
struct k_image_resize {
    enum k_filter filter;
    int channels, src_height, src_width, height, width;
    const uint8_t *src;
    uint8_t *dst;
    void *workspace; /* k_image_resize_bytes */
};
size_t k_image_resize_bytes(const struct k_image_resize *a);
cudaError_t k_image_resize_run(const struct k_image_resize *a, cudaStream_t s);

/* Network input from an 8-bit image: dst (height, width, 3) of `dtype` = (src / unit - mean) / deviation, cropped at
 * pixel (y0, x0) of the image and zero-padded at the right and bottom. A single channel is repeated. SAM: unit 1; CLIP:
 * 255. */
struct k_image_frame {
    enum k_dtype dtype;
    int channels, src_height, src_width, y0, x0, height, width;
    float unit, mean[3], deviation[3];
    const uint8_t *src;
    void *dst;
};
cudaError_t k_image_frame_run(const struct k_image_frame *a, cudaStream_t s);

/* ---- float maps ---- */

/* src (n, src_height, src_width) of `dtype`, maps `stride` elements apart (0: contiguous) -> dst (n, height,
 * width): mcs_bilinear_row. */
struct k_map_resize {
    enum k_dtype dtype;
    int n, src_height, src_width, height, width;
    int64_t stride;
    const void *src;
    float *dst;
};
cudaError_t k_map_resize_run(const struct k_map_resize *a, cudaStream_t s);

/* Saliency of tokens, saliency_map of engine/device_ops.h: tokens (n, side, side), maps `stride` elements apart (0: one
 * behind the other; a class token before each: side side + 1) -> maps (n, height, width), each 0..1. view_side 0:
 * bilinear to the size, min-max. Else the release's: bilinear to view_side, min-max, 8 bits, nearest. */
struct k_saliency_map {
    enum k_dtype dtype; /* of the tokens */
    int n, side, view_side, height, width;
    int64_t stride;
    const void *tokens;
    float *maps;
    void *workspace; /* k_saliency_map_bytes */
};
size_t k_saliency_map_bytes(const struct k_saliency_map *a);
cudaError_t k_saliency_map_run(const struct k_saliency_map *a, cudaStream_t s);

/* The map as 8 bits, as mcs_map_to_u8. */
cudaError_t k_map_bytes(const float *map, int64_t n, uint8_t *dst, cudaStream_t s);

/* ---- SAM's masks: mcs_sam_upscale, and masks, unions and stability counts from it ---- */

/* Logits of n masks at the image's size: low_res (side, side) bilinear to (frame, frame), cropped to the image's part
 * (in_height, in_width), bilinear to (height, width). Mask i is plane i of low_res, or plane[i] if given. Outputs that
 * are NULL are not computed. */
struct k_mask_upscale {
    enum k_dtype dtype; /* of low_res */
    int n, side, frame, in_height, in_width, height, width;
    float threshold, offset; /* 0 and 1 */
    float weight;            /* of each mask in the vote for `united` */
    uint8_t on;              /* value of mask pixels: 1 or 255 */
    const void *low_res;
    const int32_t *plane; /* (n) */
    float *logits;        /* (n, height, width) */
    uint8_t *masks;       /* (n, height, width): `on` where logit > threshold, else 0 */
    uint8_t *united;      /* (height, width): `on` where the summed weight of masks above the threshold exceeds .5 */
    uint32_t *counts;     /* (n, 3): pixels above threshold, threshold + offset, threshold - offset. The stability score
                           * is the second over the third, 1 if the third is 0 */
};
cudaError_t k_mask_upscale_run(const struct k_mask_upscale *a, cudaStream_t s);

/* The low_res plane with the highest predicted IoU of each prompt: plane[i] = i * planes + first + argmax over
 * `choices` of iou[i * stride + first ..], the first on a tie (mcs_sam_choose: stride and planes 4, first 1, choices 3;
 * without multimask first 0, choices 1). */
struct k_mask_choose {
    enum k_dtype dtype; /* of iou */
    int n, stride, first, choices, planes;
    const void *iou;
    int32_t *plane;
};
cudaError_t k_mask_choose_run(const struct k_mask_choose *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif

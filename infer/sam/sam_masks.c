/* SAM's low resolution masks at an image's size, and masks as prompts. */
#include "engine/device_ops.h"
#include "engine/image/bilinear.h"
#include "infer/sam/sam_model.h"

#include <stdlib.h>

enum mcs_status mcs_sam_upscale(const struct sam_config *c, const float *low_res, const struct sam_frame *frame,
                                struct map2 *dst)
{
    const int side = mcs_sam_side(c), s = c->image_size, w = frame->in_width, h = frame->in_height;
    const struct bilinear to_frame = {side, side, s, s}, to_image = {w, h, frame->width, frame->height};
    struct map2 part = {0};
    MCS_TRY(mcs_map_alloc(&part, w, h));
    for (int y = 0; y < h; y++) mcs_bilinear_row(&to_frame, low_res, y, w, part.values + (int64_t)y * w);
    const enum mcs_status st = mcs_map_alloc(dst, frame->width, frame->height);
    for (int y = 0; st == MCS_OK && y < dst->height; y++)
        mcs_bilinear_row(&to_image, part.values, y, dst->width, dst->values + (int64_t)y * dst->width);
    mcs_map_free(&part);
    return st;
}

int mcs_sam_choose(const float iou[SAM_MASKS], int multimask)
{
    int best = 1;
    if (!multimask) return 0;
    for (int i = 2; i < SAM_MASKS; i++)
        if (iou[i] > iou[best]) best = i;
    return best;
}

enum mcs_status mcs_sam_masks(const struct sam_config *c, struct device_scratch *on, const float *low_res,
                              const int32_t *plane, int n, const struct sam_frame *f, float weight, uint8_t *united,
                              struct sam_counts *counts)
{
    struct device *d = on->device;
    const int64_t pixels = (int64_t)f->width * f->height, word = sizeof(uint32_t);
    enum mcs_status st;
    uint32_t(*count)[3] = malloc((size_t)n * sizeof *count);
    MCS_REQUIRE(count, MCS_E_NOMEM, "no memory for %d masks", n);
    MCS_TRY_GOTO(mcs_device_scratch(on, 4 * n * word + pixels), st, done);
    const struct masks_args a = {.n = n,
                                 .side = mcs_sam_side(c),
                                 .frame = c->image_size,
                                 .in_height = f->in_height,
                                 .in_width = f->in_width,
                                 .height = f->height,
                                 .width = f->width,
                                 .weight = weight,
                                 .low_res = low_res,
                                 .plane = on->p,
                                 .counts = (uint32_t *)on->p + n,
                                 .united = united ? (uint8_t *)on->p + 4 * n * word : NULL};
    MCS_TRY_GOTO(d->backend->upload(d, on->p, plane, n * word), st, done);
    MCS_TRY_GOTO(d->backend->device_ops->masks(d, &a), st, done);
    MCS_TRY_GOTO(d->backend->download(d, count, a.counts, 3 * n * word), st, done);
    if (united) MCS_TRY_GOTO(d->backend->download(d, united, a.united, pixels), st, done);
    for (int i = 0; i < n; i++)
        counts[i] = (struct sam_counts){count[i][0], count[i][2] ? (double)count[i][1] / (double)count[i][2] : 1.0};
done:
    free(count);
    return st;
}

enum mcs_status mcs_sam_mask_prompt(const struct sam_config *c, const struct image *mask, float *dst)
{
    const int side = mcs_sam_side(c);
    MCS_REQUIRE(mask->width > 0 && mask->height > 0, MCS_E_DATA, "a mask without pixels");
    const double scale = (double)side / (mask->width > mask->height ? mask->width : mask->height);
    int w = (int)(mask->width * scale + 0.5), h = (int)(mask->height * scale + 0.5);
    struct image flat, small;
    MCS_TRY(mcs_image_alloc(&flat, mask->width, mask->height, 1));
    for (int64_t i = 0, n = (int64_t)mask->width * mask->height; i < n; i++)
        for (int k = 0; k < mask->channels; k++)
            if (mask->pixels[i * mask->channels + k]) flat.pixels[i] = 255;
    const enum mcs_status st = mcs_image_resize(&flat, w < 1 ? 1 : w, h < 1 ? 1 : h, MCS_BILINEAR, &small);
    mcs_image_free(&flat);
    if (st != MCS_OK) return mcs_trace(st, __FILE__, __LINE__);
    for (int i = 0; i < side * side; i++) dst[i] = -10;
    for (int y = 0; y < small.height; y++)
        for (int x = 0; x < small.width; x++)
            dst[y * side + x] = 20.0f * (float)small.pixels[y * small.width + x] / 255.0f - 10.0f;
    mcs_image_free(&small);
    return MCS_OK;
}

/* SAM's low resolution masks at an image's size, and masks as prompts. */
#include "engine/device_ops.h"
#include "engine/image/bilinear.h"
#include "infer/sam/sam_model.h"

#include <math.h>
#include <stdlib.h>

/* MedSAM takes the sigmoid before the resize, and compares with 1/2. This function of the sigmoid is 0 at that
 * threshold and 1 and -1 where the logit is, so that areas and stability are counted as SAM's. */
static float medsam_value(float logit)
{
    return (float)(tanh(0.5 * (double)logit) / tanh(0.5));
}

static enum mcs_status upscale_medsam(const float *low_res, int side, const struct sam_frame *frame, struct map2 *dst)
{
    const struct bilinear to_image = {side, side, frame->width, frame->height};
    struct map2 values = {0};
    MCS_TRY(mcs_map_alloc(&values, side, side));
    for (int i = 0; i < side * side; i++) values.values[i] = medsam_value(low_res[i]);
    const enum mcs_status st = mcs_map_alloc(dst, frame->width, frame->height);
    for (int y = 0; st == MCS_OK && y < dst->height; y++)
        mcs_bilinear_row(&to_image, values.values, y, dst->width, dst->values + (int64_t)y * dst->width);
    mcs_map_free(&values);
    return st;
}

enum mcs_status mcs_sam_upscale(const struct sam_config *c, const float *low_res, const struct sam_frame *frame,
                                struct map2 *dst)
{
    const int side = mcs_sam_side(c), s = c->image_size, w = frame->in_width, h = frame->in_height;
    const struct bilinear to_frame = {side, side, s, s}, to_image = {w, h, frame->width, frame->height};
    struct map2 part = {0};
    if (c->preprocess == SAM_PREPROCESS_MEDSAM) return upscale_medsam(low_res, side, frame, dst);
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

/* Replaces masks plane[0..n) by their medsam_value, in `values` (n,side,side) of the device. */
static enum mcs_status medsam_values(struct device *d, const float *low_res, const int32_t *plane, int n, int side,
                                     float *values)
{
    const int64_t size = (int64_t)side * side, bytes = size * (int64_t)sizeof(float);
    float *host = malloc((size_t)bytes);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(host, MCS_E_NOMEM, "no memory for a mask");
    for (int i = 0; i < n && st == MCS_OK; i++) {
        MCS_TRY_GOTO(d->backend->download(d, host, low_res + plane[i] * size, bytes), st, done);
        for (int64_t k = 0; k < size; k++) host[k] = medsam_value(host[k]);
        st = d->backend->upload(d, values + i * size, host, bytes);
    }
done:
    free(host);
    return st;
}

enum mcs_status mcs_sam_masks(const struct sam_config *c, struct device_scratch *on, const float *low_res,
                              const int32_t *plane, int n, const struct sam_frame *f, float weight, uint8_t *united,
                              struct sam_counts *counts)
{
    struct device *d = on->device;
    const int medsam = c->preprocess == SAM_PREPROCESS_MEDSAM, side = mcs_sam_side(c);
    const int64_t pixels = (int64_t)f->width * f->height, word = sizeof(uint32_t),
                  values = medsam ? (int64_t)n * side * side : 0;
    enum mcs_status st;
    uint32_t(*count)[3] = malloc((size_t)n * (sizeof *count + sizeof(int32_t)));
    int32_t *planes = (int32_t *)(count + n);
    MCS_REQUIRE(count, MCS_E_NOMEM, "no memory for %d masks", n);
    MCS_TRY_GOTO(mcs_device_scratch(on, (values + 4 * n) * word + pixels), st, done);
    uint32_t *const numbers = (uint32_t *)on->p + values;
    if (medsam) MCS_TRY_GOTO(medsam_values(d, low_res, plane, n, side, on->p), st, done);
    /* MedSAM's masks have no frame: its side is that of low_res, so that the first resize changes nothing. */
    const struct masks_args a = {.n = n,
                                 .side = side,
                                 .frame = medsam ? side : c->image_size,
                                 .in_height = medsam ? side : f->in_height,
                                 .in_width = medsam ? side : f->in_width,
                                 .height = f->height,
                                 .width = f->width,
                                 .weight = weight,
                                 .low_res = medsam ? on->p : low_res,
                                 .plane = (int32_t *)numbers,
                                 .counts = numbers + n,
                                 .united = united ? (uint8_t *)(numbers + 4 * (int64_t)n) : NULL};
    for (int i = 0; i < n; i++) planes[i] = medsam ? i : plane[i];
    MCS_TRY_GOTO(d->backend->upload(d, numbers, planes, n * word), st, done);
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
    const int medsam = c->preprocess == SAM_PREPROCESS_MEDSAM, w = medsam ? side : (int)(mask->width * scale + 0.5),
              h = medsam ? side : (int)(mask->height * scale + 0.5);
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

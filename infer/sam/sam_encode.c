/* SAM's image encoder: preparation of images and their embeddings. */
#include "engine/device_ops.h"
#include "infer/sam/sam_plan.h"

#include <string.h>

enum { SMALL_FRAME = 256, CHANNELS = 3 };

struct sam_frame mcs_sam_frame_of(const struct sam_config *c, int width, int height)
{
    const int s = c->image_size;
    const double scale = (double)s / (width > height ? width : height);
    struct sam_frame f = {width, height, s, s};
    if (c->preprocess == SAM_PREPROCESS_MEDSAM) return f;
    f.in_width = (int)(width * scale + 0.5);
    f.in_height = (int)(height * scale + 0.5);
    if (f.in_width < 1) f.in_width = 1; /* thinner than a pixel: segment-anything fails here */
    if (f.in_height < 1) f.in_height = 1;
    return f;
}

/* MedSAM_Inference.py: grey as three equal channels, resized to S x S, scaled to 0..1 by the smallest and the largest
 * value. A constant image becomes 0. */
static enum mcs_status prepare_medsam(const struct sam_config *c, const struct image *img, float *dst,
                                      struct sam_frame *frame)
{
    const int s = c->image_size, n = s * s * CHANNELS;
    struct image rgb, small;
    uint8_t lo = 255, hi = 0;
    *frame = mcs_sam_frame_of(c, img->width, img->height);
    MCS_TRY(mcs_image_alloc(&rgb, img->width, img->height, CHANNELS));
    for (int64_t i = 0, pixels = (int64_t)img->width * img->height; i < pixels; i++)
        for (int k = 0; k < CHANNELS; k++)
            rgb.pixels[i * CHANNELS + k] = img->pixels[i * img->channels + (img->channels == 1 ? 0 : k)];
    const enum mcs_status st = mcs_image_resize_spline(&rgb, s, s, &small);
    mcs_image_free(&rgb);
    if (st != MCS_OK) return mcs_trace(st, __FILE__, __LINE__);
    for (int i = 0; i < n; i++) {
        if (small.pixels[i] < lo) lo = small.pixels[i];
        if (small.pixels[i] > hi) hi = small.pixels[i];
    }
    for (int i = 0; i < n; i++) dst[i] = hi > lo ? (float)((double)(small.pixels[i] - lo) / (double)(hi - lo)) : 0;
    mcs_image_free(&small);
    return MCS_OK;
}

/* SamPredictor.set_image. */
static enum mcs_status prepare_sam(const struct sam_config *c, const struct image *img, float *dst,
                                   struct sam_frame *frame)
{
    static const float mean[CHANNELS] = {123.675f, 116.28f, 103.53f}, deviation[CHANNELS] = {58.395f, 57.12f, 57.375f};
    const int s = c->image_size;
    *frame = mcs_sam_frame_of(c, img->width, img->height);
    struct image small;
    MCS_TRY(mcs_image_resize(img, frame->in_width, frame->in_height, MCS_BILINEAR, &small));
    memset(dst, 0, (size_t)s * (size_t)s * CHANNELS * sizeof *dst);
    for (int y = 0; y < small.height; y++)
        for (int x = 0; x < small.width; x++) {
            const uint8_t *p = small.pixels + ((size_t)y * (size_t)small.width + (size_t)x) * (size_t)small.channels;
            float *q = dst + ((size_t)y * (size_t)s + (size_t)x) * CHANNELS;
            for (int k = 0; k < CHANNELS; k++) q[k] = ((float)p[small.channels == 1 ? 0 : k] - mean[k]) / deviation[k];
        }
    mcs_image_free(&small);
    return MCS_OK;
}

enum mcs_status mcs_sam_prepare(const struct sam_config *c, const struct image *img, float *dst,
                                struct sam_frame *frame)
{
    MCS_REQUIRE(img->width > 0 && img->height > 0 && (img->channels == 1 || img->channels == CHANNELS), MCS_E_DATA,
                "an image of %d x %d with %d channels is none for SAM", img->width, img->height, img->channels);
    return (c->preprocess == SAM_PREPROCESS_MEDSAM ? prepare_medsam : prepare_sam)(c, img, dst, frame);
}

int64_t mcs_sam_embedding_values(const struct sam_config *c)
{
    return (int64_t)mcs_sam_grid(c) * mcs_sam_grid(c) * c->embed;
}

int mcs_sam_side(const struct sam_config *c)
{
    return 4 * mcs_sam_grid(c);
}

static enum mcs_status encode(struct sam_model *m, const float *images, int n, int on_device, float *dst)
{
    const int64_t pixels = (int64_t)m->config.image_size * m->config.image_size * CHANNELS,
                  values = mcs_sam_embedding_values(&m->config);
    const int batch = m->config.image_size <= SMALL_FRAME ? SAM_CHUNK : 1;
    for (int done = 0, now; done < n; done += now) {
        struct sam_plan *p;
        float *to = dst + done * values;
        now = n - done >= batch ? batch : 1;
        MCS_TRY(mcs_sam_plan_get(m, 0, now, 0, 0, &p));
        MCS_TRY(mcs_exec_set(p->exec, p->image, images + done * pixels));
        MCS_TRY(mcs_exec_run(p->exec));
        MCS_TRY(on_device ? m->device->backend->device_ops->copy(m->device, p->embedding, to)
                          : mcs_exec_get(p->exec, p->embedding, to));
    }
    return MCS_OK;
}

enum mcs_status mcs_sam_encode_images(struct sam_model *m, const float *images, int n, float *dst)
{
    return encode(m, images, n, 0, dst);
}

enum mcs_status mcs_sam_encode_on_device(struct sam_model *m, const float *images, int n, float *dst)
{
    return encode(m, images, n, 1, dst);
}

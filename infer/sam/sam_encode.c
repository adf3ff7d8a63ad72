/* SAM's image encoder: preparation of images and their embeddings. */
#include "engine/device_ops.h"
#include "infer/sam/sam_plan.h"

#include <string.h>

enum { SMALL_FRAME = 256, CHANNELS = 3 };

enum mcs_status mcs_sam_prepare(const struct sam_config *c, const struct image *img, float *dst,
                                struct sam_frame *frame)
{
    static const float mean[CHANNELS] = {123.675f, 116.28f, 103.53f}, deviation[CHANNELS] = {58.395f, 57.12f, 57.375f};
    MCS_REQUIRE(img->width > 0 && img->height > 0 && (img->channels == 1 || img->channels == CHANNELS), MCS_E_DATA,
                "an image of %d x %d with %d channels is none for SAM", img->width, img->height, img->channels);
    const int s = c->image_size;
    const double scale = (double)s / (img->width > img->height ? img->width : img->height);
    *frame =
        (struct sam_frame){img->width, img->height, (int)(img->width * scale + 0.5), (int)(img->height * scale + 0.5)};
    if (frame->in_width < 1) frame->in_width = 1; /* thinner than a pixel: segment-anything fails here */
    if (frame->in_height < 1) frame->in_height = 1;
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

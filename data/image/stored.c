/* Images as Pillow holds them before they are converted to RGB, and Image.resize on them. */
#include "data/image/image.h"

#include "data/image/picture.h"

#include <string.h>

/* The last of 2 or 4 channels, as 8 bits. */
static enum mcs_status take_alpha(const struct picture *p, struct image *alpha)
{
    const int64_t n = (int64_t)p->nx * p->ny;
    const int shift = p->type == MCS_PICTURE_U16 ? 8 : 0;
    if ((p->channels != 2 && p->channels != 4) || (p->type != MCS_PICTURE_U8 && p->type != MCS_PICTURE_U16) ||
        p->nz != 1)
        return MCS_OK;
    MCS_TRY(mcs_image_alloc(alpha, p->nx, p->ny, 1));
    for (int64_t i = 0; i < n; i++)
        alpha->pixels[i] = (uint8_t)((int)mcs_picture_value(p, i * p->channels + p->channels - 1) >> shift);
    return MCS_OK;
}

enum mcs_status mcs_image_read_stored(const char *path, struct stored_image *s)
{
    struct picture p;
    memset(s, 0, sizeof *s);
    MCS_TRY(mcs_image_read_upright(path, &p));
    s->nearest = p.palette || (p.channels == 1 && p.bits == 1);
    enum mcs_status st = take_alpha(&p, &s->alpha);
    if (st == MCS_OK) st = mcs_image_of_picture(path, &p, 0, &s->img);
    mcs_picture_free(&p);
    if (st != MCS_OK) mcs_stored_free(s);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

void mcs_stored_free(struct stored_image *s)
{
    mcs_image_free(&s->img);
    mcs_image_free(&s->alpha);
}

/* Pillow's RGBA -> RGBa: v alpha / 255, rounded. */
static enum mcs_status premultiply(const struct image *src, const struct image *alpha, struct image *dst)
{
    const int64_t n = (int64_t)src->width * src->height;
    MCS_TRY(mcs_image_alloc(dst, src->width, src->height, src->channels));
    for (int64_t i = 0; i < n * src->channels; i++) {
        const int v = src->pixels[i] * alpha->pixels[i / src->channels] + 128;
        dst->pixels[i] = (uint8_t)(((v >> 8) + v) >> 8);
    }
    return MCS_OK;
}

/* Pillow's RGBa -> RGBA, in place. */
static void divide(struct image *img, const struct image *alpha)
{
    const int64_t n = (int64_t)img->width * img->height;
    for (int64_t i = 0; i < n * img->channels; i++) {
        const int a = alpha->pixels[i / img->channels];
        if (a == 0 || a == 255) continue;
        const int v = 255 * img->pixels[i] / a;
        img->pixels[i] = (uint8_t)(v > 255 ? 255 : v);
    }
}

enum mcs_status mcs_stored_resize(const struct stored_image *src, int width, int height, enum mcs_filter filter,
                                  struct image *dst)
{
    enum mcs_status st = MCS_OK;
    struct image product = {0}, alpha = {0};
    const int same = width == src->img.width && height == src->img.height;

    if (same || src->nearest || !src->alpha.pixels)
        return mcs_image_resize(&src->img, width, height, src->nearest ? MCS_NEAREST : filter, dst);
    memset(dst, 0, sizeof *dst);
    MCS_TRY_GOTO(premultiply(&src->img, &src->alpha, &product), st, done);
    MCS_TRY_GOTO(mcs_image_resize(&src->alpha, width, height, filter, &alpha), st, done);
    MCS_TRY_GOTO(mcs_image_resize(&product, width, height, filter, dst), st, done);
    divide(dst, &alpha);
done:
    mcs_image_free(&product);
    mcs_image_free(&alpha);
    return st;
}

/* Images as Pillow holds them before they are converted to RGB, and Image.resize on them. */
#include "data/image/image.h"

#include "data/io/file.h"

#include <stdlib.h>
#include <string.h>

enum { PNG_COLOUR_AT = 25, PNG_DEPTH_AT = 24, GREY = 0, INDEXED = 3, GREY_ALPHA = 4, RGB_ALPHA = 6 };

enum mcs_status mcs_image_read_stored(const char *path, struct stored_image *s)
{
    char *bytes;
    int64_t n_bytes;

    memset(s, 0, sizeof *s);
    MCS_TRY(mcs_file_read(path, MCS_IMAGE_FILE_BYTES, &bytes, &n_bytes));
    enum mcs_status st = mcs_image_decode(path, bytes, n_bytes, 0, &s->img);
    if (st == MCS_OK && n_bytes > PNG_COLOUR_AT && !memcmp(bytes, "\x89PNG", 4)) { /* its header was valid */
        const int colour = bytes[PNG_COLOUR_AT], depth = bytes[PNG_DEPTH_AT];
        s->nearest = colour == INDEXED || (colour == GREY && depth == 1);
        if (colour == GREY_ALPHA || colour == RGB_ALPHA) st = mcs_png_decode_alpha(path, bytes, n_bytes, &s->alpha);
    }
    free(bytes);
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

/* Image functions that do not depend on a format. */
#include "data/image/image.h"
#include "data/image/picture.h"
#include "data/image/window.h"
#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const int64_t MAX_PIXELS = (int64_t)1 << 28; /* 16384 x 16384: larger than any X-ray, small enough for memory */
enum { MAX_SIDE = 1 << 16 };

enum mcs_status mcs_image_check_size(const char *name, int64_t width, int64_t height)
{
    MCS_REQUIRE(width > 0 && height > 0 && width <= MAX_SIDE && height <= MAX_SIDE && width * height <= MAX_PIXELS,
                MCS_E_DATA, "%s: %lld x %lld pixels; want 1 to %d a side and at most %lld in all", name,
                (long long)width, (long long)height, MAX_SIDE, (long long)MAX_PIXELS);
    return MCS_OK;
}

enum mcs_status mcs_image_alloc(struct image *img, int width, int height, int channels)
{
    memset(img, 0, sizeof *img);
    MCS_TRY(mcs_image_check_size("image", width, height));
    MCS_REQUIRE(channels == 1 || channels == 3, MCS_E_SHAPE, "an image of %d channels; want 1 or 3", channels);
    MCS_TRY(mcs_memory_check((int64_t)width * height * channels, "an image of %d x %d x %d", width, height, channels));
    img->pixels = calloc((size_t)width * (size_t)height, (size_t)channels);
    MCS_REQUIRE(img->pixels, MCS_E_NOMEM, "no memory for an image of %d x %d x %d", width, height, channels);
    img->width = width;
    img->height = height;
    img->channels = channels;
    return MCS_OK;
}

enum mcs_status mcs_image_write_mask(const char *path, const uint8_t *mask, int width, int height)
{
    struct image img;
    MCS_TRY(mcs_image_alloc(&img, width, height, 1));
    for (int64_t i = 0, n = (int64_t)width * height; i < n; i++) img.pixels[i] = mask[i] ? 255 : 0;
    const enum mcs_status st = mcs_image_write_png(path, &img);
    mcs_image_free(&img);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

void mcs_image_free(struct image *img)
{
    if (!img) return;
    free(img->pixels);
    memset(img, 0, sizeof *img);
}

enum mcs_status mcs_image_convert(struct image *img, int channels)
{
    struct image other;
    int64_t n = (int64_t)img->width * img->height;
    const uint8_t *s = img->pixels;

    if (channels == 0 || channels == img->channels) return MCS_OK;
    MCS_TRY(mcs_image_alloc(&other, img->width, img->height, channels));
    if (channels == 1) {
        for (int64_t i = 0; i < n; i++, s += 3)
            other.pixels[i] = (uint8_t)((19595u * s[0] + 38470u * s[1] + 7471u * s[2] + 32768u) >> 16);
    } else {
        for (int64_t i = 0; i < n; i++) memset(other.pixels + 3 * i, s[i], 3);
    }
    mcs_image_free(img);
    *img = other;
    return MCS_OK;
}

enum mcs_status mcs_image_decode(const char *name, const void *bytes, int64_t n_bytes, int want_channels,
                                 struct image *img)
{
    struct picture p;
    const struct window w = mcs_window_used();
    const int png = n_bytes >= 8 && !memcmp(bytes, "\x89PNG\r\n\x1a\n", 8);
    const int jpeg = n_bytes >= 3 && !memcmp(bytes, "\xff\xd8\xff", 3);
    memset(img, 0, sizeof *img);
    MCS_REQUIRE(png || jpeg, MCS_E_DATA, "%s: neither a PNG nor a JPEG by its first bytes", name);
    MCS_TRY(png ? mcs_png_picture(name, bytes, n_bytes, &p) : mcs_jpeg_picture(name, bytes, n_bytes, &p));
    const enum mcs_status st = mcs_picture_to_image(name, &p, &w, want_channels, img);
    mcs_picture_free(&p);
    if (st != MCS_OK) mcs_image_free(img);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

/* Notes of the first images are told, those of thousands are not. */
static void tell(const char *path, const struct picture *p)
{
    enum { MOST_TOLD = 10 };
    static atomic_int n_told;
    if (!p->notes[0]) return;
    const int n = atomic_fetch_add(&n_told, 1);
    if (n < MOST_TOLD) mcs_log("%s: %s", path, p->notes);
    if (n == MOST_TOLD) mcs_log("notes about further images are left out; mcsam info FILE has them");
}

enum mcs_status mcs_image_read_upright(const char *path, struct picture *p)
{
    MCS_TRY(mcs_picture_read(path, NULL, p));
    const enum mcs_status st = mcs_picture_upright(p);
    if (st == MCS_OK)
        tell(path, p);
    else
        mcs_picture_free(p);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

/* A picture of 8 bits gives its values to the image instead of a copy of them. */
static int take_over(struct picture *p, int windowed, struct image *img)
{
    if (windowed || p->palette || p->inverted || p->nz != 1 || (p->channels != 1 && p->channels != 3)) return 0;
    *img = (struct image){p->nx, p->ny, p->channels, p->values};
    p->values = NULL;
    return 1;
}

enum mcs_status mcs_image_of_picture(const char *path, struct picture *p, int want_channels, struct image *img)
{
    const struct window w = mcs_window_used();
    double low, high;
    int windowed = 1;
    memset(img, 0, sizeof *img);
    MCS_REQUIRE(want_channels == 0 || want_channels == 1 || want_channels == 3, MCS_E_SHAPE, "%s: %d channels wanted",
                path, want_channels);
    if (p->type == MCS_PICTURE_U8) MCS_TRY(mcs_window_of(path, p, &w, &windowed, &low, &high));
    enum mcs_status st = take_over(p, windowed, img) ? mcs_image_convert(img, want_channels)
                                                     : mcs_picture_to_image(path, p, &w, want_channels, img);
    if (st != MCS_OK) mcs_image_free(img);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

enum mcs_status mcs_image_read(const char *path, int want_channels, struct image *img)
{
    struct picture p;
    memset(img, 0, sizeof *img);
    MCS_TRY(mcs_image_read_upright(path, &p));
    const enum mcs_status st = mcs_image_of_picture(path, &p, want_channels, img);
    mcs_picture_free(&p);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

enum mcs_status mcs_image_write_png(const char *path, const struct image *img)
{
    uint8_t *bytes;
    int64_t n_bytes;

    MCS_TRY(mcs_image_encode_png(img, &bytes, &n_bytes));
    enum mcs_status st = mcs_file_write(path, bytes, n_bytes);
    free(bytes);
    MCS_TRY(st);
    return MCS_OK;
}

enum mcs_status mcs_image_crop(const struct image *src, int x0, int y0, int width, int height, struct image *dst)
{
    int c = src->channels;

    memset(dst, 0, sizeof *dst);
    MCS_REQUIRE(x0 >= 0 && y0 >= 0 && width > 0 && height > 0 && width <= src->width - x0 && height <= src->height - y0,
                MCS_E_SHAPE, "a cut of %d x %d at (%d, %d) is not inside %d x %d", width, height, x0, y0, src->width,
                src->height);
    MCS_TRY(mcs_image_alloc(dst, width, height, c));
    for (int y = 0; y < height; y++)
        memcpy(dst->pixels + (size_t)y * width * c, src->pixels + ((size_t)(y0 + y) * src->width + x0) * c,
               (size_t)width * c);
    return MCS_OK;
}

enum mcs_status mcs_map_alloc(struct map2 *m, int width, int height)
{
    memset(m, 0, sizeof *m);
    MCS_TRY(mcs_image_check_size("map", width, height));
    MCS_TRY(mcs_memory_check((int64_t)width * height * (int64_t)sizeof *m->values, "a map of %d x %d", width, height));
    m->values = calloc((size_t)width * (size_t)height, sizeof *m->values);
    MCS_REQUIRE(m->values, MCS_E_NOMEM, "no memory for a map of %d x %d", width, height);
    m->width = width;
    m->height = height;
    return MCS_OK;
}

void mcs_map_free(struct map2 *m)
{
    if (!m) return;
    free(m->values);
    memset(m, 0, sizeof *m);
}

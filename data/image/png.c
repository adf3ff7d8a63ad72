/* PNG through libspng. */
#include "data/image/image.h"
#include "data/image/picture.h"
#include "data/io/file.h"
#include "data/io/gzip.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"

#include <spng.h>

#include <stdlib.h>
#include <string.h>

/* The header, checked, before anything is allocated for the pixels. */
static enum mcs_status open_png(spng_ctx *ctx, const char *name, const void *bytes, int64_t n_bytes,
                                struct spng_ihdr *ihdr)
{
    /* Ancillary chunks (texts, profiles) are not needed: limit their memory. */
    int error = spng_set_chunk_limits(ctx, 1 << 24, 1 << 25);
    if (!error) error = spng_set_png_buffer(ctx, bytes, (size_t)n_bytes);
    if (!error) error = spng_get_ihdr(ctx, ihdr);
    MCS_REQUIRE(!error, MCS_E_DATA, "%s: damaged PNG header: %s", name, spng_strerror(error));
    MCS_TRY(mcs_image_check_size(name, ihdr->width, ihdr->height));
    /* Deflate's best ratio is 1032: a size that would need a higher one is false; it is refused before allocating. */
    MCS_REQUIRE((int64_t)ihdr->width * ihdr->height / 8 * ihdr->bit_depth / MCS_DEFLATE_MAX_RATIO <= n_bytes,
                MCS_E_DATA, "%s: truncated: %lld bytes cannot hold %u x %u pixels", name, (long long)n_bytes,
                ihdr->width, ihdr->height);
    return MCS_OK;
}

/* ---- as stored ---- */

/* Values of 1, 2 or 4 bits, rows padded to bytes, as one byte each; src and dst may not overlap. */
static void unpack(const uint8_t *src, int bits, int width, int height, uint8_t *dst)
{
    const int row_bytes = (width * bits + 7) / 8, mask = (1 << bits) - 1;
    for (int y = 0; y < height; y++, src += row_bytes)
        for (int x = 0; x < width; x++) *dst++ = (uint8_t)(src[x * bits / 8] >> (8 - bits - x * bits % 8) & mask);
}

static enum mcs_status take_palette(spng_ctx *ctx, const char *name, struct picture *p)
{
    struct spng_plte here;
    MCS_REQUIRE(!spng_get_plte(ctx, &here) && here.n_entries, MCS_E_DATA, "%s: a palette PNG without its palette",
                name);
    p->palette = malloc((size_t)here.n_entries * 3 * sizeof *p->palette);
    MCS_REQUIRE(p->palette, MCS_E_NOMEM, "%s: no memory to read it", name);
    p->n_palette = (int)here.n_entries;
    p->palette_max = 255;
    for (uint32_t i = 0; i < here.n_entries; i++) {
        p->palette[3 * i] = here.entries[i].red;
        p->palette[3 * i + 1] = here.entries[i].green;
        p->palette[3 * i + 2] = here.entries[i].blue;
    }
    return MCS_OK;
}

static enum mcs_status decode_stored(spng_ctx *ctx, const char *name, const struct spng_ihdr *ihdr, struct picture *p)
{
    static const int channels_of[] = {[SPNG_COLOR_TYPE_GRAYSCALE] = 1,
                                      [SPNG_COLOR_TYPE_TRUECOLOR] = 3,
                                      [SPNG_COLOR_TYPE_INDEXED] = 1,
                                      [SPNG_COLOR_TYPE_GRAYSCALE_ALPHA] = 2,
                                      [SPNG_COLOR_TYPE_TRUECOLOR_ALPHA] = 4};
    enum mcs_status st = MCS_OK;
    const int bits = ihdr->bit_depth, packed = bits < 8;
    uint8_t *part = NULL;
    size_t n = 0;
    MCS_TRY(mcs_picture_alloc(p, name, ihdr->width, ihdr->height, 1, channels_of[ihdr->color_type],
                              bits == 16 ? MCS_PICTURE_U16 : MCS_PICTURE_U8));
    p->bits = bits;
    int error = spng_decoded_image_size(ctx, SPNG_FMT_PNG, &n);
    const size_t held = (size_t)mcs_picture_count(p) * (bits == 16 ? 2 : 1);
    MCS_REQUIRE_GOTO(!error && (packed ? n <= held + ihdr->height : n == held), MCS_E_DATA, st, done,
                     "%s: damaged PNG: %s", name, spng_strerror(error));
    if (packed) {
        part = malloc(n);
        MCS_REQUIRE_GOTO(part, MCS_E_NOMEM, st, done, "%s: no memory to read it", name);
    }
    error = spng_decode_image(ctx, packed ? part : p->values, n, SPNG_FMT_PNG, 0);
    MCS_REQUIRE_GOTO(!error, MCS_E_DATA, st, done, "%s: truncated or damaged PNG: %s", name, spng_strerror(error));
    if (packed) unpack(part, bits, p->nx, p->ny, p->values);
    if (ihdr->color_type == SPNG_COLOR_TYPE_INDEXED) MCS_TRY_GOTO(take_palette(ctx, name, p), st, done);
done:
    free(part);
    return st;
}

enum mcs_status mcs_png_picture(const char *name, const void *bytes, int64_t n_bytes, struct picture *p)
{
    enum mcs_status st = MCS_OK;
    struct spng_ihdr ihdr;
    memset(p, 0, sizeof *p);
    spng_ctx *ctx = spng_ctx_new(0);
    MCS_REQUIRE(ctx, MCS_E_NOMEM, "%s: no memory to read it", name);
    MCS_TRY_GOTO(open_png(ctx, name, bytes, n_bytes, &ihdr), st, done);
    MCS_TRY_GOTO(decode_stored(ctx, name, &ihdr, p), st, done);
done:
    spng_ctx_free(ctx);
    if (st != MCS_OK) mcs_picture_free(p);
    return st;
}

/* ---- writing ---- */

/* A malloc'ed PNG of these pixels, of n bytes. */
static enum mcs_status encode(struct spng_ihdr *ihdr, const void *pixels, size_t n, uint8_t **bytes, int64_t *n_bytes)
{
    enum mcs_status st = MCS_OK;
    size_t length = 0;

    *bytes = NULL;
    *n_bytes = 0;
    spng_ctx *ctx = spng_ctx_new(SPNG_CTX_ENCODER);
    MCS_REQUIRE(ctx, MCS_E_NOMEM, "no memory to write a PNG");
    int error = spng_set_option(ctx, SPNG_ENCODE_TO_BUFFER, 1);
    if (!error) error = spng_set_ihdr(ctx, ihdr);
    if (!error) error = spng_encode_image(ctx, pixels, n, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
    if (!error) *bytes = spng_get_png_buffer(ctx, &length, &error);
    MCS_REQUIRE_GOTO(!error && *bytes, MCS_E_FAIL, st, done, "cannot make a PNG: %s", spng_strerror(error));
    *n_bytes = (int64_t)length;
done:
    spng_ctx_free(ctx);
    return st;
}

enum mcs_status mcs_image_encode_png(const struct image *img, uint8_t **bytes, int64_t *n_bytes)
{
    struct spng_ihdr ihdr = {.width = (uint32_t)img->width,
                             .height = (uint32_t)img->height,
                             .bit_depth = 8,
                             .color_type = img->channels == 1 ? SPNG_COLOR_TYPE_GRAYSCALE : SPNG_COLOR_TYPE_TRUECOLOR};
    *bytes = NULL;
    *n_bytes = 0;
    MCS_REQUIRE(img->pixels && (img->channels == 1 || img->channels == 3), MCS_E_SHAPE,
                "a PNG of %d channels; want 1 or 3", img->channels);
    return encode(&ihdr, img->pixels, (size_t)img->width * img->height * img->channels, bytes, n_bytes);
}

enum mcs_status mcs_image_write_labels(const char *path, const uint16_t *labels, int width, int height)
{
    struct spng_ihdr ihdr = {
        .width = (uint32_t)width, .height = (uint32_t)height, .bit_depth = 16, .color_type = SPNG_COLOR_TYPE_GRAYSCALE};
    uint8_t *bytes;
    int64_t n_bytes;
    MCS_TRY(encode(&ihdr, labels, (size_t)width * (size_t)height * sizeof *labels, &bytes, &n_bytes));
    const enum mcs_status st = mcs_file_write(path, bytes, n_bytes);
    free(bytes);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

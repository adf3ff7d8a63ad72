/* TIFF through libtiff: pages of one kind as a stack, values as they are stored. */
#include "data/imageread/imageread.h"

#include "data/io/array.h"
#include "engine/base/status.h"

#include <tiffio.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = 65535, MAX_PAGES = 65535 };

/* How the pages are stored; all are equal in it. */
struct layout {
    uint32_t width, height;
    uint16_t bits, samples, photometric, planar, format, compression, orientation;
};

static TIFF *tiff;
static struct layout layout;
static int as_rgba, half; /* libtiff converts colours; values are IEEE binary16 */
static struct imageread_file file;
static int64_t file_at;
static char problem[256]; /* libtiff's last error */

/* ---- libtiff's view of the mapped file ---- */

static tsize_t read_at(thandle_t h, void *dst, tsize_t n)
{
    const int64_t left = file_at < file.n ? file.n - file_at : 0;
    if (n > left) n = (tsize_t)left;
    memcpy(dst, file.bytes + file_at, (size_t)n);
    file_at += n;
    return n;
}

static tsize_t write_none(thandle_t h, void *src, tsize_t n)
{
    return 0;
}

static toff_t seek(thandle_t h, toff_t at, int from)
{
    const int64_t base = from == SEEK_CUR ? file_at : from == SEEK_END ? file.n : 0;
    int64_t to;
    if (__builtin_add_overflow(base, (int64_t)at, &to) || to < 0) return (toff_t)-1;
    file_at = to;
    return (toff_t)to;
}

static int close_none(thandle_t h)
{
    return 0;
}

static toff_t size(thandle_t h)
{
    return (toff_t)file.n;
}

static int map(thandle_t h, void **base, toff_t *n)
{
    memcpy(base, &file.bytes, sizeof *base); /* libtiff only reads */
    *n = (toff_t)file.n;
    return 1;
}

static void unmap(thandle_t h, void *base, toff_t n)
{
}

static void keep_error(const char *module, const char *fmt, va_list ap)
{
    vsnprintf(problem, sizeof problem, fmt, ap);
}

static enum mcs_status damaged(int64_t page)
{
    return MCS_FAIL(MCS_E_DATA, ": truncated or damaged TIFF, page %lld: %s", (long long)page + 1,
                    *problem ? problem : "its values cannot be read");
}

/* ---- header ---- */

static void read_layout(struct layout *l)
{
    memset(l, 0, sizeof *l);
    TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &l->width);
    TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &l->height);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_BITSPERSAMPLE, &l->bits);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLESPERPIXEL, &l->samples);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLEFORMAT, &l->format);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_PLANARCONFIG, &l->planar);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_COMPRESSION, &l->compression);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_ORIENTATION, &l->orientation);
    if (!TIFFGetField(tiff, TIFFTAG_PHOTOMETRIC, &l->photometric)) l->photometric = PHOTOMETRIC_MINISBLACK;
    if (l->format == SAMPLEFORMAT_VOID) l->format = SAMPLEFORMAT_UINT;
}

/* Type and channels, or a refusal by name. */
static enum mcs_status check_layout(struct imageread_info *info)
{
    const struct layout *l = &layout;
    static const char *const colours[] = {[PHOTOMETRIC_MASK] = "a mask of transparency",
                                          [PHOTOMETRIC_SEPARATED] = "CMYK",
                                          [PHOTOMETRIC_YCBCR] = "YCbCr",
                                          [PHOTOMETRIC_CIELAB] = "CIE L*a*b*",
                                          [PHOTOMETRIC_ICCLAB] = "ICC L*a*b*",
                                          [PHOTOMETRIC_ITULAB] = "ITU L*a*b*"};
    const int grey = l->photometric <= PHOTOMETRIC_MINISBLACK || l->photometric == PHOTOMETRIC_PALETTE;
    const int rgb = l->photometric == PHOTOMETRIC_RGB || l->photometric == PHOTOMETRIC_YCBCR;
    MCS_REQUIRE(l->width && l->height && l->width <= MAX_SIDE && l->height <= MAX_SIDE, MCS_E_DATA,
                ": %u x %u pixels; want 1 to %d a side", l->width, l->height, MAX_SIDE);
    MCS_REQUIRE(grey || rgb, MCS_E_DATA, ": a TIFF of %s (photometric %d); want grey, palette or RGB",
                l->photometric <= PHOTOMETRIC_ITULAB && colours[l->photometric] ? colours[l->photometric]
                                                                                : "unknown colours",
                l->photometric);
    MCS_REQUIRE(TIFFIsCODECConfigured(l->compression), MCS_E_DATA,
                ": a TIFF with compression %d, which is not read; save it with LZW or Deflate", l->compression);
    MCS_REQUIRE(l->samples == (grey ? 1 : 3) || l->samples == (grey ? 2 : 4), MCS_E_DATA,
                ": a TIFF of %d channels; want 1 (grey) or 3 (RGB), with or without alpha", l->samples);
    const int whole = l->format == SAMPLEFORMAT_UINT || l->format == SAMPLEFORMAT_INT;
    const int real = l->format == SAMPLEFORMAT_IEEEFP && (l->bits == 16 || l->bits == 32 || l->bits == 64);
    MCS_REQUIRE(real || (whole && ((l->bits >= 1 && l->bits <= 16) || l->bits == 32 || l->bits == 64)), MCS_E_DATA,
                ": a TIFF of %d bits a value (sample format %d); want integers of 1 to 16, 32 or 64 bits or floats of "
                "16, 32 or 64",
                l->bits, l->format);
    MCS_REQUIRE(l->format != SAMPLEFORMAT_INT || l->bits == 8 || l->bits >= 16, MCS_E_DATA,
                ": a TIFF of signed values of %d bits; want 8, 16, 32 or 64", l->bits);
    const int is_signed = l->format == SAMPLEFORMAT_INT;
    half = real && l->bits == 16;
    info->type = real            ? l->bits == 64 ? MCS_PICTURE_F64 : MCS_PICTURE_F32
                 : l->bits <= 8  ? MCS_PICTURE_U8 + is_signed
                 : l->bits <= 16 ? MCS_PICTURE_U16 + is_signed
                 : l->bits == 32 ? MCS_PICTURE_U32 + is_signed
                                 : MCS_PICTURE_U64 + is_signed;
    info->bits = real ? 0 : l->bits;
    info->channels = l->samples;
    info->inverted = l->photometric == PHOTOMETRIC_MINISWHITE;
    info->orientation = l->orientation >= 1 && l->orientation <= 8 ? l->orientation : 1;
    return MCS_OK;
}

/* YCbCr: JPEG's is converted by its decoder, other kinds by libtiff's RGBA interface, of 8 bits. */
static enum mcs_status check_ycbcr(struct imageread_info *info)
{
    as_rgba = layout.photometric == PHOTOMETRIC_YCBCR && layout.compression != COMPRESSION_JPEG;
    if (layout.photometric != PHOTOMETRIC_YCBCR) return MCS_OK;
    MCS_REQUIRE(layout.bits == 8 && layout.samples == 3, MCS_E_DATA,
                ": a YCbCr TIFF of %d channels of %d bits; want 3 of 8", layout.samples, layout.bits);
    if (!as_rgba) TIFFSetField(tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    return MCS_OK;
}

/* 1: a page of the stack, 0: a smaller copy of one, or a mask. */
static int is_page(void)
{
    uint32_t kind = 0;
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SUBFILETYPE, &kind);
    return !(kind & (FILETYPE_REDUCEDIMAGE | FILETYPE_MASK));
}

static int same_layout(const struct layout *a, const struct layout *b)
{
    return a->width == b->width && a->height == b->height && a->bits == b->bits && a->samples == b->samples &&
           a->photometric == b->photometric && a->planar == b->planar && a->format == b->format &&
           a->compression == b->compression && a->orientation == b->orientation;
}

static enum mcs_status count_pages(struct imageread_info *info)
{
    int left_out = 0;
    do {
        struct layout l;
        read_layout(&l);
        MCS_REQUIRE(info->nz + left_out < MAX_PAGES, MCS_E_DATA, ": more than %d pages", MAX_PAGES);
        if (!is_page()) {
            left_out++;
            continue;
        }
        if (info->nz++ == 0) layout = l;
        MCS_REQUIRE(
            same_layout(&l, &layout), MCS_E_DATA,
            ": its pages differ: page 1 is %u x %u with %d channels of %d bits, page %lld is %u x %u with %d of %d, "
            "or they are stored otherwise; save each as a file",
            layout.width, layout.height, layout.samples, layout.bits, (long long)info->nz, l.width, l.height, l.samples,
            l.bits);
    } while (TIFFReadDirectory(tiff));
    MCS_REQUIRE(!*problem, MCS_E_DATA, ": damaged TIFF after page %lld: %s", (long long)info->nz, problem);
    MCS_REQUIRE(info->nz, MCS_E_DATA, ": a TIFF without a page that is an image");
    if (left_out) mcs_imageread_note(info, "smaller copies or masks of its pages left out");
    return MCS_OK;
}

enum mcs_status mcs_imageread_tiff(const struct imageread_file *f, struct imageread_info *info)
{
    file = *f;
    TIFFSetWarningHandler(NULL);
    TIFFSetErrorHandler(keep_error);
    info->format = IMAGEREAD_TIFF;
    info->slope = 1;
    tiff = TIFFClientOpen("image", "rmh", NULL, read_at, write_none, seek, close_none, size, map, unmap);
    MCS_REQUIRE(tiff && TIFFReadDirectory(tiff), MCS_E_DATA, ": damaged TIFF header: %s", problem);
    *problem = 0;
    MCS_TRY(count_pages(info));
    info->nx = layout.width;
    info->ny = layout.height;
    MCS_TRY(check_layout(info));
    MCS_TRY(check_ycbcr(info));
    if (layout.photometric == PHOTOMETRIC_PALETTE) {
        MCS_REQUIRE(layout.bits <= 16 && layout.samples == 1, MCS_E_DATA, ": a palette TIFF of %d channels of %d bits",
                    layout.samples, layout.bits);
        info->n_palette = 1 << layout.bits;
        info->palette_max = 65535;
    }
    /* Nothing compresses better than 1032 but runs of bilevel codes and LZMA: a false size is refused before memory. */
    const double stored = (double)info->nx * info->ny * info->nz * layout.samples * layout.bits / 8;
    MCS_REQUIRE(layout.compression != COMPRESSION_NONE || stored <= (double)f->n, MCS_E_DATA,
                ": truncated: %lld bytes cannot hold %lld x %lld x %lld pixels", (long long)f->n, (long long)info->nx,
                (long long)info->ny, (long long)info->nz);
    return MCS_OK;
}

/* ---- values ---- */

/* A value of `bits` bits at bit position `at`, most significant first. */
static unsigned bits_at(const uint8_t *src, int64_t at, int bits)
{
    unsigned v = 0;
    for (int k = 0; k < bits; k++, at++) v = v << 1 | (src[at / 8] >> (7 - at % 8) & 1);
    return v;
}

/* One block (width, height, in_samples), rows padded to bytes, to its place in the page (ny, nx, samples); its first
 * sample is number `sample`. Parts outside the page are dropped. */
struct block {
    uint32_t x, y, width, height;
    int in_samples, sample;
};

static void place(const uint8_t *src, const struct block *b, uint8_t *page)
{
    const int bits = layout.bits, samples = layout.samples, packed = bits != 8 && bits != 16 && bits < 32;
    const int64_t row_bytes = ((int64_t)b->width * b->in_samples * bits + 7) / 8;
    const size_t held = half ? 4 : bits <= 8 ? 1 : bits <= 16 ? 2 : (size_t)bits / 8;
    for (uint32_t y = 0; y < b->height && b->y + y < layout.height; y++)
        for (uint32_t x = 0; x < b->width && b->x + x < layout.width; x++)
            for (int s = 0; s < b->in_samples; s++) {
                const int64_t at = (int64_t)x * b->in_samples + s;
                const uint8_t *row = src + (int64_t)y * row_bytes;
                uint8_t *dst =
                    page +
                    (((size_t)(b->y + y) * layout.width + b->x + x) * (size_t)samples + (size_t)(b->sample + s)) * held;
                if (packed) {
                    const unsigned v = bits_at(row, at * bits, bits);
                    if (bits <= 8)
                        *dst = (uint8_t)v;
                    else
                        memcpy(dst, &(uint16_t){(uint16_t)v}, 2);
                } else if (half) {
                    uint16_t h;
                    float v;
                    memcpy(&h, row + 2 * at, 2);
                    mcs_half_to_float(&h, 1, &v);
                    memcpy(dst, &v, 4);
                } else
                    memcpy(dst, row + (int64_t)held * at, held);
            }
}

/* Tiles or strips, of one plane or all samples together. */
static enum mcs_status read_page(int64_t page, uint8_t *dst)
{
    enum mcs_status st = MCS_OK;
    const int tiled = TIFFIsTiled(tiff), planes = layout.planar == PLANARCONFIG_SEPARATE ? layout.samples : 1;
    uint32_t width = layout.width, height = 0;
    if (tiled) {
        TIFFGetField(tiff, TIFFTAG_TILEWIDTH, &width);
        TIFFGetField(tiff, TIFFTAG_TILELENGTH, &height);
    } else
        TIFFGetFieldDefaulted(tiff, TIFFTAG_ROWSPERSTRIP, &height);
    if (!tiled && height > layout.height) height = layout.height;
    const int64_t block_bytes = tiled ? (int64_t)TIFFTileSize64(tiff) : (int64_t)TIFFStripSize64(tiff);
    const int in_samples = layout.samples / planes;
    const int64_t least = ((int64_t)width * in_samples * layout.bits + 7) / 8 * height;
    if (!width || !height || block_bytes < least || block_bytes > (int64_t)1 << 32) return damaged(page);
    uint8_t *block = calloc((size_t)block_bytes, 1);
    MCS_REQUIRE(block, MCS_E_NOMEM, ": no memory for a block of %lld bytes", (long long)block_bytes);
    for (int s = 0; s < planes; s++)
        for (uint32_t y = 0; y < layout.height; y += height)
            for (uint32_t x = 0; x < layout.width; x += width) {
                const struct block b = {
                    x, y, width, tiled || y + height <= layout.height ? height : layout.height - y, in_samples, s};
                const int64_t wanted =
                    tiled ? block_bytes : ((int64_t)width * in_samples * layout.bits + 7) / 8 * b.height;
                const tmsize_t got =
                    tiled ? TIFFReadEncodedTile(tiff, TIFFComputeTile(tiff, x, y, 0, (uint16_t)s), block, block_bytes)
                          : TIFFReadEncodedStrip(tiff, TIFFComputeStrip(tiff, y, (uint16_t)s), block, wanted);
                if (got < wanted) {
                    st = damaged(page);
                    goto done;
                }
                place(block, &b, dst);
            }
done:
    free(block);
    return st;
}

static enum mcs_status read_rgba(int64_t page, uint8_t *dst)
{
    const size_t n = (size_t)layout.width * layout.height;
    uint32_t *rgba = malloc(n * sizeof *rgba);
    MCS_REQUIRE(rgba, MCS_E_NOMEM, ": no memory for its colours");
    const int ok = TIFFReadRGBAImageOriented(tiff, layout.width, layout.height, rgba, layout.orientation, 1);
    for (size_t i = 0; ok && i < n; i++) {
        dst[3 * i] = (uint8_t)TIFFGetR(rgba[i]);
        dst[3 * i + 1] = (uint8_t)TIFFGetG(rgba[i]);
        dst[3 * i + 2] = (uint8_t)TIFFGetB(rgba[i]);
    }
    free(rgba);
    return ok ? MCS_OK : damaged(page);
}

enum mcs_status mcs_imageread_tiff_values(void *values, uint16_t *palette)
{
    const size_t held = half ? 4 : layout.bits <= 8 ? 1 : layout.bits <= 16 ? 2 : (size_t)layout.bits / 8;
    const size_t page_bytes = (size_t)layout.width * layout.height * layout.samples * held;
    int64_t page = 0;
    *problem = 0;
    MCS_REQUIRE(TIFFSetDirectory(tiff, 0), MCS_E_DATA, ": damaged TIFF: %s", problem);
    do {
        if (!is_page()) continue;
        if (layout.photometric == PHOTOMETRIC_YCBCR && !as_rgba)
            TIFFSetField(tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
        MCS_TRY(as_rgba ? read_rgba(page, (uint8_t *)values + (size_t)page * page_bytes)
                        : read_page(page, (uint8_t *)values + (size_t)page * page_bytes));
        if (page++ == 0 && layout.photometric == PHOTOMETRIC_PALETTE) {
            uint16_t *rgb[3];
            MCS_REQUIRE(TIFFGetField(tiff, TIFFTAG_COLORMAP, &rgb[0], &rgb[1], &rgb[2]), MCS_E_DATA,
                        ": a palette TIFF without its palette");
            for (int i = 0; i < 1 << layout.bits; i++)
                for (int c = 0; c < 3; c++) palette[3 * i + c] = rgb[c][i];
        }
    } while (TIFFReadDirectory(tiff));
    return MCS_OK;
}

/* BMP: palettes of 1, 4 and 8 bits, 24 and 32 bits, not compressed (BITMAPINFOHEADER and its successors). */
#include "data/image/image.h"
#include "data/image/raw_values.h"

#include <stdlib.h>
#include <string.h>

enum { FILE_HEADER = 14, LEAST_INFO = 40, RGB = 0, BITFIELDS = 3 };

static uint32_t number(const uint8_t *p, int n)
{
    uint32_t v = 0;
    while (n--) v = v << 8 | p[n];
    return v;
}

struct bmp {
    int width, height, bits, upward; /* upward: the last row comes first, as mostly */
    int64_t at, row_bytes;
};

static enum mcs_status read_header(const char *name, const uint8_t *b, int64_t n, struct bmp *m)
{
    const uint32_t info = n >= FILE_HEADER + 4 ? number(b + 14, 4) : 0;
    MCS_REQUIRE(info >= LEAST_INFO && n >= FILE_HEADER + (int64_t)LEAST_INFO, MCS_E_DATA,
                "%s: truncated BMP, or one of OS/2, which is not read", name);
    const int64_t height = (int32_t)number(b + 22, 4), width = (int32_t)number(b + 18, 4);
    const uint32_t compression = number(b + 30, 4);
    m->bits = (int)number(b + 28, 2);
    m->upward = height > 0;
    MCS_TRY(mcs_image_check_size(name, width, height < 0 ? -height : height));
    m->width = (int)width;
    m->height = (int)(height < 0 ? -height : height);
    const int plain =
        compression == RGB && (m->bits == 1 || m->bits == 4 || m->bits == 8 || m->bits == 24 || m->bits == 32);
    const int masks = compression == BITFIELDS && m->bits == 32 && n >= 66 && number(b + 54, 4) == 0xff0000 &&
                      number(b + 58, 4) == 0xff00 && number(b + 62, 4) == 0xff;
    MCS_REQUIRE(plain || masks, MCS_E_DATA,
                "%s: a BMP of %d bits with compression %u, which is not read; save it as PNG", name, m->bits,
                compression);
    m->at = number(b + 10, 4);
    m->row_bytes = ((int64_t)m->width * m->bits + 31) / 32 * 4;
    MCS_REQUIRE(m->at >= FILE_HEADER + LEAST_INFO && m->row_bytes * m->height <= n - m->at, MCS_E_DATA,
                "%s: truncated: %lld bytes cannot hold %d x %d pixels", name, (long long)n, m->width, m->height);
    return MCS_OK;
}

static enum mcs_status read_palette(const char *name, const uint8_t *b, const struct bmp *m, struct picture *p)
{
    const int64_t info = number(b + 14, 4), first = FILE_HEADER + info;
    int64_t n = number(b + 46, 4);
    if (!n) n = 1 << m->bits;
    MCS_REQUIRE(n <= 1 << m->bits && first + 4 * n <= m->at, MCS_E_DATA, "%s: a palette of %lld colours does not fit",
                name, (long long)n);
    p->palette = malloc((size_t)n * 3 * sizeof *p->palette);
    MCS_REQUIRE(p->palette, MCS_E_NOMEM, "%s: no memory to read it", name);
    p->n_palette = (int)n;
    p->palette_max = 255;
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++) p->palette[3 * i + c] = b[first + 4 * i + 2 - c];
    return MCS_OK;
}

/* A palette from black to white in equal steps: the values are grey, and the palette says nothing more. */
static int is_grey_ramp(const struct picture *p)
{
    const int most = (1 << p->bits) - 1;
    for (int i = 0; i < 3 * p->n_palette; i++)
        if (p->palette[i] != i / 3 * 255 / most) return 0;
    return p->n_palette == most + 1;
}

enum mcs_status mcs_bmp_picture(const char *name, const void *bytes, int64_t n_bytes, struct picture *p)
{
    const uint8_t *b = bytes;
    struct bmp m;
    memset(p, 0, sizeof *p);
    MCS_TRY(read_header(name, b, n_bytes, &m));
    const int colours = m.bits >= 24;
    MCS_TRY(mcs_picture_alloc(p, name, m.width, m.height, 1, colours ? 3 : 1, MCS_PICTURE_U8));
    uint8_t *dst = p->values;
    for (int y = 0; y < m.height; y++) {
        const uint8_t *row = b + m.at + (m.upward ? m.height - 1 - y : y) * m.row_bytes;
        for (int x = 0; x < m.width; x++)
            if (colours)
                for (int c = 0; c < 3; c++) *dst++ = row[x * (m.bits / 8) + 2 - c];
            else
                *dst++ = (uint8_t)(row[x * m.bits / 8] >> (8 - m.bits - x * m.bits % 8) & ((1 << m.bits) - 1));
    }
    if (!colours) p->bits = m.bits;
    const enum mcs_status st = colours ? MCS_OK : read_palette(name, b, &m, p);
    if (p->palette && is_grey_ramp(p)) {
        free(p->palette);
        p->palette = NULL;
        p->n_palette = p->palette_max = 0;
    }
    if (st != MCS_OK) mcs_picture_free(p);
    return st;
}

#include "data/image/exif.h"

#include <string.h>

enum { SOI = 0xd8, EOI = 0xd9, SOS = 0xda, APP1 = 0xe1, DHT = 0xc4, JPG = 0xc8, DAC = 0xcc };
enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3 };

/* An unsigned number of n bytes, big endian or not. */
static uint32_t number(const uint8_t *p, int n, int big)
{
    uint32_t v = 0;
    for (int i = 0; i < n; i++) v = v << 8 | p[big ? i : n - 1 - i];
    return v;
}

/* tiff: the TIFF header in an EXIF segment, of n bytes; the first directory holds the orientation. */
static int exif_orientation(const uint8_t *tiff, int64_t n)
{
    if (n < 8 || (memcmp(tiff, "II*\0", 4) != 0 && memcmp(tiff, "MM\0*", 4) != 0)) return 1;
    const int big = tiff[0] == 'M';
    const int64_t at = number(tiff + 4, 4, big);
    if (at > n - 2) return 1;
    const int64_t entries = number(tiff + at, 2, big);
    for (int64_t i = 0; i < entries; i++) {
        const int64_t entry = at + 2 + 12 * i;
        if (entry > n - 12) return 1;
        if (number(tiff + entry, 2, big) != TAG_ORIENTATION || number(tiff + entry + 2, 2, big) != TYPE_SHORT) continue;
        const uint32_t value = number(tiff + entry + 8, 2, big);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

void mcs_jpeg_segments(const uint8_t *bytes, int64_t n_bytes, int *precision, int *orientation)
{
    int64_t at = 2;
    *precision = 0;
    *orientation = 1;
    while (at + 4 <= n_bytes) {
        if (bytes[at] != 0xff) { /* padding, or damage, which the decoder reports */
            at++;
            continue;
        }
        const int marker = bytes[at + 1];
        if (marker == SOS || marker == EOI) return;
        if (marker == 0xff) { /* a fill byte */
            at++;
            continue;
        }
        if (marker == 0 || marker == SOI || (marker >= 0xd0 && marker <= 0xd7) || marker == 1) { /* no contents */
            at += 2;
            continue;
        }
        const uint8_t *segment = bytes + at + 4;
        const int64_t n = (int64_t)number(bytes + at + 2, 2, 1) - 2;
        if (n < 0 || n > n_bytes - at - 4) return;
        if (marker == APP1 && n >= 6 && !memcmp(segment, "Exif\0\0", 6) && *orientation == 1)
            *orientation = exif_orientation(segment + 6, n - 6);
        const int frame = marker >= 0xc0 && marker <= 0xcf && marker != DHT && marker != JPG && marker != DAC;
        if (frame && n >= 1) *precision = segment[0];
        at += 4 + n;
    }
}

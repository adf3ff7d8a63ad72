#include "engine/image/rle.h"

#include <stdlib.h>

enum mcs_status mcs_rle_encode(const uint8_t *mask, int width, int height, struct rle *r)
{
    int n = 1, last = 0;
    *r = (struct rle){width, height, 0, NULL};
    for (int pass = 0; pass < 2; pass++) { /* 0: counts the runs; 1: stores their lengths */
        if (pass) {
            r->counts = calloc((size_t)n, sizeof *r->counts);
            MCS_REQUIRE(r->counts, MCS_E_NOMEM, "no memory for a mask of %d runs", n);
            r->n = n;
        }
        n = 1;
        last = 0;
        for (int x = 0; x < width; x++)
            for (int y = 0; y < height; y++) {
                const int inside = mask[(int64_t)y * width + x] != 0;
                n += inside != last;
                last = inside;
                if (pass) r->counts[n - 1]++;
            }
    }
    return MCS_OK;
}

void mcs_rle_free(struct rle *r)
{
    free(r->counts);
    *r = (struct rle){0};
}

void mcs_rle_decode(const struct rle *r, uint8_t *dst)
{
    int64_t at = 0;
    for (int i = 0; i < r->n; i++)
        for (uint32_t k = 0; k < r->counts[i]; k++, at++)
            dst[at % r->height * r->width + at / r->height] = (uint8_t)(i & 1);
}

int64_t mcs_rle_area(const struct rle *r)
{
    int64_t area = 0;
    for (int i = 1; i < r->n; i += 2) area += r->counts[i];
    return area;
}

char *mcs_rle_string(const struct rle *r)
{
    enum { BITS = 5, MORE = 1 << BITS, SIGN = MORE / 2, MOST = 7 /* characters of a count */ };
    char *text = malloc((size_t)r->n * MOST + 1), *to = text;
    if (!text) return NULL;
    for (int i = 0; i < r->n; i++) {
        int64_t v = (int64_t)r->counts[i] - (i > 2 ? (int64_t)r->counts[i - 2] : 0);
        for (int more = 1; more;) {
            int c = (int)(v & (MORE - 1));
            v = v >= 0 ? v / MORE : -((MORE - 1 - v) / MORE); /* rounded down */
            more = c & SIGN ? v != -1 : v != 0;
            *to++ = (char)(48 + c + (more ? MORE : 0));
        }
    }
    *to = 0;
    return text;
}

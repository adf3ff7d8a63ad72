#include "tests/support/support_jpeg.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

void jpeg_encode(const struct image *img, int quality, uint8_t **bytes, int64_t *n_bytes)
{
    const int grey = img->channels == 1;
    unsigned long n = 0;
    unsigned char *packed = NULL;
    tjhandle tj = tjInitCompress();
    cr_assert(tj && tjCompress2(tj, img->pixels, img->width, 0, img->height, grey ? TJPF_GRAY : TJPF_RGB, &packed, &n,
                                grey ? TJSAMP_GRAY : TJSAMP_444, quality, TJFLAG_ACCURATEDCT) == 0);
    *bytes = malloc(n); /* copied: the library has a separate allocator */
    cr_assert(*bytes);
    memcpy(*bytes, packed, n);
    *n_bytes = (int64_t)n;
    tjFree(packed);
    tjDestroy(tj);
}

/* JPEG files for tests; the program only reads them. */
#ifndef MCS_SUPPORT_JPEG_H
#define MCS_SUPPORT_JPEG_H

#include "data/image/image.h"

/* Encodes img without chroma subsampling, quality 1..100. The buffer is released with free. Fails the test on an error.
 */
void jpeg_encode(const struct image *img, int quality, uint8_t **bytes, int64_t *n_bytes);

#endif

/* The segments of a JPEG file that its decoder does not report: precision, and EXIF's orientation. */
#ifndef MCS_EXIF_H
#define MCS_EXIF_H

#include <stdint.h>

/* Reads the segments before the first scan. precision: bits a sample (0: no frame header). orientation: 1 to 8 (EXIF
 * 2.3, tag 0x0112; 1 where there is none or it is damaged). */
void mcs_jpeg_segments(const uint8_t *bytes, int64_t n_bytes, int *precision, int *orientation);

#endif

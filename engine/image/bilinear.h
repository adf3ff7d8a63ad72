/* Bilinear resampling of a float map: half-pixel centres, no antialiasing (torch interpolate, align_corners=False),
 * edges clamped. */
#ifndef MCS_BILINEAR_H
#define MCS_BILINEAR_H

struct bilinear {
    int src_width, src_height, width, height;
};
/* src (src_height, src_width) -> the first n values of row y of the map scaled to (height, width). */
void mcs_bilinear_row(const struct bilinear *b, const float *src, int y, int n, float *dst);

#endif

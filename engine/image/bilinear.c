#include "engine/image/bilinear.h"

#include <string.h>

/* Source place of output i: half-pixel centres, clamped below at the first centre. All in float32, as torch computes
 * it. */
static void place(int i, float scale, int n_in, int *first, int *second, float *part)
{
    float at = scale * ((float)i + 0.5f) - 0.5f;
    if (at < 0) at = 0;
    *first = (int)at < n_in ? (int)at : n_in - 1;
    *second = *first + 1 < n_in ? *first + 1 : *first;
    *part = at - (float)*first;
}

void mcs_bilinear_row(const struct bilinear *b, const float *src, int y, int n, float *dst)
{
    const float scale_x = (float)b->src_width / (float)b->width, scale_y = (float)b->src_height / (float)b->height;
    int y0, y1, x0, x1;
    float fy, fx;
    if (b->width == b->src_width && b->height == b->src_height) {
        memcpy(dst, src + (size_t)y * (size_t)b->width, (size_t)n * sizeof *dst);
        return;
    }
    place(y, scale_y, b->src_height, &y0, &y1, &fy);
    const float *upper = src + (size_t)y0 * (size_t)b->src_width, *lower = src + (size_t)y1 * (size_t)b->src_width;
    for (int x = 0; x < n; x++) {
        place(x, scale_x, b->src_width, &x0, &x1, &fx);
        dst[x] = (1 - fy) * ((1 - fx) * upper[x0] + fx * upper[x1]) + fy * ((1 - fx) * lower[x0] + fx * lower[x1]);
    }
}

/* The values of pictures: as numbers, and turned upright. */
#include "data/image/picture.h"

#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

int64_t mcs_picture_count(const struct picture *p)
{
    return (int64_t)p->nx * p->ny * p->nz * p->channels;
}

double mcs_picture_value(const struct picture *p, int64_t i)
{
    switch (p->type) {
#define X(name, c_type, text)                                                                                          \
    case MCS_PICTURE_##name: return (double)((const c_type *)p->values)[i];
        MCS_PICTURE_TYPE_LIST(X)
#undef X
    default: return 0;
    }
}

void mcs_picture_to_float(const struct picture *p, int64_t i, int64_t n, float *dst)
{
    const double slope = p->slope, inter = p->inter;
    const int scaled = slope != 1 || inter != 0;
    switch (p->type) {
#define X(name, c_type, text)                                                                                          \
    case MCS_PICTURE_##name: {                                                                                         \
        const c_type *s = (const c_type *)p->values + i;                                                               \
        if (scaled)                                                                                                    \
            for (int64_t k = 0; k < n; k++) dst[k] = (float)(slope * (double)s[k] + inter);                            \
        else                                                                                                           \
            for (int64_t k = 0; k < n; k++) dst[k] = (float)s[k];                                                      \
        break;                                                                                                         \
    }
        MCS_PICTURE_TYPE_LIST(X)
#undef X
    default: break;
    }
}

/* The pixel of the stored image (width, height) that is shown at (x, y): EXIF 2.3, 4.6.4, tag 0x0112. */
static int64_t stored_pixel(int orientation, int x, int y, int64_t width, int64_t height)
{
    const int64_t right = width - 1 - x, below = height - 1 - y;
    switch (orientation) {
    case 2: return y * width + right;
    case 3: return below * width + right;
    case 4: return below * width + x;
    case 5: return x * width + y;
    case 6: return (height - 1 - x) * width + y;
    case 7: return (height - 1 - x) * width + (width - 1 - y);
    case 8: return x * width + (width - 1 - y);
    default: return y * width + x;
    }
}

enum mcs_status mcs_picture_upright(struct picture *p)
{
    static const char *const done[] = {"",
                                       "",
                                       "mirrored left to right",
                                       "turned by 180 degrees",
                                       "mirrored top to bottom",
                                       "transposed",
                                       "turned by 90 degrees clockwise",
                                       "transposed along the other diagonal",
                                       "turned by 90 degrees anticlockwise"};
    if (p->orientation < 2 || p->orientation > 8) return MCS_OK;
    const int turned = p->orientation >= 5, nx = turned ? p->ny : p->nx, ny = turned ? p->nx : p->ny;
    const size_t pixel = (size_t)p->channels * (size_t)mcs_picture_type_bytes(p->type);
    const size_t page = (size_t)nx * (size_t)ny * pixel;
    MCS_TRY(mcs_memory_check((int64_t)page * p->nz, "an image of %d x %d to be turned", p->nx, p->ny));
    char *values = malloc(page * (size_t)p->nz), *dst = values;
    MCS_REQUIRE(values, MCS_E_NOMEM, "no memory to turn an image of %d x %d", p->nx, p->ny);
    for (int z = 0; z < p->nz; z++) {
        const char *src = (const char *)p->values + (size_t)z * page;
        for (int y = 0; y < ny; y++)
            for (int x = 0; x < nx; x++, dst += pixel)
                memcpy(dst, src + (size_t)stored_pixel(p->orientation, x, y, p->nx, p->ny) * pixel, pixel);
    }
    free(p->values);
    p->values = values;
    p->nx = nx;
    p->ny = ny;
    if (turned) {
        const double s = p->spacing[0];
        p->spacing[0] = p->spacing[1];
        p->spacing[1] = s;
    }
    if (!p->has_affine) mcs_picture_plain_affine(p);
    mcs_picture_note(p, "EXIF orientation %d applied: %s", p->orientation, done[p->orientation]);
    p->orientation = 1;
    return MCS_OK;
}

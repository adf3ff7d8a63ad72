#include "infer/nnunet/nnunet_crop.h"

#include <stdlib.h>
#include <string.h>

static int64_t voxels(const int64_t shape[3])
{
    return shape[0] * shape[1] * shape[2];
}

int mcs_nnunet_box(const float *values, int channels, const int64_t shape[3], struct nnunet_box *box)
{
    *box = (struct nnunet_box){{shape[0], shape[1], shape[2]}, {0, 0, 0}};
    for (int c = 0; c < channels; c++)
        for (int64_t z = 0; z < shape[0]; z++)
            for (int64_t y = 0; y < shape[1]; y++) {
                const float *row = values + c * voxels(shape) + (z * shape[1] + y) * shape[2];
                int64_t first = 0, last = shape[2] - 1;
                while (first <= last && row[first] == 0) first++;
                if (first > last) continue;
                while (row[last] == 0) last--;
                const int64_t at[3] = {z, y, first}, end[3] = {z, y, last};
                for (int d = 0; d < 3; d++) {
                    if (at[d] < box->lo[d]) box->lo[d] = at[d];
                    if (end[d] + 1 > box->hi[d]) box->hi[d] = end[d] + 1;
                }
            }
    return box->hi[0] > 0;
}

void mcs_nnunet_crop(const float *src, int channels, const int64_t shape[3], const struct nnunet_box *box, float *dst)
{
    const int64_t n = box->hi[2] - box->lo[2];
    for (int c = 0; c < channels; c++)
        for (int64_t z = box->lo[0]; z < box->hi[0]; z++)
            for (int64_t y = box->lo[1]; y < box->hi[1]; y++, dst += n)
                memmove(dst, src + c * voxels(shape) + (z * shape[1] + y) * shape[2] + box->lo[2],
                        (size_t)n * sizeof *dst);
}

/* Marks an outside voxel and adds it to the list of those whose neighbours are to be looked at. */
static int64_t visit(uint8_t *inside, int64_t *list, int64_t n, int64_t at)
{
    if (inside[at] != 2) return n;
    inside[at] = 0;
    list[n] = at;
    return n + 1;
}

/* A flood from the border: 2 is a voxel of zeros that was not reached yet. The crop's border is where the image's
 * zeros begin, or the image's own border, so that it leads outside as well. */
enum mcs_status mcs_nnunet_inside(const float *values, int channels, const int64_t shape[3], uint8_t *inside)
{
    const int64_t n = voxels(shape), step[3] = {shape[1] * shape[2], shape[2], 1};
    int64_t zeros = 0, n_list = 0;
    for (int64_t i = 0; i < n; i++) {
        inside[i] = 2;
        for (int c = 0; c < channels && inside[i] == 2; c++)
            if (values[c * n + i] != 0) inside[i] = 1;
        zeros += inside[i] == 2;
    }
    int64_t *list = malloc(((size_t)zeros + 1) * sizeof *list);
    MCS_REQUIRE(list, MCS_E_NOMEM, "no memory for the mask of %lld voxels", (long long)n);
    for (int64_t z = 0; z < shape[0]; z++)
        for (int64_t y = 0; y < shape[1]; y++) {
            const int64_t row = z * step[0] + y * step[1];
            const int edge = z == 0 || z == shape[0] - 1 || y == 0 || y == shape[1] - 1;
            for (int64_t x = 0; x < shape[2]; x += edge || x == shape[2] - 1 ? 1 : shape[2] - 1)
                n_list = visit(inside, list, n_list, row + x);
        }
    while (n_list) {
        const int64_t at = list[--n_list];
        const int64_t place[3] = {at / step[0], at / step[1] % shape[1], at % shape[2]};
        for (int d = 0; d < 3; d++) {
            if (place[d] > 0) n_list = visit(inside, list, n_list, at - step[d]);
            if (place[d] < shape[d] - 1) n_list = visit(inside, list, n_list, at + step[d]);
        }
    }
    free(list);
    for (int64_t i = 0; i < n; i++) inside[i] = inside[i] != 0;
    return MCS_OK;
}

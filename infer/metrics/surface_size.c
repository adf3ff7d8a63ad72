#include "infer/metrics/surface_size.h"

#include <math.h>
#include <string.h>

/* One code of each kind of cell with at most four voxels set; turns, mirrors and complements give the others. For each
 * triangle the area's projections along x, y and z in eighths of a cell's face (a triangle of projections p, q, r has
 * the area sqrt(p^2 + q^2 + r^2) / 8 at spacing 1). */
static const struct cell {
    unsigned char code, n;
    unsigned char triangles[4][3];
} cells[] = {
    {0x01, 1, {{1, 1, 1}}},                                  /* one voxel: a corner is cut off */
    {0x03, 2, {{2, 0, 2}, {2, 0, 2}}},                       /* an edge: an inclined rectangle */
    {0x06, 2, {{1, 1, 1}, {1, 1, 1}}},                       /* two on a face's diagonal */
    {0x18, 2, {{1, 1, 1}, {1, 1, 1}}},                       /* two opposite in space */
    {0x07, 3, {{1, 1, 1}, {2, 2, 2}, {4, 0, 0}}},            /* three of a face */
    {0x16, 3, {{1, 1, 1}, {1, 1, 1}, {1, 1, 1}}},            /* three without a common edge */
    {0x19, 3, {{0, 2, 2}, {0, 2, 2}, {1, 1, 1}}},            /* an edge and one apart */
    {0x0f, 2, {{4, 0, 0}, {4, 0, 0}}},                       /* a face */
    {0x17, 4, {{1, 1, 1}, {1, 1, 1}, {2, 2, 2}, {2, 2, 2}}}, /* one and its three neighbours: a hexagon */
    {0x1b, 4, {{0, 2, 2}, {1, 1, 1}, {2, 2, 0}, {3, 3, 3}}}, /* a path around three directions */
    {0x1e, 4, {{1, 1, 1}, {1, 1, 1}, {2, 2, 2}, {4, 0, 0}}}, /* three of a face and one apart */
    {0x3c, 4, {{2, 0, 2}, {2, 0, 2}, {2, 0, 2}, {2, 0, 2}}}, /* two opposite edges */
    {0x69, 4, {{1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}}}, /* every second one */
};

static const int axes[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

/* The code after axis i of the result is axis `from[i]` of the cell, mirrored where bit i of `mirror` is set. */
static int turned(int code, const int from[3], int mirror)
{
    int result = 0;
    for (int b = 0; b < 8; b++) {
        if (!(code >> b & 1)) continue;
        const int place[3] = {b < 4, b & 1, b >> 1 & 1};
        int to[3];
        for (int i = 0; i < 3; i++) to[i] = place[from[i]] ^ (mirror >> i & 1);
        result |= 1 << ((to[0] ? 0 : 4) + to[1] + 2 * to[2]);
    }
    return result;
}

void mcs_surface_areas(const double spacing[3], double size[256])
{
    const double face[3] = {spacing[1] * spacing[2] / 8, spacing[0] * spacing[2] / 8, spacing[0] * spacing[1] / 8};
    memset(size, 0, 256 * sizeof *size);
    for (int c = 0; c < (int)(sizeof cells / sizeof *cells); c++)
        for (int turn = 0; turn < 48; turn++) {
            const int *from = axes[turn / 8], code = turned(cells[c].code, from, turn % 8);
            double area = 0;
            for (int t = 0; t < cells[c].n; t++) {
                double square = 0;
                for (int i = 0; i < 3; i++) {
                    const double side = cells[c].triangles[t][from[i]] * face[i];
                    square += side * side;
                }
                area += sqrt(square);
            }
            size[code] = size[255 - code] = area;
        }
}

/* A code on a plane with its pixels counted: n are set; across: two on a diagonal; upright: two in one column. */
struct square {
    int n, across, upright;
};

static struct square square_of(int code)
{
    const int a = code >> 4 & 1, b = code >> 5 & 1, c = code & 1, d = code >> 1 & 1; /* (0,0) (0,1) (1,0) (1,1): x, y */
    return (struct square){a + b + c + d, a + b + c + d == 2 && a == d, a + b + c + d == 2 && a == b};
}

void mcs_surface_lengths(const double spacing[2], double size[256])
{
    const double diagonal = 0.5 * sqrt(spacing[0] * spacing[0] + spacing[1] * spacing[1]);
    for (int code = 0; code < 256; code++) {
        const struct square q = square_of(code);
        size[code] = q.n == 0 || q.n == 4 ? 0.0
                     : q.n != 2           ? diagonal
                     : q.across           ? 2.0 * diagonal
                     : q.upright          ? spacing[1]
                                          : spacing[0];
    }
}

void mcs_surface_slice_areas(double size[256])
{
    /* Of a corner's eight voxels four are pixels and four are background: one set pixel cuts off a corner, two adjacent
     * are an inclined rectangle, two diagonal are two triangles, three are half a square and a trapezoid, four are a
     * square. The layers of corners above and below are alike. */
    const double triangle = sqrt(3.0) / 8.0;
    for (int code = 0; code < 256; code++) {
        const struct square q = square_of(code);
        size[code] = q.n == 0   ? 0.0
                     : q.n == 1 ? 2.0 * triangle
                     : q.n == 3 ? 1.0 + 6.0 * triangle
                     : q.n == 4 ? 2.0
                     : q.across ? 4.0 * triangle
                                : sqrt(2.0);
    }
}

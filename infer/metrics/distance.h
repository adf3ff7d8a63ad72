/* Exact Euclidean distance transform on a grid, 2-D and 3-D (P. Felzenszwalb, D. Huttenlocher, "Distance transforms of
 * sampled functions", Theory of Computing 8, 2012): the lower envelope of parabolas along each line of each axis, in
 * linear time. */
#ifndef MCS_DISTANCE_H
#define MCS_DISTANCE_H

#include "engine/base/status.h"

#include <stdint.h>

/* distance (nz, ny, nx): from each cell to the nearest cell with nonzero sites, in the units of spacing {x, y, z};
 * INFINITY if there is no site. 2-D: nz 1. With unit spacing the squared distances are exact integers.
 * E_SHAPE, E_NOMEM. */
enum mcs_status mcs_distance_transform(const uint8_t *sites, int nx, int ny, int nz, const double spacing[3],
                                       double *distance);

/* One line of it. Scratch of n cells; release with mcs_distance_line_free. E_NOMEM. */
struct distance_line {
    double *height, *begin; /* (n) squared distances so far, INFINITY: none; where each parabola begins to be lowest */
    int *apex, *nearest;    /* (n) the cells of those parabolas; for each cell the one whose parabola is lowest there */
};
enum mcs_status mcs_distance_line_alloc(struct distance_line *s, int n);
/* From height to nearest: the cell p with the least height[p] + (spacing (q - p))^2 for each q. 0: all are infinite. */
int mcs_distance_line(int n, double spacing, struct distance_line *s);
void mcs_distance_line_free(struct distance_line *s);

#endif

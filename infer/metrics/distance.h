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

#endif

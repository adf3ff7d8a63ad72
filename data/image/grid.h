/* Where the voxels of a file lie in the world, and whether those of two files are the same ones. */
#ifndef MCS_GRID_H
#define MCS_GRID_H

#include "engine/base/status.h"

#include <stdint.h>

struct picture;

struct grid {
    int n[3];                    /* voxels along x, y, z */
    int has_spacing, has_affine; /* 1: the file says so */
    double spacing[3];           /* mm */
    double affine[16];           /* row-major: voxel (x, y, z, 1) -> mm */
};
struct grid mcs_grid_of_picture(const struct picture *p);

/* How a file's voxels are those of another grid: voxel v of the grid is voxel (sign v[axis] + offset) of the file, axis
 * by axis. same: nothing is to be done; turned: the same voxels stored otherwise; else another grid, and apart_mm says
 * how far its corners are from the nearest fit (infinite: other sizes). */
enum grid_relation { MCS_GRID_SAME, MCS_GRID_TURNED, MCS_GRID_OTHER };
struct grid_map {
    enum grid_relation relation;
    int axis[3], sign[3], offset[3]; /* of the file's axis i */
    double apart_mm;
    double matrix[12]; /* (3, 4) voxel of the grid -> voxel of the file, for resampling; both have affines */
    const char *why;   /* of MCS_GRID_OTHER: a constant */
};

/* Where one of the two has no affine, sizes and the spacings that both have are compared, and axes are taken as stored.
 * Grids are the same where no corner is more than a twentieth of a voxel off, or
 * sizes and affines are equal. E_DATA: else an affine that is singular; the
 * messages contain `file` and `grid` names. */
enum mcs_status mcs_grid_compare(const char *file, const struct grid *of, const char *grid_file,
                                 const struct grid *grid, struct grid_map *map);
/* A text such as "+x -y +z" of a turn: the file's axes along the grid's x, y, z. */
const char *mcs_grid_turn_text(const struct grid_map *map, char text[16]);
/* 1: the axes of the affine are not at right angles (by more than a thousandth). */
int mcs_grid_is_sheared(const struct grid *g);

#endif

/* The size of the piece of a mask's surface around one corner between pixels or voxels, by which of them are set. */
#ifndef MCS_SURFACE_SIZE_H
#define MCS_SURFACE_SIZE_H

/* A code of the 2 x 2 x 2 voxels around a corner: bit b is the voxel at x = b < 4, y = b & 1, z = b >> 1 & 1 (0: before
 * the corner, 1: after it). On a plane bits 0, 1, 4 and 5 are the four pixels.
 *
 * Areas in mm2 for all 256 codes: the triangles of marching cubes through the middles of the cell's edges, scaled by
 * spacing {x, y, z} in mm. Codes 0 and 255 have area 0. The triangles are those of the library surface-distance (S.
 * Nikolov et al., 2018), so that areas are equal to its areas. */
void mcs_surface_areas(const double spacing[3], double size[256]);
/* Lengths in mm of marching squares' contours, by the same codes on a plane. */
void mcs_surface_lengths(const double spacing[2], double size[256]);
/* Areas where the plane is a volume of one slice of thickness 1 between background, spacing 1 x 1, both layers of
 * corners together. All four pixels set: 2, a surface above and below. */
void mcs_surface_slice_areas(double size[256]);

#endif

/* Volumes: NIfTI in and out (libnifti2), geometry kept. */
#ifndef MCS_VOLUME_H
#define MCS_VOLUME_H

#include "engine/status.h"

#include <stdint.h>

/* A volume as float32: `values` is (nz, ny, nx), x fastest, owned by the volume; scl_slope / scl_inter applied. 2-D
 * images have nz 1. `header` is the reader's own copy of the file's header, so that a mask can be written with the same
 * geometry; NULL for a volume that came from no file. */
struct volume {
    int nx, ny, nz;
    float spacing[3]; /* mm, x y z */
    float *values;
    void *header;
};

/* Reads .nii, .nii.gz (or .hdr/.img), NIfTI-1 or -2, either byte order, any integer or float type of up to 64 bits.
 * E_NOINPUT, E_DATA (truncated, corrupt, more than 3 dimensions, colour or complex voxels; NaN is kept), E_IO. */
enum mcs_status mcs_volume_read(const char *path, struct volume *v);
/* A zeroed volume of one's own. spacing NULL is 1 mm. */
enum mcs_status mcs_volume_alloc(struct volume *v, int nx, int ny, int nz, const float spacing[3]);
void mcs_volume_free(struct volume *v);
/* Writes `labels` (nz, ny, nx) as uint8 NIfTI with the geometry of `like`; whole or not at all; gzip when path ends in
 * .gz. The sizes are like->nx, ny, nz; like->values is not looked at. The same contents give the same bytes. */
enum mcs_status mcs_volume_write_u8(const char *path, const uint8_t *labels, const struct volume *like);
enum mcs_status mcs_volume_write_f32(const char *path, const float *values, const struct volume *like);

#endif

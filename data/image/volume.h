/* Volumes: reading and writing NIfTI with its geometry. */
#ifndef MCS_VOLUME_H
#define MCS_VOLUME_H

#include "engine/base/status.h"

#include <stdint.h>

struct image;        /* data/image/image.h */
struct nifti_header; /* data/image/nifti.h */
struct picture;      /* data/image/picture.h */

/* A volume as float32: `values` is (nz, ny, nx), x fastest, owned by the volume; scl_slope / scl_inter applied. 2-D
 * images have nz 1. `header` is the file's, owned, so that a mask can be written with the same geometry; NULL for a
 * volume that was not read from a file. */
struct volume {
    int nx, ny, nz;
    float spacing[3]; /* mm, x y z */
    float *values;
    struct nifti_header *header;
};

/* Reads any format of the table of readers (data/image/picture.h), by its content. NIfTI: .nii, or .hdr with .img
 * (given either name), each also as .gz, in upper or lower case; NIfTI-1 or -2, either byte order, any integer or float
 * type of up to 64 bits. Values that float32 cannot represent are rounded to the nearest: integers beyond 2^24, and
 * float64. Spacing in metres or microns is converted to mm. NaN is kept. E_NOINPUT; E_IO (also: not a regular file);
 * E_DATA: damaged, truncated or too long, ANALYZE 7.5, several volumes, colour or complex voxels, a spacing of 0 or
 * NaN, or more voxels than --max-memory allows (found from the header, before memory is allocated). On failure *v is
 * zeroed. */
enum mcs_status mcs_volume_read(const char *path, struct volume *v);
/* A volume of a picture of one channel, with rescaling, and with a header that holds its affine where the picture has
 * one; values whose smallest is white are mirrored. E_DATA: colours; as mcs_volume_alloc. */
enum mcs_status mcs_volume_of_picture(const char *path, const struct picture *p, struct volume *v);
/* A zeroed volume without a header. spacing NULL is 1 mm. E_SHAPE, E_DATA (--max-memory), E_NOMEM. */
enum mcs_status mcs_volume_alloc(struct volume *v, int nx, int ny, int nz, const float spacing[3]);
void mcs_volume_free(struct volume *v);
/* An image for a network that takes values: 8 bits, and colours, as *img; grey of more bits, or with rescaling, as *v
 * of one slice, with its values (want_channels 0 or 1). The other one of the two is zeroed. Errors as mcs_image_read.
 */
enum mcs_status mcs_image_read_deep(const char *path, int want_channels, struct image *img, struct volume *v);
/* Writes `labels` (nz, ny, nx) as uint8 NIfTI with the geometry of `like`; whole or not at all; gzip when path ends in
 * .gz. The sizes are like->nx, ny, nz; like->values is not read. NIfTI-1, or NIfTI-2 where a side exceeds 32767. The
 * same contents give the same bytes. */
enum mcs_status mcs_volume_write_u8(const char *path, const uint8_t *labels, const struct volume *like);
enum mcs_status mcs_volume_write_f32(const char *path, const float *values, const struct volume *like);

#endif

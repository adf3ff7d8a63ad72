/* NIfTI headers, versions 1 and 2, and their voxels. The formats: https://nifti.nimh.nih.gov (nifti1.h and nifti2.h
 * give offset, type and meaning of each field). Every byte of a header is hostile: it is checked before it is used. */
#ifndef MCS_NIFTI_H
#define MCS_NIFTI_H

#include "engine/base/status.h"

#include <stdint.h>

enum {
    MCS_NIFTI1_BYTES = 348,
    MCS_NIFTI2_BYTES = 540,
    MCS_NIFTI_MAX_BYTES = MCS_NIFTI2_BYTES + 4, /* with the four bytes that say whether extensions follow */
    MCS_NIFTI_MAX_SIDE = 65535,                 /* voxels along one axis that are read; version 1 can store 32767 */
};

/* The voxel types that can be read:
 *     code  C type    name */
#define MCS_NIFTI_TYPE_LIST(X)                                                                                         \
    X(2, uint8_t, UINT8)                                                                                               \
    X(4, int16_t, INT16)                                                                                               \
    X(8, int32_t, INT32)                                                                                               \
    X(16, float, FLOAT32)                                                                                              \
    X(64, double, FLOAT64)                                                                                             \
    X(256, int8_t, INT8)                                                                                               \
    X(512, uint16_t, UINT16)                                                                                           \
    X(768, uint32_t, UINT32)                                                                                           \
    X(1024, int64_t, INT64)                                                                                            \
    X(1280, uint64_t, UINT64)

enum nifti_type {
#define X(code, c_type, name) MCS_NIFTI_##name = code,
    MCS_NIFTI_TYPE_LIST(X)
#undef X
};

/* The fields of a header that describe the image; integers as int64_t and reals as double whatever their width in the
 * file, so that a header read from one version can be written in the other. */
struct nifti_header {
    int version; /* 1 or 2 */
    int paired;  /* 1: the voxels are in an .img file beside this .hdr */
    int swapped; /* 1: not this machine's byte order */

    int64_t dim[8]; /* dim[0]: number of dimensions; then the size of each */
    int64_t datatype, bitpix;
    double pixdim[8];               /* [0]: qfac, 1 or -1, sign of the qform's z axis; [1..3]: spacing */
    double vox_offset;              /* file offset of the voxels */
    double scl_slope, scl_inter;    /* value = slope * stored + inter */
    int64_t xyzt_units;             /* low three bits: space; next three: time */
    int64_t qform_code, sform_code; /* coordinate systems of qform and sform, 0: not given */
    double quatern[3], qoffset[3];  /* qform: rotation and shift */
    double srow[12];                /* sform: the rows of an affine matrix */
    int64_t intent_code, dim_info;  /* meaning of the values; frequency, phase and slice axes */
    double intent_p[3];
    int64_t slice_start, slice_end, slice_code;
    double slice_duration, toffset;
    char descrip[80], aux_file[24], intent_name[16]; /* without a NUL where the field is full */
};

/* The size of a header that starts with these four bytes: 348 or 540 in either byte order, or 0: not NIfTI. */
int mcs_nifti_header_bytes(const uint8_t first[4]);
/* Reads a header of n_bytes and checks it: one volume of at most three dimensions, a type of the list, plausible sizes
 * and scaling. A slope of 0 or NaN becomes 1 with inter 0 (the standard: no scaling). `name` is used in messages.
 * E_DATA: not NIfTI, ANALYZE 7.5, damaged, or a named feature that is not supported. */
enum mcs_status mcs_nifti_parse(const char *name, const uint8_t *bytes, int64_t n_bytes, struct nifti_header *h);
/* Writes header and extension flag; returns their size, 352 or 544, where the voxels start. The file has version 1 (2
 * where a side exceeds 32767), one file, this machine's byte order, no scaling; `type` replaces h->datatype. */
int mcs_nifti_make(const struct nifti_header *h, enum nifti_type type, uint8_t bytes[MCS_NIFTI_MAX_BYTES]);

int mcs_nifti_value_bytes(const struct nifti_header *h);
/* Converts n stored voxels to float32 with scaling (computed in double). src is byte-swapped in place where the file
 * has the other byte order. Integers beyond 2^24 and float64 are rounded to the nearest float32. */
void mcs_nifti_to_float(const struct nifti_header *h, void *src, int64_t n, float *dst);
/* Voxel spacing along x, y and z in mm, from pixdim (its sign is dropped) and the unit: metre, mm, micron; unknown
 * means mm. An axis beyond dim[0] without a spacing, or one of one voxel with spacing 0, is 1 mm. E_DATA: 0, NaN,
 * infinite, or 1 km and more. */
enum mcs_status mcs_nifti_spacing(const char *name, const struct nifti_header *h, float spacing[3]);

/* The affine of voxel numbers to mm, RAS+, row-major (4,4): the sform where its code is above 0, else the qform where
 * its code is, else 0 is returned and affine is left alone. Metres and microns become mm. When both are given and move
 * a corner of the volume by more than a tenth of the smallest spacing apart, *apart_mm (NULL allowed) is the distance,
 * else 0. spacing: of mcs_nifti_spacing. Formulas: nifti1.h, methods 2 and 3. */
int mcs_nifti_affine(const struct nifti_header *h, const float spacing[3], double affine[16], double *apart_mm);
/* Stored voxels of n, byte-swapped in place where the file has the other byte order. */
void mcs_nifti_native(const struct nifti_header *h, void *values, int64_t n);

#endif

/* Values behind the text header of an NRRD or MetaImage file, in it or in a file beside it. */
#ifndef MCS_RAW_VALUES_H
#define MCS_RAW_VALUES_H

#include "data/image/picture.h"

enum raw_encoding { MCS_RAW_BINARY, MCS_RAW_DEFLATE, MCS_RAW_TEXT };

enum { MCS_RAW_NAME_BYTES = 512 };

/* The fields of such a header. */
struct raw_header {
    int64_t size[3]; /* voxels along x, y, z; 1 where there is no such axis */
    int nd, channels;
    enum picture_type type;
    enum raw_encoding encoding;
    int big_endian;
    char data_file[MCS_RAW_NAME_BYTES]; /* beside the header; "": behind it */
    int64_t skip;                       /* bytes before the values; -1: they are the last bytes of the file */
    int skip_lines;                     /* lines before that */
};

/* Allocates the picture and reads its values. header: the file's bytes, whose values begin at `start`. E_DATA:
 * truncated, too long, damaged, sizes beyond the limits, a data file outside the header's folder; E_NOINPUT: no such
 * data file. */
enum mcs_status mcs_raw_read(const char *path, const struct raw_header *h, const char *header, int64_t n_header,
                             int64_t start, struct picture *p);
/* Reads n numbers from text, separated by blanks, commas or brackets; how many there are. */
int mcs_raw_numbers(const char *text, int n, double *dst);
/* Spacing and affine of three columns (direction times spacing) and an origin, in LPS where lps, else in RAS. E_DATA: a
 * spacing of 0 or NaN, axes in one plane. */
enum mcs_status mcs_raw_geometry(const char *path, const double columns[9], const double origin[3], int lps,
                                 struct picture *p);

enum mcs_status mcs_nrrd_picture(const char *path, struct picture *p);
enum mcs_status mcs_metaimage_picture(const char *path, struct picture *p);
enum mcs_status mcs_bmp_picture(const char *name, const void *bytes, int64_t n_bytes, struct picture *p);

#endif

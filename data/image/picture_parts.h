/* Parts of data/image/picture.c in other files. */
#ifndef MCS_PICTURE_PARTS_H
#define MCS_PICTURE_PARTS_H

#include "data/image/imageread_protocol.h"
#include "data/image/picture.h"

/* Where a slice of a DICOM series lies. */
struct slice_place {
    int known;                        /* 0: the file does not say; the rest but series is then without meaning */
    double position[3], cosines[6];   /* mm, LPS: centre of the first voxel; directions of x and of y */
    char series[IMAGEREAD_UID_BYTES]; /* series instance UID, "" where there is none */
};

/* TIFF, DICOM, JPEG 2000, through the helper program. place: NULL allowed. */
enum mcs_status mcs_helped_picture(const char *path, struct picture *p, struct slice_place *place);

#endif

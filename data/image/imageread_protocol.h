/* The messages between mcsam (data/image/picture_helper.c) and the helper program that decodes TIFF, DICOM and JPEG
 * 2000 (data/imageread), on top of data/helper/helper_protocol.h. One reply follows each request; a request that fails
 * ends the helper's use. */
#ifndef MCS_IMAGEREAD_PROTOCOL_H
#define MCS_IMAGEREAD_PROTOCOL_H

#include "data/helper/helper_protocol.h"

#include <stdint.h>

#define IMAGEREAD_NAME "mcsam-imageread"
#define IMAGEREAD_MAGIC "mcsam-im"
enum { IMAGEREAD_NOTE_BYTES = 512, IMAGEREAD_UID_BYTES = 65, IMAGEREAD_MAX_PALETTE = 65536 };

enum imageread_format { IMAGEREAD_TIFF, IMAGEREAD_DICOM, IMAGEREAD_JPEG_2000, IMAGEREAD_N_FORMATS };

enum imageread_op {
    IMAGEREAD_OP_INFO, /* the header: info */
    IMAGEREAD_OP_GET,  /* the values, in `bytes` bytes of shared memory, then the palette's (n, 3) uint16 */
};

struct imageread_request {
    uint32_t op;
    int64_t bytes;
};

/* The fields of struct picture (data/image/picture.h) by their names there, and the place of a DICOM slice. */
struct imageread_info {
    int32_t format, type, bits, channels, n_palette, palette_max, inverted, has_window, orientation;
    int32_t has_spacing, has_affine;
    int64_t nx, ny, nz;
    double slope, inter, window_low, window_high;
    double spacing[3], affine[16];
    char series[IMAGEREAD_UID_BYTES]; /* DICOM's series instance UID; "" elsewhere */
    int32_t has_place;                /* 1: position and cosines are those of one slice */
    double position[3], cosines[6];   /* mm, LPS: centre of the first voxel; directions of x and of y */
    char notes[IMAGEREAD_NOTE_BYTES];
};

struct imageread_reply {
    int32_t status; /* enum mcs_status */
    struct imageread_info info;
    char message[MCS_HELPER_MESSAGE_BYTES]; /* the text after the file's name and ": " */
};

#endif

/* The decoders of the helper program. Each opens the file, which is mapped into memory, and fills `info` from its
 * header; then it decodes the values once. Errors begin with ": ", an empty name, which mcsam replaces. A program
 * decodes one file, so a decoder keeps its state in variables of its file. */
#ifndef MCS_IMAGEREAD_H
#define MCS_IMAGEREAD_H

#ifdef __cplusplus
extern "C" {
#endif

#include "data/image/imageread_protocol.h"
#include "data/image/picture.h"
#include "engine/base/status.h"

#include <stddef.h>

struct imageread_file {
    const uint8_t *bytes;
    int64_t n;
};

/* values: nz * ny * nx * channels of info's type, zeroed; palette: (n_palette, 3). */
typedef enum mcs_status (*imageread_decode)(void *values, uint16_t *palette);

enum mcs_status mcs_imageread_tiff(const struct imageread_file *f, struct imageread_info *info);
enum mcs_status mcs_imageread_tiff_values(void *values, uint16_t *palette);
enum mcs_status mcs_imageread_j2k(const struct imageread_file *f, struct imageread_info *info);
enum mcs_status mcs_imageread_j2k_values(void *values, uint16_t *palette);
enum mcs_status mcs_imageread_dicom(const struct imageread_file *f, struct imageread_info *info);
enum mcs_status mcs_imageread_dicom_values(void *values, uint16_t *palette);
/* Called before the limits: reads the dictionary of DICOM, a file of its library. */
void mcs_imageread_dicom_prepare(const uint8_t *bytes, int64_t n); /* the first bytes of the file */

/* 1: a JPEG 2000 file or codestream by its first bytes. */
int mcs_imageread_is_j2k(const uint8_t *bytes, int64_t n);
/* Decodes one codestream or file of nx * ny pixels with `channels` components into int32 (ny, nx, channels). E_DATA:
 * damaged, other sizes, subsampled components. */
enum mcs_status mcs_imageread_j2k_frame(const uint8_t *bytes, int64_t n, int64_t nx, int64_t ny, int channels,
                                        int32_t *dst);
/* Adds a note; what does not fit is cut. */
void mcs_imageread_note(struct imageread_info *info, const char *text);

#ifdef __cplusplus
}
#endif

#endif

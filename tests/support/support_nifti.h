/* NIfTI files written byte by byte at the standard's offsets (nifti1.h, nifti2.h), independently of data/image/nifti.c.
 */
#ifndef MCS_SUPPORT_NIFTI_H
#define MCS_SUPPORT_NIFTI_H

#include <stdint.h>

enum { NIFTI_FILE_BYTES = 1 << 16 };

/* The fields of a header; nifti_spec() returns typical values. */
struct nifti_spec {
    int version, paired, swapped;
    int64_t dim[8];
    int datatype, bitpix;
    double pixdim[8], vox_offset, slope, inter;
    int units, qform_code, sform_code;
};
/* NIfTI-1, single file, 4 x 3 x 2 of int16, 0.5 x 0.75 x 2.5 mm, no scaling. */
struct nifti_spec nifti_spec(void);

struct nifti_file {
    int n;
    uint8_t bytes[NIFTI_FILE_BYTES];
};
/* Writes the header and four zero bytes (no extensions); returns the number of bytes, 352 or 544. All other fields get
 * distinct values that are not 0. */
int nifti_header(const struct nifti_spec *s, struct nifti_file *f);
/* Appends n values of the spec's datatype, values[i] converted to it. */
void nifti_append(const struct nifti_spec *s, struct nifti_file *f, const double *values, int n);
/* Writes bytes in the file's byte order: `swapped` reverses them. */
void nifti_put(uint8_t *at, const void *value, int n, int swapped);
/* Writes the bytes to a file; packed: compressed by the gzip program. */
void nifti_save(const char *path, const void *bytes, int n, int packed);
/* Bits of a datatype of the standard, 0: unknown. */
int nifti_bits(int datatype);

#endif

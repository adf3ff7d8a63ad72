/* NIfTI files made byte by byte from the standard's offsets (nifti1.h, nifti2.h), by code that shares nothing with
 * data/image/nifti.c. */
#ifndef MCS_SUPPORT_NIFTI_H
#define MCS_SUPPORT_NIFTI_H

#include <stdint.h>

enum { NIFTI_FILE_BYTES = 1 << 16 };

/* What a header should say; nifti_spec() has the usual. */
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
/* The header, with four zero bytes after it (no extensions); returns their number, 352 or 544. The other fields have
 * values that differ from each other and from 0. */
int nifti_header(const struct nifti_spec *s, struct nifti_file *f);
/* Appends n values of the spec's datatype, values[i] converted to it. */
void nifti_append(const struct nifti_spec *s, struct nifti_file *f, const double *values, int n);
/* Puts bytes in the file's order: `swapped` reverses them. */
void nifti_put(uint8_t *at, const void *value, int n, int swapped);
/* Writes the bytes to a file, or as gzip by the gzip program. */
void nifti_save(const char *path, const void *bytes, int n, int packed);
/* Bits of a datatype of the standard, 0: unknown. */
int nifti_bits(int datatype);

#endif

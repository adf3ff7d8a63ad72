/* An image or volume of any format with the values that its file stores. Labels, images and volumes are all read
 * through the table of readers here; the file's content decides which reader, its name only where the content says
 * nothing (.img, the raw half of a pair).
 *
 *     struct picture p;
 *     MCS_TRY(mcs_picture_read(path, NULL, &p));
 *     for (int64_t i = 0; i < mcs_picture_count(&p); i++) use(mcs_picture_value(&p, i));
 *     mcs_picture_free(&p);
 *
 * Nothing is converted that would lose a value: a palette image holds indices and its palette, 16 bits stay 16 bits,
 * rescaling, inversion, windows and EXIF orientation are told, not applied. */
#ifndef MCS_PICTURE_H
#define MCS_PICTURE_H

#include "engine/base/status.h"

#include <stdint.h>

struct image;        /* data/image/image.h */
struct nifti_header; /* data/image/nifti.h */

/*     name, C type, text */
#define MCS_PICTURE_TYPE_LIST(X)                                                                                       \
    X(U8, uint8_t, "uint8")                                                                                            \
    X(I8, int8_t, "int8")                                                                                              \
    X(U16, uint16_t, "uint16")                                                                                         \
    X(I16, int16_t, "int16")                                                                                           \
    X(U32, uint32_t, "uint32")                                                                                         \
    X(I32, int32_t, "int32")                                                                                           \
    X(U64, uint64_t, "uint64")                                                                                         \
    X(I64, int64_t, "int64")                                                                                           \
    X(F32, float, "float32")                                                                                           \
    X(F64, double, "float64")

enum picture_type {
#define X(name, c_type, text) MCS_PICTURE_##name,
    MCS_PICTURE_TYPE_LIST(X)
#undef X
        MCS_PICTURE_N_TYPES
};

enum { MCS_PICTURE_NOTE_BYTES = 1024 };

struct picture {
    int nx, ny, nz;         /* nz 1: 2-D. Multi-page and multi-frame files have nz pages or frames */
    int channels;           /* 1 grey, index or scalar; 3 RGB; 2 and 4: the same with alpha last */
    enum picture_type type; /* of a stored value */
    int bits;     /* significant bits of a stored integer, 1 to 64: grey of 4 bits has values 0 to 15; 0: float */
    void *values; /* (nz, ny, nx, channels), x fastest but for channels, native byte order; owned */
    double slope, inter; /* meaning of a stored value: slope * stored + inter; 1 and 0: none */

    uint16_t *palette;              /* (n_palette, 3) RGB, owned; NULL: none. values are indices into it */
    int n_palette, palette_max;     /* palette_max: value of full intensity, 255 or 65535 */
    int inverted;                   /* 1: the smallest value is white (MONOCHROME1, WhiteIsZero) */
    int has_window;                 /* 1: the file proposes a window on rescaled values */
    double window_low, window_high; /* shown black and white */
    int orientation;                /* EXIF, 1 to 8; 1: as stored. mcs_picture_upright applies it */

    int has_spacing, has_affine; /* 1: the file says so; 0: 1 mm, or an affine from the spacing alone */
    double spacing[3];           /* mm, x y z; above 0 */
    double affine[16];           /* row-major: voxel (x, y, z, 1) -> mm, RAS+ (NIfTI's axes) */
    struct nifti_header *header; /* of a NIfTI file, owned; else NULL */

    const char *format;                 /* "PNG", "NIfTI": a constant */
    char notes[MCS_PICTURE_NOTE_BYTES]; /* facts about the reading that a user should see, "; " between; mostly "" */
};

/* Choices of the caller; NULL: none of them. */
struct picture_choice {
    const char
        *series; /* of a DICOM folder with several: the series' UID, its end, or its number; NULL: the only one */
};

/* Reads a file, in one go, whatever the case of its name; of a folder the DICOM series in it (data/image/series.h).
 * E_NOINPUT: no such file; E_IO: unreadable or not a regular file; E_DATA: a format that is not in the table (named
 * where it is known), damaged, truncated, several time points, or larger than --max-memory allows. On failure *p is
 * zeroed, and nothing is to be freed; else the caller releases it with mcs_picture_free. */
enum mcs_status mcs_picture_read(const char *path, const struct picture_choice *choice, struct picture *p);
void mcs_picture_free(struct picture *p); /* NULL and a zeroed picture are allowed */

/* 1 where one of the readers takes the file by its content, and *format (NULL allowed) its name. 0 with no message
 * held: no reader does, or it cannot be opened. Reads the first bytes alone. */
int mcs_picture_known(const char *path, const char **format);

/* nx * ny * nz * channels: the number of values. */
int64_t mcs_picture_count(const struct picture *p);
/* The stored value at i as a double (exact below 2^53), without slope and inter. */
double mcs_picture_value(const struct picture *p, int64_t i);
/* n stored values from i on as float32, with slope and inter, which are computed in double. Floats that are NaN stay.
 */
void mcs_picture_to_float(const struct picture *p, int64_t i, int64_t n, float *dst);
int mcs_picture_type_bytes(enum picture_type type);
const char *mcs_picture_type_name(enum picture_type type); /* "uint16" */
/* 1 for a format whose stored values are not those that were written: JPEG. */
int mcs_picture_is_lossy(const struct picture *p);

/* Applies EXIF orientation to the values (nx and ny are exchanged for 5 to 8), sets it to 1 and adds a note. Nothing
 * where it is 1. E_NOMEM, E_DATA (--max-memory): *p is unchanged. */
enum mcs_status mcs_picture_upright(struct picture *p);

/* For readers. */
/* Sets sizes and type and allocates zeroed values, with slope 1, orientation 1, spacing 1 mm and the affine of that.
 * Whatever *p held is forgotten, not released. E_DATA: sizes below 1, a side or a number of pixels beyond the limits,
 * --max-memory; E_NOMEM. */
enum mcs_status mcs_picture_alloc(struct picture *p, const char *name, int64_t nx, int64_t ny, int64_t nz, int channels,
                                  enum picture_type type);
/* A picture of an 8-bit image, whose pixels it takes over: *img is zeroed. */
void mcs_picture_of_image(struct picture *p, struct image *img);
/* Adds a note; what does not fit is cut. */
void mcs_picture_note(struct picture *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The affine of a picture that has a spacing alone: x to the left, y to the back, z up, origin 0 (as ITK reads an image
 * without a direction). */
void mcs_picture_plain_affine(struct picture *p);

/* The readers that are functions of bytes in memory. */
enum mcs_status mcs_png_picture(const char *name, const void *bytes, int64_t n_bytes, struct picture *p);
enum mcs_status mcs_jpeg_picture(const char *name, const void *bytes, int64_t n_bytes, struct picture *p);
/* NIfTI, from its file or pair of files (data/image/volume.c). */
enum mcs_status mcs_nifti_picture(const char *path, struct picture *p);

#endif

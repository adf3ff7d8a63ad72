/* The table of readers, and pictures in memory. */
#include "data/image/picture.h"

#include "data/image/image.h"
#include "data/image/nifti.h"
#include "data/image/picture_parts.h"
#include "data/image/raw_values.h"
#include "data/image/series.h"
#include "data/io/bounds.h"
#include "data/io/file.h"
#include "data/io/gzip.h"
#include "data/io/npy.h"
#include "engine/base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_BYTES = 1024, MAX_SIDE = 65535 };
static const int64_t MAX_VALUES = (int64_t)1 << 33;

static const struct {
    const char *name;
    int bytes;
} types[] = {
#define X(name, c_type, text) {text, sizeof(c_type)},
    MCS_PICTURE_TYPE_LIST(X)
#undef X
};

/* ---- readers ---- */

/* The first bytes of a file, inflated where it is gzip; beyond n they are zero. */
struct head {
    uint8_t bytes[HEAD_BYTES];
    int64_t n;
    int gzip;
};

static int begins(const struct head *h, const char *signature, int n)
{
    return !h->gzip && h->n >= n && memcmp(h->bytes, signature, (size_t)n) == 0;
}

static int is_png(const char *path, const struct head *h)
{
    return begins(h, "\x89PNG\r\n\x1a\n", 8);
}

static int is_jpeg(const char *path, const struct head *h)
{
    return begins(h, "\xff\xd8\xff", 3);
}

static int is_npy(const char *path, const struct head *h)
{
    return begins(h, "\x93NUMPY", 6);
}

/* The size of its header comes first, the magic at 344 or 4; either half of a pair, and a file whose magic is damaged,
 * by its name. */
static int is_nifti(const char *path, const struct head *h)
{
    const int bytes = h->n >= 4 ? mcs_nifti_header_bytes(h->bytes) : 0;
    const uint8_t *magic = h->bytes + (bytes == MCS_NIFTI1_BYTES ? 344 : 4);
    if (bytes && (!memcmp(magic, "n+", 2) || !memcmp(magic, "ni", 2))) return 1;
    return mcs_file_has_ending(path, ".nii;.nii.gz;.hdr;.hdr.gz;.img;.img.gz");
}

static int is_tiff(const char *path, const struct head *h)
{
    return begins(h, "II*\0", 4) || begins(h, "MM\0*", 4) || begins(h, "II+\0", 4) || begins(h, "MM\0+", 4);
}

static int is_j2k(const char *path, const struct head *h)
{
    return begins(h, "\0\0\0\x0cjP  \r\n\x87\n", 12) || begins(h, "\xff\x4f\xff\x51", 4);
}

/* With the preamble of PS3.10, or without it, which begins with an element of group 2 or 8 of a few bytes. */
static int is_dicom(const char *path, const struct head *h)
{
    const uint8_t *b = h->bytes;
    if (h->gzip || h->n < 132) return 0;
    if (!memcmp(b + 128, "DICM", 4)) return 1;
    const int typed = b[4] >= 'A' && b[4] <= 'Z' && b[5] >= 'A' && b[5] <= 'Z';
    return (b[0] == 2 || b[0] == 8) && !b[1] && b[2] <= 0x20 && !b[3] && (typed || (!b[5] && !b[6] && !b[7]));
}

static int is_nrrd(const char *path, const struct head *h)
{
    return begins(h, "NRRD000", 7);
}

/* A text whose first lines are of MetaImage's. */
static int is_metaimage(const char *path, const struct head *h)
{
    char text[HEAD_BYTES + 1];
    if (h->gzip || h->n < 8 || (memcmp(h->bytes, "ObjectType", 10) != 0 && memcmp(h->bytes, "NDims", 5) != 0)) return 0;
    memcpy(text, h->bytes, HEAD_BYTES);
    text[HEAD_BYTES] = 0;
    return strstr(text, "DimSize") != NULL || strstr(text, "NDims") != NULL;
}

static int is_bmp(const char *path, const struct head *h)
{
    return begins(h, "BM", 2) && h->n > 18 && h->bytes[14] >= 12 && h->bytes[14] <= 124 && !h->bytes[15] &&
           !h->bytes[16];
}

static enum mcs_status read_bytes(const char *path, struct picture *p,
                                  enum mcs_status (*decode)(const char *, const void *, int64_t, struct picture *))
{
    char *bytes;
    int64_t n_bytes;
    MCS_TRY(mcs_file_read(path, MCS_IMAGE_FILE_BYTES, &bytes, &n_bytes));
    const enum mcs_status st = decode(path, bytes, n_bytes, p);
    free(bytes);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

static enum mcs_status read_png(const char *path, const struct picture_choice *choice, struct picture *p)
{
    return read_bytes(path, p, mcs_png_picture);
}

static enum mcs_status read_jpeg(const char *path, const struct picture_choice *choice, struct picture *p)
{
    return read_bytes(path, p, mcs_jpeg_picture);
}

static enum mcs_status read_nifti(const char *path, const struct picture_choice *choice, struct picture *p)
{
    return mcs_nifti_picture(path, p);
}

static enum mcs_status read_bmp(const char *path, const struct picture_choice *choice, struct picture *p)
{
    return read_bytes(path, p, mcs_bmp_picture);
}

static enum mcs_status read_nrrd(const char *path, const struct picture_choice *choice, struct picture *p)
{
    return mcs_nrrd_picture(path, p);
}

static enum mcs_status read_metaimage(const char *path, const struct picture_choice *choice, struct picture *p)
{
    return mcs_metaimage_picture(path, p);
}

static enum mcs_status read_helped(const char *path, const struct picture_choice *choice, struct picture *p)
{
    return mcs_helped_picture(path, p, NULL);
}

/* (height, width) or (depth, height, width). A last axis of 3 or 4 could be colours or columns: refused. */
static enum mcs_status npy_picture(const char *path, const struct npy *a, struct picture *p)
{
    char shape[128];
    mcs_array_shape_text(a->nd, a->dims, shape, sizeof shape);
    MCS_REQUIRE((a->nd == 2 || a->nd == 3) && a->n_values > 0, MCS_E_DATA,
                "%s: an array of shape %s; want (height, width) or (depth, height, width)", path, shape);
    MCS_REQUIRE(a->nd == 2 || a->dims[2] > 4, MCS_E_DATA,
                "%s: an array of shape %s: its last axis could be colours; save colours as PNG", path, shape);
    MCS_TRY(mcs_picture_alloc(p, path, a->dims[a->nd - 1], a->dims[a->nd - 2], a->nd == 3 ? a->dims[0] : 1, 1,
                              MCS_PICTURE_F32));
    memcpy(p->values, a->values, (size_t)a->n_values * sizeof *a->values);
    return MCS_OK;
}

static enum mcs_status read_npy(const char *path, const struct picture_choice *choice, struct picture *p)
{
    struct npy a;
    MCS_TRY(mcs_npy_read(path, &a));
    const enum mcs_status st = npy_picture(path, &a, p);
    mcs_npy_free(&a);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

/* The first row that takes a file reads it; those that a name can decide come last. */
static const struct reader {
    const char *name;
    int (*takes)(const char *path, const struct head *h);
    enum mcs_status (*read)(const char *path, const struct picture_choice *choice, struct picture *p);
} readers[] = {
    {"PNG", is_png, read_png},
    {"JPEG", is_jpeg, read_jpeg},
    {"TIFF", is_tiff, read_helped},
    {"JPEG 2000", is_j2k, read_helped},
    {"BMP", is_bmp, read_bmp},
    {"NRRD", is_nrrd, read_nrrd},
    {"MetaImage", is_metaimage, read_metaimage},
    {"npy", is_npy, read_npy},
    {"NIfTI", is_nifti, read_nifti},
    {"DICOM", is_dicom, read_helped},
};
enum { N_READERS = sizeof readers / sizeof *readers };

/* Formats that are known and not read. */
static const struct {
    const char *signature;
    int n, at;
    const char *name;
} unread[] = {{"GIF8", 4, 0, "GIF"}, {"WEBP", 4, 8, "WebP"}, {"ftyp", 4, 4, "HEIC or a film"}, {"%PDF", 4, 0, "PDF"},
              {"8BPS", 4, 0, "PSD"}, {"BZh", 3, 0, "bzip2"}, {"\x89HDF", 4, 0, "HDF5"},        {"PK\3\4", 4, 0, "zip"}};

static enum mcs_status refuse(const char *path, const struct head *h)
{
    for (size_t k = 0; k < sizeof unread / sizeof *unread; k++)
        MCS_REQUIRE(memcmp(h->bytes + unread[k].at, unread[k].signature, (size_t)unread[k].n) != 0, MCS_E_DATA,
                    "%s: %s, which is not read; save it as PNG, TIFF or NIfTI", path, unread[k].name);
    return MCS_FAIL(MCS_E_DATA, "%s: neither an image nor a volume by its first bytes", path);
}

static enum mcs_status read_head(const char *path, struct head *h)
{
    struct gzip_input *in;
    memset(h, 0, sizeof *h);
    MCS_TRY(mcs_gzip_open(path, &in));
    h->gzip = mcs_gzip_is_compressed(in);
    /* Damage is left to the reader, whose message is more exact. */
    if (mcs_gzip_read_some(in, h->bytes, HEAD_BYTES, &h->n) != MCS_OK) mcs_error_clear();
    mcs_gzip_close(in);
    return MCS_OK;
}

static const struct reader *reader_of(const char *path, const struct head *h)
{
    for (int k = 0; k < N_READERS; k++)
        if (readers[k].takes(path, h)) return &readers[k];
    return NULL;
}

int mcs_picture_known(const char *path, const char **format)
{
    struct head h;
    if (format) *format = NULL;
    if (read_head(path, &h) != MCS_OK) {
        mcs_error_clear();
        return 0;
    }
    const struct reader *r = reader_of(path, &h);
    if (r && format) *format = r->name;
    return r != NULL;
}

enum mcs_status mcs_picture_read(const char *path, const struct picture_choice *choice, struct picture *p)
{
    struct head h;
    memset(p, 0, sizeof *p);
    if (mcs_folder_exists(path)) return mcs_series_read(path, choice, p);
    MCS_TRY(read_head(path, &h));
    const struct reader *r = reader_of(path, &h);
    if (!r) return refuse(path, &h);
    const enum mcs_status st = r->read(path, choice, p);
    if (st != MCS_OK) {
        mcs_picture_free(p);
        return mcs_trace(st, __FILE__, __LINE__);
    }
    p->format = r->name;
    return MCS_OK;
}

/* ---- in memory ---- */

static void set_plain(struct picture *p, int nx, int ny, int nz, int channels, enum picture_type type)
{
    p->nx = nx;
    p->ny = ny;
    p->nz = nz;
    p->channels = channels;
    p->type = type;
    p->bits = type >= MCS_PICTURE_F32 ? 0 : 8 * types[type].bytes;
    p->slope = 1;
    p->orientation = 1;
    for (int i = 0; i < 3; i++) p->spacing[i] = 1;
    mcs_picture_plain_affine(p);
}

enum mcs_status mcs_picture_alloc(struct picture *p, const char *name, int64_t nx, int64_t ny, int64_t nz, int channels,
                                  enum picture_type type)
{
    memset(p, 0, sizeof *p);
    MCS_REQUIRE(nx > 0 && ny > 0 && nz > 0 && nx <= MAX_SIDE && ny <= MAX_SIDE && nz <= MAX_SIDE && channels >= 1 &&
                    channels <= 4 && nx * ny <= MAX_VALUES / nz / channels,
                MCS_E_DATA, "%s: %lld x %lld x %lld values of %d channels; want 1 to %d a side and at most %lld in all",
                name, (long long)nx, (long long)ny, (long long)nz, channels, MAX_SIDE, (long long)MAX_VALUES);
    const int64_t bytes = nx * ny * nz * channels * types[type].bytes;
    MCS_TRY(
        mcs_memory_check(bytes, "%s: %lld x %lld x %lld voxels", name, (long long)nx, (long long)ny, (long long)nz));
    p->values = calloc((size_t)bytes, 1);
    MCS_REQUIRE(p->values, MCS_E_NOMEM, "%s: no memory for %lld bytes", name, (long long)bytes);
    set_plain(p, (int)nx, (int)ny, (int)nz, channels, type);
    return MCS_OK;
}

void mcs_picture_of_image(struct picture *p, struct image *img)
{
    memset(p, 0, sizeof *p);
    p->values = img->pixels;
    set_plain(p, img->width, img->height, 1, img->channels, MCS_PICTURE_U8);
    memset(img, 0, sizeof *img);
}

void mcs_picture_free(struct picture *p)
{
    if (!p) return;
    free(p->values);
    free(p->palette);
    free(p->header);
    memset(p, 0, sizeof *p);
}

void mcs_picture_plain_affine(struct picture *p)
{
    memset(p->affine, 0, sizeof p->affine);
    for (int i = 0; i < 3; i++) p->affine[5 * i] = i < 2 ? -p->spacing[i] : p->spacing[i];
    p->affine[15] = 1;
}

void mcs_picture_note(struct picture *p, const char *fmt, ...)
{
    size_t at = strlen(p->notes);
    va_list ap;
    if (at && at + 2 < sizeof p->notes) {
        memcpy(p->notes + at, "; ", 3);
        at += 2;
    }
    va_start(ap, fmt);
    vsnprintf(p->notes + at, sizeof p->notes - at, fmt, ap);
    va_end(ap);
}

int mcs_picture_type_bytes(enum picture_type type)
{
    return types[type].bytes;
}

const char *mcs_picture_type_name(enum picture_type type)
{
    return types[type].name;
}

int mcs_picture_is_lossy(const struct picture *p)
{
    return p->format && !strcmp(p->format, "JPEG");
}

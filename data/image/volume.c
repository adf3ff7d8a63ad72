/* NIfTI files as volumes: finding paired files, checking sizes against memory, and reading the voxels. */
#include "data/image/volume.h"
#include "data/image/image.h"
#include "data/image/nifti.h"
#include "data/image/picture.h"
#include "data/io/bounds.h"
#include "data/io/file.h"
#include "data/io/gzip.h"
#include "engine/base/memory.h"
#include "engine/base/path.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PART_VOXELS = 1 << 18 };
static const int64_t MAX_VOXELS = (int64_t)1 << 33;          /* 32 GiB as float32 */
static const int64_t MAX_EXTENSION_BYTES = (int64_t)1 << 26; /* in an .hdr file */

/* ---- .hdr and .img ---- */

/* The file beside `path` that ends in `ending` (".hdr", ".img"): compressed like `path` if there is such a file, else
 * the other way; in upper case if `path` is. E_NOINPUT: there is neither. */
static enum mcs_status find_partner(const char *path, const char *ending, char partner[MCS_PATH_BYTES])
{
    const int compressed = mcs_file_has_ending(path, ".gz");
    const int stem = (int)strlen(path) - (compressed ? 7 : 4);
    for (int turn = 0; turn < 2; turn++) {
        MCS_TRY(mcs_path(partner, "%.*s%s%s", stem, path, ending, compressed != turn ? ".gz" : ""));
        for (char *c = partner + stem; isupper((unsigned char)path[stem + 1]) && *c; c++)
            *c = (char)toupper((unsigned char)*c);
        if (mcs_file_exists(partner)) return MCS_OK;
    }
    return MCS_FAIL(MCS_E_NOINPUT, "%s: the file %s that belongs to it is not there", path, partner);
}

/* ---- reading ---- */

/* Where a file's voxels go: to a volume as float32, or to a picture as they are stored. */
struct target {
    struct nifti_header *header; /* owned until the file is read */
    struct volume *volume;
    struct picture *picture;
};

/* Extensions (histories, DICOM fields) are not kept; only their sizes are checked. They fill `left` bytes: a flag of
 * four, then {int32 bytes, int32 code, contents} one after the other, then padding. */
static enum mcs_status skip_extensions(struct gzip_input *in, const char *path, const struct nifti_header *h,
                                       int64_t left)
{
    uint8_t head[8];
    MCS_TRY(mcs_gzip_read(in, head, 4, "its header"));
    left -= 4;
    const int flagged = head[0] != 0;
    while (flagged && left >= 8) {
        uint32_t bytes;
        MCS_TRY(mcs_gzip_read(in, head, 8, "an extension"));
        left -= 8;
        memcpy(&bytes, head, 4);
        if (h->swapped) bytes = __builtin_bswap32(bytes);
        if (bytes == 0) break; /* padding */
        MCS_REQUIRE(bytes >= 8 && bytes - 8 <= left, MCS_E_DATA,
                    "%s: an extension of %u bytes does not fit before its voxels: its header is damaged", path, bytes);
        MCS_TRY(mcs_gzip_skip(in, bytes - 8, "an extension"));
        left -= bytes - 8;
    }
    return mcs_gzip_skip(in, left, "what lies before its voxels");
}

/* Reads and checks the header at the start of `in`; the extension flag follows it. */
static enum mcs_status read_header(struct gzip_input *in, const char *path, struct nifti_header *h)
{
    uint8_t bytes[MCS_NIFTI2_BYTES];
    int64_t got, more = 0;
    MCS_TRY(mcs_gzip_read_some(in, bytes, MCS_NIFTI1_BYTES, &got));
    if (got == MCS_NIFTI1_BYTES && mcs_nifti_header_bytes(bytes) == MCS_NIFTI2_BYTES)
        MCS_TRY(mcs_gzip_read_some(in, bytes + got, MCS_NIFTI2_BYTES - got, &more));
    return mcs_nifti_parse(path, bytes, got + more, h);
}

/* Voxels per read: at most 8 bytes each, so 2 MiB. */
static int64_t part_voxels(int64_t n)
{
    return n < PART_VOXELS ? n : PART_VOXELS;
}

/* Checks the file's size against its header, before anything is allocated. */
static enum mcs_status check_sizes(const struct gzip_input *in, const char *path, const struct target *t)
{
    const struct nifti_header *h = t->header;
    const int64_t n = h->dim[1] * h->dim[2] * h->dim[3], file_bytes = mcs_gzip_file_bytes(in);
    const int64_t wanted = (int64_t)h->vox_offset + n * mcs_nifti_value_bytes(h);
    const int compressed = mcs_gzip_is_compressed(in);
    MCS_REQUIRE(file_bytes >= (compressed ? wanted / MCS_DEFLATE_MAX_RATIO : wanted), MCS_E_DATA,
                "%s: truncated: %lld bytes, its header promises %lld%s", path, (long long)file_bytes, (long long)wanted,
                compressed ? " before packing" : "");
    MCS_REQUIRE(compressed || file_bytes == wanted, MCS_E_DATA,
                "%s: too long: %lld bytes, its header promises %lld: its sizes or type are not those of its voxels",
                path, (long long)file_bytes, (long long)wanted);
    const int64_t held = t->picture ? mcs_nifti_value_bytes(h) : (int64_t)sizeof(float);
    return mcs_memory_check(mcs_size_mul(n, held) + part_voxels(n) * 8, "%s: %lld x %lld x %lld voxels", path,
                            (long long)h->dim[1], (long long)h->dim[2], (long long)h->dim[3]);
}

/* Space for the voxels of a volume, or a picture with their type. */
static enum mcs_status make_room(const char *path, const struct target *t)
{
    const struct nifti_header *h = t->header;
    const int64_t n = h->dim[1] * h->dim[2] * h->dim[3];
    if (t->picture) {
        static const struct {
            int64_t datatype;
            enum picture_type type;
        } types[] = {{MCS_NIFTI_UINT8, MCS_PICTURE_U8},    {MCS_NIFTI_INT8, MCS_PICTURE_I8},
                     {MCS_NIFTI_UINT16, MCS_PICTURE_U16},  {MCS_NIFTI_INT16, MCS_PICTURE_I16},
                     {MCS_NIFTI_UINT32, MCS_PICTURE_U32},  {MCS_NIFTI_INT32, MCS_PICTURE_I32},
                     {MCS_NIFTI_UINT64, MCS_PICTURE_U64},  {MCS_NIFTI_INT64, MCS_PICTURE_I64},
                     {MCS_NIFTI_FLOAT32, MCS_PICTURE_F32}, {MCS_NIFTI_FLOAT64, MCS_PICTURE_F64}};
        int k = 0;
        while (types[k].datatype != h->datatype) k++; /* mcs_nifti_parse has checked it */
        return mcs_picture_alloc(t->picture, path, h->dim[1], h->dim[2], h->dim[3], 1, types[k].type);
    }
    t->volume->values = malloc((size_t)n * sizeof(float));
    MCS_REQUIRE(t->volume->values, MCS_E_NOMEM, "%s: no memory for %lld voxels", path, (long long)n);
    return MCS_OK;
}

/* `in` is positioned at the first voxel. */
static enum mcs_status read_voxels(struct gzip_input *in, const char *path, const struct target *t)
{
    enum mcs_status st = MCS_OK;
    const struct nifti_header *h = t->header;
    const int64_t slice = h->dim[1] * h->dim[2], n = slice * h->dim[3], value_bytes = mcs_nifti_value_bytes(h);
    void *raw = t->picture ? NULL : malloc((size_t)part_voxels(n) * 8);
    MCS_REQUIRE(raw || t->picture, MCS_E_NOMEM, "%s: no memory for %lld voxels", path, (long long)n);
    MCS_TRY_GOTO(make_room(path, t), st, done);
    for (int64_t i = 0; i < n; i += PART_VOXELS) {
        char what[64];
        const int64_t part = part_voxels(n - i);
        void *to = t->picture ? (char *)t->picture->values + i * value_bytes : raw;
        snprintf(what, sizeof what, "slice %lld of %lld", (long long)(i / slice) + 1, (long long)h->dim[3]);
        MCS_TRY_GOTO(mcs_gzip_read(in, to, part * value_bytes, what), st, done);
        if (t->picture)
            mcs_nifti_native(h, to, part);
        else
            mcs_nifti_to_float(h, to, part, t->volume->values + i);
    }
    MCS_TRY_GOTO(mcs_gzip_finish(in, 0), st, done);
done:
    free(raw);
    return st;
}

static enum mcs_status read_pair(struct gzip_input *header, const char *path, const char *header_path,
                                 const struct target *t)
{
    char image_path[MCS_PATH_BYTES];
    struct gzip_input *in = NULL;
    MCS_REQUIRE(mcs_file_has_ending(path, ".hdr;.hdr.gz;.img;.img.gz"), MCS_E_DATA,
                "%s: its header (ni1 or ni2) says that its voxels lie in another file: name it .hdr, beside an .img",
                path);
    /* Read to the end of the header's file, so that gzip's checksum is compared. */
    MCS_TRY(mcs_gzip_finish(header, MAX_EXTENSION_BYTES));
    MCS_TRY(find_partner(header_path, ".img", image_path));
    MCS_TRY(mcs_gzip_open(image_path, &in));
    enum mcs_status st = check_sizes(in, image_path, t);
    if (st == MCS_OK) st = mcs_gzip_skip(in, (int64_t)t->header->vox_offset, "what lies before its voxels");
    if (st == MCS_OK) st = read_voxels(in, image_path, t);
    mcs_gzip_close(in);
    return st;
}

/* path: the volume's name as given by the caller; header_path: the .nii or .hdr. spacing: in mm. */
static enum mcs_status read_files(const char *path, const char *header_path, struct target *t, float spacing[3])
{
    enum mcs_status st = MCS_OK;
    struct gzip_input *in = NULL;
    struct nifti_header *h = t->header = calloc(1, sizeof *t->header);
    MCS_REQUIRE(h, MCS_E_NOMEM, "%s: no memory to read it", path);
    MCS_TRY(mcs_gzip_open(header_path, &in));
    MCS_TRY_GOTO(read_header(in, header_path, h), st, done);
    MCS_TRY_GOTO(mcs_nifti_spacing(header_path, h, spacing), st, done);
    if (h->paired) {
        MCS_TRY_GOTO(read_pair(in, path, header_path, t), st, done);
    } else {
        const int64_t header_bytes = h->version == 1 ? MCS_NIFTI1_BYTES : MCS_NIFTI2_BYTES;
        MCS_TRY_GOTO(check_sizes(in, header_path, t), st, done);
        MCS_TRY_GOTO(skip_extensions(in, header_path, h, (int64_t)h->vox_offset - header_bytes), st, done);
        MCS_TRY_GOTO(read_voxels(in, header_path, t), st, done);
    }
done:
    mcs_gzip_close(in);
    return st;
}

static enum mcs_status read_target(const char *path, struct target *t, float spacing[3])
{
    char header_path[MCS_PATH_BYTES];
    struct gzip_input *in;
    /* Opened first, so that errors about a missing file or a folder use the given name. */
    MCS_TRY(mcs_gzip_open(path, &in));
    mcs_gzip_close(in);
    MCS_TRY(mcs_file_has_ending(path, ".img;.img.gz") ? find_partner(path, ".hdr", header_path)
                                                      : mcs_path(header_path, "%s", path));
    return read_files(path, header_path, t, spacing);
}

enum mcs_status mcs_nifti_picture(const char *path, struct picture *p)
{
    struct target t = {.picture = p};
    float spacing[3];
    double apart_mm;
    memset(p, 0, sizeof *p);
    const enum mcs_status st = read_target(path, &t, spacing);
    if (st != MCS_OK) {
        free(t.header);
        mcs_picture_free(p);
        return mcs_trace(st, __FILE__, __LINE__);
    }
    p->header = t.header;
    p->slope = t.header->scl_slope;
    p->inter = t.header->scl_inter;
    p->has_spacing = 1;
    for (int i = 0; i < 3; i++) p->spacing[i] = spacing[i];
    mcs_picture_plain_affine(p);
    p->has_affine = mcs_nifti_affine(t.header, spacing, p->affine, &apart_mm);
    if (!p->has_affine) mcs_picture_note(p, "neither sform nor qform: its axes are not known");
    if (apart_mm > 0) mcs_picture_note(p, "its sform and qform differ by up to %.3g mm; the sform is taken", apart_mm);
    return MCS_OK;
}

static enum mcs_status read_other(const char *path, struct volume *v)
{
    struct picture p;
    MCS_TRY(mcs_image_read_upright(path, &p));
    const enum mcs_status st = mcs_volume_of_picture(path, &p, v);
    mcs_picture_free(&p);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

enum mcs_status mcs_volume_read(const char *path, struct volume *v)
{
    struct target t = {.volume = v};
    memset(v, 0, sizeof *v);
    const char *format;
    if (mcs_folder_exists(path)) return read_other(path, v);
    if (!mcs_picture_known(path, &format)) {
        struct gzip_input *in; /* why it cannot be opened is told */
        MCS_TRY(mcs_gzip_open(path, &in));
        mcs_gzip_close(in);
        return MCS_FAIL(MCS_E_DATA, "%s: none of the formats of volumes, by its first bytes", path);
    }
    if (strcmp(format, "NIfTI") != 0) return read_other(path, v);
    const enum mcs_status st = read_target(path, &t, v->spacing);
    v->header = t.header;
    if (st != MCS_OK) {
        mcs_volume_free(v);
        return mcs_trace(st, __FILE__, __LINE__);
    }
    v->nx = (int)v->header->dim[1];
    v->ny = (int)v->header->dim[2];
    v->nz = (int)v->header->dim[3];
    return MCS_OK;
}

/* ---- in memory ---- */

enum mcs_status mcs_volume_alloc(struct volume *v, int nx, int ny, int nz, const float spacing[3])
{
    memset(v, 0, sizeof *v);
    MCS_REQUIRE(nx > 0 && ny > 0 && nz > 0 && nx <= MCS_NIFTI_MAX_SIDE && ny <= MCS_NIFTI_MAX_SIDE &&
                    (int64_t)nx * ny <= MAX_VOXELS / nz,
                MCS_E_SHAPE, "a volume of %d x %d x %d voxels", nx, ny, nz);
    MCS_TRY(mcs_memory_check((int64_t)nx * ny * nz * (int64_t)sizeof(float), "a volume of %d x %d x %d voxels", nx, ny,
                             nz));
    v->values = calloc((size_t)nx * (size_t)ny * (size_t)nz, sizeof *v->values);
    MCS_REQUIRE(v->values, MCS_E_NOMEM, "no memory for a volume of %d x %d x %d voxels", nx, ny, nz);
    v->nx = nx;
    v->ny = ny;
    v->nz = nz;
    for (int i = 0; i < 3; i++) v->spacing[i] = spacing ? spacing[i] : 1;
    return MCS_OK;
}

void mcs_volume_free(struct volume *v)
{
    if (!v) return;
    free(v->values);
    free(v->header);
    memset(v, 0, sizeof *v);
}

/* ---- writing ---- */

/* For a volume that was not read from a file: scanner coordinates along the axes, origin 0. */
static struct nifti_header header_from_sizes(const struct volume *v)
{
    struct nifti_header h = {.version = 1, .dim = {v->nz > 1 ? 3 : 2, v->nx, v->ny, v->nz, 1, 1, 1, 1}};
    h.pixdim[0] = 1;
    for (int i = 0; i < 3; i++) h.pixdim[i + 1] = v->spacing[i];
    h.xyzt_units = 2; /* mm */
    h.qform_code = 1; /* scanner coordinates */
    return h;
}

static enum mcs_status write_volume(const char *path, const void *voxels, enum nifti_type type, int value_bytes,
                                    const struct volume *like)
{
    struct mcs_new_file f = MCS_NEW_FILE;
    uint8_t bytes[MCS_NIFTI_MAX_BYTES];
    const int compressed = mcs_file_has_ending(path, ".nii.gz");
    MCS_REQUIRE(compressed || mcs_file_has_ending(path, ".nii"), MCS_E_USAGE,
                "%s: a volume is written as .nii or .nii.gz", path);
    const struct nifti_header h = like->header ? *like->header : header_from_sizes(like);
    MCS_REQUIRE(h.dim[1] == like->nx && h.dim[2] == like->ny && h.dim[3] == like->nz, MCS_E_SHAPE,
                "%s: %d x %d x %d voxels, but the geometry it should have is of %lld x %lld x %lld", path, like->nx,
                like->ny, like->nz, (long long)h.dim[1], (long long)h.dim[2], (long long)h.dim[3]);
    const int header_bytes = mcs_nifti_make(&h, type, bytes);
    const int64_t n_bytes = (int64_t)like->nx * like->ny * like->nz * value_bytes;
    MCS_TRY(mcs_file_begin(path, &f));
    enum mcs_status st = mcs_gzip_write(&f, compressed, bytes, header_bytes, voxels, n_bytes);
    if (st == MCS_OK) st = mcs_file_commit(&f);
    mcs_file_abort(&f);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

enum mcs_status mcs_volume_write_u8(const char *path, const uint8_t *labels, const struct volume *like)
{
    MCS_TRY(write_volume(path, labels, MCS_NIFTI_UINT8, 1, like));
    return MCS_OK;
}

enum mcs_status mcs_volume_write_f32(const char *path, const float *values, const struct volume *like)
{
    MCS_TRY(write_volume(path, values, MCS_NIFTI_FLOAT32, (int)sizeof(float), like));
    return MCS_OK;
}

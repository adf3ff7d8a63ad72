/* NIfTI files as volumes: finding paired files, checking sizes against memory, and reading the voxels. */
#include "data/image/volume.h"
#include "data/image/media.h"
#include "data/image/nifti.h"
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
static enum mcs_status check_sizes(const struct gzip_input *in, const char *path, const struct nifti_header *h)
{
    const int64_t n = h->dim[1] * h->dim[2] * h->dim[3], file_bytes = mcs_gzip_file_bytes(in);
    const int64_t wanted = (int64_t)h->vox_offset + n * mcs_nifti_value_bytes(h);
    const int compressed = mcs_gzip_is_compressed(in);
    MCS_REQUIRE(file_bytes >= (compressed ? wanted / MCS_DEFLATE_MAX_RATIO : wanted), MCS_E_DATA,
                "%s: truncated: %lld bytes, its header promises %lld%s", path, (long long)file_bytes, (long long)wanted,
                compressed ? " before packing" : "");
    MCS_REQUIRE(compressed || file_bytes == wanted, MCS_E_DATA,
                "%s: too long: %lld bytes, its header promises %lld: its sizes or type are not those of its voxels",
                path, (long long)file_bytes, (long long)wanted);
    return mcs_memory_check(mcs_size_mul(n, sizeof(float)) + part_voxels(n) * 8, "%s: %lld x %lld x %lld voxels", path,
                            (long long)h->dim[1], (long long)h->dim[2], (long long)h->dim[3]);
}

/* `in` is positioned at the first voxel. */
static enum mcs_status read_voxels(struct gzip_input *in, const char *path, const struct nifti_header *h,
                                   struct volume *v)
{
    enum mcs_status st = MCS_OK;
    const int64_t slice = h->dim[1] * h->dim[2], n = slice * h->dim[3], value_bytes = mcs_nifti_value_bytes(h);
    void *raw = malloc((size_t)part_voxels(n) * 8);
    v->values = malloc((size_t)n * sizeof(float));
    MCS_REQUIRE_GOTO(raw && v->values, MCS_E_NOMEM, st, done, "%s: no memory for %lld voxels", path, (long long)n);
    for (int64_t i = 0; i < n; i += PART_VOXELS) {
        char what[64];
        const int64_t part = part_voxels(n - i);
        snprintf(what, sizeof what, "slice %lld of %lld", (long long)(i / slice) + 1, (long long)h->dim[3]);
        MCS_TRY_GOTO(mcs_gzip_read(in, raw, part * value_bytes, what), st, done);
        mcs_nifti_to_float(h, raw, part, v->values + i);
    }
    MCS_TRY_GOTO(mcs_gzip_finish(in, 0), st, done);
done:
    free(raw);
    return st;
}

static enum mcs_status read_pair(struct gzip_input *header, const char *path, const char *header_path, struct volume *v)
{
    char image_path[MCS_PATH_BYTES];
    struct gzip_input *in = NULL;
    MCS_REQUIRE(!mcs_media_is_volume(path), MCS_E_DATA,
                "%s: its header (ni1 or ni2) says that its voxels lie in another file: name it .hdr, beside an .img",
                path);
    /* Read to the end of the header's file, so that gzip's checksum is compared. */
    MCS_TRY(mcs_gzip_finish(header, MAX_EXTENSION_BYTES));
    MCS_TRY(find_partner(header_path, ".img", image_path));
    MCS_TRY(mcs_gzip_open(image_path, &in));
    enum mcs_status st = check_sizes(in, image_path, v->header);
    if (st == MCS_OK) st = mcs_gzip_skip(in, (int64_t)v->header->vox_offset, "what lies before its voxels");
    if (st == MCS_OK) st = read_voxels(in, image_path, v->header, v);
    mcs_gzip_close(in);
    return st;
}

/* path: the volume's name as given by the caller; header_path: the .nii or .hdr. */
static enum mcs_status read_files(const char *path, const char *header_path, struct volume *v)
{
    enum mcs_status st = MCS_OK;
    struct gzip_input *in = NULL;
    v->header = calloc(1, sizeof *v->header);
    MCS_REQUIRE(v->header, MCS_E_NOMEM, "%s: no memory to read it", path);
    MCS_TRY(mcs_gzip_open(header_path, &in));
    MCS_TRY_GOTO(read_header(in, header_path, v->header), st, done);
    MCS_TRY_GOTO(mcs_nifti_spacing(header_path, v->header, v->spacing), st, done);
    if (v->header->paired) {
        MCS_TRY_GOTO(read_pair(in, path, header_path, v), st, done);
    } else {
        const int64_t header_bytes = v->header->version == 1 ? MCS_NIFTI1_BYTES : MCS_NIFTI2_BYTES;
        MCS_TRY_GOTO(check_sizes(in, header_path, v->header), st, done);
        MCS_TRY_GOTO(skip_extensions(in, header_path, v->header, (int64_t)v->header->vox_offset - header_bytes), st,
                     done);
        MCS_TRY_GOTO(read_voxels(in, header_path, v->header, v), st, done);
    }
done:
    mcs_gzip_close(in);
    return st;
}

enum mcs_status mcs_volume_read(const char *path, struct volume *v)
{
    enum mcs_status st = MCS_OK;
    char header_path[MCS_PATH_BYTES];
    struct gzip_input *in;

    memset(v, 0, sizeof *v);
    /* Opened first, so that errors about a missing file or a folder use the given name. */
    MCS_TRY(mcs_gzip_open(path, &in));
    mcs_gzip_close(in);
    const int image = mcs_file_has_ending(path, ".img;.img.gz");
    MCS_REQUIRE(image || mcs_file_has_ending(path, MCS_VOLUME_ENDINGS ";.hdr;.hdr.gz"), MCS_E_DATA,
                "%s: no NIfTI file by its name; want .nii, .nii.gz or .hdr with .img", path);
    MCS_TRY(image ? find_partner(path, ".hdr", header_path) : mcs_path(header_path, "%s", path));
    MCS_TRY_GOTO(read_files(path, header_path, v), st, failed);
    v->nx = (int)v->header->dim[1];
    v->ny = (int)v->header->dim[2];
    v->nz = (int)v->header->dim[3];
    return MCS_OK;
failed:
    mcs_volume_free(v);
    return st;
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

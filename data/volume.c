/* NIfTI through libnifti2: it parses and makes headers; the voxels are read here, because the library turns NaN into 0
 * and believes the sizes in a header before it has seen the file's. */
#include "data/volume.h"
#include "data/file.h"
#include "engine/log.h"

#include <nifti2_io.h>

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { MAX_SIDE = 65535 };
static const int64_t MAX_VOXELS = (int64_t)1 << 33;
/* Deflate packs at most 1032 bytes into one (258 bytes in two bits): a header that promises more than that is lying. */
static const int64_t MAX_DEFLATE_RATIO = 1032;

static int ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n > m && strcasecmp(s + n - m, end) == 0;
}

/* Is there a NIfTI or Analyze header? sizeof_hdr is the first field in each of them, in either byte order. */
static enum mcs_status check_magic(const char *path)
{
    int32_t first = 0, turned;

    znzFile f = znzopen(path, "rb", 1); /* zlib reads a file that is not gzip as it is */
    MCS_REQUIRE(!znz_isnull(f), MCS_E_IO, "%s: cannot read: %s", path, strerror(errno));
    size_t got = znzread(&first, 1, sizeof first, f);
    Xznzclose(&f);
    turned = (int32_t)__builtin_bswap32((uint32_t)first);
    MCS_REQUIRE(got == sizeof first && (first == 348 || first == 540 || turned == 348 || turned == 540), MCS_E_DATA,
                "%s: no NIfTI file: its header should start with the number 348 or 540", path);
    return MCS_OK;
}

static enum mcs_status check_header(const char *path, const nifti_image *nim)
{
    int64_t side[3] = {nim->nx, nim->ny, nim->nz};

    MCS_REQUIRE(nim->ndim >= 1 && nim->ndim <= 7, MCS_E_DATA, "%s: %lld dimensions", path, (long long)nim->ndim);
    for (int i = 4; i <= nim->ndim; i++) {
        MCS_REQUIRE(nim->dim[i] <= 1, MCS_E_DATA,
                    "%s: %lld dimensions (%lld along dimension %d); want one volume: split the series first", path,
                    (long long)nim->ndim, (long long)nim->dim[i], i);
    }
    for (int i = 0; i < 3; i++) {
        MCS_REQUIRE(side[i] >= 1 && side[i] <= MAX_SIDE, MCS_E_DATA, "%s: %lld voxels along %c, want 1 to %d", path,
                    (long long)side[i], "xyz"[i], MAX_SIDE);
    }
    MCS_REQUIRE(side[0] * side[1] <= MAX_VOXELS / side[2], MCS_E_DATA, "%s: %lld x %lld x %lld voxels are too many",
                path, (long long)side[0], (long long)side[1], (long long)side[2]);
    switch (nim->datatype) {
    case NIFTI_TYPE_UINT8:
    case NIFTI_TYPE_INT8:
    case NIFTI_TYPE_INT16:
    case NIFTI_TYPE_UINT16:
    case NIFTI_TYPE_INT32:
    case NIFTI_TYPE_UINT32:
    case NIFTI_TYPE_INT64:
    case NIFTI_TYPE_UINT64:
    case NIFTI_TYPE_FLOAT32:
    case NIFTI_TYPE_FLOAT64: break;
    default:
        return MCS_FAIL(MCS_E_DATA, "%s: voxels of type %s; want integers or floats of up to 64 bits", path,
                        nifti_datatype_string(nim->datatype));
    }
    MCS_REQUIRE(nim->iname_offset >= 0 && nim->iname_offset < (int64_t)1 << 31, MCS_E_DATA,
                "%s: its voxels start at byte %lld, which cannot be", path, (long long)nim->iname_offset);
    return MCS_OK;
}

/* The voxels as floats, scaled: y = slope * x + inter. Products in double: a 16-bit CT with a slope keeps its values
 * exactly. */
static void to_float(const void *src, int type, int64_t n, double slope, double inter, float *dst)
{
    int scaled = slope != 1 || inter != 0;
#define CASE(code, type_name)                                                                                          \
    case code: {                                                                                                       \
        const type_name *s = src;                                                                                      \
        if (scaled)                                                                                                    \
            for (int64_t i = 0; i < n; i++) dst[i] = (float)(slope * (double)s[i] + inter);                            \
        else                                                                                                           \
            for (int64_t i = 0; i < n; i++) dst[i] = (float)s[i];                                                      \
        break;                                                                                                         \
    }
    switch (type) {
        CASE(NIFTI_TYPE_UINT8, uint8_t)
        CASE(NIFTI_TYPE_INT8, int8_t)
        CASE(NIFTI_TYPE_INT16, int16_t)
        CASE(NIFTI_TYPE_UINT16, uint16_t)
        CASE(NIFTI_TYPE_INT32, int32_t)
        CASE(NIFTI_TYPE_UINT32, uint32_t)
        CASE(NIFTI_TYPE_INT64, int64_t)
        CASE(NIFTI_TYPE_UINT64, uint64_t)
        CASE(NIFTI_TYPE_FLOAT32, float)
        CASE(NIFTI_TYPE_FLOAT64, double)
    }
#undef CASE
}

static enum mcs_status read_voxels(const char *path, const nifti_image *nim, struct volume *v)
{
    enum mcs_status st = MCS_OK;
    int64_t slice = nim->nx * nim->ny, slice_bytes = slice * nim->nbyper,
            wanted = nim->iname_offset + slice_bytes * nim->nz;
    double slope = nim->scl_slope, inter = nim->scl_inter;
    int byte_size = 0, swap_size = 0;
    void *raw = NULL;
    znzFile f = NULL;
    struct stat info;

    MCS_REQUIRE(stat(nim->iname, &info) == 0, MCS_E_NOINPUT, "%s: cannot read its voxels from %s: %s", path, nim->iname,
                strerror(errno));
    nifti_datatype_sizes(nim->datatype, &byte_size, &swap_size);
    MCS_REQUIRE(byte_size == nim->nbyper && byte_size > 0, MCS_E_DATA, "%s: voxel type and bits a voxel disagree",
                path);
    int packed = nifti_is_gzfile(nim->iname);
    MCS_REQUIRE(info.st_size >= (packed ? wanted / MAX_DEFLATE_RATIO : wanted), MCS_E_DATA,
                "%s: truncated: %lld bytes, its header promises %lld%s", path, (long long)info.st_size,
                (long long)wanted, packed ? " before packing" : "");
    /* The NIfTI standard: a slope of 0 means no scaling. */
    if (slope == 0 || !isfinite(slope) || !isfinite(inter)) slope = 1, inter = 0;

    raw = malloc((size_t)slice_bytes);
    v->values = malloc((size_t)(slice * nim->nz) * sizeof(float));
    MCS_REQUIRE_GOTO(raw && v->values, MCS_E_NOMEM, st, done, "%s: no memory for %lld x %lld x %lld voxels", path,
                     (long long)nim->nx, (long long)nim->ny, (long long)nim->nz);
    f = znzopen(nim->iname, "rb", packed);
    MCS_REQUIRE_GOTO(!znz_isnull(f), MCS_E_IO, st, done, "%s: cannot read %s: %s", path, nim->iname, strerror(errno));
    MCS_REQUIRE_GOTO(znzseek(f, (long)nim->iname_offset, SEEK_SET) >= 0, MCS_E_DATA, st, done,
                     "%s: truncated or damaged: its voxels cannot be reached", path);
    for (int64_t z = 0; z < nim->nz; z++) {
        size_t got = znzread(raw, 1, (size_t)slice_bytes, f);
        MCS_REQUIRE_GOTO(got == (size_t)slice_bytes, MCS_E_DATA, st, done,
                         "%s: truncated or damaged: slice %lld of %lld cannot be read", path, (long long)z + 1,
                         (long long)nim->nz);
        if (swap_size > 1 && nim->byteorder != nifti_short_order()) nifti_swap_Nbytes(slice, swap_size, raw);
        to_float(raw, nim->datatype, slice, slope, inter, v->values + z * slice);
    }
    if (packed) { /* reading on to the end makes zlib check the sum over all bytes */
        char more;
        znzread(&more, 1, 1, f);
        MCS_REQUIRE_GOTO(Xznzclose(&f) == 0, MCS_E_DATA, st, done, "%s: damaged: its checksum does not fit", path);
    }
done:
    if (f) Xznzclose(&f);
    free(raw);
    return st;
}

/* Millimetres along one axis; spacing is what the distances of a metric are made of, so nonsense in it is said aloud.
 */
static float spacing_of(const char *path, double d, int units, char axis)
{
    d = fabs(d);
    if (units == NIFTI_UNITS_METER) d *= 1e3;
    if (units == NIFTI_UNITS_MICRON) d *= 1e-3;
    if (isfinite(d) && d > 0 && d < 1e6) return (float)d;
    mcs_warn("%s: voxel spacing %g mm along %c; 1 mm is taken", path, d, axis);
    return 1;
}

enum mcs_status mcs_volume_read(const char *path, struct volume *v)
{
    enum mcs_status st = MCS_OK;
    nifti_image *nim = NULL;

    memset(v, 0, sizeof *v);
    MCS_REQUIRE(!mcs_folder_exists(path), MCS_E_IO, "%s: is a folder, a NIfTI file is needed", path);
    MCS_REQUIRE(mcs_file_exists(path), MCS_E_NOINPUT, "%s: no such file", path);
    MCS_REQUIRE(ends_with(path, ".nii") || ends_with(path, ".nii.gz") || ends_with(path, ".hdr") ||
                    ends_with(path, ".img") || ends_with(path, ".hdr.gz") || ends_with(path, ".img.gz"),
                MCS_E_DATA, "%s: no NIfTI file by its name; want .nii, .nii.gz or .hdr with .img", path);
    nifti_set_debug_level(0);
    if (!ends_with(path, ".img") && !ends_with(path, ".img.gz")) MCS_TRY(check_magic(path));
    nim = nifti_image_read(path, 0);
    MCS_REQUIRE(nim, MCS_E_DATA, "%s: its NIfTI header is truncated or damaged", path);
    MCS_TRY_GOTO(check_header(path, nim), st, done);
    MCS_TRY_GOTO(read_voxels(path, nim, v), st, done);
    v->nx = (int)nim->nx;
    v->ny = (int)nim->ny;
    v->nz = (int)nim->nz;
    v->spacing[0] = spacing_of(path, nim->dx, nim->xyz_units, 'x');
    v->spacing[1] = spacing_of(path, nim->dy, nim->xyz_units, 'y');
    v->spacing[2] = nim->ndim < 3 && nim->dz == 0 ? 1 : spacing_of(path, nim->dz, nim->xyz_units, 'z');
    /* Extensions belong to the image they came with (histories, connectomes), not to a mask that is made from it. */
    nifti_free_extensions(nim);
    v->header = nim;
    nim = NULL;
done:
    if (nim) nifti_image_free(nim);
    if (st != MCS_OK) mcs_volume_free(v);
    return st;
}

enum mcs_status mcs_volume_alloc(struct volume *v, int nx, int ny, int nz, const float spacing[3])
{
    memset(v, 0, sizeof *v);
    MCS_REQUIRE(nx > 0 && ny > 0 && nz > 0 && nx <= MAX_SIDE && ny <= MAX_SIDE && (int64_t)nx * ny <= MAX_VOXELS / nz,
                MCS_E_SHAPE, "a volume of %d x %d x %d voxels", nx, ny, nz);
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
    if (v->header) nifti_image_free(v->header);
    memset(v, 0, sizeof *v);
}

/* A header for a volume that came from no file: scanner coordinates along the axes, origin 0. */
static nifti_image *header_from_sizes(const struct volume *v, int type)
{
    int64_t dims[8] = {v->nz > 1 ? 3 : 2, v->nx, v->ny, v->nz, 1, 1, 1, 1};
    nifti_image *nim = nifti_make_new_nim(dims, type, 0);

    if (!nim) return NULL;
    nim->nz = nim->dim[3] = v->nz; /* with two dimensions the library leaves it 0 */
    nim->dx = nim->pixdim[1] = v->spacing[0];
    nim->dy = nim->pixdim[2] = v->spacing[1];
    nim->dz = nim->pixdim[3] = v->spacing[2];
    nim->xyz_units = NIFTI_UNITS_MM;
    nim->qform_code = NIFTI_XFORM_SCANNER_ANAT;
    nim->qfac = 1;
    return nim;
}

static enum mcs_status write_volume(const char *path, const void *voxels, int type, const struct volume *like)
{
    enum mcs_status st = MCS_OK;
    struct mcs_new_file out = MCS_NEW_FILE;
    nifti_image *nim = NULL;
    znzFile f = NULL;
    int byte_size, swap_size, header_bytes, two;
    int64_t n = (int64_t)like->nx * like->ny * like->nz;
    const char *p = voxels;
    union {
        nifti_1_header one;
        nifti_2_header two;
        char bytes[544];
    } header;
    memset(&header, 0, sizeof header);

    int packed = ends_with(path, ".nii.gz");
    MCS_REQUIRE(packed || ends_with(path, ".nii"), MCS_E_USAGE, "%s: a volume is written as .nii or .nii.gz", path);
    nifti_set_debug_level(0);
    nim = like->header ? nifti_copy_nim_info(like->header) : header_from_sizes(like, type);
    MCS_REQUIRE(nim, MCS_E_NOMEM, "%s: no memory for its header", path);
    MCS_REQUIRE_GOTO(nim->nx == like->nx && nim->ny == like->ny && nim->nz == like->nz, MCS_E_SHAPE, st, done,
                     "%s: %d x %d x %d voxels, but the geometry it should have is of %lld x %lld x %lld", path,
                     like->nx, like->ny, like->nz, (long long)nim->nx, (long long)nim->ny, (long long)nim->nz);
    nifti_datatype_sizes(type, &byte_size, &swap_size);
    nim->datatype = type;
    nim->nbyper = byte_size;
    nim->swapsize = swap_size;
    nim->byteorder = nifti_short_order();
    nim->scl_slope = 1;
    nim->scl_inter = 0;
    nim->cal_min = nim->cal_max = 0;
    two = nim->nifti_type == NIFTI_FTYPE_NIFTI2_1 || nim->nifti_type == NIFTI_FTYPE_NIFTI2_2 || like->nx > SHRT_MAX ||
          like->ny > SHRT_MAX || like->nz > SHRT_MAX;
    nim->nifti_type = two ? NIFTI_FTYPE_NIFTI2_1 : NIFTI_FTYPE_NIFTI1_1; /* header and voxels in one file */
    header_bytes = two ? 544 : 352;                                      /* the last four bytes: no extensions */
    nim->iname_offset = header_bytes;
    int failed = two ? nifti_convert_nim2n2hdr(nim, &header.two) : nifti_convert_nim2n1hdr(nim, &header.one);
    MCS_REQUIRE_GOTO(!failed, MCS_E_FAIL, st, done, "%s: its NIfTI header cannot be made", path);

    MCS_TRY_GOTO(mcs_file_begin(path, &out), st, done);
    f = znzopen(out.path, "wb", packed);
    MCS_REQUIRE_GOTO(!znz_isnull(f), MCS_E_IO, st, done, "%s: cannot write: %s", path, mcs_file_write_error(errno));
    errno = 0;
    MCS_REQUIRE_GOTO(znzwrite(header.bytes, 1, (size_t)header_bytes, f) == (size_t)header_bytes, MCS_E_IO, st, done,
                     "%s: cannot write: %s", path, mcs_file_write_error(errno));
    for (int64_t left = n * byte_size; left > 0;) {
        size_t part = left > (1 << 24) ? 1u << 24 : (size_t)left;
        MCS_REQUIRE_GOTO(znzwrite(p, 1, part, f) == part, MCS_E_IO, st, done, "%s: cannot write: %s", path,
                         mcs_file_write_error(errno));
        p += part;
        left -= (int64_t)part;
    }
    MCS_REQUIRE_GOTO(Xznzclose(&f) == 0, MCS_E_IO, st, done, "%s: cannot write: %s", path, mcs_file_write_error(errno));
    MCS_TRY_GOTO(mcs_file_commit(&out), st, done);
done:
    if (f) Xznzclose(&f);
    mcs_file_abort(&out);
    nifti_image_free(nim);
    return st;
}

enum mcs_status mcs_volume_write_u8(const char *path, const uint8_t *labels, const struct volume *like)
{
    MCS_TRY(write_volume(path, labels, NIFTI_TYPE_UINT8, like));
    return MCS_OK;
}

enum mcs_status mcs_volume_write_f32(const char *path, const float *values, const struct volume *like)
{
    MCS_TRY(write_volume(path, values, NIFTI_TYPE_FLOAT32, like));
    return MCS_OK;
}

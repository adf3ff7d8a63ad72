#include "data/image/nifti.h"

#include "data/io/array.h"
#include "engine/base/log.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

enum { UNITS_METRE = 1, UNITS_MM = 2, UNITS_MICRON = 3 };
static const int64_t MAX_VOXELS = (int64_t)1 << 33; /* 32 GiB as float32 */

/* ---- fields ---- */

/* A field's storage in a file. */
enum stored { TEXT, I8, I16, I32, I64, F32, F64 };
static const int stored_bytes[] = {1, 1, 2, 4, 8, 4, 8};

/*     field           n   NIfTI-1: offset, type  NIfTI-2: offset, type */
#define FIELD_LIST(X)                                                                                                  \
    X(dim, 8, 40, I16, 16, I64)                                                                                        \
    X(datatype, 1, 70, I16, 12, I16)                                                                                   \
    X(bitpix, 1, 72, I16, 14, I16)                                                                                     \
    X(pixdim, 8, 76, F32, 104, F64)                                                                                    \
    X(vox_offset, 1, 108, F32, 168, I64)                                                                               \
    X(scl_slope, 1, 112, F32, 176, F64)                                                                                \
    X(scl_inter, 1, 116, F32, 184, F64)                                                                                \
    X(xyzt_units, 1, 123, I8, 500, I32)                                                                                \
    X(qform_code, 1, 252, I16, 344, I32)                                                                               \
    X(sform_code, 1, 254, I16, 348, I32)                                                                               \
    X(quatern, 3, 256, F32, 352, F64)                                                                                  \
    X(qoffset, 3, 268, F32, 376, F64)                                                                                  \
    X(srow, 12, 280, F32, 400, F64)                                                                                    \
    X(intent_code, 1, 68, I16, 504, I32)                                                                               \
    X(dim_info, 1, 39, I8, 524, I8)                                                                                    \
    X(intent_p, 3, 56, F32, 80, F64)                                                                                   \
    X(slice_start, 1, 74, I16, 224, I64)                                                                               \
    X(slice_end, 1, 120, I16, 232, I64)                                                                                \
    X(slice_code, 1, 122, I8, 496, I32)                                                                                \
    X(slice_duration, 1, 132, F32, 208, F64)                                                                           \
    X(toffset, 1, 136, F32, 216, F64)                                                                                  \
    X(descrip, 80, 148, TEXT, 240, TEXT)                                                                               \
    X(aux_file, 24, 228, TEXT, 320, TEXT)                                                                              \
    X(intent_name, 16, 328, TEXT, 508, TEXT)

/* Representation of a field in struct nifti_header. */
enum held { HELD_TEXT, HELD_INT, HELD_REAL };
static const struct field {
    size_t at;
    enum held held;
    int n, offset[2];
    enum stored stored[2]; /* in version 1 and 2 */
} fields[] = {
#define HELD(field)                                                                                                    \
    _Generic(&((struct nifti_header *)0)->field,                                                       \
        int64_t *: HELD_INT, int64_t (*)[8]: HELD_INT, double *: HELD_REAL, double (*)[3]: HELD_REAL,                  \
        double (*)[8]: HELD_REAL, double (*)[12]: HELD_REAL, default: HELD_TEXT)
#define X(field, n, at1, type1, at2, type2)                                                                            \
    {offsetof(struct nifti_header, field), HELD(field), n, {at1, at2}, {type1, type2}},
    FIELD_LIST(X)
#undef X
};
enum { N_FIELDS = sizeof fields / sizeof *fields };

/* The unsigned number of n bytes in this machine's byte order, or in the other one. */
static uint64_t load(const uint8_t *p, int n, int swapped)
{
    uint64_t v = 0;
    const int little = (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) != swapped;
    for (int i = 0; i < n; i++) v |= (uint64_t)p[i] << 8 * (little ? i : n - 1 - i);
    return v;
}

static int64_t load_int(const uint8_t *p, enum stored type, int swapped)
{
    const uint64_t v = load(p, stored_bytes[type], swapped);
    switch (type) {
    case I8: return (int8_t)v;
    case I16: return (int16_t)v;
    case I32: return (int32_t)v;
    default: return (int64_t)v;
    }
}

static double load_real(const uint8_t *p, enum stored type, int swapped)
{
    const uint64_t v = load(p, stored_bytes[type], swapped);
    const uint32_t v4 = (uint32_t)v;
    float single;
    double wide;
    memcpy(&single, &v4, 4);
    memcpy(&wide, &v, 8);
    return type == F32 ? (double)single : type == F64 ? wide : (double)(int64_t)v;
}

static void load_fields(const uint8_t *bytes, struct nifti_header *h)
{
    const int v = h->version - 1;
    for (int f = 0; f < N_FIELDS; f++) {
        const enum stored type = fields[f].stored[v];
        char *field = (char *)h + fields[f].at;
        for (int i = 0; i < fields[f].n; i++) {
            const uint8_t *p = bytes + fields[f].offset[v] + i * stored_bytes[type];
            if (fields[f].held == HELD_TEXT)
                field[i] = (char)*p;
            else if (fields[f].held == HELD_INT)
                ((int64_t *)(void *)field)[i] = load_int(p, type, h->swapped);
            else
                ((double *)(void *)field)[i] = load_real(p, type, h->swapped);
        }
    }
}

/* A code or slice number of NIfTI-2 that does not fit NIfTI-1 becomes 0, which means "not given" for all of them. */
static void store_int(int64_t v, enum stored type, uint8_t *p)
{
    const int bits = 8 * stored_bytes[type];
    if (bits < 64 && (v < -((int64_t)1 << (bits - 1)) || v >= (int64_t)1 << (bits - 1))) v = 0;
    const int32_t v4 = (int32_t)v;
    const int16_t v2 = (int16_t)v;
    const int8_t v1 = (int8_t)v;
    const void *forms[] = {[I8] = &v1, [I16] = &v2, [I32] = &v4, [I64] = &v};
    memcpy(p, forms[type], (size_t)stored_bytes[type]);
}

static void store_real(double v, enum stored type, uint8_t *p)
{
    const float single = (float)v;
    if (type == I64)
        store_int((int64_t)v, type, p);
    else
        memcpy(p, type == F32 ? (const void *)&single : &v, (size_t)stored_bytes[type]);
}

static void store_fields(const struct nifti_header *h, uint8_t *bytes)
{
    const int v = h->version - 1;
    for (int f = 0; f < N_FIELDS; f++) {
        const enum stored type = fields[f].stored[v];
        const char *field = (const char *)h + fields[f].at;
        for (int i = 0; i < fields[f].n; i++) {
            uint8_t *p = bytes + fields[f].offset[v] + i * stored_bytes[type];
            if (fields[f].held == HELD_TEXT)
                *p = (uint8_t)field[i];
            else if (fields[f].held == HELD_INT)
                store_int(((const int64_t *)(const void *)field)[i], type, p);
            else
                store_real(((const double *)(const void *)field)[i], type, p);
        }
    }
}

/* ---- checks ---- */

static const struct type {
    int64_t code;
    int bytes; /* 0: not supported */
    const char *name;
} types[] = {
#define X(code, c_type, name) {code, sizeof(c_type), #name},
    MCS_NIFTI_TYPE_LIST(X)
#undef X
        {1, 0, "BINARY"},
    {32, 0, "COMPLEX64"},
    {128, 0, "RGB24"},
    {1536, 0, "FLOAT128"},
    {1792, 0, "COMPLEX128"},
    {2048, 0, "COMPLEX256"},
    {2304, 0, "RGBA32"},
};
enum { N_TYPES = sizeof types / sizeof *types };

int mcs_nifti_value_bytes(const struct nifti_header *h)
{
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].code == h->datatype) return types[i].bytes;
    return 0;
}

static enum mcs_status check_type(const char *name, const struct nifti_header *h)
{
    int i = 0;
    while (i < N_TYPES && types[i].code != h->datatype) i++;
    MCS_REQUIRE(i < N_TYPES, MCS_E_DATA, "%s: voxels of an unknown type (datatype %lld): its header is damaged", name,
                (long long)h->datatype);
    MCS_REQUIRE(types[i].bytes, MCS_E_DATA, "%s: voxels of type %s; want integers or floats of up to 64 bits", name,
                types[i].name);
    MCS_REQUIRE(h->bitpix == 8 * types[i].bytes, MCS_E_DATA,
                "%s: voxels of type %s have %d bits, but its header says %lld (bitpix): it is damaged", name,
                types[i].name, 8 * types[i].bytes, (long long)h->bitpix);
    return MCS_OK;
}

static enum mcs_status check_dims(const char *name, struct nifti_header *h)
{
    const int64_t nd = h->dim[0];
    MCS_REQUIRE(nd >= 1 && nd <= 7, MCS_E_DATA, "%s: %lld dimensions, want 1 to 3: its header is damaged", name,
                (long long)nd);
    for (int i = (int)nd + 1; i < 8; i++) h->dim[i] = 1;
    for (int i = 1; i <= 3; i++)
        MCS_REQUIRE(h->dim[i] >= 1 && h->dim[i] <= MCS_NIFTI_MAX_SIDE, MCS_E_DATA,
                    "%s: %lld voxels along %c, want 1 to %d", name, (long long)h->dim[i], "xyz"[i - 1],
                    MCS_NIFTI_MAX_SIDE);
    for (int i = 4; i <= nd; i++)
        MCS_REQUIRE(h->dim[i] == 1, MCS_E_DATA,
                    "%s: %lld dimensions (%lld %s); want one volume: split the series first", name, (long long)nd,
                    (long long)h->dim[i], i == 4 ? "volumes" : "values along the last");
    /* At most 65535^2 voxels per slice, so the product fits. */
    MCS_REQUIRE(h->dim[1] * h->dim[2] <= MAX_VOXELS / h->dim[3], MCS_E_DATA,
                "%s: %lld x %lld x %lld voxels are too many", name, (long long)h->dim[1], (long long)h->dim[2],
                (long long)h->dim[3]);
    return MCS_OK;
}

static enum mcs_status check_offset(const char *name, const struct nifti_header *h)
{
    const double least = h->paired ? 0 : h->version == 1 ? MCS_NIFTI1_BYTES + 4 : MCS_NIFTI2_BYTES + 4;
    MCS_REQUIRE(h->vox_offset >= least && h->vox_offset < 0x1p31 && floor(h->vox_offset) == h->vox_offset, MCS_E_DATA,
                "%s: its voxels start at byte %g (vox_offset), want a whole number from %g on", name, h->vox_offset,
                least);
    return MCS_OK;
}

static enum mcs_status check_scale(const char *name, struct nifti_header *h)
{
    if (h->scl_slope == 0 || isnan(h->scl_slope)) {
        h->scl_slope = 1;
        h->scl_inter = 0;
    }
    MCS_REQUIRE(isfinite(h->scl_slope) && isfinite(h->scl_inter), MCS_E_DATA,
                "%s: its values would be scaled by %g and shifted by %g (scl_slope, scl_inter); want finite numbers",
                name, h->scl_slope, h->scl_inter);
    return MCS_OK;
}

int mcs_nifti_header_bytes(const uint8_t first[4])
{
    const uint64_t here = load(first, 4, 0), other = load(first, 4, 1);
    if (here == MCS_NIFTI1_BYTES || other == MCS_NIFTI1_BYTES) return MCS_NIFTI1_BYTES;
    if (here == MCS_NIFTI2_BYTES || other == MCS_NIFTI2_BYTES) return MCS_NIFTI2_BYTES;
    return 0;
}

static enum mcs_status check_magic(const char *name, const uint8_t *bytes, struct nifti_header *h)
{
    static const char end2[5] = {0, '\r', '\n', 032, '\n'};
    const char *magic = (const char *)bytes + (h->version == 1 ? 344 : 4);
    const char digit = h->version == 1 ? '1' : '2';
    const int single = magic[0] == 'n' && magic[1] == '+' && magic[2] == digit;
    h->paired = magic[0] == 'n' && magic[1] == 'i' && magic[2] == digit;
    MCS_REQUIRE(h->version == 2 || single || h->paired, MCS_E_DATA,
                "%s: no NIfTI: its header has no n+1 or ni1 at byte 344, so it may be ANALYZE 7.5, which does not say "
                "left from right; convert it to NIfTI first",
                name);
    MCS_REQUIRE(single || h->paired, MCS_E_DATA, "%s: no NIfTI: its header has no n+2 or ni2 at byte 4", name);
    MCS_REQUIRE(h->version == 1 ? magic[3] == 0 : memcmp(magic + 3, end2, 5) == 0, MCS_E_DATA,
                "%s: its NIfTI header is damaged after \"%.3s\": it may have been copied as text", name, magic);
    return MCS_OK;
}

enum mcs_status mcs_nifti_parse(const char *name, const uint8_t *bytes, int64_t n_bytes, struct nifti_header *h)
{
    memset(h, 0, sizeof *h);
    const int header_bytes = n_bytes >= 4 ? mcs_nifti_header_bytes(bytes) : 0;
    MCS_REQUIRE(header_bytes, MCS_E_DATA, "%s: no NIfTI file: its header should start with the number 348 or 540",
                name);
    MCS_REQUIRE(n_bytes >= header_bytes, MCS_E_DATA, "%s: its NIfTI header is truncated: %lld bytes of %d", name,
                (long long)n_bytes, header_bytes);
    h->version = header_bytes == MCS_NIFTI1_BYTES ? 1 : 2;
    h->swapped = load(bytes, 4, 0) != (uint64_t)header_bytes;
    MCS_TRY(check_magic(name, bytes, h));
    load_fields(bytes, h);
    MCS_TRY(check_dims(name, h));
    MCS_TRY(check_type(name, h));
    MCS_TRY(check_offset(name, h));
    MCS_TRY(check_scale(name, h));
    return MCS_OK;
}

/* ---- geometry ---- */

enum mcs_status mcs_nifti_spacing(const char *name, const struct nifti_header *h, float spacing[3])
{
    const int units = (int)(h->xyzt_units & 7);
    if (units > UNITS_MICRON) mcs_warn("%s: its unit of length (%d) is none of NIfTI's; mm is taken", name, units);
    for (int i = 1; i <= 3; i++) {
        double mm = fabs(h->pixdim[i]);
        if (units == UNITS_METRE) mm *= 1e3;
        if (units == UNITS_MICRON) mm *= 1e-3;
        if ((i > h->dim[0] && !(mm > 0 && mm < 1e6)) || (h->dim[i] == 1 && mm == 0)) mm = 1;
        MCS_REQUIRE((float)mm > 0 && mm < 1e6, MCS_E_DATA,
                    "%s: a voxel spacing of %g mm along %c (pixdim[%d]); want more than 0 and less than 1 km", name, mm,
                    "xyz"[i - 1], i);
        spacing[i - 1] = (float)mm;
    }
    return MCS_OK;
}

int mcs_nifti_make(const struct nifti_header *like, enum nifti_type type, uint8_t bytes[MCS_NIFTI_MAX_BYTES])
{
    static const char magic2[8] = {'n', '+', '2', 0, '\r', '\n', 032, '\n'};
    struct nifti_header h = *like;
    h.version = 1;
    for (int i = 1; i <= 3; i++)
        if (h.dim[i] > SHRT_MAX) h.version = 2;
    const int32_t header_bytes = h.version == 1 ? MCS_NIFTI1_BYTES : MCS_NIFTI2_BYTES;
    h.datatype = type;
    h.bitpix = 8 * mcs_nifti_value_bytes(&h);
    h.vox_offset = header_bytes + 4;
    h.scl_slope = 1;
    h.scl_inter = 0;
    for (int i = 1; i < 8; i++) h.pixdim[i] = fabs(h.pixdim[i]);
    h.xyzt_units &= 63; /* six bits are defined; with more set, the unit of length would not fit NIfTI-1 */
    memset(bytes, 0, MCS_NIFTI_MAX_BYTES);
    store_fields(&h, bytes);
    memcpy(bytes, &header_bytes, 4);
    if (h.version == 1) {
        bytes[38] = 'r'; /* "regular", which ANALYZE readers check */
        memcpy(bytes + 344, "n+1", 4);
    } else
        memcpy(bytes + 4, magic2, 8);
    return header_bytes + 4; /* the last four bytes are 0: no extensions */
}

/* ---- voxels ---- */

void mcs_nifti_native(const struct nifti_header *h, void *values, int64_t n)
{
    if (h->swapped) mcs_swap_bytes(values, mcs_nifti_value_bytes(h), n);
}

void mcs_nifti_to_float(const struct nifti_header *h, void *src, int64_t n, float *dst)
{
    const double slope = h->scl_slope, inter = h->scl_inter;
    const int scaled = slope != 1 || inter != 0;
    mcs_nifti_native(h, src, n);
    switch (h->datatype) {
#define X(code, c_type, name)                                                                                          \
    case code: {                                                                                                       \
        const c_type *s = src;                                                                                         \
        if (scaled)                                                                                                    \
            for (int64_t i = 0; i < n; i++) dst[i] = (float)(slope * (double)s[i] + inter);                            \
        else                                                                                                           \
            for (int64_t i = 0; i < n; i++) dst[i] = (float)s[i];                                                      \
        break;                                                                                                         \
    }
        MCS_NIFTI_TYPE_LIST(X)
#undef X
    }
}

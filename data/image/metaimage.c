/* MetaImage (.mha, .mhd with a file beside it): https://itk.org/Wiki/ITK/MetaIO/Documentation. Its world is LPS, as
 * ITK's; row i of TransformMatrix is the direction of axis i. */
#include "data/image/raw_values.h"
#include "data/io/file.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { LINE_BYTES = 1024, MAX_ND = 4 };
static const int64_t MAX_FILE_BYTES = (int64_t)1 << 36;

struct fields {
    char type[32], size[96], spacing[96], element_size[96], matrix[384], offset[96], msb[16], binary[16],
        compressed[16], channels[16], header_size[24], slope[32], inter[32], nd[16], data_file[MCS_RAW_NAME_BYTES];
};

static const struct {
    const char *name;
    size_t at, bytes;
} known[] = {
#define FIELD(name, member)                                                                                            \
    {                                                                                                                  \
        name, offsetof(struct fields, member), sizeof((struct fields *)0)->member                                      \
    }
    FIELD("NDims", nd),
    FIELD("DimSize", size),
    FIELD("ElementType", type),
    FIELD("ElementSpacing", spacing),
    FIELD("ElementSize", element_size),
    FIELD("TransformMatrix", matrix),
    FIELD("Rotation", matrix),
    FIELD("Orientation", matrix),
    FIELD("Offset", offset),
    FIELD("Position", offset),
    FIELD("Origin", offset),
    FIELD("BinaryDataByteOrderMSB", msb),
    FIELD("ElementByteOrderMSB", msb),
    FIELD("BinaryData", binary),
    FIELD("CompressedData", compressed),
    FIELD("ElementNumberOfChannels", channels),
    FIELD("HeaderSize", header_size),
    FIELD("ElementToIntensityFunctionSlope", slope),
    FIELD("ElementToIntensityFunctionOffset", inter),
    FIELD("ElementDataFile", data_file),
#undef FIELD
};

/* Reads "NAME = VALUE" lines up to ElementDataFile, which is the last; *start is then behind it. */
static enum mcs_status read_fields(const char *path, const char *bytes, int64_t n, struct fields *f, int64_t *start)
{
    int64_t at = 0;
    while (at < n && !f->data_file[0]) {
        const char *line = bytes + at, *end = memchr(line, '\n', (size_t)(n - at));
        int64_t length = end ? end - line : n - at;
        at += length + (end != NULL);
        MCS_REQUIRE(length < LINE_BYTES, MCS_E_DATA, "%s: a line of %lld bytes in its header, at most %d are read",
                    path, (long long)length, LINE_BYTES);
        while (length && (line[length - 1] == '\r' || line[length - 1] == ' ')) length--;
        const char *equals = memchr(line, '=', (size_t)length);
        if (!equals) continue;
        int64_t name = equals - line;
        while (name && (line[name - 1] == ' ' || line[name - 1] == '\t')) name--;
        const char *value = equals + 1;
        while (value < line + length && (*value == ' ' || *value == '\t')) value++;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if ((int64_t)strlen(known[k].name) == name && !strncasecmp(line, known[k].name, (size_t)name)) {
                MCS_REQUIRE(line + length - value < (int64_t)known[k].bytes, MCS_E_DATA, "%s: its %s is too long", path,
                            known[k].name);
                snprintf((char *)f + known[k].at, known[k].bytes, "%.*s", (int)(line + length - value), value);
            }
    }
    MCS_REQUIRE(f->data_file[0], MCS_E_DATA, "%s: no ElementDataFile in its header", path);
    *start = at;
    return MCS_OK;
}

static int is_true(const char *text)
{
    return *text == 'T' || *text == 't' || *text == '1';
}

static enum mcs_status read_type(const char *path, const char *text, enum picture_type *type)
{
    static const struct {
        const char *name;
        enum picture_type type;
    } types[] = {
        {"MET_UCHAR", MCS_PICTURE_U8},      {"MET_CHAR", MCS_PICTURE_I8},   {"MET_USHORT", MCS_PICTURE_U16},
        {"MET_SHORT", MCS_PICTURE_I16},     {"MET_UINT", MCS_PICTURE_U32},  {"MET_INT", MCS_PICTURE_I32},
        {"MET_ULONG", MCS_PICTURE_U32},     {"MET_LONG", MCS_PICTURE_I32},  {"MET_ULONG_LONG", MCS_PICTURE_U64},
        {"MET_LONG_LONG", MCS_PICTURE_I64}, {"MET_FLOAT", MCS_PICTURE_F32}, {"MET_DOUBLE", MCS_PICTURE_F64}};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        if (!strcasecmp(text, types[k].name)) {
            *type = types[k].type;
            return MCS_OK;
        }
    return MCS_FAIL(MCS_E_DATA, "%s: values of type '%s'; want MET_UCHAR to MET_DOUBLE", path, text);
}

static enum mcs_status read_header(const char *path, const struct fields *f, struct raw_header *h)
{
    double size[MAX_ND + 1];
    MCS_TRY(read_type(path, f->type, &h->type));
    h->nd = atoi(f->nd);
    const int n = mcs_raw_numbers(f->size, MAX_ND + 1, size);
    MCS_REQUIRE(h->nd >= 1 && n == h->nd, MCS_E_DATA, "%s: %d sizes for %d dimensions", path, n, h->nd);
    MCS_REQUIRE(h->nd == 2 || h->nd == 3, MCS_E_DATA,
                "%s: %d dimensions; want an image or one volume: split the series first", path, h->nd);
    for (int k = 0; k < 3; k++) {
        MCS_REQUIRE(k >= h->nd || (size[k] >= 1 && size[k] <= 65535 && size[k] == floor(size[k])), MCS_E_DATA,
                    "%s: a size of %g; want 1 to 65535", path, k < h->nd ? size[k] : 0);
        h->size[k] = k < h->nd ? (int64_t)size[k] : 1;
    }
    h->channels = f->channels[0] ? atoi(f->channels) : 1;
    MCS_REQUIRE(h->channels >= 1 && h->channels <= 4, MCS_E_DATA, "%s: %d channels; want 1 to 4", path, h->channels);
    h->big_endian = is_true(f->msb);
    h->encoding = f->binary[0] && !is_true(f->binary) ? MCS_RAW_TEXT
                  : is_true(f->compressed)            ? MCS_RAW_DEFLATE
                                                      : MCS_RAW_BINARY;
    h->skip = strtoll(f->header_size, NULL, 10);
    MCS_REQUIRE(h->skip >= 0 || (h->skip == -1 && h->encoding == MCS_RAW_BINARY), MCS_E_DATA,
                "%s: a HeaderSize of %lld", path, (long long)h->skip);
    MCS_REQUIRE(strncasecmp(f->data_file, "LIST", 4) != 0, MCS_E_DATA,
                "%s: its values are a list of files, which is not read", path);
    if (strcasecmp(f->data_file, "LOCAL") != 0) snprintf(h->data_file, sizeof h->data_file, "%s", f->data_file);
    return MCS_OK;
}

static enum mcs_status set_geometry(const char *path, const struct fields *f, int nd, struct picture *p)
{
    double mm[3] = {1, 1, 1}, matrix[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, origin[3] = {0};
    const char *spacing = f->spacing[0] ? f->spacing : f->element_size;
    const int n = mcs_raw_numbers(spacing, nd, mm);
    MCS_REQUIRE(!*spacing || n == nd, MCS_E_DATA, "%s: %d spacings for %d dimensions", path, n, nd);
    for (int k = 0; k < nd; k++)
        MCS_REQUIRE(mm[k] > 0 && mm[k] < 1e6, MCS_E_DATA,
                    "%s: a voxel spacing of %g mm along %c; want more than 0 and less than 1 km", path, mm[k],
                    "xyz"[k]);
    p->slope = f->slope[0] ? strtod(f->slope, NULL) : 1;
    p->inter = strtod(f->inter, NULL);
    MCS_REQUIRE(isfinite(p->slope) && isfinite(p->inter) && p->slope != 0, MCS_E_DATA,
                "%s: its values would be scaled by %g and shifted by %g", path, p->slope, p->inter);
    memcpy(p->spacing, mm, sizeof mm);
    p->has_spacing = *spacing != 0;
    mcs_picture_plain_affine(p);
    if (nd != 3 || !*spacing) return MCS_OK;
    MCS_REQUIRE(!f->matrix[0] || mcs_raw_numbers(f->matrix, 9, matrix) == 9, MCS_E_DATA,
                "%s: its TransformMatrix has not nine numbers", path);
    mcs_raw_numbers(f->offset, 3, origin);
    for (int k = 0; k < 9; k++) matrix[k] *= mm[k / 3];
    return mcs_raw_geometry(path, matrix, origin, 1, p);
}

static enum mcs_status parse(const char *path, const char *bytes, int64_t n, struct picture *p)
{
    struct fields f = {0};
    struct raw_header h = {0};
    int64_t start;
    MCS_TRY(read_fields(path, bytes, n, &f, &start));
    MCS_TRY(read_header(path, &f, &h));
    MCS_TRY(mcs_raw_read(path, &h, bytes, n, start, p));
    return set_geometry(path, &f, h.nd, p);
}

enum mcs_status mcs_metaimage_picture(const char *path, struct picture *p)
{
    char *bytes;
    int64_t n;
    memset(p, 0, sizeof *p);
    MCS_TRY(mcs_file_read(path, MAX_FILE_BYTES, &bytes, &n));
    const enum mcs_status st = parse(path, bytes, n, p);
    free(bytes);
    if (st != MCS_OK) mcs_picture_free(p);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

/* NRRD, attached (.nrrd) and detached (.nhdr): https://teem.sourceforge.net/nrrd/format.html */
#include "data/image/raw_values.h"
#include "data/io/file.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_ND = 4, LINE_BYTES = 1024 };
static const int64_t MAX_FILE_BYTES = (int64_t)1 << 36;

/* The fields that matter, as texts; "" where a field is not given. */
struct fields {
    char type[64], dimension[16], sizes[128], encoding[32], endian[16], space[64], directions[256], origin[128],
        spacings[128], kinds[128], data_file[MCS_RAW_NAME_BYTES], line_skip[16], byte_skip[24];
};

static const struct {
    const char *name;
    size_t at, bytes;
} known[] = {
#define FIELD(name, member)                                                                                            \
    {                                                                                                                  \
        name, offsetof(struct fields, member), sizeof((struct fields *)0)->member                                      \
    }
    FIELD("type", type),
    FIELD("dimension", dimension),
    FIELD("sizes", sizes),
    FIELD("encoding", encoding),
    FIELD("endian", endian),
    FIELD("space", space),
    FIELD("space directions", directions),
    FIELD("space origin", origin),
    FIELD("spacings", spacings),
    FIELD("kinds", kinds),
    FIELD("data file", data_file),
    FIELD("datafile", data_file),
    FIELD("line skip", line_skip),
    FIELD("lineskip", line_skip),
    FIELD("byte skip", byte_skip),
    FIELD("byteskip", byte_skip),
#undef FIELD
};

/* Reads lines up to an empty one or the end; *start is then behind it. */
static enum mcs_status read_fields(const char *path, const char *bytes, int64_t n, struct fields *f, int64_t *start)
{
    int64_t at = 0;
    for (int line_number = 0; at < n; line_number++) {
        const char *line = bytes + at, *end = memchr(line, '\n', (size_t)(n - at));
        int64_t length = end ? end - line : n - at;
        at += length + (end != NULL);
        if (length && line[length - 1] == '\r') length--;
        if (!length) break;
        MCS_REQUIRE(length < LINE_BYTES, MCS_E_DATA, "%s: line %d of its header has %lld bytes, at most %d are read",
                    path, line_number + 1, (long long)length, LINE_BYTES);
        const char *colon = memchr(line, ':', (size_t)length);
        if (!line_number || *line == '#' || !colon || colon[1] == '=') continue; /* magic, comment, key := value */
        const char *value = colon + 1 + strspn(colon + 1, " \t");
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (strlen(known[k].name) == (size_t)(colon - line) &&
                !strncasecmp(line, known[k].name, (size_t)(colon - line))) {
                const int64_t value_bytes = line + length - value;
                MCS_REQUIRE(value_bytes < (int64_t)known[k].bytes, MCS_E_DATA, "%s: its %s are too long", path,
                            known[k].name);
                snprintf((char *)f + known[k].at, known[k].bytes, "%.*s", (int)(value_bytes > 0 ? value_bytes : 0),
                         value);
            }
    }
    *start = at;
    return MCS_OK;
}

static enum mcs_status read_type(const char *path, const char *text, enum picture_type *type)
{
    static const struct {
        const char *names;
        enum picture_type type;
    } types[] = {
        {"|signed char|int8|int8_t|", MCS_PICTURE_I8},
        {"|uchar|unsigned char|uint8|uint8_t|", MCS_PICTURE_U8},
        {"|short|short int|signed short|signed short int|int16|int16_t|", MCS_PICTURE_I16},
        {"|ushort|unsigned short|unsigned short int|uint16|uint16_t|", MCS_PICTURE_U16},
        {"|int|signed int|int32|int32_t|", MCS_PICTURE_I32},
        {"|uint|unsigned int|uint32|uint32_t|", MCS_PICTURE_U32},
        {"|longlong|long long|long long int|signed long long|signed long long int|int64|int64_t|", MCS_PICTURE_I64},
        {"|ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t|", MCS_PICTURE_U64},
        {"|float|", MCS_PICTURE_F32},
        {"|double|", MCS_PICTURE_F64}};
    char wanted[80];
    snprintf(wanted, sizeof wanted, "|%s|", text);
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        if (strstr(types[k].names, wanted)) {
            *type = types[k].type;
            return MCS_OK;
        }
    return MCS_FAIL(MCS_E_DATA, "%s: values of type '%s'; want integers of 8 to 64 bits, float or double", path, text);
}

static enum mcs_status read_encoding(const char *path, const struct fields *f, struct raw_header *h)
{
    const char *e = f->encoding;
    MCS_REQUIRE(strcasecmp(e, "bzip2") != 0 && strcasecmp(e, "bz2") != 0, MCS_E_DATA,
                "%s: compressed by bzip2, which is not read; save it with gzip", path);
    const int gzip = !strcasecmp(e, "gzip") || !strcasecmp(e, "gz");
    const int text = !strcasecmp(e, "ascii") || !strcasecmp(e, "text") || !strcasecmp(e, "txt");
    MCS_REQUIRE(gzip || text || !strcasecmp(e, "raw"), MCS_E_DATA, "%s: encoding '%s'; want raw, gzip or ascii", path,
                e);
    h->encoding = gzip ? MCS_RAW_DEFLATE : text ? MCS_RAW_TEXT : MCS_RAW_BINARY;
    h->big_endian = !strcasecmp(f->endian, "big");
    MCS_REQUIRE(text || mcs_picture_type_bytes(h->type) == 1 || h->big_endian || !strcasecmp(f->endian, "little"),
                MCS_E_DATA, "%s: its endian is neither little nor big", path);
    h->skip_lines = atoi(f->line_skip);
    h->skip = strtoll(f->byte_skip, NULL, 10);
    MCS_REQUIRE(h->skip_lines >= 0 && h->skip >= -1 && (h->skip >= 0 || h->encoding == MCS_RAW_BINARY), MCS_E_DATA,
                "%s: %d lines and %lld bytes to be skipped", path, h->skip_lines, (long long)h->skip);
    snprintf(h->data_file, sizeof h->data_file, "%s", f->data_file);
    return MCS_OK;
}

/* Sizes and channels: a first axis of the kind of a colour is the channels. */
static enum mcs_status read_sizes(const char *path, const struct fields *f, struct raw_header *h)
{
    double sizes[MAX_ND + 1];
    const int nd = atoi(f->dimension), n = mcs_raw_numbers(f->sizes, MAX_ND + 1, sizes);
    const int colour = !strncasecmp(f->kinds, "RGB-color", 9) || !strncasecmp(f->kinds, "3-color", 7) ||
                       !strncasecmp(f->kinds, "RGBA-color", 10) || !strncasecmp(f->kinds, "4-color", 7);
    MCS_REQUIRE(n == nd && nd >= 1, MCS_E_DATA, "%s: %d sizes for %d dimensions", path, n, nd);
    MCS_REQUIRE(nd - colour >= 2 && nd - colour <= 3, MCS_E_DATA,
                "%s: %d dimensions; want an image or one volume: split the series first", path, nd - colour);
    h->nd = nd - colour;
    h->channels = 1;
    for (int k = 0; k < 3; k++) h->size[k] = 1;
    for (int k = 0; k < nd; k++) {
        MCS_REQUIRE(sizes[k] >= 1 && sizes[k] <= 65535 && sizes[k] == floor(sizes[k]), MCS_E_DATA,
                    "%s: a size of %g; want 1 to 65535", path, sizes[k]);
        if (colour && !k)
            h->channels = (int)sizes[k];
        else
            h->size[k - colour] = (int64_t)sizes[k];
    }
    MCS_REQUIRE(h->channels <= 4, MCS_E_DATA, "%s: %d colours; want 3 or 4", path, h->channels);
    return MCS_OK;
}

static enum mcs_status set_geometry(const char *path, const struct fields *f, const struct raw_header *h,
                                    struct picture *p)
{
    double columns[9], origin[3] = {0}, mm[3];
    const char *directions = f->directions;
    const int lps = !strcasecmp(f->space, "left-posterior-superior") || !strcasecmp(f->space, "LPS");
    const int las = !strcasecmp(f->space, "left-anterior-superior") || !strcasecmp(f->space, "LAS");
    const int ras = !strcasecmp(f->space, "right-anterior-superior") || !strcasecmp(f->space, "RAS");
    if (!strncmp(directions, "none", 4)) directions += 4; /* of the colours */
    if (h->nd == 3 && mcs_raw_numbers(directions, 9, columns) == 9) {
        mcs_raw_numbers(f->origin, 3, origin);
        MCS_TRY(mcs_raw_geometry(path, columns, origin, lps, p));
        if (las)
            for (int k = 0; k < 4; k++) p->affine[k] = -p->affine[k];
        if (lps || las || ras) return MCS_OK;
        p->has_affine = 0;
        mcs_picture_plain_affine(p);
        mcs_picture_note(p, "its space (%s) does not tell left from right", f->space[0] ? f->space : "none");
        return MCS_OK;
    }
    if (mcs_raw_numbers(f->spacings, h->nd, mm) != h->nd) return MCS_OK;
    for (int k = 0; k < h->nd; k++) {
        if (isnan(mm[k])) return MCS_OK; /* NRRD's "not known" */
        MCS_REQUIRE(fabs(mm[k]) > 0 && fabs(mm[k]) < 1e6, MCS_E_DATA, "%s: a spacing of %g mm", path, mm[k]);
        p->spacing[k] = fabs(mm[k]);
    }
    p->has_spacing = 1;
    mcs_picture_plain_affine(p);
    return MCS_OK;
}

static enum mcs_status parse(const char *path, const char *bytes, int64_t n, struct picture *p)
{
    struct fields f = {0};
    struct raw_header h = {0};
    int64_t start;
    MCS_TRY(read_fields(path, bytes, n, &f, &start));
    MCS_TRY(read_type(path, f.type, &h.type));
    MCS_TRY(read_sizes(path, &f, &h));
    MCS_TRY(read_encoding(path, &f, &h));
    MCS_TRY(mcs_raw_read(path, &h, bytes, n, start, p));
    return set_geometry(path, &f, &h, p);
}

enum mcs_status mcs_nrrd_picture(const char *path, struct picture *p)
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

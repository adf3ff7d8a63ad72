#include "data/image/raw_values.h"

#include "data/io/array.h"
#include "data/io/file.h"
#include "data/io/gzip.h"
#include "engine/base/path.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t MAX_FILE_BYTES = (int64_t)1 << 36;

int mcs_raw_numbers(const char *text, int n, double *dst)
{
    int k = 0;
    while (k < n) {
        char *end;
        text += strspn(text, " \t,()\r");
        const double v = strtod(text, &end);
        if (end == text) break;
        dst[k++] = v;
        text = end;
    }
    return k;
}

enum mcs_status mcs_raw_geometry(const char *path, const double columns[9], const double origin[3], int lps,
                                 struct picture *p)
{
    double spacing[3];
    for (int k = 0; k < 3; k++) {
        const double *c = columns + 3 * k;
        spacing[k] = sqrt(c[0] * c[0] + c[1] * c[1] + c[2] * c[2]);
        MCS_REQUIRE(spacing[k] > 0 && spacing[k] < 1e6, MCS_E_DATA,
                    "%s: a voxel spacing of %g mm along %c; want more than 0 and less than 1 km", path, spacing[k],
                    "xyz"[k]);
        MCS_REQUIRE(isfinite(origin[k]), MCS_E_DATA, "%s: an origin of %g", path, origin[k]);
    }
    const double *a = columns, *b = columns + 3, *c = columns + 6;
    const double volume =
        a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0]);
    MCS_REQUIRE(fabs(volume) > 1e-6 * spacing[0] * spacing[1] * spacing[2], MCS_E_DATA,
                "%s: its three axes lie in one plane", path);
    memcpy(p->spacing, spacing, sizeof spacing);
    for (int i = 0; i < 3; i++) {
        const double sign = lps && i < 2 ? -1 : 1;
        for (int k = 0; k < 3; k++) p->affine[4 * i + k] = sign * columns[3 * k + i];
        p->affine[4 * i + 3] = sign * origin[i];
    }
    p->has_spacing = p->has_affine = 1;
    return MCS_OK;
}

static void store(struct picture *p, int64_t i, double v)
{
    switch (p->type) {
#define X(name, c_type, text)                                                                                          \
    case MCS_PICTURE_##name: ((c_type *)p->values)[i] = (c_type)v; break;
        MCS_PICTURE_TYPE_LIST(X)
#undef X
    default: break;
    }
}

static enum mcs_status read_text(const char *path, const char *text, struct picture *p)
{
    const int64_t n = mcs_picture_count(p);
    for (int64_t i = 0; i < n; i++) {
        char *end;
        text += strspn(text, " \t\r\n,");
        const double v = strtod(text, &end);
        MCS_REQUIRE(end != text, MCS_E_DATA, "%s: truncated: value %lld of %lld is no number", path, (long long)i + 1,
                    (long long)n);
        const double low = p->type == MCS_PICTURE_U8 || p->type == MCS_PICTURE_U16 || p->type == MCS_PICTURE_U32 ||
                                   p->type == MCS_PICTURE_U64
                               ? 0
                               : -ldexp(1, p->bits - 1);
        MCS_REQUIRE(!p->bits || (v >= low && v < (low == 0 ? ldexp(1, p->bits) : -low) && v == floor(v)), MCS_E_DATA,
                    "%s: value %lld is %g, which is no %s", path, (long long)i + 1, v, mcs_picture_type_name(p->type));
        store(p, i, v);
        text = end;
    }
    text += strspn(text, " \t\r\n,");
    MCS_REQUIRE(!*text, MCS_E_DATA, "%s: more values than the %lld its header promises", path, (long long)n);
    return MCS_OK;
}

/* bytes: from the first value on, followed by NUL. */
static enum mcs_status decode(const char *path, const struct raw_header *h, const char *bytes, int64_t n,
                              struct picture *p)
{
    const int64_t wanted = mcs_picture_count(p) * mcs_picture_type_bytes(p->type);
    if (h->encoding == MCS_RAW_TEXT) return read_text(path, bytes, p);
    if (h->encoding == MCS_RAW_DEFLATE)
        MCS_TRY(mcs_inflate(path, bytes, n, p->values, wanted));
    else {
        MCS_REQUIRE(n == wanted, MCS_E_DATA, "%s: %s: %lld bytes of values, its header promises %lld", path,
                    n < wanted ? "truncated" : "too long", (long long)n, (long long)wanted);
        memcpy(p->values, bytes, (size_t)wanted);
    }
    if (h->big_endian) mcs_swap_bytes(p->values, mcs_picture_type_bytes(p->type), mcs_picture_count(p));
    return MCS_OK;
}

/* Where the values begin in a file, after lines and bytes to be skipped. */
static enum mcs_status skip(const char *path, const struct raw_header *h, const char *bytes, int64_t n,
                            int64_t value_bytes, int64_t *start)
{
    for (int k = 0; k < h->skip_lines; k++) {
        const char *end = memchr(bytes + *start, '\n', (size_t)(n - *start));
        MCS_REQUIRE(end, MCS_E_DATA, "%s: truncated: fewer than the %d lines to be skipped", path, h->skip_lines);
        *start = end + 1 - bytes;
    }
    if (h->skip < 0)
        *start = n >= value_bytes ? n - value_bytes : 0;
    else
        MCS_REQUIRE(h->skip <= n - *start, MCS_E_DATA, "%s: truncated: %lld bytes to be skipped", path,
                    (long long)h->skip);
    if (h->skip > 0) *start += h->skip;
    return MCS_OK;
}

/* A size that no file of this many bytes can hold is refused before memory is taken for it. */
static enum mcs_status check_size(const char *path, const struct raw_header *h, int64_t n)
{
    const double voxels = (double)h->size[0] * (double)h->size[1] * (double)h->size[2] * h->channels;
    const double bytes = voxels * mcs_picture_type_bytes(h->type);
    const double least = h->encoding == MCS_RAW_TEXT      ? 2 * voxels - 1
                         : h->encoding == MCS_RAW_DEFLATE ? bytes / MCS_DEFLATE_MAX_RATIO
                                                          : bytes;
    MCS_REQUIRE(least <= (double)n, MCS_E_DATA, "%s: truncated: %lld bytes cannot hold %lld x %lld x %lld voxels", path,
                (long long)n, (long long)h->size[0], (long long)h->size[1], (long long)h->size[2]);
    return MCS_OK;
}

enum mcs_status mcs_raw_read(const char *path, const struct raw_header *h, const char *header, int64_t n_header,
                             int64_t start, struct picture *p)
{
    char data_path[MCS_PATH_BYTES], folder[MCS_PATH_BYTES], *beside = NULL;
    const char *name, *bytes = header;
    int64_t n = n_header;
    enum mcs_status st = MCS_OK;
    snprintf(data_path, sizeof data_path, "%s", path);
    if (h->data_file[0]) {
        MCS_REQUIRE(h->data_file[0] != '/' && !strstr(h->data_file, "..") && !strchr(h->data_file, '%'), MCS_E_DATA,
                    "%s: its values are in %s; want one file in its folder", path, h->data_file);
        MCS_TRY(mcs_path_split(path, folder, &name));
        MCS_TRY(mcs_path(data_path, "%s%s%s", folder, *folder ? "/" : "", h->data_file));
        MCS_REQUIRE(mcs_file_exists(data_path), MCS_E_DATA, "%s: its values are in %s, which is not there", path,
                    data_path);
        MCS_TRY(mcs_file_read(data_path, MAX_FILE_BYTES, &beside, &n));
        bytes = beside;
        start = 0;
    }
    MCS_TRY_GOTO(check_size(data_path, h, n), st, done);
    MCS_TRY_GOTO(mcs_picture_alloc(p, path, h->size[0], h->size[1], h->size[2], h->channels, h->type), st, done);
    MCS_TRY_GOTO(skip(data_path, h, bytes, n, mcs_picture_count(p) * mcs_picture_type_bytes(p->type), &start), st,
                 done);
    MCS_TRY_GOTO(decode(data_path, h, bytes + start, n - start, p), st, done);
done:
    free(beside);
    return st;
}

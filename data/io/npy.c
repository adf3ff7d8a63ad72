/* Reading and writing .npy. */
#include "data/io/npy.h"
#include "data/io/file.h"
#include "engine/base/memory.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const int64_t MAX_FILE_BYTES = (int64_t)1 << 36;
static const int64_t MAX_HEADER_BYTES = 1 << 16; /* eight sizes and three words need a few hundred */
static const char magic[6] = {(char)0x93, 'N', 'U', 'M', 'P', 'Y'};

/* A cursor over the header, which is a Python dict of three literals. The file's buffer ends in NUL, so reading one
 * byte at a time up to `end` stays inside. */
struct cursor {
    const char *at, *end;
};

static void blanks(struct cursor *c)
{
    while (c->at < c->end && isspace((unsigned char)*c->at)) c->at++;
}

static int take(struct cursor *c, char wanted)
{
    blanks(c);
    if (c->at >= c->end || *c->at != wanted) return 0;
    c->at++;
    return 1;
}

static int take_text(struct cursor *c, char *dst, int dst_bytes)
{
    int n = 0;
    blanks(c);
    if (c->at >= c->end || (*c->at != '\'' && *c->at != '"')) return 0;
    char quote = *c->at++;
    for (; c->at < c->end && *c->at != quote; c->at++) {
        if (n + 1 >= dst_bytes) return 0;
        dst[n++] = *c->at;
    }
    dst[n] = 0;
    return take(c, quote);
}

static int take_word(struct cursor *c, const char *word)
{
    size_t n = strlen(word);
    blanks(c);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n) != 0) return 0;
    c->at += n;
    return 1;
}

static int take_shape(struct cursor *c, struct npy *a)
{
    if (!take(c, '(')) return 0;
    for (a->nd = 0; !take(c, ')');) {
        int64_t x = 0;
        int digits = 0;
        blanks(c);
        for (; c->at < c->end && isdigit((unsigned char)*c->at) && digits < 18; c->at++, digits++)
            x = 10 * x + (*c->at - '0');
        if (digits == 0 || a->nd == MCS_ARRAY_MAX_ND) return 0;
        a->dims[a->nd++] = x;
        if (!take(c, ',')) return take(c, ')');
    }
    return 1;
}

/* Sets a->nd and a->dims, dtype (text, e.g. "<f4") and *fortran. Returns 0 unless the header is a dict of exactly the
 * three keys that numpy writes. */
static int parse_header(struct cursor c, struct npy *a, char *dtype, int dtype_bytes, int *fortran)
{
    char key[24];
    int seen = 0;

    if (!take(&c, '{')) return 0;
    while (!take(&c, '}')) {
        if (!take_text(&c, key, sizeof key) || !take(&c, ':')) return 0;
        if (strcmp(key, "descr") == 0) {
            if (!take_text(&c, dtype, dtype_bytes)) return 0;
            seen |= 1;
        } else if (strcmp(key, "fortran_order") == 0) {
            *fortran = take_word(&c, "True");
            if (!*fortran && !take_word(&c, "False")) return 0;
            seen |= 2;
        } else if (strcmp(key, "shape") == 0) {
            if (!take_shape(&c, a)) return 0;
            seen |= 4;
        } else {
            return 0;
        }
        if (!take(&c, ',')) return take(&c, '}') && seen == 7;
    }
    return seen == 7;
}

static enum mcs_status parse(const char *path, const char *bytes, int64_t n_bytes, struct npy *a)
{
    char dtype[16] = "";
    int fortran = 0, width = 0;
    int64_t start = 10, header_bytes;

    MCS_REQUIRE(n_bytes >= 12 && memcmp(bytes, magic, sizeof magic) == 0, MCS_E_DATA,
                "%s: no .npy file by its first bytes", path);
    const uint8_t *u = (const uint8_t *)bytes;
    MCS_REQUIRE(u[6] >= 1 && u[6] <= 3, MCS_E_DATA, "%s: .npy version %d, want 1 to 3", path, u[6]);
    header_bytes = u[8] | u[9] << 8;
    if (u[6] > 1) {
        header_bytes |= (int64_t)u[10] << 16 | (int64_t)u[11] << 24;
        start = 12;
    }
    MCS_REQUIRE(header_bytes <= MAX_HEADER_BYTES, MCS_E_DATA,
                "%s: a header of %lld bytes, more than the %lld of any .npy", path, (long long)header_bytes,
                (long long)MAX_HEADER_BYTES);
    MCS_REQUIRE(header_bytes <= n_bytes - start, MCS_E_DATA, "%s: truncated: a header of %lld bytes in a file of %lld",
                path, (long long)header_bytes, (long long)n_bytes);
    struct cursor c = {bytes + start, bytes + start + header_bytes};
    MCS_REQUIRE(parse_header(c, a, dtype, sizeof dtype, &fortran), MCS_E_DATA, "%s: damaged .npy header", path);
    MCS_REQUIRE(!fortran || a->nd < 2, MCS_E_DATA, "%s: in Fortran order; save numpy.ascontiguousarray(a)", path);
    if (strcmp(dtype, "<f4") == 0) width = 4;
    if (strcmp(dtype, "<f8") == 0) width = 8;
    if (strcmp(dtype, "<f2") == 0) width = 2;
    MCS_REQUIRE(width, MCS_E_DATA, "%s: values of type %s, want <f4; save a.astype('float32')", path, dtype);

    const char *values = bytes + start + header_bytes;
    int64_t value_bytes = n_bytes - start - header_bytes;
    a->n_values = mcs_array_count(a->nd, a->dims);
    MCS_REQUIRE(a->n_values >= 0 && a->n_values <= MAX_FILE_BYTES, MCS_E_DATA, "%s: impossible sizes", path);
    MCS_REQUIRE(a->n_values * width == value_bytes, MCS_E_DATA,
                "%s: %s: %lld bytes of values, its header promises %lld", path,
                value_bytes < a->n_values * width ? "truncated" : "too long", (long long)value_bytes,
                (long long)(a->n_values * width));
    MCS_TRY(
        mcs_memory_check(a->n_values * (int64_t)sizeof *a->values, "%s: %lld values", path, (long long)a->n_values));
    a->values = malloc((size_t)(a->n_values ? a->n_values : 1) * sizeof *a->values);
    MCS_REQUIRE(a->values, MCS_E_NOMEM, "%s: no memory for %lld values", path, (long long)a->n_values);
    if (width == 4) memcpy(a->values, values, (size_t)value_bytes);
    for (int64_t i = 0; width == 8 && i < a->n_values; i++) {
        double x;
        memcpy(&x, values + 8 * i, 8);
        a->values[i] = (float)x;
    }
    for (int64_t i = 0; width == 2 && i < a->n_values; i++) {
        uint16_t x;
        memcpy(&x, values + 2 * i, 2);
        mcs_half_to_float(&x, 1, &a->values[i]);
    }
    return MCS_OK;
}

enum mcs_status mcs_npy_read(const char *path, struct npy *a)
{
    char *bytes;
    int64_t n_bytes;

    memset(a, 0, sizeof *a);
    MCS_TRY(mcs_file_read(path, MAX_FILE_BYTES, &bytes, &n_bytes));
    enum mcs_status st = parse(path, bytes, n_bytes, a);
    free(bytes);
    if (st != MCS_OK) mcs_npy_free(a);
    return st;
}

void mcs_npy_free(struct npy *a)
{
    if (!a) return;
    free(a->values);
    memset(a, 0, sizeof *a);
}

enum mcs_status mcs_npy_write(const char *path, const float *values, int nd, const int64_t *dims)
{
    char shape[256] = "", *bytes;
    int at = 0;
    int64_t n = mcs_array_count(nd, dims);

    MCS_REQUIRE(n >= 0, MCS_E_SHAPE, "%s: %d dimensions are not written", path, nd);
    for (int i = 0; i < nd; i++)
        at += snprintf(shape + at, sizeof shape - (size_t)at, i ? ", %lld" : "%lld", (long long)dims[i]);
    if (nd == 1) snprintf(shape + at, sizeof shape - (size_t)at, ",");
    char dict[384];
    int dict_bytes = snprintf(dict, sizeof dict, "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", shape);
    /* As numpy does: room for the first size to grow to 21 digits in place, then blanks and a line end up to a multiple
     * of 64 bytes. 10: magic, version and header length. */
    char first[32] = "";
    int padding = nd ? 21 - snprintf(first, sizeof first, "%lld", (long long)dims[0]) : 0;
    int header_bytes = (10 + dict_bytes + padding + 1 + 63) / 64 * 64;
    MCS_TRY(mcs_memory_check(header_bytes + 4 * n, "%s: %lld values", path, (long long)n));
    bytes = malloc((size_t)(header_bytes + 4 * n));
    MCS_REQUIRE(bytes, MCS_E_NOMEM, "%s: no memory for %lld values", path, (long long)n);
    memset(bytes, ' ', (size_t)header_bytes);
    memcpy(bytes, magic, sizeof magic);
    bytes[6] = 1;
    bytes[7] = 0;
    bytes[8] = (char)((header_bytes - 10) & 255);
    bytes[9] = (char)((header_bytes - 10) >> 8);
    memcpy(bytes + 10, dict, (size_t)dict_bytes);
    bytes[header_bytes - 1] = '\n';
    if (n) memcpy(bytes + header_bytes, values, (size_t)n * 4);
    enum mcs_status st = mcs_file_write(path, bytes, header_bytes + 4 * n);
    free(bytes);
    MCS_TRY(st);
    return MCS_OK;
}

/* Writes .npz: PKWARE's APPNOTE.TXT with zip64 sizes throughout, and numpy.lib.format version 1. */
#include "data/nnunet/nnunet_npz.h"

#include "data/io/gzip.h"
#include "engine/base/newfile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { MAX_ARRAYS = 8, HEADER_BYTES = 128, NAME_BYTES = 64, EXTRA_LOCAL = 20, EXTRA_CENTRAL = 28 };

struct entry {
    char name[NAME_BYTES];
    char header[HEADER_BYTES]; /* of the .npy file */
    int64_t at, n_bytes, n_value_bytes;
    uint32_t crc;
};

static void put_little(FILE *f, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) putc((int)(v >> 8 * i & 0xff), f);
}

/* The header ends in a line end, and its length is a multiple of 64, as numpy's. */
static enum mcs_status set_entry(const char *path, const struct npz_array *a, struct entry *e)
{
    char shape[HEADER_BYTES] = "";
    int used = 0;
    MCS_REQUIRE(a->type == MCS_ARRAY_F32 || a->type == MCS_ARRAY_I16, MCS_E_USAGE, "%s: %s: cannot write %s", path,
                a->name, mcs_array_type_name(a->type));
    for (int i = 0; i < a->nd; i++)
        used += snprintf(shape + used, sizeof shape - (size_t)used, i ? ", %lld" : "%lld", (long long)a->dims[i]);
    memset(e->header, ' ', sizeof e->header);
    memcpy(e->header, "\x93NUMPY\1\0\x76\0", 10);
    char text[HEADER_BYTES];
    const int n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (%s%s), }",
                           a->type == MCS_ARRAY_F32 ? "<f4" : "<i2", shape, a->nd == 1 ? "," : "");
    MCS_REQUIRE(n < HEADER_BYTES - 10, MCS_E_USAGE, "%s: %s: too many dimensions", path, a->name);
    memcpy(e->header + 10, text, (size_t)n);
    e->header[HEADER_BYTES - 1] = '\n';
    snprintf(e->name, sizeof e->name, "%s.npy", a->name);
    e->n_value_bytes = mcs_array_count(a->nd, a->dims) * mcs_array_type_bytes(a->type);
    e->n_bytes = HEADER_BYTES + e->n_value_bytes;
    e->crc = mcs_crc32(mcs_crc32(0, e->header, HEADER_BYTES), a->values, e->n_value_bytes);
    return MCS_OK;
}

/* Fields that the local and the central header share; the sizes are in the zip64 field that follows the name. The date
 * is 1 January 1980, the earliest. */
static void put_shared(FILE *f, const struct entry *e, int extra)
{
    put_little(f, 45, 2);
    put_little(f, 0, 4);
    put_little(f, 0, 2);
    put_little(f, 0x21, 2);
    put_little(f, e->crc, 4);
    put_little(f, 0xffffffff, 4);
    put_little(f, 0xffffffff, 4);
    put_little(f, strlen(e->name), 2);
    put_little(f, (uint64_t)extra, 2);
}

static void put_zip64(FILE *f, const struct entry *e, int extra)
{
    put_little(f, 1, 2);
    put_little(f, (uint64_t)extra - 4, 2);
    put_little(f, (uint64_t)e->n_bytes, 8);
    put_little(f, (uint64_t)e->n_bytes, 8);
    if (extra == EXTRA_CENTRAL) put_little(f, (uint64_t)e->at, 8);
}

static void put_directory(FILE *f, int n, const struct entry *entries, int64_t at)
{
    int64_t bytes = 0;
    for (int i = 0; i < n; i++) {
        const struct entry *e = &entries[i];
        fputs("PK\1\2", f);
        put_little(f, 45, 2);
        put_shared(f, e, EXTRA_CENTRAL);
        put_little(f, 0, 6); /* comment, disk, internal attributes */
        put_little(f, 0, 4); /* external attributes */
        put_little(f, 0xffffffff, 4);
        fputs(e->name, f);
        put_zip64(f, e, EXTRA_CENTRAL);
        bytes += 46 + (int64_t)strlen(e->name) + EXTRA_CENTRAL;
    }
    fputs("PK\6\6", f);
    put_little(f, 44, 8);
    put_little(f, 45, 2);
    put_little(f, 45, 2);
    put_little(f, 0, 8);
    put_little(f, (uint64_t)n, 8);
    put_little(f, (uint64_t)n, 8);
    put_little(f, (uint64_t)bytes, 8);
    put_little(f, (uint64_t)at, 8);
    fputs("PK\6\7", f);
    put_little(f, 0, 4);
    put_little(f, (uint64_t)(at + bytes), 8);
    put_little(f, 1, 4);
    fputs("PK\5\6", f);
    put_little(f, 0, 4);
    put_little(f, (uint64_t)n, 2);
    put_little(f, (uint64_t)n, 2);
    put_little(f, 0xffffffff, 4);
    put_little(f, 0xffffffff, 4);
    put_little(f, 0, 2);
}

enum mcs_status mcs_npz_write(const char *path, int n, const struct npz_array *arrays)
{
    struct entry entries[MAX_ARRAYS];
    struct mcs_new_file out = MCS_NEW_FILE;
    enum mcs_status st = MCS_OK;
    int64_t at = 0;
    MCS_REQUIRE(n <= MAX_ARRAYS, MCS_E_USAGE, "%s: more than %d arrays", path, MAX_ARRAYS);
    for (int i = 0; i < n; i++) MCS_TRY(set_entry(path, &arrays[i], &entries[i]));
    MCS_TRY(mcs_file_begin(path, &out));
    FILE *f = fopen(out.path, "wbe");
    MCS_REQUIRE_GOTO(f, MCS_E_IO, st, done, "%s: cannot write: %s", path, strerror(errno));
    for (int i = 0; i < n; i++) {
        struct entry *e = &entries[i];
        e->at = at;
        fputs("PK\3\4", f);
        put_shared(f, e, EXTRA_LOCAL);
        fputs(e->name, f);
        put_zip64(f, e, EXTRA_LOCAL);
        fwrite(e->header, 1, HEADER_BYTES, f);
        fwrite(arrays[i].values, 1, (size_t)e->n_value_bytes, f);
        at += 30 + (int64_t)strlen(e->name) + EXTRA_LOCAL + e->n_bytes;
    }
    put_directory(f, n, entries, at);
    int good = !ferror(f), error = errno;
    if (fclose(f) != 0 && good) good = 0, error = errno;
    MCS_REQUIRE_GOTO(good, MCS_E_IO, st, done, "%s: cannot write: %s", path, mcs_file_write_error(error));
    MCS_TRY_GOTO(mcs_file_commit(&out), st, done);
done:
    mcs_file_abort(&out);
    return st;
}

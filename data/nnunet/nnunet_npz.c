/* Writes .npz: PKWARE's APPNOTE.TXT with zip64 sizes throughout, and numpy.lib.format version 1. */
#include "data/nnunet/nnunet_npz.h"

#include "data/io/gzip.h"
#include "data/io/zip_write.h"
#include "engine/base/newfile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { MAX_ARRAYS = 8, HEADER_BYTES = 128, DATE = 0x21 /* 1 January 1980, the earliest */ };

struct entry {
    struct zip_out zip;
    char header[HEADER_BYTES]; /* of the .npy file */
    int64_t n_value_bytes;
};

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
    snprintf(e->zip.name, sizeof e->zip.name, "%s.npy", a->name);
    e->n_value_bytes = mcs_array_count(a->nd, a->dims) * mcs_array_type_bytes(a->type);
    e->zip.n_bytes = HEADER_BYTES + e->n_value_bytes;
    e->zip.crc = mcs_crc32(mcs_crc32(0, e->header, HEADER_BYTES), a->values, e->n_value_bytes);
    return MCS_OK;
}

static void put_local(FILE *f, const struct zip_out *e)
{
    fputs("PK\3\4", f);
    mcs_put_little(f, 45, 2); /* zip64 */
    mcs_put_little(f, 0, 6);  /* flags, method, time */
    mcs_put_little(f, DATE, 2);
    mcs_put_little(f, e->crc, 4);
    mcs_put_little(f, 0xffffffff, 4);
    mcs_put_little(f, 0xffffffff, 4);
    mcs_put_little(f, strlen(e->name), 2);
    mcs_put_little(f, ZIP64_LOCAL, 2);
    fputs(e->name, f);
    mcs_zip_put_local_sizes(f, e);
}

enum mcs_status mcs_npz_write(const char *path, int n, const struct npz_array *arrays)
{
    struct entry entries[MAX_ARRAYS];
    struct mcs_new_file out = MCS_NEW_FILE;
    enum mcs_status st = MCS_OK;
    int64_t at = 0, directory = 0;
    MCS_REQUIRE(n <= MAX_ARRAYS, MCS_E_USAGE, "%s: more than %d arrays", path, MAX_ARRAYS);
    for (int i = 0; i < n; i++) MCS_TRY(set_entry(path, &arrays[i], &entries[i]));
    MCS_TRY(mcs_file_begin(path, &out));
    FILE *f = fopen(out.path, "wbe");
    MCS_REQUIRE_GOTO(f, MCS_E_IO, st, done, "%s: cannot write: %s", path, strerror(errno));
    for (int i = 0; i < n; i++) {
        struct entry *e = &entries[i];
        e->zip.at = at;
        put_local(f, &e->zip);
        fwrite(e->header, 1, HEADER_BYTES, f);
        fwrite(arrays[i].values, 1, (size_t)e->n_value_bytes, f);
        at += ZIP_LOCAL_BYTES + (int64_t)strlen(e->zip.name) + ZIP64_LOCAL + e->zip.n_bytes;
    }
    for (int i = 0; i < n; i++) directory += mcs_zip_put_central(f, &entries[i].zip, DATE);
    mcs_zip_put_end(f, n, directory, at);
    int good = !ferror(f), error = errno;
    if (fclose(f) != 0 && good) good = 0, error = errno;
    MCS_REQUIRE_GOTO(good, MCS_E_IO, st, done, "%s: cannot write: %s", path, mcs_file_write_error(error));
    MCS_TRY_GOTO(mcs_file_commit(&out), st, done);
done:
    mcs_file_abort(&out);
    return st;
}

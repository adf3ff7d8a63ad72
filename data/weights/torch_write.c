/* Writes PyTorch's zip: data.pkl (an OrderedDict of tensors, protocol 2), byteorder, data/0 ..., version; each stored,
 * and its contents at a multiple of 64 bytes, as torch.save does. zip64 throughout, so that no size is a limit. */
#include "data/io/gzip.h"
#include "data/io/zip_write.h"
#include "data/weights/weight_write.h"
#include "engine/base/newfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    ALIGNMENT = 64,
    FIXED = 3 /* entries besides storages */
};

/* ---- the pickle ---- */

static void put_text(FILE *f, const char *s)
{
    putc('X', f);
    mcs_put_little(f, strlen(s), 4);
    fputs(s, f);
}

static void put_int(FILE *f, int64_t v)
{
    if (v < 256) {
        putc('K', f);
        putc((int)v, f);
    } else if (v < (int64_t)1 << 31) {
        putc('J', f);
        mcs_put_little(f, (uint64_t)v, 4);
    } else {
        fputs("\x8a\x08", f);
        mcs_put_little(f, (uint64_t)v, 8);
    }
}

static void put_tuple(FILE *f, int n, const int64_t *v)
{
    putc('(', f);
    for (int i = 0; i < n; i++) put_int(f, v[i]);
    putc('t', f);
}

static const char *const storage_names[MCS_ARRAY_N_TYPES] = {
    [MCS_ARRAY_F32] = "Float", [MCS_ARRAY_F16] = "Half", [MCS_ARRAY_BF16] = "BFloat16", [MCS_ARRAY_F64] = "Double",
    [MCS_ARRAY_U8] = "Byte",   [MCS_ARRAY_I32] = "Int",  [MCS_ARRAY_I64] = "Long",      [MCS_ARRAY_I16] = "Short",
    [MCS_ARRAY_I8] = "Char",   [MCS_ARRAY_BOOL] = "Bool"};

static void put_tensor(FILE *f, int index, const struct weight_out *t)
{
    char key[16];
    int64_t strides[MCS_ARRAY_MAX_ND] = {0}, step = 1;
    for (int d = t->nd - 1; d >= 0; d--) {
        strides[d] = step;
        if (t->dims[d]) step *= t->dims[d];
    }
    snprintf(key, sizeof key, "%d", index);
    put_text(f, t->name);
    fputs("ctorch._utils\n_rebuild_tensor_v2\n((", f);
    put_text(f, "storage");
    fprintf(f, "ctorch\n%sStorage\n", storage_names[t->type]);
    put_text(f, key);
    put_text(f, "cpu");
    put_int(f, mcs_array_count(t->nd, t->dims));
    fputs("tQK", f);
    putc(0, f); /* offset 0 */
    put_tuple(f, t->nd, t->dims);
    put_tuple(f, t->nd, strides);
    fputs("\x89"
          "ccollections\nOrderedDict\n)RtR",
          f); /* no gradient, no hooks */
}

static enum mcs_status make_pickle(const char *path, int n, const struct weight_out *tensors, const char *wrapper,
                                   char **bytes, size_t *n_bytes)
{
    FILE *f = open_memstream(bytes, n_bytes);
    MCS_REQUIRE(f, MCS_E_NOMEM, "%s: no memory to write it", path);
    fputs("\x80\x02", f);
    if (wrapper) {
        fputs("}", f);
        put_text(f, wrapper);
    }
    fputs("ccollections\nOrderedDict\n)R(", f);
    for (int i = 0; i < n; i++) put_tensor(f, i, &tensors[i]);
    fputs(wrapper ? "us." : "u.", f);
    const int good = !ferror(f);
    MCS_REQUIRE(fclose(f) == 0 && good, MCS_E_NOMEM, "%s: no memory to write it", path);
    return MCS_OK;
}

/* ---- the archive ---- */

/* A local header whose checksum is filled in later; its extra field aligns the contents. */
static void put_local(FILE *f, struct zip_out *e, int64_t *at)
{
    const int64_t name = (int64_t)strlen(e->name), fixed = *at + ZIP_LOCAL_BYTES + name + ZIP64_LOCAL + 4;
    const int64_t padding = (ALIGNMENT - fixed % ALIGNMENT) % ALIGNMENT;
    e->at = *at;
    fputs("PK\3\4", f);
    mcs_put_little(f, 45, 2); /* zip64 */
    mcs_put_little(f, 0, 8);  /* flags, method, time */
    mcs_put_little(f, 0, 4);  /* checksum */
    mcs_put_little(f, 0xffffffff, 4);
    mcs_put_little(f, 0xffffffff, 4);
    mcs_put_little(f, (uint64_t)name, 2);
    mcs_put_little(f, (uint64_t)(ZIP64_LOCAL + 4 + padding), 2);
    fputs(e->name, f);
    mcs_zip_put_local_sizes(f, e);
    fputs("FB", f);
    mcs_put_little(f, (uint64_t)padding, 2);
    for (int64_t i = 0; i < padding; i++) putc('Z', f);
    *at = fixed + padding + e->n_bytes;
}

static void put_bytes(FILE *f, struct zip_out *e, const char *name, const void *bytes, size_t n_bytes, int64_t *at)
{
    snprintf(e->name, sizeof e->name, "archive/%s", name);
    e->n_bytes = (int64_t)n_bytes;
    e->crc = mcs_crc32(0, bytes, e->n_bytes);
    put_local(f, e, at);
    fwrite(bytes, 1, n_bytes, f);
}

static enum mcs_status put_archive(FILE *f, const char *path, int n, const struct weight_out *tensors,
                                   const char *pickle, size_t pickle_bytes, struct zip_out *entries)
{
    struct zip_out *e = entries;
    int64_t at = 0;
    put_bytes(f, e++, "data.pkl", pickle, pickle_bytes, &at);
    put_bytes(f, e++, "byteorder", "little", 6, &at);
    for (int i = 0; i < n; i++, e++) {
        snprintf(e->name, sizeof e->name, "archive/data/%d", i);
        e->n_bytes = mcs_array_count(tensors[i].nd, tensors[i].dims) * mcs_array_type_bytes(tensors[i].type);
        put_local(f, e, &at);
        MCS_TRY(mcs_weight_out_put(f, path, &tensors[i], &e->crc));
    }
    put_bytes(f, e++, "version", "3\n", 2, &at);
    int64_t directory = 0;
    for (int i = 0; i < n + FIXED; i++) directory += mcs_zip_put_central(f, &entries[i], 0);
    mcs_zip_put_end(f, n + FIXED, directory, at);
    MCS_REQUIRE(!ferror(f), MCS_E_IO, "%s: cannot write: %s", path, mcs_file_write_error(errno));
    return MCS_OK;
}

/* Writes the checksums into the local headers. Returns 1, or 0 with errno. */
static int patch_checksums(int fd, int n, const struct zip_out *entries)
{
    for (int i = 0; i < n; i++) {
        const uint32_t crc = entries[i].crc;
        const uint8_t bytes[4] = {(uint8_t)crc, (uint8_t)(crc >> 8), (uint8_t)(crc >> 16), (uint8_t)(crc >> 24)};
        if (pwrite(fd, bytes, 4, entries[i].at + 14) != 4) return 0;
    }
    return 1;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct weight_out *const *)a)->name, (*(const struct weight_out *const *)b)->name);
}

static enum mcs_status check_tensors(const char *path, int n, const struct weight_out *tensors)
{
    const struct weight_out **sorted = calloc((size_t)n + 1, sizeof *sorted);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(sorted, MCS_E_NOMEM, "%s: no memory to write it", path);
    for (int i = 0; i < n; i++) sorted[i] = &tensors[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_name);
    for (int i = 0; i < n; i++) {
        MCS_TRY_GOTO(mcs_weight_out_check(path, sorted[i]), st, done);
        MCS_REQUIRE_GOTO(!i || by_name(&sorted[i - 1], &sorted[i]) != 0, MCS_E_USAGE, st, done,
                         "%s: array %s: the name is taken", path, sorted[i]->name);
    }
done:
    free(sorted);
    return st;
}

enum mcs_status mcs_torch_write(const char *path, int n, const struct weight_out *tensors, const char *wrapper)
{
    enum mcs_status st = MCS_OK;
    struct mcs_new_file out = MCS_NEW_FILE;
    char *pickle = NULL;
    size_t pickle_bytes = 0;
    FILE *f = NULL;
    struct zip_out *entries = NULL;

    MCS_TRY(check_tensors(path, n, tensors));
    MCS_TRY_GOTO(make_pickle(path, n, tensors, wrapper, &pickle, &pickle_bytes), st, done);
    entries = calloc((size_t)n + FIXED, sizeof *entries);
    MCS_REQUIRE_GOTO(entries, MCS_E_NOMEM, st, done, "%s: no memory to write it", path);
    MCS_TRY_GOTO(mcs_file_begin(path, &out), st, done);
    f = fopen(out.path, "wbe");
    MCS_REQUIRE_GOTO(f, MCS_E_IO, st, done, "%s: cannot write: %s", path, strerror(errno));
    st = put_archive(f, path, n, tensors, pickle, pickle_bytes, entries);
    int good = fclose(f) == 0, error = errno;
    if (st != MCS_OK) goto done;
    if (good && !patch_checksums(out.fd, n + FIXED, entries)) {
        good = 0;
        error = errno;
    }
    MCS_REQUIRE_GOTO(good, MCS_E_IO, st, done, "%s: cannot write: %s", path, mcs_file_write_error(error));
    MCS_TRY_GOTO(mcs_file_commit(&out), st, done);
done:
    mcs_file_abort(&out);
    free(entries);
    free(pickle);
    return st;
}

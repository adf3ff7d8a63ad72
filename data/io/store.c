/* The store: passes each call to one of three implementations. Files are built in memory by hdf5_write.c; read by
 * hdf5_read.c in this process where their SHA-256 shows that this program wrote them; all others are read by
 * h5_helper.c in a separate process. */
#include "data/io/store.h"

#include "data/io/bounds.h"
#include "data/io/file.h"
#include "data/io/h5_helper.h"
#include "data/io/hdf5_read.h"
#include "data/io/hdf5_write.h"
#include "data/io/sha256.h"
#include "data/run/run_folder.h"
#include "engine/base/input.h"
#include "engine/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Exactly one of writer, file and helper is not NULL. */
struct store {
    char *path;
    struct hdf5_writer *writer;
    struct hdf5_file *file;
    struct h5_helper *helper;
    int fd; /* of file; else -1 */
};

/* On failure the caller closes *s. */
static enum mcs_status store_new(const char *path, struct store **s)
{
    *s = calloc(1, sizeof **s);
    MCS_REQUIRE(*s, MCS_E_NOMEM, "%s: no memory to open it", path);
    (*s)->fd = -1;
    (*s)->path = strdup(path);
    MCS_REQUIRE((*s)->path, MCS_E_NOMEM, "%s: no memory to open it", path);
    return MCS_OK;
}

void mcs_store_close(struct store *s)
{
    if (!s) return;
    mcs_hdf5_drop(s->writer);
    mcs_hdf5_close(s->file);
    mcs_h5_helper_close(s->helper);
    if (s->fd >= 0) close(s->fd);
    free(s->path);
    free(s);
}

/* ---- writing ---- */

enum mcs_status mcs_store_create(const char *path, struct store **s)
{
    struct mcs_new_file trial = MCS_NEW_FILE;

    *s = NULL;
    MCS_TRY(mcs_file_begin(path, &trial)); /* fail early where the path is not writable */
    mcs_file_abort(&trial);
    enum mcs_status st = store_new(path, s);
    if (st == MCS_OK) st = mcs_hdf5_create((*s)->path, &(*s)->writer);
    if (st == MCS_OK) return st;
    mcs_store_close(*s);
    *s = NULL;
    return st;
}

enum mcs_status mcs_store_commit(struct store *s)
{
    enum mcs_status st = MCS_OK;
    char *image = NULL;
    int64_t n = 0;

    MCS_REQUIRE_GOTO(s->writer, MCS_E_USAGE, st, done, "%s: opened for reading", s->path);
    MCS_TRY_GOTO(mcs_hdf5_file_image(s->writer, &image, &n), st, done);
    MCS_TRY_GOTO(mcs_run_record_bytes(s->path, image, n), st, done);
    MCS_TRY_GOTO(mcs_file_write(s->path, image, n), st, done);
done:
    free(image);
    mcs_store_close(s);
    return st;
}

enum mcs_status mcs_store_put(struct store *s, const char *name, enum mcs_array_type type, int nd, const int64_t *dims,
                              const void *data)
{
    MCS_REQUIRE(s->writer, MCS_E_USAGE, "%s: opened for reading", s->path);
    return mcs_hdf5_put(s->writer, name, type, nd, dims, data);
}

enum mcs_status mcs_store_put_texts(struct store *s, const char *name, int n, const char *const *texts)
{
    size_t longest = 1;

    MCS_REQUIRE(s->writer, MCS_E_USAGE, "%s: opened for reading", s->path);
    for (int i = 0; i < n; i++)
        if (strlen(texts[i]) > longest) longest = strlen(texts[i]);
    /* Fixed length: HDF5 stores lists of variable length in a heap whose layout is harder to reproduce. */
    char *block = calloc((size_t)n + 1, longest);
    MCS_REQUIRE(block, MCS_E_NOMEM, "%s: no memory for %d texts", s->path, n);
    for (int i = 0; i < n; i++) memcpy(block + (size_t)i * longest, texts[i], strlen(texts[i]));
    const enum mcs_status st = mcs_hdf5_put_texts(s->writer, name, n, (int64_t)longest, block);
    free(block);
    return st;
}

enum mcs_status mcs_store_put_text(struct store *s, const char *key, const char *text)
{
    MCS_REQUIRE(s->writer, MCS_E_USAGE, "%s: opened for reading", s->path);
    return mcs_hdf5_put_text(s->writer, key, text);
}

enum mcs_status mcs_store_put_number(struct store *s, const char *key, double number)
{
    MCS_REQUIRE(s->writer, MCS_E_USAGE, "%s: opened for reading", s->path);
    return mcs_hdf5_put_number(s->writer, key, number);
}

/* ---- reading ---- */

/* 1 where a record of the run folder that contains path shows that this program wrote the bytes behind fd. Called
 * before libhdf5 sees any of them. */
static int is_known(const char *path, int fd)
{
    char hex[65];
    if (mcs_sha256_fd(fd, path, hex) == MCS_OK) return mcs_run_knows_sha256(path, hex);
    mcs_error_clear(); /* the reader will report the same error */
    return 0;
}

enum mcs_status mcs_store_open(const char *path, struct store **s)
{
    enum mcs_status st;
    int fd;
    int64_t n_bytes;

    *s = NULL;
    MCS_TRY(mcs_input_open(path, &fd, &n_bytes));
    st = store_new(path, s);
    if (st == MCS_OK && is_known(path, fd)) {
        (*s)->fd = fd;
        st = mcs_hdf5_open(fd, (*s)->path, &(*s)->file);
    } else {
        if (st == MCS_OK) st = mcs_h5_helper_open(fd, (*s)->path, &(*s)->helper);
        close(fd);
    }
    if (st == MCS_OK) return st;
    mcs_store_close(*s);
    *s = NULL;
    return mcs_trace(st, __FILE__, __LINE__);
}

enum mcs_status mcs_store_get_info(struct store *s, const char *name, struct store_info *info)
{
    enum { WIDEST = 8, COPIES = 2 }; /* the caller's values, and a copy in the memory shared with the helper */
    int64_t chunk_bytes = 0;

    *info = (struct store_info){0};
    MCS_REQUIRE(!s->writer, MCS_E_USAGE, "%s: opened for writing", s->path);
    MCS_TRY(s->file ? mcs_hdf5_info(s->file, name, info, &chunk_bytes)
                    : mcs_h5_helper_info(s->helper, name, info, &chunk_bytes));
    if (info->type == MCS_ARRAY_N_TYPES) return MCS_OK;
    /* Values of up to 4 bytes count as 4 (float16 is read as float32), wider ones as 8. */
    const int64_t width = mcs_array_type_bytes(info->type) > WIDEST / 2 ? WIDEST : WIDEST / 2;
    const int64_t bytes = mcs_size_mul(info->n_values, s->file ? width : COPIES * width);
    MCS_REQUIRE(bytes >= 0, MCS_E_DATA, "%s: dataset %s: %lld values are too many", s->path, name,
                (long long)info->n_values);
    return mcs_memory_check(bytes + 2 * chunk_bytes, "%s: dataset %s: %lld values", s->path, name,
                            (long long)info->n_values);
}

enum mcs_status mcs_store_get(struct store *s, const char *name, enum mcs_array_type type, int nd, const int64_t *dims,
                              void *dst)
{
    MCS_REQUIRE(!s->writer, MCS_E_USAGE, "%s: opened for writing", s->path);
    return s->file ? mcs_hdf5_get(s->file, name, type, nd, dims, dst)
                   : mcs_h5_helper_get(s->helper, name, type, nd, dims, dst);
}

void mcs_store_texts_free(int n, char **texts)
{
    for (int i = 0; i < n && texts; i++) free(texts[i]);
    free(texts);
}

/* Splits consecutive texts into separate ones. Releases t. */
static enum mcs_status split(const struct store *s, struct hdf5_texts *t, int *n, char ***texts)
{
    const char *at = t->bytes;
    enum mcs_status st = MCS_OK;
    char **list = calloc((size_t)t->n + 1, sizeof *list);
    MCS_REQUIRE_GOTO(list, MCS_E_NOMEM, st, done, "%s: no memory for %lld texts", s->path, (long long)t->n);
    for (int64_t i = 0; i < t->n; i++, at += strlen(at) + 1) {
        list[i] = strdup(at);
        MCS_REQUIRE_GOTO(list[i], MCS_E_NOMEM, st, done, "%s: no memory for %lld texts", s->path, (long long)t->n);
    }
    *n = (int)t->n; /* at most HDF5_MAX_TEXTS */
    *texts = list;
    list = NULL;
done:
    if (list) mcs_store_texts_free((int)t->n, list);
    free(t->bytes);
    return st;
}

enum mcs_status mcs_store_get_texts(struct store *s, const char *name, int *n, char ***texts)
{
    struct hdf5_texts t;
    *n = 0;
    *texts = NULL;
    MCS_REQUIRE(!s->writer, MCS_E_USAGE, "%s: opened for writing", s->path);
    MCS_TRY(s->file ? mcs_hdf5_texts(s->file, name, &t) : mcs_h5_helper_texts(s->helper, name, &t));
    return split(s, &t, n, texts);
}

enum mcs_status mcs_store_get_text(struct store *s, const char *key, char *dst, int dst_bytes)
{
    struct hdf5_texts t;
    MCS_REQUIRE(dst_bytes > 0, MCS_E_USAGE, "%s: note %s: no room for it", s->path, key);
    dst[0] = 0;
    MCS_REQUIRE(!s->writer, MCS_E_USAGE, "%s: opened for writing", s->path);
    MCS_TRY(s->file ? mcs_hdf5_note_text(s->file, key, dst_bytes, &t)
                    : mcs_h5_helper_note_text(s->helper, key, dst_bytes, &t));
    memcpy(dst, t.bytes, (size_t)t.n_bytes); /* at most dst_bytes */
    free(t.bytes);
    return MCS_OK;
}

enum mcs_status mcs_store_get_number(struct store *s, const char *key, double *number)
{
    MCS_REQUIRE(!s->writer, MCS_E_USAGE, "%s: opened for writing", s->path);
    return s->file ? mcs_hdf5_note_number(s->file, key, number) : mcs_h5_helper_note_number(s->helper, key, number);
}

enum mcs_status mcs_store_list(struct store *s, int *n, char ***names)
{
    struct hdf5_texts t;
    *n = 0;
    *names = NULL;
    MCS_REQUIRE(!s->writer, MCS_E_USAGE, "%s: opened for writing", s->path);
    MCS_TRY(s->file ? mcs_hdf5_list(s->file, &t) : mcs_h5_helper_list(s->helper, &t));
    MCS_TRY(split(s, &t, n, names));
    qsort(*names, (size_t)*n, sizeof **names, mcs_text_compare);
    return MCS_OK;
}

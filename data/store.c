/* The store: the one file that includes HDF5. */
#include "data/store.h"
#include "data/file.h"
#include "data/run_folder.h"

#include <hdf5.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The serial library is not thread-safe. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const int64_t MAX_ARRAY_BYTES = (int64_t)1 << 38;
/* Deflate's best ratio is 1032: more than that from a packed dataset is a bomb. */
static const int64_t MAX_RATIO = 1032;

struct store {
    char *path;
    hid_t file;
    int writing;
};

/* HDF5 prints its whole stack on any error unless told not to; the setting belongs to the calling thread's stack. */
static void enter(void)
{
    pthread_mutex_lock(&lock);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static void leave(void)
{
    H5Eclear2(H5E_DEFAULT);
    pthread_mutex_unlock(&lock);
}

static herr_t keep_deepest(unsigned n, const H5E_error2_t *e, void *user)
{
    (void)n;
    if (e->desc) snprintf(user, 160, "%s", e->desc);
    return 0;
}

/* The innermost reason of HDF5's error stack, for a message. */
static const char *reason(char dst[160])
{
    snprintf(dst, 160, "no reason given");
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_deepest, dst);
    return dst;
}

#define WHY reason((char[160]){0})

static hid_t stored_type(enum mcs_array_type type)
{
    switch (type) {
    case MCS_ARRAY_F32: return H5T_IEEE_F32LE;
    case MCS_ARRAY_I32: return H5T_STD_I32LE;
    case MCS_ARRAY_U8: return H5T_STD_U8LE;
    case MCS_ARRAY_I64: return H5T_STD_I64LE;
    default: return -1;
    }
}

static hid_t memory_type(enum mcs_array_type type)
{
    switch (type) {
    case MCS_ARRAY_F32: return H5T_NATIVE_FLOAT;
    case MCS_ARRAY_I32: return H5T_NATIVE_INT32;
    case MCS_ARRAY_U8: return H5T_NATIVE_UINT8;
    case MCS_ARRAY_I64: return H5T_NATIVE_INT64;
    default: return -1;
    }
}

static enum mcs_array_type type_of(hid_t type)
{
    size_t n = H5Tget_size(type);
    switch (H5Tget_class(type)) {
    case H5T_FLOAT: return n == 4 ? MCS_ARRAY_F32 : n == 8 ? MCS_ARRAY_F64 : n == 2 ? MCS_ARRAY_F16 : MCS_ARRAY_N_TYPES;
    case H5T_INTEGER:
        if (H5Tget_sign(type) == H5T_SGN_NONE) return n == 1 ? MCS_ARRAY_U8 : MCS_ARRAY_N_TYPES;
        return n == 4 ? MCS_ARRAY_I32 : n == 8 ? MCS_ARRAY_I64 : MCS_ARRAY_N_TYPES;
    default: return MCS_ARRAY_N_TYPES;
    }
}

static enum mcs_status store_new(const char *path, int writing, struct store **s)
{
    *s = calloc(1, sizeof **s);
    char *copy = strdup(path);
    if (!*s || !copy) {
        free(*s);
        free(copy);
        *s = NULL;
        return MCS_FAIL(MCS_E_NOMEM, "%s: no memory to open it", path);
    }
    (*s)->path = copy;
    (*s)->file = -1;
    (*s)->writing = writing;
    return MCS_OK;
}

enum mcs_status mcs_store_create(const char *path, struct store **s)
{
    struct mcs_new_file trial = MCS_NEW_FILE;

    *s = NULL;
    MCS_TRY(mcs_file_begin(path, &trial)); /* can it be written there at all? */
    mcs_file_abort(&trial);
    MCS_TRY(store_new(path, 1, s));
    enter();
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    /* In memory: a full disk then shows in our own write and not inside the library, which cannot recover from it. */
    H5Pset_fapl_core(access, 1 << 24, 0);
    (*s)->file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Pclose(access);
    int made = (*s)->file >= 0;
    leave();
    if (made) return MCS_OK;
    mcs_store_close(*s);
    *s = NULL;
    return MCS_FAIL(MCS_E_NOMEM, "%s: HDF5 cannot make a file", path);
}

enum mcs_status mcs_store_open(const char *path, struct store **s)
{
    enum mcs_status st = MCS_OK;

    *s = NULL;
    MCS_REQUIRE(!mcs_folder_exists(path), MCS_E_IO, "%s: is a folder, an HDF5 file is needed", path);
    MCS_REQUIRE(mcs_file_exists(path), MCS_E_NOINPUT, "%s: no such file", path);
    MCS_TRY(store_new(path, 0, s));
    enter();
    (*s)->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if ((*s)->file < 0) st = MCS_FAIL(MCS_E_DATA, "%s: no HDF5 file, or truncated or damaged: %s", path, WHY);
    leave();
    if (st != MCS_OK) {
        mcs_store_close(*s);
        *s = NULL;
    }
    return st;
}

void mcs_store_close(struct store *s)
{
    if (!s) return;
    enter();
    if (s->file >= 0) H5Fclose(s->file);
    leave();
    free(s->path);
    free(s);
}

enum mcs_status mcs_store_commit(struct store *s)
{
    enum mcs_status st = MCS_OK;
    char *image = NULL;
    ssize_t n = -1;

    enter();
    if (H5Fflush(s->file, H5F_SCOPE_GLOBAL) >= 0) n = H5Fget_file_image(s->file, NULL, 0);
    if (n > 0) image = calloc(1, (size_t)n);
    if (image && H5Fget_file_image(s->file, image, (size_t)n) != n) n = -1;
    leave();
    MCS_REQUIRE_GOTO(image && n > 0, MCS_E_NOMEM, st, done, "%s: HDF5 cannot put the file together", s->path);
    MCS_TRY_GOTO(mcs_run_note_bytes(s->path, image, n), st, done);
    MCS_TRY_GOTO(mcs_file_write(s->path, image, n), st, done);
done:
    free(image);
    mcs_store_close(s);
    return st;
}

/* Makes a dataset and fills it; under the lock. */
static enum mcs_status put_locked(struct store *s, const char *name, hid_t stored, hid_t memory, int nd,
                                  const hsize_t *dims, const void *data)
{
    enum mcs_status st = MCS_OK;
    hid_t links = H5Pcreate(H5P_LINK_CREATE), properties = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = nd ? H5Screate_simple(nd, dims, NULL) : H5Screate(H5S_SCALAR);
    hid_t set = -1;
    int empty = 0;

    for (int i = 0; i < nd; i++) empty |= dims[i] == 0;
    H5Pset_create_intermediate_group(links, 1);
    H5Pset_obj_track_times(properties, 0);
    set = H5Dcreate2(s->file, name, stored, space, links, properties, H5P_DEFAULT);
    MCS_REQUIRE_GOTO(set >= 0, MCS_E_FAIL, st, done, "%s: dataset %s cannot be made: %s", s->path, name, WHY);
    MCS_REQUIRE_GOTO(empty || H5Dwrite(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, MCS_E_FAIL, st, done,
                     "%s: dataset %s cannot be written: %s", s->path, name, WHY);
done:
    if (set >= 0) H5Dclose(set);
    H5Sclose(space);
    H5Pclose(properties);
    H5Pclose(links);
    return st;
}

enum mcs_status mcs_store_put(struct store *s, const char *name, enum mcs_array_type type, int nd, const int64_t *dims,
                              const void *data)
{
    hsize_t sizes[MCS_STORE_MAX_ND];

    MCS_REQUIRE(s->writing, MCS_E_USAGE, "%s: opened for reading", s->path);
    MCS_REQUIRE(nd >= 0 && nd <= MCS_STORE_MAX_ND && mcs_array_count(nd, dims) >= 0, MCS_E_SHAPE,
                "%s: dataset %s: %d dimensions; want 0 to %d", s->path, name, nd, MCS_STORE_MAX_ND);
    for (int i = 0; i < nd; i++) sizes[i] = (hsize_t)dims[i];
    enter();
    enum mcs_status st =
        stored_type(type) < 0
            ? MCS_FAIL(MCS_E_USAGE, "%s: dataset %s: type %s is not written", s->path, name, mcs_array_type_name(type))
            : put_locked(s, name, stored_type(type), memory_type(type), nd, sizes, data);
    leave();
    return st;
}

static hid_t text_type(size_t n_bytes)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, n_bytes ? n_bytes : 1); /* HDF5 knows no text of no bytes */
    H5Tset_cset(type, H5T_CSET_UTF8);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    return type;
}

enum mcs_status mcs_store_put_texts(struct store *s, const char *name, int n, const char *const *texts)
{
    size_t longest = 1;
    hsize_t dims = (hsize_t)n;

    MCS_REQUIRE(s->writing, MCS_E_USAGE, "%s: opened for reading", s->path);
    for (int i = 0; i < n; i++)
        if (strlen(texts[i]) > longest) longest = strlen(texts[i]);
    /* Of fixed length: HDF5 stores lists of free length in a heap whose layout is harder to keep the same. */
    char *block = calloc((size_t)n + 1, longest);
    MCS_REQUIRE(block, MCS_E_NOMEM, "%s: no memory for %d texts", s->path, n);
    for (int i = 0; i < n; i++) memcpy(block + (size_t)i * longest, texts[i], strlen(texts[i]));
    enter();
    hid_t type = text_type(longest);
    enum mcs_status st = put_locked(s, name, type, type, 1, &dims, block);
    H5Tclose(type);
    leave();
    free(block);
    return st;
}

static enum mcs_status put_note(struct store *s, const char *key, hid_t stored, hid_t memory, const void *value)
{
    enum mcs_status st = MCS_OK;
    hid_t space = H5Screate(H5S_SCALAR);

    if (H5Aexists(s->file, key) > 0) H5Adelete(s->file, key);
    hid_t note = H5Acreate2(s->file, key, stored, space, H5P_DEFAULT, H5P_DEFAULT);
    if (note < 0 || H5Awrite(note, memory, value) < 0)
        st = MCS_FAIL(MCS_E_FAIL, "%s: note %s cannot be written: %s", s->path, key, WHY);
    if (note >= 0) H5Aclose(note);
    H5Sclose(space);
    return st;
}

enum mcs_status mcs_store_put_text(struct store *s, const char *key, const char *text)
{
    MCS_REQUIRE(s->writing, MCS_E_USAGE, "%s: opened for reading", s->path);
    enter();
    hid_t type = text_type(strlen(text));
    enum mcs_status st = put_note(s, key, type, type, text);
    H5Tclose(type);
    leave();
    return st;
}

enum mcs_status mcs_store_put_number(struct store *s, const char *key, double number)
{
    MCS_REQUIRE(s->writing, MCS_E_USAGE, "%s: opened for reading", s->path);
    enter();
    enum mcs_status st = put_note(s, key, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &number);
    leave();
    return st;
}

/* An open dataset with what is known of it. */
struct opened {
    hid_t set, type, space;
    struct store_info info;
};

static void dataset_close(struct opened *d)
{
    if (d->space >= 0) H5Sclose(d->space);
    if (d->type >= 0) H5Tclose(d->type);
    if (d->set >= 0) H5Dclose(d->set);
}

/* Opens and checks that its bytes are there, so that a size in a damaged header is not believed. Close in any case. */
static enum mcs_status dataset_open(struct store *s, const char *name, struct opened *d)
{
    hsize_t dims[H5S_MAX_RANK];

    *d = (struct opened){-1, -1, -1, {0}};
    d->set = H5Dopen2(s->file, name, H5P_DEFAULT);
    MCS_REQUIRE(d->set >= 0, MCS_E_DATA, "%s: no dataset %s", s->path, name);
    d->type = H5Dget_type(d->set);
    d->space = H5Dget_space(d->set);
    MCS_REQUIRE(d->type >= 0 && d->space >= 0, MCS_E_DATA, "%s: dataset %s is damaged: %s", s->path, name, WHY);
    int nd = H5Sget_simple_extent_ndims(d->space);
    MCS_REQUIRE(nd >= 0 && nd <= MCS_STORE_MAX_ND, MCS_E_DATA, "%s: dataset %s has %d dimensions; 0 to %d are read",
                s->path, name, nd, MCS_STORE_MAX_ND);
    H5Sget_simple_extent_dims(d->space, dims, NULL);
    d->info.nd = nd;
    for (int i = 0; i < nd; i++) d->info.dims[i] = dims[i] > INT64_MAX ? -1 : (int64_t)dims[i];
    d->info.type = type_of(d->type);
    d->info.n_values = mcs_array_count(nd, d->info.dims);
    int64_t stored = (int64_t)H5Dget_storage_size(d->set), width = (int64_t)H5Tget_size(d->type);
    MCS_REQUIRE(d->info.n_values >= 0 && width > 0 && d->info.n_values <= MAX_ARRAY_BYTES / width &&
                    d->info.n_values * width / MAX_RATIO <= stored,
                MCS_E_DATA, "%s: dataset %s: %lld values cannot lie in %lld bytes: damaged", s->path, name,
                (long long)d->info.n_values, (long long)stored);
    return MCS_OK;
}

enum mcs_status mcs_store_get_info(struct store *s, const char *name, struct store_info *info)
{
    struct opened d;
    enter();
    enum mcs_status st = dataset_open(s, name, &d);
    *info = d.info;
    dataset_close(&d);
    leave();
    return st;
}

enum mcs_status mcs_store_get(struct store *s, const char *name, enum mcs_array_type type, int nd, const int64_t *dims,
                              void *dst)
{
    enum mcs_status st = MCS_OK;
    struct opened d;
    char have[160], want[160];

    enter();
    MCS_TRY_GOTO(dataset_open(s, name, &d), st, done);
    int floats = type == MCS_ARRAY_F32 && (d.info.type == MCS_ARRAY_F64 || d.info.type == MCS_ARRAY_F16);
    MCS_REQUIRE_GOTO((d.info.type == type || floats) && memory_type(type) >= 0, MCS_E_DATA, st, done,
                     "%s: dataset %s has type %s, want %s", s->path, name, mcs_array_type_name(d.info.type),
                     mcs_array_type_name(type));
    MCS_REQUIRE_GOTO(mcs_array_same_shape(d.info.nd, d.info.dims, nd, dims), MCS_E_DATA, st, done,
                     "%s: dataset %s has shape %s, want %s", s->path, name,
                     mcs_array_shape_text(d.info.nd, d.info.dims, have, sizeof have),
                     mcs_array_shape_text(nd, dims, want, sizeof want));
    MCS_REQUIRE_GOTO(d.info.n_values == 0 || H5Dread(d.set, memory_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, dst) >= 0,
                     MCS_E_DATA, st, done, "%s: dataset %s cannot be read: %s", s->path, name, WHY);
done:
    dataset_close(&d);
    leave();
    return st;
}

void mcs_store_texts_free(int n, char **texts)
{
    for (int i = 0; i < n && texts; i++) free(texts[i]);
    free(texts);
}

enum mcs_status mcs_store_get_texts(struct store *s, const char *name, int *n, char ***texts)
{
    enum mcs_status st = MCS_OK;
    struct opened d;
    char *block = NULL, **free_length = NULL;

    *n = 0;
    *texts = NULL;
    enter();
    MCS_TRY_GOTO(dataset_open(s, name, &d), st, done);
    MCS_REQUIRE_GOTO(H5Tget_class(d.type) == H5T_STRING && d.info.nd <= 1 && d.info.n_values < INT32_MAX, MCS_E_DATA,
                     st, done, "%s: dataset %s is no list of texts", s->path, name);
    size_t count = (size_t)d.info.n_values, width = H5Tget_size(d.type);
    *texts = calloc(count + 1, sizeof **texts);
    int of_free_length = H5Tis_variable_str(d.type) > 0; /* as h5py writes them */
    if (of_free_length)
        free_length = calloc(count + 1, sizeof *free_length);
    else
        block = calloc(count + 1, width);
    MCS_REQUIRE_GOTO(*texts && (block || free_length), MCS_E_NOMEM, st, done, "%s: no memory for %zu texts", s->path,
                     count);
    MCS_REQUIRE_GOTO(count == 0 || H5Dread(d.set, d.type, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                                           of_free_length ? (void *)free_length : (void *)block) >= 0,
                     MCS_E_DATA, st, done, "%s: dataset %s cannot be read: %s", s->path, name, WHY);
    for (size_t i = 0; i < count; i++) {
        (*texts)[i] = of_free_length ? strdup(free_length[i] ? free_length[i] : "") : strndup(block + i * width, width);
        MCS_REQUIRE_GOTO((*texts)[i], MCS_E_NOMEM, st, done, "%s: no memory for %zu texts", s->path, count);
        *n = (int)i + 1;
    }
done:
    if (free_length && d.space >= 0) H5Dvlen_reclaim(d.type, d.space, H5P_DEFAULT, free_length);
    free(free_length);
    free(block);
    dataset_close(&d);
    leave();
    if (st != MCS_OK) {
        mcs_store_texts_free(*n, *texts);
        *n = 0;
        *texts = NULL;
    }
    return st;
}

enum mcs_status mcs_store_get_text(struct store *s, const char *key, char *dst, int dst_bytes)
{
    enum mcs_status st = MCS_OK;
    hid_t type = -1;

    dst[0] = 0;
    enter();
    hid_t note = H5Aexists(s->file, key) > 0 ? H5Aopen(s->file, key, H5P_DEFAULT) : -1;
    MCS_REQUIRE_GOTO(note >= 0, MCS_E_DATA, st, done, "%s: no note %s", s->path, key);
    type = H5Aget_type(note);
    const hsize_t n = H5Aget_storage_size(note);
    MCS_REQUIRE_GOTO(H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 && n == H5Tget_size(type),
                     MCS_E_DATA, st, done, "%s: note %s is no text of fixed length", s->path, key);
    MCS_REQUIRE_GOTO(dst_bytes > 0 && n < (hsize_t)dst_bytes, MCS_E_DATA, st, done,
                     "%s: note %s has %llu bytes, there is room for %d", s->path, key, (unsigned long long)n,
                     dst_bytes - 1);
    MCS_REQUIRE_GOTO(H5Aread(note, type, dst) >= 0, MCS_E_DATA, st, done, "%s: note %s cannot be read: %s", s->path,
                     key, WHY);
    dst[n] = 0;
done:
    if (type >= 0) H5Tclose(type);
    if (note >= 0) H5Aclose(note);
    leave();
    return st;
}

enum mcs_status mcs_store_get_number(struct store *s, const char *key, double *number)
{
    enum mcs_status st = MCS_OK;
    hid_t type = -1, space = -1;

    enter();
    hid_t note = H5Aexists(s->file, key) > 0 ? H5Aopen(s->file, key, H5P_DEFAULT) : -1;
    MCS_REQUIRE_GOTO(note >= 0, MCS_E_DATA, st, done, "%s: no note %s", s->path, key);
    type = H5Aget_type(note);
    space = H5Aget_space(note);
    int numeric = H5Tget_class(type) == H5T_FLOAT || H5Tget_class(type) == H5T_INTEGER;
    MCS_REQUIRE_GOTO(numeric && H5Sget_simple_extent_npoints(space) == 1, MCS_E_DATA, st, done,
                     "%s: note %s is no number", s->path, key);
    MCS_REQUIRE_GOTO(H5Aread(note, H5T_NATIVE_DOUBLE, number) >= 0, MCS_E_DATA, st, done,
                     "%s: note %s cannot be read: %s", s->path, key, WHY);
done:
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (note >= 0) H5Aclose(note);
    leave();
    return st;
}

struct name_list {
    int n, room;
    char **names;
};

static herr_t collect(hid_t at, const char *name, const H5O_info_t *info, void *user)
{
    struct name_list *l = user;
    (void)at;
    if (info->type != H5O_TYPE_DATASET) return 0;
    if (l->n == l->room) {
        int room = l->room ? 2 * l->room : 32;
        char **larger = realloc(l->names, (size_t)room * sizeof *larger);
        if (!larger) return -1;
        l->names = larger;
        l->room = room;
    }
    l->names[l->n] = strdup(name);
    return l->names[l->n] ? (l->n++, 0) : -1;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum mcs_status mcs_store_list(struct store *s, int *n, char ***names)
{
    struct name_list l = {0, 0, NULL};
    enum mcs_status st = MCS_OK;

    enter();
    if (H5Ovisit2(s->file, H5_INDEX_NAME, H5_ITER_INC, collect, &l, H5O_INFO_BASIC) < 0)
        st = MCS_FAIL(MCS_E_DATA, "%s: its list of datasets is damaged: %s", s->path, WHY);
    leave();
    if (st != MCS_OK) {
        mcs_store_texts_free(l.n, l.names);
        l.n = 0;
        l.names = NULL;
    } else if (l.n) {
        qsort(l.names, (size_t)l.n, sizeof *l.names, by_name);
    }
    *n = l.n;
    *names = l.names;
    return st;
}

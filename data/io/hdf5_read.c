#include "data/io/hdf5_read.h"

#include "data/io/bounds.h"
#include "data/io/hdf5_library.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const int64_t MAX_ARRAY_BYTES = (int64_t)1 << 38;
/* Deflate's best ratio is 1032: a compressed dataset that claims more is a decompression bomb. */
static const int64_t MAX_RATIO = 1032;

struct hdf5_file {
    const char *label;
    hid_t file;
    int opens; /* files that the driver was asked to open; it refuses all but the first */
};

/* ---- the library ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* HDF5 prints its whole stack on any error unless told not to; the setting belongs to the calling thread's stack. */
void mcs_hdf5_enter(void)
{
    pthread_mutex_lock(&lock);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0); /* overrides HDF5_PLUGIN_PATH */
}

void mcs_hdf5_leave(void)
{
    H5Eclear2(H5E_DEFAULT);
    pthread_mutex_unlock(&lock);
}

static herr_t copy_description(unsigned n, const H5E_error2_t *e, void *user)
{
    if (e->desc) snprintf(user, HDF5_REASON_BYTES, "%s", e->desc);
    return 0;
}

const char *mcs_hdf5_reason(char dst[HDF5_REASON_BYTES])
{
    snprintf(dst, HDF5_REASON_BYTES, "no reason given");
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, copy_description, dst); /* the innermost comes last and is kept */
    return dst;
}

hid_t mcs_hdf5_memory_type(enum mcs_array_type type)
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

/* ---- the file ---- */

static enum mcs_status open_locked(int fd, int64_t size, struct hdf5_file *f)
{
    const hid_t access = mcs_hdf5_fd_access(fd, size, &f->opens);
    MCS_REQUIRE(access >= 0, MCS_E_NOMEM, "%s: no memory to open it", f->label);
    f->file = H5Fopen("file", H5F_ACC_RDONLY, access);
    H5Pclose(access);
    MCS_REQUIRE(f->file >= 0, MCS_E_DATA, "%s: no HDF5 file, or truncated or damaged: %s", f->label, HDF5_REASON);
    return MCS_OK;
}

enum mcs_status mcs_hdf5_open(int fd, const char *label, struct hdf5_file **f)
{
    struct stat about;
    *f = NULL;
    MCS_REQUIRE(fstat(fd, &about) == 0 && S_ISREG(about.st_mode), MCS_E_DATA, "%s: is not a regular file", label);
    struct hdf5_file *made = calloc(1, sizeof *made);
    MCS_REQUIRE(made, MCS_E_NOMEM, "%s: no memory to open it", label);
    *made = (struct hdf5_file){.label = label, .file = -1};
    mcs_hdf5_enter();
    const enum mcs_status st = open_locked(fd, (int64_t)about.st_size, made);
    mcs_hdf5_leave();
    if (st == MCS_OK)
        *f = made;
    else
        mcs_hdf5_close(made);
    return st;
}

void mcs_hdf5_close(struct hdf5_file *f)
{
    if (!f) return;
    mcs_hdf5_enter();
    if (f->file >= 0) H5Fclose(f->file);
    mcs_hdf5_leave();
    free(f);
}

/* ---- datasets ---- */

/* An open dataset: its handles, its shape and the sizes of a value and of a chunk. */
struct opened {
    hid_t set, type, space;
    int64_t value_bytes, chunk_bytes;
    struct store_info info;
};

static void dataset_close(struct opened *d)
{
    if (d->space >= 0) H5Sclose(d->space);
    if (d->type >= 0) H5Tclose(d->type);
    if (d->set >= 0) H5Dclose(d->set);
}

/* A size in a damaged header may be false, so check that the stored bytes suffice: all of them without compression,
 * else at least one in MAX_RATIO (counting chunks that were never written). */
static enum mcs_status check_sizes(struct hdf5_file *f, const char *name, const struct opened *d)
{
    const int64_t stored = (int64_t)H5Dget_storage_size(d->set),
                  wanted = mcs_size_mul(d->info.n_values, d->value_bytes);
    MCS_REQUIRE(d->value_bytes > 0 && wanted >= 0 && wanted <= MAX_ARRAY_BYTES && stored >= 0 &&
                    wanted / (d->chunk_bytes ? MAX_RATIO : 1) <= stored,
                MCS_E_DATA, "%s: dataset %s: %lld values cannot lie in %lld bytes: damaged", f->label, name,
                (long long)d->info.n_values, (long long)stored);
    return MCS_OK;
}

static enum mcs_status read_shape(struct hdf5_file *f, const char *name, struct opened *d)
{
    hsize_t dims[H5S_MAX_RANK];
    const H5S_class_t kind = H5Sget_simple_extent_type(d->space);
    const int nd = H5Sget_simple_extent_ndims(d->space);
    MCS_REQUIRE(kind != H5S_NULL, MCS_E_DATA, "%s: dataset %s holds nothing", f->label, name);
    MCS_REQUIRE((kind == H5S_SCALAR || kind == H5S_SIMPLE) && nd >= 0 && nd <= MCS_STORE_MAX_ND, MCS_E_DATA,
                "%s: dataset %s has %d dimensions; 0 to %d are read", f->label, name, nd, MCS_STORE_MAX_ND);
    H5Sget_simple_extent_dims(d->space, dims, NULL);
    d->info.nd = nd;
    for (int i = 0; i < nd; i++) d->info.dims[i] = dims[i] > INT64_MAX ? -1 : (int64_t)dims[i];
    d->info.n_values = mcs_array_count(nd, d->info.dims);
    return MCS_OK;
}

/* Opens and checks; close in any case. */
static enum mcs_status dataset_open(struct hdf5_file *f, const char *name, struct opened *d)
{
    *d = (struct opened){.set = -1, .type = -1, .space = -1};
    MCS_REQUIRE(strlen(name) <= HDF5_MAX_NAME, MCS_E_DATA, "%s: a dataset's name of %zu bytes; at most %d are read",
                f->label, strlen(name), HDF5_MAX_NAME);
    MCS_TRY(mcs_hdf5_check_path(f->label, f->file, name));
    d->set = H5Dopen2(f->file, name, H5P_DEFAULT);
    MCS_REQUIRE(d->set >= 0, MCS_E_DATA, "%s: no dataset %s, or it is damaged: %s", f->label, name, HDF5_REASON);
    MCS_TRY(mcs_hdf5_check_storage(f->label, d->set, name, &d->chunk_bytes));
    d->type = H5Dget_type(d->set);
    d->space = H5Dget_space(d->set);
    MCS_REQUIRE(d->type >= 0 && d->space >= 0, MCS_E_DATA, "%s: dataset %s is damaged: %s", f->label, name,
                HDF5_REASON);
    MCS_TRY(read_shape(f, name, d));
    d->info.type = type_of(d->type);
    d->value_bytes = (int64_t)H5Tget_size(d->type);
    return check_sizes(f, name, d);
}

enum mcs_status mcs_hdf5_info(struct hdf5_file *f, const char *name, struct store_info *info, int64_t *chunk_bytes)
{
    struct opened d;
    mcs_hdf5_enter();
    const enum mcs_status st = dataset_open(f, name, &d);
    *info = d.info;
    *chunk_bytes = d.chunk_bytes;
    dataset_close(&d);
    mcs_hdf5_leave();
    return st;
}

static enum mcs_status get_locked(struct hdf5_file *f, const char *name, const struct opened *d,
                                  enum mcs_array_type type, int nd, const int64_t *dims, void *dst)
{
    char have[160], want[160];
    const int floats = type == MCS_ARRAY_F32 && (d->info.type == MCS_ARRAY_F64 || d->info.type == MCS_ARRAY_F16);
    MCS_REQUIRE((d->info.type == type || floats) && mcs_hdf5_memory_type(type) >= 0, MCS_E_DATA,
                "%s: dataset %s has type %s, want %s", f->label, name, mcs_array_type_name(d->info.type),
                mcs_array_type_name(type));
    MCS_REQUIRE(mcs_array_same_shape(d->info.nd, d->info.dims, nd, dims), MCS_E_DATA,
                "%s: dataset %s has shape %s, want %s", f->label, name,
                mcs_array_shape_text(d->info.nd, d->info.dims, have, sizeof have),
                mcs_array_shape_text(nd, dims, want, sizeof want));
    MCS_REQUIRE(d->info.n_values == 0 ||
                    H5Dread(d->set, mcs_hdf5_memory_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, dst) >= 0,
                MCS_E_DATA, "%s: dataset %s cannot be read: %s", f->label, name, HDF5_REASON);
    return MCS_OK;
}

enum mcs_status mcs_hdf5_get(struct hdf5_file *f, const char *name, enum mcs_array_type type, int nd,
                             const int64_t *dims, void *dst)
{
    struct opened d;
    mcs_hdf5_enter();
    enum mcs_status st = dataset_open(f, name, &d);
    if (st == MCS_OK) st = get_locked(f, name, &d, type, nd, dims, dst);
    dataset_close(&d);
    mcs_hdf5_leave();
    return st;
}

/* ---- texts ---- */

/* Adds a text of n bytes and its NUL to a buffer that doubles. */
static enum mcs_status texts_add(const char *label, struct hdf5_texts *t, int64_t *capacity, const char *text, size_t n)
{
    MCS_REQUIRE(n < HDF5_MAX_TEXT_BYTES && t->n_bytes + (int64_t)n < HDF5_MAX_TEXT_BYTES, MCS_E_DATA,
                "%s: a list of texts of more than %d bytes", label, HDF5_MAX_TEXT_BYTES);
    if (t->n_bytes + (int64_t)n + 1 > *capacity) {
        const int64_t more = 2 * (t->n_bytes + (int64_t)n + 1) + 256;
        char *larger = realloc(t->bytes, (size_t)more);
        MCS_REQUIRE(larger, MCS_E_NOMEM, "%s: no memory for its texts", label);
        t->bytes = larger;
        *capacity = more;
    }
    memcpy(t->bytes + t->n_bytes, text, n);
    t->bytes[t->n_bytes + (int64_t)n] = 0;
    t->n_bytes += (int64_t)n + 1;
    t->n++;
    return MCS_OK;
}

static enum mcs_status texts_end(enum mcs_status st, struct hdf5_texts *t)
{
    if (st == MCS_OK) return st;
    free(t->bytes);
    *t = (struct hdf5_texts){0};
    return st;
}

/* Reads the texts of an open dataset: of fixed length, or of variable length as h5py writes them. */
static enum mcs_status read_texts(struct hdf5_file *f, const char *name, const struct opened *d,
                                  struct hdf5_texts *texts)
{
    enum mcs_status st = MCS_OK;
    const int64_t count = d->info.n_values, width = d->value_bytes;
    const int free_length = H5Tis_variable_str(d->type) > 0;
    int64_t capacity = 0;
    MCS_REQUIRE(H5Tget_class(d->type) == H5T_STRING && d->info.nd <= 1, MCS_E_DATA,
                "%s: dataset %s is no list of texts", f->label, name);
    MCS_REQUIRE(count <= HDF5_MAX_TEXTS && mcs_size_mul(count, width) <= HDF5_MAX_TEXT_BYTES, MCS_E_DATA,
                "%s: dataset %s: %lld texts of %lld bytes; at most %d and %d bytes in all are read", f->label, name,
                (long long)count, (long long)width, HDF5_MAX_TEXTS, HDF5_MAX_TEXT_BYTES);
    char *block = calloc((size_t)count + 1, (size_t)width);
    MCS_REQUIRE(block, MCS_E_NOMEM, "%s: no memory for %lld texts", f->label, (long long)count);
    MCS_REQUIRE_GOTO(count == 0 || H5Dread(d->set, d->type, H5S_ALL, H5S_ALL, H5P_DEFAULT, block) >= 0, MCS_E_DATA, st,
                     done, "%s: dataset %s cannot be read: %s", f->label, name, HDF5_REASON);
    for (int64_t i = 0; i < count; i++) {
        const char *text = block + i * width;
        if (free_length) memcpy(&text, block + i * width, sizeof text);
        MCS_TRY_GOTO(texts_add(f->label, texts, &capacity, text ? text : "",
                               !text         ? 0
                               : free_length ? strlen(text)
                                             : strnlen(text, (size_t)width)),
                     st, done);
    }
done:
    if (free_length) H5Dvlen_reclaim(d->type, d->space, H5P_DEFAULT, block);
    free(block);
    return st;
}

enum mcs_status mcs_hdf5_texts(struct hdf5_file *f, const char *name, struct hdf5_texts *texts)
{
    struct opened d;
    *texts = (struct hdf5_texts){0};
    mcs_hdf5_enter();
    enum mcs_status st = dataset_open(f, name, &d);
    if (st == MCS_OK) st = read_texts(f, name, &d, texts);
    dataset_close(&d);
    mcs_hdf5_leave();
    return texts_end(st, texts);
}

struct listing {
    const char *label;
    struct hdf5_texts *names;
    int64_t capacity;
    enum mcs_status st;
};

static herr_t collect(hid_t at, const char *name, const H5O_info_t *info, void *user)
{
    struct listing *l = user;
    if (info->type != H5O_TYPE_DATASET) return 0;
    const size_t n = strlen(name);
    if (n > HDF5_MAX_NAME || l->names->n >= HDF5_MAX_DATASETS)
        l->st = MCS_FAIL(MCS_E_DATA, "%s: has more than %d datasets, or a name of more than %d bytes", l->label,
                         HDF5_MAX_DATASETS, HDF5_MAX_NAME);
    else
        l->st = texts_add(l->label, l->names, &l->capacity, name, n);
    return l->st == MCS_OK ? 0 : -1;
}

enum mcs_status mcs_hdf5_list(struct hdf5_file *f, struct hdf5_texts *names)
{
    struct listing l = {.label = f->label, .names = names, .st = MCS_OK};
    *names = (struct hdf5_texts){0};
    mcs_hdf5_enter();
    enum mcs_status st = mcs_hdf5_check_links(f->label, f->file);
    if (st == MCS_OK && H5Ovisit2(f->file, H5_INDEX_NAME, H5_ITER_INC, collect, &l, H5O_INFO_BASIC) < 0)
        st = l.st != MCS_OK ? l.st
                            : MCS_FAIL(MCS_E_DATA, "%s: its list of datasets is damaged: %s", f->label, HDF5_REASON);
    mcs_hdf5_leave();
    return texts_end(st, names);
}

/* ---- notes ---- */

/* An open attribute of the root group; -1 where there is none. */
static hid_t note_open(struct hdf5_file *f, const char *key)
{
    if (strlen(key) > HDF5_MAX_NAME || H5Aexists(f->file, key) <= 0) return -1;
    return H5Aopen(f->file, key, H5P_DEFAULT);
}

static enum mcs_status read_note_text(struct hdf5_file *f, const char *key, hid_t note, hid_t type, int64_t dst_bytes,
                                      struct hdf5_texts *text)
{
    const hsize_t n = H5Aget_storage_size(note);
    MCS_REQUIRE(H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 && n == H5Tget_size(type) && n > 0,
                MCS_E_DATA, "%s: note %s is no text of fixed length", f->label, key);
    MCS_REQUIRE(dst_bytes > 0 && n < (hsize_t)dst_bytes && n < HDF5_MAX_TEXT_BYTES, MCS_E_DATA,
                "%s: note %s has %llu bytes, there is room for %lld", f->label, key, (unsigned long long)n,
                (long long)dst_bytes - 1);
    text->bytes = calloc((size_t)n + 1, 1);
    MCS_REQUIRE(text->bytes, MCS_E_NOMEM, "%s: no memory for note %s", f->label, key);
    MCS_REQUIRE(H5Aread(note, type, text->bytes) >= 0, MCS_E_DATA, "%s: note %s cannot be read: %s", f->label, key,
                HDF5_REASON);
    text->n = 1;
    text->n_bytes = (int64_t)strlen(text->bytes) + 1;
    return MCS_OK;
}

enum mcs_status mcs_hdf5_note_text(struct hdf5_file *f, const char *key, int64_t dst_bytes, struct hdf5_texts *text)
{
    enum mcs_status st = MCS_OK;
    *text = (struct hdf5_texts){0};
    mcs_hdf5_enter();
    const hid_t note = note_open(f, key), type = note >= 0 ? H5Aget_type(note) : -1;
    MCS_REQUIRE_GOTO(type >= 0, MCS_E_DATA, st, done, "%s: no note %s", f->label, key);
    MCS_TRY_GOTO(read_note_text(f, key, note, type, dst_bytes, text), st, done);
done:
    if (type >= 0) H5Tclose(type);
    if (note >= 0) H5Aclose(note);
    mcs_hdf5_leave();
    return texts_end(st, text);
}

enum mcs_status mcs_hdf5_note_number(struct hdf5_file *f, const char *key, double *number)
{
    enum { WIDEST = 16 }; /* bytes of a number: long double */
    enum mcs_status st = MCS_OK;
    hid_t space = -1;
    mcs_hdf5_enter();
    const hid_t note = note_open(f, key), type = note >= 0 ? H5Aget_type(note) : -1;
    MCS_REQUIRE_GOTO(type >= 0, MCS_E_DATA, st, done, "%s: no note %s", f->label, key);
    space = H5Aget_space(note);
    const int numeric = H5Tget_class(type) == H5T_FLOAT || H5Tget_class(type) == H5T_INTEGER;
    MCS_REQUIRE_GOTO(numeric && H5Tget_size(type) <= WIDEST && H5Sget_simple_extent_npoints(space) == 1, MCS_E_DATA, st,
                     done, "%s: note %s is no number", f->label, key);
    MCS_REQUIRE_GOTO(H5Aread(note, H5T_NATIVE_DOUBLE, number) >= 0, MCS_E_DATA, st, done,
                     "%s: note %s cannot be read: %s", f->label, key, HDF5_REASON);
done:
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (note >= 0) H5Aclose(note);
    mcs_hdf5_leave();
    return st;
}

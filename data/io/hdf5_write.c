#include "data/io/hdf5_write.h"

#include "data/io/hdf5_library.h"
#include "data/io/store.h"

#include <stdlib.h>
#include <string.h>

struct hdf5_writer {
    const char *label;
    hid_t file;
};

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

enum mcs_status mcs_hdf5_create(const char *label, struct hdf5_writer **w)
{
    struct hdf5_writer *made = calloc(1, sizeof *made);
    *w = NULL;
    MCS_REQUIRE(made, MCS_E_NOMEM, "%s: no memory to open it", label);
    made->label = label;
    mcs_hdf5_enter();
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    /* In memory: then a full disk fails in mcsam's write and not inside the library, which cannot recover from it. */
    H5Pset_fapl_core(access, 1 << 24, 0);
    made->file = H5Fcreate(label, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Pclose(access);
    mcs_hdf5_leave();
    if (made->file >= 0) {
        *w = made;
        return MCS_OK;
    }
    mcs_hdf5_drop(made);
    return MCS_FAIL(MCS_E_NOMEM, "%s: HDF5 cannot make a file", label);
}

void mcs_hdf5_drop(struct hdf5_writer *w)
{
    if (!w) return;
    mcs_hdf5_enter();
    if (w->file >= 0) H5Fclose(w->file);
    mcs_hdf5_leave();
    free(w);
}

enum mcs_status mcs_hdf5_file_image(struct hdf5_writer *w, char **bytes, int64_t *n_bytes)
{
    char *image = NULL;
    ssize_t n = -1;
    *bytes = NULL;
    *n_bytes = 0;
    mcs_hdf5_enter();
    if (H5Fflush(w->file, H5F_SCOPE_GLOBAL) >= 0) n = H5Fget_file_image(w->file, NULL, 0);
    if (n > 0) image = calloc(1, (size_t)n);
    if (image && H5Fget_file_image(w->file, image, (size_t)n) != n) n = -1;
    mcs_hdf5_leave();
    if (!image || n <= 0) {
        free(image);
        return MCS_FAIL(MCS_E_NOMEM, "%s: HDF5 cannot put the file together", w->label);
    }
    *bytes = image;
    *n_bytes = n;
    return MCS_OK;
}

/* Creates a dataset and fills it; call it between enter and leave. */
static enum mcs_status put_locked(struct hdf5_writer *w, const char *name, hid_t stored, hid_t memory, int nd,
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
    set = H5Dcreate2(w->file, name, stored, space, links, properties, H5P_DEFAULT);
    MCS_REQUIRE_GOTO(set >= 0, MCS_E_FAIL, st, done, "%s: dataset %s cannot be made: %s", w->label, name, HDF5_REASON);
    MCS_REQUIRE_GOTO(empty || H5Dwrite(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, MCS_E_FAIL, st, done,
                     "%s: dataset %s cannot be written: %s", w->label, name, HDF5_REASON);
done:
    if (set >= 0) H5Dclose(set);
    H5Sclose(space);
    H5Pclose(properties);
    H5Pclose(links);
    return st;
}

enum mcs_status mcs_hdf5_put(struct hdf5_writer *w, const char *name, enum mcs_array_type type, int nd,
                             const int64_t *dims, const void *data)
{
    hsize_t sizes[MCS_STORE_MAX_ND];
    MCS_REQUIRE(nd >= 0 && nd <= MCS_STORE_MAX_ND && mcs_array_count(nd, dims) >= 0, MCS_E_SHAPE,
                "%s: dataset %s: %d dimensions; want 0 to %d", w->label, name, nd, MCS_STORE_MAX_ND);
    for (int i = 0; i < nd; i++) sizes[i] = (hsize_t)dims[i];
    mcs_hdf5_enter();
    const hid_t stored = stored_type(type);
    const enum mcs_status st = stored < 0 ? MCS_FAIL(MCS_E_USAGE, "%s: dataset %s: type %s is not written", w->label,
                                                     name, mcs_array_type_name(type))
                                          : put_locked(w, name, stored, mcs_hdf5_memory_type(type), nd, sizes, data);
    mcs_hdf5_leave();
    return st;
}

static hid_t text_type(size_t n_bytes)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, n_bytes ? n_bytes : 1); /* HDF5 has no empty text */
    H5Tset_cset(type, H5T_CSET_UTF8);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    return type;
}

enum mcs_status mcs_hdf5_put_texts(struct hdf5_writer *w, const char *name, int n, int64_t width, const char *block)
{
    const hsize_t dims = (hsize_t)n;
    mcs_hdf5_enter();
    const hid_t type = text_type((size_t)width);
    const enum mcs_status st = put_locked(w, name, type, type, 1, &dims, block);
    H5Tclose(type);
    mcs_hdf5_leave();
    return st;
}

static enum mcs_status put_note(struct hdf5_writer *w, const char *key, hid_t stored, hid_t memory, const void *value)
{
    enum mcs_status st = MCS_OK;
    hid_t space = H5Screate(H5S_SCALAR);

    if (H5Aexists(w->file, key) > 0) H5Adelete(w->file, key);
    hid_t note = H5Acreate2(w->file, key, stored, space, H5P_DEFAULT, H5P_DEFAULT);
    if (note < 0 || H5Awrite(note, memory, value) < 0)
        st = MCS_FAIL(MCS_E_FAIL, "%s: note %s cannot be written: %s", w->label, key, HDF5_REASON);
    if (note >= 0) H5Aclose(note);
    H5Sclose(space);
    return st;
}

enum mcs_status mcs_hdf5_put_text(struct hdf5_writer *w, const char *key, const char *text)
{
    mcs_hdf5_enter();
    const hid_t type = text_type(strlen(text));
    const enum mcs_status st = put_note(w, key, type, type, text);
    H5Tclose(type);
    mcs_hdf5_leave();
    return st;
}

enum mcs_status mcs_hdf5_put_number(struct hdf5_writer *w, const char *key, double number)
{
    mcs_hdf5_enter();
    const enum mcs_status st = put_note(w, key, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &number);
    mcs_hdf5_leave();
    return st;
}

#include "train/plan/preprocessed_case.h"

#include "data/io/store.h"
#include "data/nnunet/nnunet_npz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t voxels(const struct nnunet_preprocessed *p)
{
    return p->shape[0] * p->shape[1] * p->shape[2];
}

/* ---- HDF5 ---- */

static enum mcs_status put_places(struct store *s, const struct foreground *f)
{
    char name[1024];
    int used = snprintf(name, sizeof name, "locations/");
    for (int k = 0; k < f->n_classes && used < (int)sizeof name; k++)
        used += snprintf(name + used, sizeof name - (size_t)used, "%s%d", k ? "_" : "", f->classes[k]);
    MCS_REQUIRE(used < (int)sizeof name, MCS_E_DATA, "a region of %d classes, too many for the name of an array",
                f->n_classes);
    int32_t *v = malloc((size_t)f->n * 4 * sizeof *v);
    MCS_REQUIRE(v, MCS_E_NOMEM, "no memory for %lld places", (long long)f->n);
    for (int64_t i = 0; i < 4 * f->n; i++) v[i] = (int32_t)f->at[i / 4][i % 4];
    const enum mcs_status st = mcs_store_put(s, name, MCS_ARRAY_I32, 2, (const int64_t[]){f->n, 4}, v);
    free(v);
    return st;
}

static enum mcs_status fill_store(struct store *s, const struct nnunet_image *image,
                                  const struct nnunet_preprocessed *p, const struct foreground_list *places)
{
    static const char *const notes[] = {"spacing_z", "spacing_y", "spacing_x"};
    const int64_t n = voxels(p), dims[4] = {p->channels, p->shape[0], p->shape[1], p->shape[2]}, three = 3;
    int64_t box[3][2];
    int32_t *labels = malloc((size_t)n * sizeof *labels);
    MCS_REQUIRE(labels, MCS_E_NOMEM, "no memory for %lld labels", (long long)n);
    for (int64_t i = 0; i < n; i++) labels[i] = (int32_t)p->labels[i];
    enum mcs_status st = mcs_store_put(s, "data", MCS_ARRAY_F32, 4, dims, p->data);
    if (st == MCS_OK) st = mcs_store_put(s, "seg", MCS_ARRAY_I32, 3, dims + 1, labels);
    free(labels);
    MCS_TRY(st);
    for (int d = 0; d < 3; d++) box[d][0] = p->box.lo[d], box[d][1] = p->box.hi[d];
    MCS_TRY(mcs_store_put(s, "box", MCS_ARRAY_I64, 2, (const int64_t[]){3, 2}, box));
    MCS_TRY(mcs_store_put(s, "shape_before_cropping", MCS_ARRAY_I64, 1, &three, p->shape_before_crop));
    MCS_TRY(mcs_store_put(s, "shape_after_cropping", MCS_ARRAY_I64, 1, &three, p->shape_after_crop));
    for (int d = 0; d < 3; d++) MCS_TRY(mcs_store_put_number(s, notes[d], image->spacing[d]));
    for (int i = 0; i < places->n; i++)
        if (places->items[i].n) MCS_TRY(put_places(s, &places->items[i]));
    return MCS_OK;
}

static enum mcs_status write_h5(const char *stem, const struct nnunet_image *image, const struct nnunet_preprocessed *p,
                                const struct foreground_list *places)
{
    char path[MCS_PATH_BYTES];
    struct store *s = NULL;
    MCS_TRY(mcs_path(path, "%s.h5", stem));
    MCS_TRY(mcs_store_create(path, &s));
    enum mcs_status st = fill_store(s, image, p, places);
    if (st == MCS_OK) return mcs_store_commit(s);
    mcs_store_close(s);
    return st;
}

/* ---- npz and pickle ---- */

static void put_reals(struct pickle_out *o, const char *key, char kind, const double *v, int n)
{
    mcs_pickle_put_text(o, key);
    mcs_pickle_open(o, kind);
    for (int i = 0; i < n; i++) mcs_pickle_put_real(o, v[i]);
    mcs_pickle_close(o, kind);
}

static void put_shape(struct pickle_out *o, const char *key, const int64_t v[3])
{
    mcs_pickle_put_text(o, key);
    mcs_pickle_open(o, '(');
    for (int i = 0; i < 3; i++) mcs_pickle_put_int(o, v[i]);
    mcs_pickle_close(o, '(');
}

/* The file's geometry, as its reader notes it, for writing masks in its geometry. */
static void put_geometry(struct pickle_out *o, const char *reader, const struct nnunet_image *image)
{
    double origin[3], direction[9];
    const int n = image->n_axes;
    if (!strcmp(reader, "SimpleITKIO")) {
        mcs_nnunet_itk_geometry(image, origin, direction);
        mcs_pickle_put_text(o, "sitk_stuff");
        mcs_pickle_open(o, '{');
        put_reals(o, "spacing", '(', image->file_spacing, n);
        put_reals(o, "origin", '(', origin, n);
        put_reals(o, "direction", '(', direction, n * n);
        mcs_pickle_close(o, '{');
    } else if (!strcmp(reader, "NibabelIO")) {
        mcs_pickle_put_text(o, "nibabel_stuff");
        mcs_pickle_open(o, '{');
        mcs_pickle_put_text(o, "original_affine");
        mcs_pickle_put_array(o, MCS_ARRAY_F64, 2, (const int64_t[]){4, 4}, image->affine);
        mcs_pickle_close(o, '{');
    }
    put_reals(o, "spacing", '[', image->spacing, 3);
}

static void put_locations(struct pickle_out *o, const struct foreground_list *places)
{
    mcs_pickle_put_text(o, "class_locations");
    mcs_pickle_open(o, '{');
    for (int i = 0; i < places->n; i++) {
        const struct foreground *f = &places->items[i];
        if (f->is_region) mcs_pickle_open(o, '(');
        for (int k = 0; k < f->n_classes; k++) mcs_pickle_put_int(o, f->classes[k]);
        if (f->is_region) mcs_pickle_close(o, '(');
        if (f->n) {
            mcs_pickle_put_array(o, MCS_ARRAY_I64, 2, (const int64_t[]){f->n, 4}, f->at);
        } else {
            mcs_pickle_open(o, '[');
            mcs_pickle_close(o, '[');
        }
    }
    mcs_pickle_close(o, '{');
}

static enum mcs_status write_pickle(const char *stem, const struct nnunet_configuration *c,
                                    const struct nnunet_image *image, const struct nnunet_preprocessed *p,
                                    const struct foreground_list *places)
{
    char path[MCS_PATH_BYTES];
    struct pickle_out o;
    MCS_TRY(mcs_path(path, "%s.pkl", stem));
    MCS_TRY(mcs_pickle_begin(&o));
    mcs_pickle_open(&o, '{');
    put_geometry(&o, c->reader, image);
    put_shape(&o, "shape_before_cropping", p->shape_before_crop);
    mcs_pickle_put_text(&o, "bbox_used_for_cropping");
    mcs_pickle_open(&o, '[');
    for (int d = 0; d < 3; d++) {
        mcs_pickle_open(&o, '[');
        mcs_pickle_put_int(&o, p->box.lo[d]);
        mcs_pickle_put_int(&o, p->box.hi[d]);
        mcs_pickle_close(&o, '[');
    }
    mcs_pickle_close(&o, '[');
    put_shape(&o, "shape_after_cropping_and_before_resampling", p->shape_after_crop);
    put_locations(&o, places);
    mcs_pickle_close(&o, '{');
    return mcs_pickle_end(&o, path);
}

static enum mcs_status write_npz(const char *stem, const struct nnunet_preprocessed *p)
{
    char path[MCS_PATH_BYTES];
    const int64_t n = voxels(p);
    MCS_TRY(mcs_path(path, "%s.npz", stem));
    int16_t *labels = malloc((size_t)n * sizeof *labels);
    MCS_REQUIRE(labels, MCS_E_NOMEM, "%s: no memory for %lld labels", path, (long long)n);
    for (int64_t i = 0; i < n; i++) labels[i] = (int16_t)p->labels[i]; /* at most NNUNET_MAX_LABELS */
    const struct npz_array arrays[] = {
        {"data", MCS_ARRAY_F32, 4, {p->channels, p->shape[0], p->shape[1], p->shape[2]}, p->data},
        {"seg", MCS_ARRAY_I16, 4, {1, p->shape[0], p->shape[1], p->shape[2]}, labels}};
    const enum mcs_status st = mcs_npz_write(path, 2, arrays);
    free(labels);
    return st;
}

enum mcs_status mcs_preprocessed_write(const char *stem, enum preprocessed_format format,
                                       const struct nnunet_configuration *c, const struct nnunet_image *image,
                                       const struct nnunet_preprocessed *p, const struct foreground_list *places)
{
    if (format == PREPROCESSED_H5) return write_h5(stem, image, p, places);
    /* The array comes last: where it is, the case is complete. */
    MCS_TRY(write_pickle(stem, c, image, p, places));
    return write_npz(stem, p);
}

#include "data/nnunet/nnunet_image.h"

#include "data/image/nifti.h"
#include "data/image/picture.h"
#include "data/io/bounds.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum reader { NATURAL, ITK, NIBABEL };

static enum mcs_status reader_of(const char *name, enum reader *reader)
{
    static const char *const names[] = {"NaturalImage2DIO", "SimpleITKIO", "NibabelIO"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, names[i])) {
            *reader = (enum reader)i;
            return MCS_OK;
        }
    return MCS_FAIL(MCS_E_DATA, "the image reader %s is not supported; NaturalImage2DIO, SimpleITKIO and NibabelIO are",
                    name);
}

void mcs_nnunet_image_free(struct nnunet_image *img)
{
    free(img->values);
    *img = (struct nnunet_image){0};
}

/* ---- one file ---- */

/* 1 where a palette is to be applied. Of BMP, Pillow takes a palette that is a ramp of grey for none: the indices are
 * the values, of two colours black and white too. */
static int has_colours(const struct picture *p)
{
    if (!p->palette || strcmp(p->format, "BMP") != 0) return p->palette != NULL;
    for (int i = 0; i < p->n_palette; i++)
        for (int c = 0; c < 3; c++)
            if (p->palette[3 * i + c] != (p->n_palette == 2 ? 255 * i : i)) return 1;
    return 0;
}

static int channels_of(const struct picture *p)
{
    return has_colours(p) ? 3 : p->channels;
}

static enum mcs_status check_picture(const char *path, enum reader reader, const struct picture *p)
{
    if (reader == NATURAL) {
        MCS_REQUIRE(!p->header && p->nz == 1 && p->channels != 2, MCS_E_DATA,
                    "%s: %s; nnU-Net's NaturalImage2DIO reads grey, RGB and RGBA images", path,
                    p->channels == 2 ? "grey with alpha"
                    : p->nz > 1      ? "several pages"
                                     : "a volume");
        return MCS_OK;
    }
    MCS_REQUIRE(p->channels == 1 && !p->palette && (p->header || p->has_affine), MCS_E_DATA,
                "%s: %s; nnU-Net's medical readers are supported for scalar NIfTI, NRRD and MetaImage", path,
                p->format);
    MCS_REQUIRE(p->header || p->nz > 1, MCS_E_DATA,
                "%s: one slice: whether this %s file has two axes or three is not known here; NIfTI tells", path,
                p->format);
    MCS_REQUIRE(reader == ITK || (p->header && p->header->dim[0] == 3), MCS_E_DATA,
                "%s: %s; nnU-Net's NibabelIO wants NIfTI of 3 axes", path, p->header ? "not of 3 axes" : p->format);
    return MCS_OK;
}

static void set_geometry(enum reader reader, const struct picture *p, struct nnunet_image *img)
{
    img->n_axes = reader == NATURAL || (p->header && p->header->dim[0] == 2) ? 2 : 3;
    memcpy(img->affine, p->affine, sizeof img->affine);
    for (int i = 0; i < 3; i++)
        img->file_spacing[i] = reader == NIBABEL ? fabs(p->header->pixdim[1 + i])
                               : p->header       ? (double)(float)p->spacing[i]
                                                 : p->spacing[i];
    for (int i = 0; i < 3; i++) img->spacing[i] = img->file_spacing[2 - i];
    if (reader == NATURAL) memcpy(img->spacing, (const double[]){999, 1, 1}, sizeof img->spacing);
    if (reader == ITK && img->n_axes == 2) img->spacing[0] = 999 * fmax(img->spacing[1], img->spacing[2]);
}

/* The picture's values to dst (channels, n), n voxels a channel. */
static void copy_values(const struct picture *p, int64_t n, float *dst)
{
    const int channels = channels_of(p), colours = has_colours(p);
    /* Grey of 2 and 4 bits reaches nnU-Net with 255 as white, of 1 bit as 0 and 1. */
    const double scale = !p->palette && (p->bits == 2 || p->bits == 4) ? 255 / (double)((1 << p->bits) - 1) : 1;
    if (channels == 1 && scale == 1) {
        mcs_picture_to_float(p, 0, n, dst);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < channels; c++)
            dst[c * n + i] = colours ? (float)p->palette[3 * (int64_t)mcs_picture_value(p, i) + c]
                                     : (float)(scale * mcs_picture_value(p, i * channels + c));
}

/* Appends the channels of one file. */
static enum mcs_status add_file(const char *path, const char *first, enum reader reader, struct nnunet_image *img)
{
    struct picture p;
    MCS_TRY(mcs_picture_read(path, NULL, &p));
    enum mcs_status st;
    struct nnunet_image one = {.shape = {p.nz, p.ny, p.nx}};
    const int64_t n = (int64_t)p.nx * p.ny * p.nz;
    MCS_TRY_GOTO(check_picture(path, reader, &p), st, done);
    set_geometry(reader, &p, &one);
    if (img->channels) {
        MCS_REQUIRE_GOTO(!memcmp(one.shape, img->shape, sizeof one.shape), MCS_E_DATA, st, done,
                         "%s is %d x %d x %d, but %s is %lld x %lld x %lld", path, p.nx, p.ny, p.nz, first,
                         (long long)img->shape[2], (long long)img->shape[1], (long long)img->shape[0]);
        for (int i = 0; i < 3; i++)
            MCS_REQUIRE_GOTO(one.spacing[i] == img->spacing[i], MCS_E_DATA, st, done, "%s and %s: different spacings",
                             path, first);
        for (int i = 0; i < 16; i++)
            if (fabs(one.affine[i] - img->affine[i]) > 1e-5 + 1e-5 * fabs(img->affine[i])) {
                mcs_warn("%s and %s: different origins or directions", path, first);
                break;
            }
    }
    const int channels = img->channels + channels_of(&p);
    const int64_t bytes = mcs_size_mul(mcs_size_mul(n, channels), sizeof(float));
    MCS_REQUIRE_GOTO(bytes != 0, MCS_E_DATA, st, done, "%s: no voxels", path);
    MCS_TRY_GOTO(mcs_memory_check(bytes, "%s: %d channels", path, channels), st, done);
    float *values = realloc(img->values, (size_t)bytes);
    MCS_REQUIRE_GOTO(values, MCS_E_NOMEM, st, done, "%s: no memory for %lld voxels", path, (long long)n);
    const int64_t before = img->channels;
    one.channels = channels;
    *img = one;
    img->values = values;
    copy_values(&p, n, values + before * n);
    for (int64_t i = before * n; i < channels * n; i++)
        MCS_REQUIRE_GOTO(!isnan(values[i]), MCS_E_DATA, st, done, "%s: voxel %lld is NaN", path,
                         (long long)(i - before * n));
done:
    mcs_picture_free(&p);
    return st;
}

enum mcs_status mcs_nnunet_image_read(const char *reader, int n, const char *const *paths, struct nnunet_image *img)
{
    enum reader which;
    enum mcs_status st = MCS_OK;
    *img = (struct nnunet_image){0};
    MCS_TRY(reader_of(reader, &which));
    for (int i = 0; i < n && st == MCS_OK; i++) st = add_file(paths[i], paths[0], which, img);
    if (st == MCS_OK) return st;
    mcs_trace(st, __FILE__, __LINE__);
    mcs_nnunet_image_free(img);
    return st;
}

/* ---- a case ---- */

static enum mcs_status check_label(const struct nnunet_dataset *d, const struct nnunet_case *c,
                                   const struct nnunet_image *images, const struct nnunet_image *label)
{
    const int last = d->ignore >= 0 ? d->ignore : d->n_classes - 1;
    const int64_t n = label->shape[0] * label->shape[1] * label->shape[2];
    MCS_REQUIRE(label->channels == 1, MCS_E_DATA, "%s: a label of %d channels; it must have one", c->label,
                label->channels);
    MCS_REQUIRE(!memcmp(images->shape, label->shape, sizeof label->shape), MCS_E_DATA,
                "%s is %lld x %lld x %lld, but its image %s is %lld x %lld x %lld", c->label,
                (long long)label->shape[2], (long long)label->shape[1], (long long)label->shape[0], c->images[0],
                (long long)images->shape[2], (long long)images->shape[1], (long long)images->shape[0]);
    for (int64_t i = 0; i < n; i++) {
        const float v = label->values[i];
        MCS_REQUIRE(v >= 0 && v <= (float)last && v == floorf(v), MCS_E_DATA,
                    "%s: voxel %lld has the value %g; %s names the classes 0 to %d", c->label, (long long)i, (double)v,
                    d->path, last);
    }
    for (int k = 0; k < 3; k++)
        if (fabs(images->spacing[k] - label->spacing[k]) > 1e-5 + 1e-5 * images->spacing[k]) {
            mcs_warn("%s and its image have different spacings", c->label);
            break;
        }
    return MCS_OK;
}

enum mcs_status mcs_nnunet_case_read(const struct nnunet_dataset *d, const char *reader, const struct nnunet_case *c,
                                     struct nnunet_image *images, struct nnunet_image *label)
{
    enum mcs_status st = MCS_OK;
    if (label) *label = (struct nnunet_image){0};
    MCS_TRY(mcs_nnunet_image_read(reader, c->n_images, c->images, images));
    if (images->channels != d->n_channels)
        st = MCS_FAIL(MCS_E_DATA, "%s: %d channels, but %s names %d (channel_names)", c->images[0], images->channels,
                      d->path, d->n_channels);
    if (st == MCS_OK && label) st = mcs_nnunet_image_read(reader, 1, &c->label, label);
    if (st != MCS_OK) {
        mcs_nnunet_image_free(images);
        return st;
    }
    if (!label) return MCS_OK;
    st = check_label(d, c, images, label);
    if (st == MCS_OK) return st;
    mcs_nnunet_image_free(images);
    mcs_nnunet_image_free(label);
    return st;
}

/* ITK's x and y axes point to the other side than NIfTI's: left and posterior. */
void mcs_nnunet_itk_geometry(const struct nnunet_image *img, double origin[3], double direction[9])
{
    const int n = img->n_axes;
    for (int row = 0; row < n; row++) {
        const double sign = row < 2 ? -1 : 1;
        origin[row] = sign * img->affine[4 * row + 3] + 0.0; /* no negative zero */
        for (int column = 0; column < n; column++) {
            double length = 0;
            for (int i = 0; i < 3; i++) length += img->affine[4 * i + column] * img->affine[4 * i + column];
            direction[n * row + column] = length > 0 ? sign * img->affine[4 * row + column] / sqrt(length) + 0.0 : 0;
        }
    }
}

/* Images and labels of two folders as training cases. */
#include "data/image/exif.h"
#include "data/image/media.h"
#include "data/image/nifti.h"
#include "data/image/picture.h"
#include "data/image/volume.h"
#include "data/io/file.h"
#include "engine/base/log.h"
#include "infer/cases.h"
#include "train/unet/unet_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The label's file on the image's grid as classes (nz, ny, nx), malloc'ed. */
static enum mcs_status read_classes(const struct unet_cases *c, const char *image_path, const struct grid *grid,
                                    const char *label_path, const struct unet_label_options *o, uint8_t **classes)
{
    struct label_map m;
    enum mcs_status st;
    *classes = NULL;
    MCS_TRY(mcs_labels_read(label_path, &o->rule, &m));
    MCS_REQUIRE_GOTO(m.turned == 1, MCS_E_DATA, st, done,
                     "%s: a label with EXIF orientation %d; store image and label upright, as they are shown",
                     label_path, m.turned);
    MCS_TRY_GOTO(mcs_labels_to_grid(&m, label_path, grid, image_path, o->resample), st, done);
    if (m.notes[0]) mcs_warn("%s: %s", label_path, m.notes);
    *classes = malloc((size_t)grid->n[0] * (size_t)grid->n[1] * (size_t)grid->n[2]);
    MCS_REQUIRE_GOTO(*classes, MCS_E_NOMEM, st, done, "%s: no memory for its labels", label_path);
    MCS_TRY_GOTO(mcs_labels_to_classes(&m, label_path, &o->rule, c->classes, *classes), st, done);
done:
    mcs_labels_free(&m);
    return st;
}

static enum mcs_status read_volumes(struct unet_cases *c, const char *image_path, const char *label_path,
                                    const struct unet_label_options *o)
{
    struct volume image = {0};
    uint8_t *classes = NULL;
    enum mcs_status st;
    MCS_TRY_GOTO(mcs_volume_read(image_path, &image), st, done);
    struct grid grid = {{image.nx, image.ny, image.nz}, 1, 0, {0}, {0}};
    double apart_mm = 0;
    for (int i = 0; i < 3; i++) grid.spacing[i] = (double)image.spacing[i];
    grid.has_affine = mcs_nifti_affine(image.header, image.spacing, grid.affine, &apart_mm);
    if (apart_mm > 0)
        mcs_warn("%s: its sform and qform differ by up to %.3g mm; the sform is taken", image_path, apart_mm);
    MCS_TRY_GOTO(read_classes(c, image_path, &grid, label_path, o, &classes), st, done);
    MCS_TRY_GOTO(mcs_unet_cases_add_volume(c, image_path, image.values, classes, image.nz, image.ny, image.nx), st,
                 done);
done:
    mcs_volume_free(&image);
    free(classes);
    return st;
}

/* E_DATA: a JPEG that is shown turned, while its label has no orientation: training would be on the wrong pixels. */
static enum mcs_status check_upright(const char *path)
{
    const char *format;
    char *bytes;
    int64_t n_bytes;
    int precision, orientation;
    if (!mcs_picture_known(path, &format) || strcmp(format, "JPEG") != 0) return MCS_OK;
    MCS_TRY(mcs_file_read(path, MCS_IMAGE_FILE_BYTES, &bytes, &n_bytes));
    mcs_jpeg_segments((const uint8_t *)bytes, n_bytes, &precision, &orientation);
    free(bytes);
    MCS_REQUIRE(orientation == 1, MCS_E_DATA,
                "%s: EXIF orientation %d says that it is shown turned, and its label has no orientation: store the "
                "image upright, as it is shown",
                path, orientation);
    return MCS_OK;
}

static enum mcs_status read_images(struct unet_cases *c, const char *image_path, const char *label_path,
                                   const struct unet_label_options *o)
{
    struct image image = {0};
    struct volume deep = {0}; /* instead of an image: grey of more than 8 bits */
    uint8_t *classes = NULL;
    enum mcs_status st;
    MCS_TRY_GOTO(check_upright(image_path), st, done);
    MCS_TRY_GOTO(mcs_image_read_deep(image_path, c->channels, &image, &deep), st, done);
    const int width = image.pixels ? image.width : deep.nx, height = image.pixels ? image.height : deep.ny;
    if (!c->channels) c->channels = image.pixels ? image.channels : 1;
    const struct grid grid = {{width, height, 1}, 0, 0, {1, 1, 1}, {0}};
    MCS_TRY_GOTO(read_classes(c, image_path, &grid, label_path, o, &classes), st, done);
    MCS_TRY_GOTO(image.pixels ? mcs_unet_cases_add_image(c, image_path, &image, classes)
                              : mcs_unet_cases_add_volume(c, image_path, deep.values, classes, 1, height, width),
                 st, done);
done:
    mcs_image_free(&image);
    mcs_volume_free(&deep);
    free(classes);
    return st;
}

/* E_DATA where the image is a later channel of a case, as nnU-Net names them: CASE_0001 beside CASE_0000. */
static enum mcs_status check_channel(const struct case_list *images, int i)
{
    const char *stem = images->files[i].stem;
    char first[1024];
    const int n = (int)strlen(stem);
    if (n < 6 || stem[n - 5] != '_' || strspn(stem + n - 4, "0123456789") != 4 || !strcmp(stem + n - 4, "0000"))
        return MCS_OK;
    snprintf(first, sizeof first, "%.*s_0000", n - 5, stem);
    MCS_REQUIRE(!mcs_cases_find(images, first), MCS_E_DATA,
                "%s is a further channel of %s, and train reads one file for a case: nnU-Net's folders with several "
                "channels are for plan and preprocess",
                images->files[i].path, first);
    return MCS_OK;
}

/* The first file without a partner, and the nearest name there is. */
static void tell_unused(int n, const char *what, const char *other, const char *stem, const struct case_list *in)
{
    const char *nearest = mcs_cases_nearest(in, stem);
    if (n)
        mcs_warn("%d %ss have no %s and are not used; the first: %s%s%s", n, what, other, stem,
                 nearest ? "; the nearest name: " : "", nearest ? nearest : "");
}

static enum mcs_status read_pairs(struct unet_cases *c, const struct case_list *images, const struct case_list *labels,
                                  const struct unet_label_options *o)
{
    int without = 0, pairs = 0, unused = 0;
    const char *first_image = "", *first_label = "";
    for (int i = 0; i < images->n; i++) {
        const struct case_file *a = &images->files[i], *b = mcs_cases_partner(images, i, labels);
        if (!b) {
            MCS_TRY(check_channel(images, i));
            if (!without++) first_image = a->stem;
            continue;
        }
        pairs++;
        MCS_REQUIRE(mcs_media_is_volume(a->name) == mcs_media_is_volume(b->name), MCS_E_DATA,
                    "%s and %s: an image and a volume", a->path, b->path);
        if (mcs_media_is_volume(a->name) && !c->channels) c->channels = 1;
        MCS_TRY(mcs_media_is_volume(a->name) ? read_volumes(c, a->path, b->path, o)
                                             : read_images(c, a->path, b->path, o));
    }
    const char *nearest = mcs_cases_nearest(labels, first_image);
    MCS_REQUIRE(pairs, MCS_E_DATA, "no image has a label with the same stem; the first is %s, the nearest label %s",
                first_image, nearest ? nearest : "unknown");
    for (int i = 0; i < labels->n; i++)
        if (!mcs_cases_partner(labels, i, images) && !unused++) first_label = labels->files[i].stem;
    tell_unused(without, "image", "label", first_image, labels);
    tell_unused(unused, "label", "image", first_label, images);
    return MCS_OK;
}

enum mcs_status mcs_unet_cases_read(struct unet_cases *c, const char *images, const char *labels, int channels,
                                    int classes, const struct unet_label_options *options)
{
    static const struct unet_label_options none;
    struct case_list a = {0}, b = {0};
    enum mcs_status st;
    mcs_unet_cases_init(c, channels, classes);
    MCS_REQUIRE(classes >= 2 && classes <= UNET_MAX_CLASSES, MCS_E_USAGE, "2 to %d classes are possible, not %d",
                UNET_MAX_CLASSES, classes);
    MCS_TRY_GOTO(mcs_cases_list(images, MCS_MEDIA_ENDINGS, NULL, &a), st, done);
    MCS_TRY_GOTO(mcs_cases_list(labels, MCS_MEDIA_ENDINGS, NULL, &b), st, done);
    MCS_TRY_GOTO(read_pairs(c, &a, &b, options ? options : &none), st, done);
done:
    mcs_cases_free(&a);
    mcs_cases_free(&b);
    if (st != MCS_OK) mcs_unet_cases_free(c);
    return st;
}

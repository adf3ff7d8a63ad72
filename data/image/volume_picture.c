/* Volumes of the formats that are not NIfTI, from pictures. */
#include "data/image/image.h"
#include "data/image/nifti.h"
#include "data/image/picture.h"
#include "data/image/volume.h"
#include "data/image/window.h"

#include <stdlib.h>
#include <string.h>

/* A header with the sizes, spacing and affine (as its sform), so that masks are written with the same geometry; without
 * an affine neither form. */
static struct nifti_header *header_of(const struct picture *p)
{
    struct nifti_header *h = calloc(1, sizeof *h);
    if (!h) return NULL;
    *h = (struct nifti_header){.version = 1, .dim = {p->nz > 1 ? 3 : 2, p->nx, p->ny, p->nz, 1, 1, 1, 1}};
    h->pixdim[0] = 1;
    for (int i = 0; i < 3; i++) h->pixdim[i + 1] = p->spacing[i];
    h->xyzt_units = 2; /* mm */
    h->scl_slope = 1;
    h->sform_code = p->has_affine; /* 1: scanner coordinates */
    memcpy(h->srow, p->affine, sizeof h->srow);
    return h;
}

/* Values whose smallest is white are mirrored within the stored range, so that larger is brighter. */
static void invert(const struct picture *p, struct volume *v)
{
    const struct window full = {MCS_WINDOW_FULL, 0, 0};
    double low, high;
    int windowed;
    if (mcs_window_of("", p, &full, &windowed, &low, &high) != MCS_OK) mcs_error_clear(); /* only floats can fail */
    for (int64_t i = 0, n = mcs_picture_count(p); i < n; i++) v->values[i] = (float)(low + high - v->values[i]);
}

enum mcs_status mcs_volume_of_picture(const char *path, const struct picture *p, struct volume *v)
{
    memset(v, 0, sizeof *v);
    MCS_REQUIRE(p->channels == 1 && !p->palette, MCS_E_DATA, "%s: a volume of colours (%d channels%s); want grey", path,
                p->channels, p->palette ? ", a palette" : "");
    const float spacing[3] = {(float)p->spacing[0], (float)p->spacing[1], (float)p->spacing[2]};
    MCS_TRY(mcs_volume_alloc(v, p->nx, p->ny, p->nz, spacing));
    mcs_picture_to_float(p, 0, mcs_picture_count(p), v->values);
    if (p->inverted) invert(p, v);
    v->header = header_of(p);
    if (v->header) return MCS_OK;
    mcs_volume_free(v);
    return MCS_FAIL(MCS_E_NOMEM, "%s: no memory to read it", path);
}

enum mcs_status mcs_image_read_deep(const char *path, int want_channels, struct image *img, struct volume *v)
{
    struct picture p;
    memset(img, 0, sizeof *img);
    memset(v, 0, sizeof *v);
    MCS_TRY(mcs_image_read_upright(path, &p));
    const int deep = (p.channels == 1 && !p.palette && want_channels != 3 && p.nz == 1) &&
                     (p.type != MCS_PICTURE_U8 || p.slope != 1 || p.inter != 0);
    const enum mcs_status st =
        deep ? mcs_volume_of_picture(path, &p, v) : mcs_image_of_picture(path, &p, want_channels, img);
    mcs_picture_free(&p);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

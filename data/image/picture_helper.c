/* Pictures of the formats that the helper program decodes. Every number of its replies is checked. */
#include "data/helper/helper.h"
#include "data/image/imageread_protocol.h"
#include "data/image/picture.h"
#include "data/image/picture_parts.h"
#include "data/io/bounds.h"
#include "engine/base/escape.h"
#include "engine/base/input.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int64_t SLOWEST_BYTES_A_MS = 1000; /* a file on a busy network */

static const struct helper_kind kind = {
    IMAGEREAD_NAME,  "TIFF, DICOM and JPEG 2000",      "its decoder",
    IMAGEREAD_MAGIC, sizeof(struct imageread_request), sizeof(struct imageread_reply)};

static int is_bool(int32_t v)
{
    return v == 0 || v == 1;
}

static int all_finite(const double *v, int n)
{
    for (int i = 0; i < n; i++)
        if (!isfinite(v[i])) return 0;
    return 1;
}

/* 1 where a reply of the helper could be true. */
static int is_plausible(struct imageread_info *i)
{
    i->series[sizeof i->series - 1] = 0;
    i->notes[sizeof i->notes - 1] = 0;
    const int kinds = i->format >= 0 && i->format < IMAGEREAD_N_FORMATS && i->type >= 0 &&
                      i->type < MCS_PICTURE_N_TYPES && i->channels >= 1 && i->channels <= 4;
    if (!kinds || i->bits < 0 || i->bits > 8 * mcs_picture_type_bytes((enum picture_type)i->type)) return 0;
    if (!is_bool(i->inverted) || !is_bool(i->has_window) || !is_bool(i->has_spacing) || !is_bool(i->has_affine) ||
        !is_bool(i->has_place) || i->orientation < 1 || i->orientation > 8)
        return 0;
    if (i->n_palette < 0 || i->n_palette > IMAGEREAD_MAX_PALETTE ||
        (i->n_palette && i->palette_max != 255 && i->palette_max != 65535))
        return 0;
    if (!all_finite(&i->slope, 1) || !all_finite(&i->inter, 1) ||
        (i->has_window &&
         !(all_finite(&i->window_low, 1) && i->window_high > i->window_low && i->window_high < INFINITY)))
        return 0;
    for (int k = 0; k < 3; k++)
        if (i->has_spacing && !(i->spacing[k] > 0 && i->spacing[k] < 1e6)) return 0;
    return (!i->has_affine || (i->has_spacing && all_finite(i->affine, 16))) &&
           (!i->has_place || (all_finite(i->position, 3) && all_finite(i->cosines, 6)));
}

static enum mcs_status fill(struct picture *p, const char *path, const struct imageread_info *i)
{
    MCS_TRY(mcs_picture_alloc(p, path, i->nx, i->ny, i->nz, i->channels, (enum picture_type)i->type));
    p->bits = i->bits;
    p->slope = i->slope;
    p->inter = i->inter;
    p->inverted = i->inverted;
    p->has_window = i->has_window;
    p->window_low = i->window_low;
    p->window_high = i->window_high;
    p->orientation = i->orientation;
    p->has_spacing = i->has_spacing;
    if (i->has_spacing) memcpy(p->spacing, i->spacing, sizeof p->spacing);
    mcs_picture_plain_affine(p);
    p->has_affine = i->has_affine;
    if (i->has_affine) memcpy(p->affine, i->affine, sizeof p->affine);
    if (!i->n_palette) return MCS_OK;
    p->palette = calloc((size_t)i->n_palette, 3 * sizeof *p->palette);
    MCS_REQUIRE(p->palette, MCS_E_NOMEM, "%s: no memory to read it", path);
    p->n_palette = i->n_palette;
    p->palette_max = i->palette_max;
    return MCS_OK;
}

/* Values, then the palette, from the shared memory. */
static enum mcs_status take_values(struct helper *h, struct imageread_reply *reply, struct picture *p)
{
    const int64_t value_bytes = mcs_picture_count(p) * mcs_picture_type_bytes(p->type);
    const int64_t palette_bytes = 6 * (int64_t)p->n_palette;
    const struct imageread_request get = {.op = IMAGEREAD_OP_GET, .bytes = value_bytes + palette_bytes};
    MCS_TRY(mcs_helper_grow(h, get.bytes));
    MCS_TRY(mcs_helper_ask(h, &get, reply, get.bytes / SLOWEST_BYTES_A_MS));
    MCS_TRY(mcs_helper_verdict(h, reply->status, reply->message, sizeof reply->message));
    MCS_TRY(mcs_helper_copy_out(h, 0, value_bytes, p->values));
    return palette_bytes ? mcs_helper_copy_out(h, value_bytes, palette_bytes, p->palette) : MCS_OK;
}

static enum mcs_status decode(struct helper *h, struct picture *p, struct slice_place *place)
{
    struct imageread_reply reply;
    const struct imageread_request info = {.op = IMAGEREAD_OP_INFO};
    MCS_TRY(mcs_helper_ask(h, &info, &reply, 0));
    MCS_TRY(mcs_helper_verdict(h, reply.status, reply.message, sizeof reply.message));
    struct imageread_info checked = reply.info;
    if (!is_plausible(&checked)) return mcs_helper_nonsense(h);
    MCS_TRY(fill(p, h->path, &checked));
    MCS_TRY(take_values(h, &reply, p));
    mcs_text_escape(p->notes, sizeof p->notes, checked.notes);
    if (!place) return MCS_OK;
    place->known = checked.has_place;
    memcpy(place->position, checked.position, sizeof place->position);
    memcpy(place->cosines, checked.cosines, sizeof place->cosines);
    memcpy(place->series, checked.series, sizeof place->series);
    return MCS_OK;
}

enum mcs_status mcs_helped_picture(const char *path, struct picture *p, struct slice_place *place)
{
    struct helper h;
    int fd;
    int64_t n_bytes;
    memset(p, 0, sizeof *p);
    MCS_TRY(mcs_input_open(path, &fd, &n_bytes));
    enum mcs_status st = mcs_helper_start(&kind, fd, path, &h);
    if (st == MCS_OK) {
        st = decode(&h, p, place);
        mcs_helper_end(&h);
    }
    close(fd);
    if (st != MCS_OK) mcs_picture_free(p);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

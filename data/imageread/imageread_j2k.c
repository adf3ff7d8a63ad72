/* JPEG 2000 through OpenJPEG: .jp2 files, codestreams, and the frames of DICOM files. */
#include "data/imageread/imageread.h"

#include <openjpeg.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = 65535 };

static struct imageread_file whole;
static struct imageread_info opened;

static const uint8_t box[12] = {0, 0, 0, 12, 'j', 'P', ' ', ' ', '\r', '\n', 0x87, '\n'},
                     codestream[4] = {0xff, 0x4f, 0xff, 0x51};

int mcs_imageread_is_j2k(const uint8_t *bytes, int64_t n)
{
    return n > 12 && (!memcmp(bytes, box, sizeof box) || !memcmp(bytes, codestream, sizeof codestream));
}

void mcs_imageread_note(struct imageread_info *info, const char *text)
{
    const size_t at = strlen(info->notes);
    snprintf(info->notes + at, sizeof info->notes - at, "%s%s", at ? "; " : "", text);
}

/* ---- OpenJPEG's view of bytes in memory ---- */

struct memory {
    const uint8_t *bytes;
    int64_t n, at;
};

static OPJ_SIZE_T read_some(void *dst, OPJ_SIZE_T n, void *data)
{
    struct memory *m = data;
    const int64_t left = m->n - m->at;
    if (left <= 0) return (OPJ_SIZE_T)-1;
    if ((int64_t)n > left) n = (OPJ_SIZE_T)left;
    memcpy(dst, m->bytes + m->at, n);
    m->at += (int64_t)n;
    return n;
}

static OPJ_OFF_T skip(OPJ_OFF_T n, void *data)
{
    struct memory *m = data;
    if (n < 0 || n > m->n - m->at) n = m->n - m->at;
    m->at += n;
    return n;
}

static OPJ_BOOL seek(OPJ_OFF_T at, void *data)
{
    struct memory *m = data;
    if (at < 0 || at > m->n) return OPJ_FALSE;
    m->at = at;
    return OPJ_TRUE;
}

static void keep_error(const char *text, void *problem)
{
    snprintf(problem, 128, "%.*s", (int)strcspn(text, "\n"), text);
}

/* An open decoder with its header read; release closes it. */
struct decoder {
    struct memory m;
    opj_stream_t *stream;
    opj_codec_t *codec;
    opj_image_t *image;
    char problem[128];
};

static void release(struct decoder *d)
{
    opj_image_destroy(d->image);
    opj_destroy_codec(d->codec);
    opj_stream_destroy(d->stream);
}

static enum mcs_status check_components(const opj_image_t *image)
{
    const opj_image_comp_t *c = image->comps;
    MCS_REQUIRE(image->numcomps >= 1 && image->numcomps <= 4, MCS_E_DATA,
                ": a JPEG 2000 image of %u channels; want 1 (grey) or 3 (RGB), with or without alpha", image->numcomps);
    MCS_REQUIRE(c[0].w >= 1 && c[0].h >= 1 && c[0].w <= MAX_SIDE && c[0].h <= MAX_SIDE, MCS_E_DATA,
                ": %u x %u pixels; want 1 to %d a side", c[0].w, c[0].h, MAX_SIDE);
    for (unsigned i = 0; i < image->numcomps; i++)
        MCS_REQUIRE(c[i].w == c[0].w && c[i].h == c[0].h && c[i].dx == c[0].dx && c[i].dy == c[0].dy &&
                        c[i].prec == c[0].prec && c[i].sgnd == c[0].sgnd,
                    MCS_E_DATA, ": a JPEG 2000 image whose channels have different sizes or depths");
    MCS_REQUIRE(c[0].prec >= 1 && c[0].prec <= 31, MCS_E_DATA, ": %u bits a channel; want 1 to 31", c[0].prec);
    MCS_REQUIRE(image->color_space != OPJ_CLRSPC_SYCC && image->color_space != OPJ_CLRSPC_EYCC &&
                    image->color_space != OPJ_CLRSPC_CMYK,
                MCS_E_DATA, ": a JPEG 2000 image of YCC or CMYK colours; want grey or RGB");
    return MCS_OK;
}

static enum mcs_status start(const uint8_t *bytes, int64_t n, struct decoder *d)
{
    opj_dparameters_t parameters;
    memset(d, 0, sizeof *d);
    d->m = (struct memory){bytes, n, 0};
    d->codec = opj_create_decompress(n > 4 && !memcmp(bytes, codestream, 4) ? OPJ_CODEC_J2K : OPJ_CODEC_JP2);
    d->stream = opj_stream_create(1 << 16, OPJ_TRUE);
    MCS_REQUIRE(d->codec && d->stream, MCS_E_NOMEM, ": no memory to read it");
    opj_stream_set_user_data(d->stream, &d->m, NULL);
    opj_stream_set_user_data_length(d->stream, (OPJ_UINT64)n);
    opj_stream_set_read_function(d->stream, read_some);
    opj_stream_set_skip_function(d->stream, skip);
    opj_stream_set_seek_function(d->stream, seek);
    opj_set_error_handler(d->codec, keep_error, d->problem);
    opj_set_default_decoder_parameters(&parameters);
    const int ok = opj_setup_decoder(d->codec, &parameters) && opj_decoder_set_strict_mode(d->codec, OPJ_TRUE) &&
                   opj_read_header(d->stream, d->codec, &d->image);
    MCS_REQUIRE(ok, MCS_E_DATA, ": damaged JPEG 2000 header: %s", d->problem);
    return check_components(d->image);
}

enum mcs_status mcs_imageread_j2k(const struct imageread_file *f, struct imageread_info *info)
{
    struct decoder d;
    const enum mcs_status st = start(f->bytes, f->n, &d);
    if (st == MCS_OK) {
        const opj_image_comp_t *c = d.image->comps;
        const int is_signed = c->sgnd != 0;
        info->format = IMAGEREAD_JPEG_2000;
        info->slope = info->orientation = 1;
        info->nx = c->w;
        info->ny = c->h;
        info->nz = 1;
        info->channels = (int32_t)d.image->numcomps;
        info->bits = (int32_t)c->prec;
        info->type = (c->prec <= 8 ? MCS_PICTURE_U8 : c->prec <= 16 ? MCS_PICTURE_U16 : MCS_PICTURE_U32) + is_signed;
        whole = *f;
        opened = *info;
    }
    release(&d);
    return st;
}

enum mcs_status mcs_imageread_j2k_frame(const uint8_t *bytes, int64_t n, int64_t nx, int64_t ny, int channels,
                                        int32_t *dst)
{
    enum mcs_status st;
    struct decoder d;
    MCS_TRY_GOTO(start(bytes, n, &d), st, done);
    const int ok = opj_decode(d.codec, d.stream, d.image) && opj_end_decompress(d.codec, d.stream);
    MCS_REQUIRE_GOTO(ok, MCS_E_DATA, st, done, ": truncated or damaged JPEG 2000: %s", d.problem);
    MCS_TRY_GOTO(check_components(d.image), st, done); /* a palette is expanded by opj_decode */
    const opj_image_comp_t *c = d.image->comps;
    MCS_REQUIRE_GOTO(c->w == nx && c->h == ny && (int)d.image->numcomps == channels, MCS_E_DATA, st, done,
                     ": JPEG 2000 of %u x %u pixels and %u channels, where %lld x %lld and %d are promised", c->w, c->h,
                     d.image->numcomps, (long long)nx, (long long)ny, channels);
    for (int k = 0; k < channels; k++) {
        MCS_REQUIRE_GOTO(c[k].data, MCS_E_DATA, st, done, ": a JPEG 2000 image without values");
        for (int64_t i = 0; i < nx * ny; i++) dst[i * channels + k] = c[k].data[i];
    }
done:
    release(&d);
    return st;
}

enum mcs_status mcs_imageread_j2k_values(void *values, uint16_t *palette)
{
    const int64_t n = opened.nx * opened.ny * opened.channels;
    const int bytes = mcs_picture_type_bytes((enum picture_type)opened.type);
    int32_t *all = malloc((size_t)n * sizeof *all);
    MCS_REQUIRE(all, MCS_E_NOMEM, ": no memory for its values");
    const enum mcs_status st =
        mcs_imageread_j2k_frame(whole.bytes, whole.n, opened.nx, opened.ny, opened.channels, all);
    for (int64_t i = 0; st == MCS_OK && i < n; i++)
        memcpy((char *)values + i * bytes, all + i, (size_t)bytes); /* little endian */
    free(all);
    return st;
}

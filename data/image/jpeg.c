/* JPEG through TurboJPEG: accurate DCT and smooth chroma upsampling, as Pillow decodes. */
#include "data/image/exif.h"
#include "data/image/image.h"
#include "data/image/picture.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"

#include <turbojpeg.h>

#include <stdlib.h>
#include <string.h>

enum mcs_status mcs_jpeg_decode(const char *name, const void *bytes, int64_t n_bytes, struct image *img)
{
    enum mcs_status st = MCS_OK;
    int width = 0, height = 0, subsampling, colours, precision, orientation;

    memset(img, 0, sizeof *img);
    mcs_jpeg_segments(bytes, n_bytes, &precision, &orientation);
    MCS_REQUIRE(precision == 0 || precision == 8, MCS_E_DATA,
                "%s: a JPEG of %d bits a channel; want 8: save it as a 16-bit PNG or TIFF", name, precision);
    tjhandle tj = tjInitDecompress();
    MCS_REQUIRE(tj, MCS_E_NOMEM, "%s: no memory to read it", name);
    int failed = tjDecompressHeader3(tj, bytes, (unsigned long)n_bytes, &width, &height, &subsampling, &colours);
    MCS_REQUIRE_GOTO(!failed, MCS_E_DATA, st, done, "%s: damaged JPEG header: %s", name, tjGetErrorStr2(tj));
    MCS_TRY_GOTO(mcs_image_check_size(name, width, height), st, done);
    MCS_REQUIRE_GOTO(colours != TJCS_CMYK && colours != TJCS_YCCK, MCS_E_DATA, st, done,
                     "%s: a CMYK JPEG (made for printing); want grey or RGB", name);
    int grey = colours == TJCS_GRAY;
    /* A progressive JPEG's coefficients are held until its last scan: two bytes per pixel and channel, besides the
     * decoded byte. */
    MCS_TRY_GOTO(
        mcs_memory_check((int64_t)width * height * (grey ? 1 : 3) * 3, "%s: %d x %d pixels", name, width, height), st,
        done);
    MCS_TRY_GOTO(mcs_image_alloc(img, width, height, grey ? 1 : 3), st, done);
    failed = tjDecompress2(tj, bytes, (unsigned long)n_bytes, img->pixels, width, 0, height,
                           grey ? TJPF_GRAY : TJPF_RGB, TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS);
    /* With a warning the image is still decoded. Stray bytes between segments are mostly an encoder's padding and all
     * readers accept them, so they only cause a warning; any other warning means grey areas where data is missing. */
    if (failed && tjGetErrorCode(tj) == TJERR_WARNING && strstr(tjGetErrorStr2(tj), "extraneous")) {
        mcs_warn("%s: %s", name, tjGetErrorStr2(tj));
        failed = 0;
    }
    MCS_REQUIRE_GOTO(!failed, MCS_E_DATA, st, done, "%s: truncated or damaged JPEG: %s", name, tjGetErrorStr2(tj));
done:
    tjDestroy(tj);
    if (st != MCS_OK) mcs_image_free(img);
    return st;
}

enum mcs_status mcs_jpeg_picture(const char *name, const void *bytes, int64_t n_bytes, struct picture *p)
{
    struct image img;
    int precision;
    memset(p, 0, sizeof *p);
    MCS_TRY(mcs_jpeg_decode(name, bytes, n_bytes, &img));
    /* The image's pixels become the picture's values. */
    mcs_picture_of_image(p, &img);
    mcs_jpeg_segments(bytes, n_bytes, &precision, &p->orientation);
    return MCS_OK;
}

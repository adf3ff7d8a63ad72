/* Images in memory, of 8 bits, read from any format and written as PNG; resampling (volumes are in
 * data/image/volume.h). Readers treat every byte as hostile: bounded, overflow-checked, one clear error naming the
 * file. */
#ifndef MCS_IMAGE_H
#define MCS_IMAGE_H

#include "engine/base/status.h"

#include <stdint.h>

/* An 8-bit image, interleaved, row 0 on top. `pixels` is (height, width, channels), owned by the image. */
struct image {
    int width, height, channels; /* channels 1 (grey), 3 (RGB) */
    uint8_t *pixels;
};

enum { MCS_IMAGE_FILE_BYTES = 1 << 30 }; /* a larger file is refused */

struct picture; /* data/image/picture.h */

/* Reads an image of any format of the table of readers (data/image/picture.h), recognised by content, as 8 bits.
 * want_channels 0 keeps 1 or 3 (alpha dropped, palette expanded), 1 or 3 converts (RGB -> grey as Pillow's "L": (19595
 * R
 * + 38470 G + 7471 B + 32768) >> 16). Deeper values go through the process's window (data/image/window.h). EXIF
 * orientation is applied and told. E_NOINPUT: no such file; E_DATA: not an image, several slices, damaged, truncated or
 * more than 2^28 pixels; E_IO: unreadable. Release with mcs_image_free. */
enum mcs_status mcs_image_read(const char *path, int want_channels, struct image *img);
/* The same of a PNG or JPEG in memory, without orientation; `name` is used in messages. */
enum mcs_status mcs_image_decode(const char *name, const void *bytes, int64_t n_bytes, int want_channels,
                                 struct image *img);
/* The two steps of mcs_image_read: the picture upright, whose notes are told, and the image of it, which may take over
 * the values of *p; *p is released by the caller all the same. */
enum mcs_status mcs_image_read_upright(const char *path, struct picture *p);
enum mcs_status mcs_image_of_picture(const char *path, struct picture *p, int want_channels, struct image *img);
/* Converts in place to 1 or 3 channels; 0: keeps them. */
enum mcs_status mcs_image_convert(struct image *img, int channels);
enum mcs_status mcs_image_alloc(struct image *img, int width, int height, int channels); /* zeroed */
void mcs_image_free(struct image *img);
/* Writes a PNG whole or not at all (temporary name, sync, rename). The same pixels give the same bytes. */
enum mcs_status mcs_image_write_png(const char *path, const struct image *img);
/* The same for a mask (height, width): 255 where it is not 0. E_NOMEM, E_IO. */
enum mcs_status mcs_image_write_mask(const char *path, const uint8_t *mask, int width, int height);
/* The same for labels (height, width) as grey of 16 bits. E_NOMEM, E_IO. */
enum mcs_status mcs_image_write_labels(const char *path, const uint16_t *labels, int width, int height);
/* The PNG as a malloc'ed buffer, for the HTML report. */
enum mcs_status mcs_image_encode_png(const struct image *img, uint8_t **bytes, int64_t *n_bytes);

/* Pillow's resampling of 8-bit images, byte for byte (Image.resize): antialiased when shrinking, horizontal pass first,
 * 22-bit fixed point weights, uint8 between the passes. */
enum mcs_filter { MCS_NEAREST, MCS_BILINEAR, MCS_BICUBIC };
enum mcs_status mcs_image_resize(const struct image *src, int width, int height, enum mcs_filter filter,
                                 struct image *dst);
/* skimage.transform.resize(src, (height, width), order=3, preserve_range=True, anti_aliasing=True) cut to 8 bits: cubic
 * B-splines in float64, after a Gaussian where an axis shrinks; the aspect ratio is not kept. Byte for byte where the
 * compiler fuses no multiplications and additions (x86-64). src has 3 channels (E_SHAPE). E_NOMEM. */
enum mcs_status mcs_image_resize_spline(const struct image *src, int width, int height, struct image *dst);
/* Cuts the rectangle (x0, y0, width, height), which must lie inside src. */
enum mcs_status mcs_image_crop(const struct image *src, int x0, int y0, int width, int height, struct image *dst);

/* An image as Pillow's Image.open holds it, before convert("RGB"): a resize before that conversion differs for three
 * kinds of PNG. alpha: (height,width,1) of PNGs with an alpha channel, else without pixels; a resize then multiplies by
 * it, and divides afterwards. nearest: a palette, or grey of one bit, whose resize takes the nearest pixel whatever the
 * filter. img is as mcs_image_read with want_channels 0 returns it, so that dropping alpha is the conversion. */
struct stored_image {
    struct image img, alpha;
    int nearest;
};
/* Errors as mcs_image_read. Release with mcs_stored_free. */
enum mcs_status mcs_image_read_stored(const char *path, struct stored_image *s);
/* Pillow's Image.resize of the stored image, then convert("RGB") (or "L"): dst has img's channels. */
enum mcs_status mcs_stored_resize(const struct stored_image *src, int width, int height, enum mcs_filter filter,
                                  struct image *dst);
void mcs_stored_free(struct stored_image *s);

/* A 2-D float map, such as saliency. `values` is (height, width), owned by the map. */
struct map2 {
    int width, height;
    float *values;
};
enum mcs_status mcs_map_alloc(struct map2 *m, int width, int height); /* zeroed */
void mcs_map_free(struct map2 *m);

/* The pixels of a JPEG, 1 or 3 channels, for mcs_jpeg_picture. */
enum mcs_status mcs_jpeg_decode(const char *name, const void *bytes, int64_t n_bytes, struct image *img);
/* E_DATA for sizes beyond the limit; called before anything is allocated. */
enum mcs_status mcs_image_check_size(const char *name, int64_t width, int64_t height);

#endif

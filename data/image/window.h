/* Which values of an image become black and white where a network takes 8 bits: the option --window.
 *
 *     auto           8 bits as they are; deeper ones by the window in the file (DICOM), else from the 0.5 to the 99.5
 *                    percentile; colours of 16 bits by their whole range
 *     full           the whole range of the stored type; of floats their smallest to their largest
 *     LO:HI          these values, after rescaling: -160:240
 *     LO%:HI%        these percentiles, 0 to 100: 1%:99% */
#ifndef MCS_WINDOW_H
#define MCS_WINDOW_H

#include "data/image/image.h"
#include "data/image/picture.h"

enum window_kind { MCS_WINDOW_AUTO, MCS_WINDOW_FULL, MCS_WINDOW_VALUES, MCS_WINDOW_PERCENTILES };

struct window {
    enum window_kind kind;
    double low, high; /* VALUES, PERCENTILES; low < high */
};

/* E_USAGE: none of the above. */
enum mcs_status mcs_window_parse(const char *text, struct window *w);
/* The window of mcs_image_read for the whole process, from an option's text; "auto" where it was never set. Call it
 * before threads are started. E_USAGE. */
enum mcs_status mcs_window_use(const char *text);
struct window mcs_window_used(void);
/* The values shown black and white: rescaled ones. Returns 0 where the 8 bits of the picture are shown as they are.
 * Percentiles are numpy's (linear between values); values that are not finite are left out. E_DATA: there is no finite
 * value; E_NOMEM. */
enum mcs_status mcs_window_of(const char *name, const struct picture *p, const struct window *w, int *windowed,
                              double *low, double *high);
/* An image of 8 bits of a picture of one slice: palettes as colours, inverted grey as it is shown, alpha dropped,
 * values by the window: 255 (v - low) / (high - low), rounded and cut. want_channels as in mcs_image_read. E_DATA:
 * several slices. */
enum mcs_status mcs_picture_to_image(const char *name, const struct picture *p, const struct window *w,
                                     int want_channels, struct image *img);

#endif

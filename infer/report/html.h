/* Pieces of a self-contained HTML page: escaped text, images as data URIs, the page's frame with its style sheet. They
 * write to a stream and leave its error flag set where that fails; whoever opened the stream looks at it. */
#ifndef MCS_HTML_H
#define MCS_HTML_H

#include "data/image/image.h"
#include "engine/base/status.h"

#include <stdio.h>

/* Text from outside, fit for an element's content and for a quoted attribute: & < > " ' are escaped; control
 * characters (but line ends and tabs), bidirectional overrides and what is not UTF-8 become U+FFFD. */
void mcs_html_text(FILE *out, const char *text);
/* The same of a formatted text of up to 4095 bytes; what is longer is cut. */
void mcs_html_textf(FILE *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "data:image/png;base64,..." of an image, without quotes. E_SHAPE, E_NOMEM. */
enum mcs_status mcs_html_png(FILE *out, const struct image *img);

/* From the doctype to <main>, and back. The page asks for nothing outside itself and has no script; it follows the
 * reader's choice of light or dark and is light on paper. */
void mcs_html_begin(FILE *out, const char *title);
void mcs_html_end(FILE *out);

#endif

/* Parts of a self-contained HTML page: escaped text, images as data URIs, head and end of the page with its style
 * sheet. They write to a stream; errors set its error flag, which the caller checks. */
#ifndef MCS_HTML_H
#define MCS_HTML_H

#include "data/image/image.h"
#include "engine/base/status.h"

#include <stdio.h>

/* Untrusted text, escaped for an element's content or a quoted attribute (& < > " '). Control characters except line
 * ends and tabs, bidirectional overrides and invalid UTF-8 become U+FFFD. */
void mcs_html_text(FILE *out, const char *text);
/* The same with a format; the text is truncated to 4095 bytes. */
void mcs_html_textf(FILE *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* `before`, the text escaped, `after`; before and after are HTML. NULL: no text. */
void mcs_html_wrap(FILE *out, const char *before, const char *text, const char *after);

/* "data:image/png;base64,..." of an image, without quotes. E_SHAPE, E_NOMEM. */
enum mcs_status mcs_html_png(FILE *out, const struct image *img);

/* From the doctype to <main>, and from </main> to the end. The page loads nothing from elsewhere and has no script; it
 * follows the reader's light or dark mode and is light in print. */
void mcs_html_begin(FILE *out, const char *title);
void mcs_html_end(FILE *out);

#endif

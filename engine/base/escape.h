/* Texts that come from outside (file names, captions, what a damaged file holds): safe to show on a terminal, and
 * storable where only UTF-8 may stand. */
#ifndef MCS_ESCAPE_H
#define MCS_ESCAPE_H

#include "engine/base/arena.h"

#include <stddef.h>

/* The length of the UTF-8 character at text, 1 to 4 bytes; 0 where there is none: an unexpected byte, an overlong form,
 * a surrogate, above U+10FFFF. */
int mcs_text_utf8_length(const char *text);

/* ---- to show ----
 * Control characters (U+0000 to U+001F, U+007F to U+009F, among them the escapes that terminals obey) and bytes that
 * are not UTF-8 are written as \x1b; everything else stays. Applying it twice changes nothing more. Messages of
 * mcs_fail, mcs_log and mcs_warn pass through it by themselves; what a verb prints of a name does so by
 * mcs_text_shown. */

/* Writes at most dst_bytes with the NUL, never half a character; dst and text must not overlap. */
void mcs_text_escape(char *dst, size_t dst_bytes, const char *text);
/* For arguments of printf: valid until the same thread's eighth call from here. A text that is longer than about 4,000
 * bytes is cut. */
const char *mcs_text_shown(const char *text);

/* ---- to store ----
 * A file name is any bytes, JSON and CSV hold UTF-8. Encoding writes each byte that is not UTF-8 as \xff (two
 * lower-case hexadecimal digits) and doubles each backslash then; a text that is UTF-8 stays as it is, unless it has
 * something that would be read as such a byte. So two different names never become one, and decoding gives the name
 * back. */
char *mcs_text_encode(struct arena *a, const char *text); /* owned by the arena */
char *mcs_text_decode(struct arena *a, const char *text); /* a text that no encoding makes stays as it is */

#endif

/* Text from outside (file names, captions, contents of damaged files): escaped for a terminal, and encoded where only
 * UTF-8 is allowed. */
#ifndef MCS_ESCAPE_H
#define MCS_ESCAPE_H

#include "engine/base/arena.h"

#include <stddef.h>

/* The length of the UTF-8 character at text, 1 to 4 bytes; 0 where there is none: an unexpected byte, an overlong form,
 * a surrogate, above U+10FFFF. */
int mcs_text_utf8_length(const char *text);

/* ---- to show ---- */

/* Control characters (U+0000 to U+001F, U+007F to U+009F, which include terminal escapes) and bytes that are not UTF-8
 * are written as \x1b; everything else is unchanged. Escaping twice changes nothing more. mcs_fail, mcs_log and
 * mcs_warn escape their messages; a verb that prints a name uses mcs_text_shown.
 *
 * Writes at most dst_bytes including the NUL, never a part of a character; dst and text must not overlap. */
void mcs_text_escape(char *dst, size_t dst_bytes, const char *text);
/* For arguments of printf: valid until the eighth following call in the same thread. Text longer than about 4,000 bytes
 * is cut. */
const char *mcs_text_shown(const char *text);

/* ---- to store ---- */

/* A file name may hold any bytes, JSON and CSV hold UTF-8. In a name that is not UTF-8, each such byte is encoded as
 * \xff (two lower-case hexadecimal digits) and each backslash is doubled. UTF-8 text is unchanged, unless it contains
 * something that decoding would take for such a byte. So different names stay different, and decoding gives the name
 * back. */
char *mcs_text_encode(struct arena *a, const char *text); /* owned by the arena */
char *mcs_text_decode(struct arena *a, const char *text); /* text that no encoding produces is returned unchanged */

#endif

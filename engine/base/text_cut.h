/* Texts that are only shown, in buffers of a fixed size. Never for a path, a key or anything else that is compared. */
#ifndef MCS_TEXT_CUT_H
#define MCS_TEXT_CUT_H

#include <stddef.h>

/* Formats a text, cut where it does not fit, never within a UTF-8 character. The arguments must not overlap dst. */
void mcs_text_cut(char *dst, size_t dst_bytes, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif

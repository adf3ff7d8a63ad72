/* UTF-8, and the properties of code points that the text tower's tokenizer needs. They are those of libutf8proc,
 * corrected by tables where the reference tokenizer differs. tests/golden/make_unicode.py extracts the tables from the
 * reference: all kinds, since its categories differ from those of current Unicode in some 500 code points; and the code
 * points whose combining class, decomposition or lower case differs from libutf8proc 2.8 (Unicode 15) or may differ
 * from a later version. */
#ifndef MCS_UNICODE_H
#define MCS_UNICODE_H

#include "engine/base/status.h"

#include <stdint.h>

/* How the tokenizer treats a code point; a code point has one kind. DELETE, SPACE and IDEOGRAPH are looked up in the
 * original text, MARK (category Mn) and PUNCTUATION after canonical decomposition. */
enum mcs_code_kind {
    MCS_CODE_LETTER, /* anything else */
    MCS_CODE_DELETE,
    MCS_CODE_SPACE,
    MCS_CODE_IDEOGRAPH,
    MCS_CODE_MARK,
    MCS_CODE_PUNCTUATION
};
enum mcs_code_kind mcs_unicode_kind(uint32_t code);
/* Simple lower case of one code point: the reference tokenizer's, and libutf8proc's own. */
uint32_t mcs_unicode_lower(uint32_t code);
uint32_t mcs_unicode_lower_current(uint32_t code);
/* Canonical combining class; 0 for a starter. */
int mcs_unicode_combining_class(uint32_t code);
/* Category Nd. */
int mcs_unicode_is_decimal(uint32_t code);
/* Full canonical decomposition of one code point (itself when it has none); returns its length, 1 to 4. */
int mcs_unicode_decompose(uint32_t code, uint32_t dst[4]);
/* The compatibility decomposition of a code point if that is one code point, else the code point itself; maps
 * half-width and full-width forms to the characters of normal width. */
uint32_t mcs_unicode_normal_width(uint32_t code);

/* A growing array of code points; {0} is empty. Release with mcs_codes_free. */
struct codes {
    uint32_t *v;
    int64_t n, capacity;
};
enum mcs_status mcs_codes_add(struct codes *c, uint32_t code);
void mcs_codes_free(struct codes *c);
/* Sorts each run of marks by combining class, stable (canonical ordering), in time linear in the text. */
enum mcs_status mcs_codes_order_marks(struct codes *text, int (*class_of)(uint32_t code));
/* Normal form C, in place. */
enum mcs_status mcs_codes_compose(struct codes *text);

/* Reads one code point from n_bytes > 0 bytes; returns its length in bytes, 0 when it is not UTF-8 (overlong,
 * surrogate, above U+10FFFF, truncated). */
int mcs_utf8_read(const char *bytes, int64_t n_bytes, uint32_t *code);
/* Writes 1 to 4 bytes without a NUL; returns their number. */
int mcs_utf8_write(uint32_t code, char dst[4]);
/* Appends a whole text. `what` names it in the error. E_DATA: not UTF-8, with the offset of the first bad byte. */
enum mcs_status mcs_utf8_decode(const char *bytes, int64_t n_bytes, const char *what, struct codes *dst);
/* The code points as a malloc'ed text with a NUL. */
enum mcs_status mcs_utf8_encode(const struct codes *src, char **text);

/* open_clip's cleaning before the tokenizer, in place: ftfy.fix_text (6.3), html.unescape twice, white space runs to
 * one space, trimmed. All steps of ftfy.fix_text with its default configuration, line by line: HTML's characters,
 * text decoded with the wrong encoding (mojibake.h), C1 controls as cp1252, Latin ligatures and digraphs, half-width
 * and full-width forms, curly quotes, line breaks, terminal escapes, controls, normal form C. */
enum mcs_status mcs_text_clean(struct codes *text);

/* The tables of the functions above; sorted by code point or name. */
struct unicode_range {
    uint32_t first, last;
    int value;
};
struct unicode_entity {
    const char *name; /* without '&'; with ';' unless HTML allows it to be omitted */
    uint32_t to[3];   /* those after the last are 0 */
};
extern const struct unicode_range mcs_unicode_kinds[];        /* enum mcs_code_kind; in no range: MCS_CODE_LETTER */
extern const struct unicode_range mcs_unicode_classes[];      /* combining class where it is not libutf8proc's */
extern const struct unicode_range mcs_unicode_undecomposed[]; /* code points that the reference does not decompose */
extern const struct unicode_range mcs_unicode_lowers[]; /* lower case - code point where it is not libutf8proc's */
extern const struct unicode_entity mcs_unicode_entities[];
extern const struct unicode_entity mcs_unicode_upper_entities[]; /* names in capitals that ftfy reads as well */
extern const int mcs_unicode_n_kinds, mcs_unicode_n_classes, mcs_unicode_n_undecomposed, mcs_unicode_n_lowers;
extern const int mcs_unicode_n_entities, mcs_unicode_n_upper_entities;

#endif

/* The cleaning that open_clip applies before the tokenizer, step by step as ftfy 6 and Python's html.unescape define
 * it. Each step reads one array of code points and writes another. */
#include "data/text/mojibake.h"
#include "data/text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum {
    LINE_CODES = 1000000, /* ftfy's max_decode_length: a longer line is taken in parts */
    MAX_TURNS = 100
};

/* cp1252 bytes 0x80..0x9F; the five undefined ones map to themselves, as in browsers. */
static const uint16_t cp1252[32] = {0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021,
                                    0x2C6,  0x2030, 0x160,  0x2039, 0x152,  0x8D,   0x17D,  0x8F,
                                    0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                    0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E,  0x178};

static int is_digit(uint32_t c, int hex)
{
    return (c >= '0' && c <= '9') || (hex && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')));
}

static int is_alnum(uint32_t c)
{
    return is_digit(c, 0) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* HTML's rules for numeric references: cp1252 for C1, U+FFFD for invalid characters, nothing (0) for controls and
 * non-characters. */
static uint32_t numeric_reference(uint32_t n)
{
    if (n >= 0x80 && n < 0xA0) return cp1252[n - 0x80];
    if (n == 0 || (n >= 0xD800 && n < 0xE000) || n > 0x10FFFF) return 0xFFFD;
    if ((n < 0x20 && n != 9 && n != 10 && n != 12 && n != 13) || n == 0x7F) return 0;
    if ((n >= 0xFDD0 && n < 0xFDF0) || (n & 0xFFFE) == 0xFFFE) return 0;
    return n;
}

static int by_name(const void *name, const void *entity)
{
    return strcmp(name, ((const struct unicode_entity *)entity)->name);
}

/* Decodes one HTML character reference at s[0] == '&' into `to`; returns the number of code points it spans (0: none).
 * `strict` follows ftfy: only letters and digits, with the semicolon, the whole name known; else html.unescape. */
static int64_t reference(const uint32_t *s, int64_t n, int strict, uint32_t to[3])
{
    int64_t i = 1;
    char name[40];

    to[0] = to[1] = to[2] = 0;
    if (n > 2 && s[1] == '#') {
        int hex = s[2] == 'x' || s[2] == 'X';
        uint32_t value = 0;
        int64_t begin = i = hex ? 3 : 2;
        for (; i < n && is_digit(s[i], hex); i++) {
            uint32_t d = s[i] <= '9' ? s[i] - '0' : (s[i] | 32) - 'a' + 10;
            value = value > 0x110000 ? value : value * (hex ? 16 : 10) + d;
        }
        if (i == begin || (strict && (i >= n || s[i] != ';' || i > 26))) return 0;
        to[0] = numeric_reference(value);
        if (strict && to[0] == ';') return 0;
        return i < n && s[i] == ';' ? i + 1 : i;
    }
    int m = 0;
    for (; i < n && m < (strict ? 24 : 32); i++, m++) {
        uint32_t c = s[i];
        if (strict ? !is_alnum(c)
                   : (c == '\t' || c == '\n' || c == '\f' || c == ' ' || c == '<' || c == '&' || c == '#'))
            break;
        if (c == ';') break;
        name[m] = c < 0x80 ? (char)c : '\1'; /* no name holds \1 */
    }
    if (m == 0) return 0;
    if (i < n && s[i] == ';')
        name[m++] = ';';
    else if (strict)
        return 0;
    for (; m > 1; m--) { /* the longest known name */
        name[m] = 0;
        const struct unicode_entity *e =
            bsearch(name, mcs_unicode_entities, (size_t)mcs_unicode_n_entities, sizeof *e, by_name);
        if (!e && strict)
            e = bsearch(name, mcs_unicode_upper_entities, (size_t)mcs_unicode_n_upper_entities, sizeof *e, by_name);
        if (e) {
            memcpy(to, e->to, sizeof e->to);
            return 1 + m;
        }
        if (strict) break;
    }
    return 0;
}

static enum mcs_status unescape(const struct codes *src, int strict, struct codes *dst)
{
    dst->n = 0;
    for (int64_t i = 0; i < src->n;) {
        uint32_t to[3];
        int64_t span = src->v[i] == '&' ? reference(src->v + i, src->n - i, strict, to) : 0;
        if (span == 0) {
            MCS_TRY(mcs_codes_add(dst, src->v[i++]));
            continue;
        }
        for (int k = 0; k < 3; k++)
            if (to[k]) MCS_TRY(mcs_codes_add(dst, to[k]));
        i += span;
    }
    return MCS_OK;
}

/* Ligatures and digraphs that ftfy expands: to at most three code points. */
static const uint32_t ligatures[][4] = {
    {0x132, 'I', 'J', 0},    {0x133, 'i', 'j', 0},  {0x149, 0x2BC, 'n', 0},  {0x1F1, 'D', 'Z', 0},
    {0x1F2, 'D', 'z', 0},    {0x1F3, 'd', 'z', 0},  {0x1C4, 'D', 0x17D, 0},  {0x1C5, 'D', 0x17E, 0},
    {0x1C6, 'd', 0x17E, 0},  {0x1C7, 'L', 'J', 0},  {0x1C8, 'L', 'j', 0},    {0x1C9, 'l', 'j', 0},
    {0x1CA, 'N', 'J', 0},    {0x1CB, 'N', 'j', 0},  {0x1CC, 'n', 'j', 0},    {0xFB00, 'f', 'f', 0},
    {0xFB01, 'f', 'i', 0},   {0xFB02, 'f', 'l', 0}, {0xFB03, 'f', 'f', 'i'}, {0xFB04, 'f', 'f', 'l'},
    {0xFB05, 0x17F, 't', 0}, {0xFB06, 's', 't', 0},
};

static int is_control(uint32_t c)
{
    return c < 9 || c == 0xB || (c >= 0xE && c < 0x20) || c == 0x7F || (c >= 0x206A && c < 0x2070) || c == 0xFEFF ||
           (c >= 0xFFF9 && c < 0xFFFD);
}

/* The steps of ftfy that look at single code points: C1 controls, ligatures, widths, quotes. CR LF, CR and the other
 * line breaks become a line feed. */
static enum mcs_status fix_characters(const struct codes *src, struct codes *dst)
{
    dst->n = 0;
    for (int64_t i = 0; i < src->n; i++) {
        uint32_t c = src->v[i];
        int split = 0;
        if (c >= 0x80 && c < 0xA0) c = cp1252[c - 0x80];
        for (size_t k = 0; c >= 0x132 && c < 0xFB07 && k < sizeof ligatures / sizeof ligatures[0]; k++)
            if (ligatures[k][0] == c) {
                for (int m = 1; m < 4 && ligatures[k][m]; m++) {
                    uint32_t part = ligatures[k][m];
                    MCS_TRY(mcs_codes_add(dst, part == 0x2BC ? '\'' : part));
                }
                split = 1;
            }
        if (split) continue;
        if (c == 0x3000) c = ' ';
        if (c == 0xFFE3) { /* the full-width macron is the only one that becomes two code points */
            MCS_TRY(mcs_codes_add(dst, ' '));
            c = 0x304;
        }
        if (c >= 0xFF01 && c < 0xFFF0) c = mcs_unicode_normal_width(c);
        if (c >= 0x201C && c < 0x2020) c = '"';
        if (c == 0x2BC || (c >= 0x2018 && c < 0x201C)) c = '\'';
        if (c == '\r' && i + 1 < src->n && src->v[i + 1] == '\n') continue;
        if (c == '\r' || c == 0x2028 || c == 0x2029 || c == 0x85) c = '\n';
        MCS_TRY(mcs_codes_add(dst, c));
    }
    return MCS_OK;
}

/* Removes terminal escapes (ESC [ numbers letter), and controls. */
static enum mcs_status remove_controls(const struct codes *src, struct codes *dst)
{
    dst->n = 0;
    for (int64_t i = 0; i < src->n; i++) {
        if (src->v[i] == 0x1B && i + 1 < src->n && src->v[i + 1] == '[') {
            int64_t k = i + 2;
            while (k < src->n && (mcs_unicode_is_decimal(src->v[k]) || src->v[k] == ';')) k++;
            if (k < src->n && is_alnum(src->v[k])) {
                i = k;
                continue;
            }
        }
        if (!is_control(src->v[i])) MCS_TRY(mcs_codes_add(dst, src->v[i]));
    }
    return MCS_OK;
}

static int same(const struct codes *a, const struct codes *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->v, b->v, (size_t)a->n * sizeof *a->v) == 0);
}

static void swap(struct codes *a, struct codes *b)
{
    struct codes c = *a;
    *a = *b;
    *b = c;
}

static int is_ascii_plain(const struct codes *text)
{
    for (int64_t i = 0; i < text->n; i++)
        if (text->v[i] >= 0x7F || (text->v[i] < 0x20 && text->v[i] != '\n') || text->v[i] == '&') return 0;
    return 1;
}

/* White space of str.split: the tokenizer's, and the controls that Python includes (VT, FF, FS .. US, NEL). */
static int is_blank(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || mcs_unicode_kind(c) == MCS_CODE_SPACE;
}

static enum mcs_status append(struct codes *dst, const struct codes *src)
{
    for (int64_t i = 0; i < src->n; i++) MCS_TRY(mcs_codes_add(dst, src->v[i]));
    return MCS_OK;
}

/* ftfy's fix_and_explain: its steps in its order, until none changes the line. */
static enum mcs_status fix_line(struct codes *line, int entities)
{
    enum mcs_status st = MCS_OK;
    struct codes was = {0}, next = {0};

    for (int turn = 0; turn < MAX_TURNS; turn++) {
        was.n = 0;
        MCS_TRY_GOTO(append(&was, line), st, done);
        if (entities) {
            MCS_TRY_GOTO(unescape(line, 1, &next), st, done);
            swap(line, &next);
        }
        MCS_TRY_GOTO(mcs_mojibake_fix(line), st, done);
        MCS_TRY_GOTO(fix_characters(line, &next), st, done);
        MCS_TRY_GOTO(remove_controls(&next, line), st, done);
        MCS_TRY_GOTO(mcs_codes_compose(line), st, done);
        if (same(&was, line)) break;
    }
done:
    mcs_codes_free(&was);
    mcs_codes_free(&next);
    return st;
}

/* ftfy.fix_text: each line for itself. From a line with '<' on the text is taken for markup, whose entities are kept.
 */
static enum mcs_status fix_text(const struct codes *text, struct codes *out)
{
    enum mcs_status st = MCS_OK;
    struct codes line = {0};
    int entities = 1;

    for (int64_t i = 0; i < text->n;) {
        line.n = 0;
        do {
            if (text->v[i] == '<') entities = 0;
            MCS_TRY_GOTO(mcs_codes_add(&line, text->v[i]), st, done);
        } while (text->v[i++] != '\n' && i < text->n && line.n < LINE_CODES);
        MCS_TRY_GOTO(fix_line(&line, entities), st, done);
        MCS_TRY_GOTO(append(out, &line), st, done);
    }
done:
    mcs_codes_free(&line);
    return st;
}

enum mcs_status mcs_text_clean(struct codes *text)
{
    enum mcs_status st = MCS_OK;
    struct codes fixed = {0}, next = {0};

    if (!is_ascii_plain(text)) {
        MCS_TRY_GOTO(fix_text(text, &fixed), st, done);
        MCS_TRY_GOTO(unescape(&fixed, 0, &next), st, done);
        MCS_TRY_GOTO(unescape(&next, 0, text), st, done);
    }
    int64_t n = 0;
    for (int64_t i = 0; i < text->n; i++) {
        if (!is_blank(text->v[i]))
            text->v[n++] = text->v[i];
        else if (n && text->v[n - 1] != ' ')
            text->v[n++] = ' ';
    }
    text->n = n && text->v[n - 1] == ' ' ? n - 1 : n;
done:
    mcs_codes_free(&fixed);
    mcs_codes_free(&next);
    return st;
}

/* Repair of text decoded with the wrong encoding: the steps of ftfy's fix_encoding, in its order. */
#include "data/text/mojibake.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_NESTED = 40, /* repairs within repairs; ftfy's end at Python's recursion limit */
    CP1252 = 1       /* index of sloppy-windows-1252 in mcs_mojibake_encodings */
};

struct bytes {
    unsigned char *v;
    int64_t n;
};

static struct mojibake_classes classes_of(uint32_t code)
{
    int low = 0, high = mcs_mojibake_n_ranges;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        *(mcs_mojibake_ranges[middle].first <= code ? &low : &high) = middle;
    }
    return mcs_mojibake_ranges[low].classes;
}

static int has(const struct mojibake_classes *c, int class)
{
    return (int)(c->bits[class / 64] >> class % 64 & 1);
}

static int rule_matches(const struct mojibake_rule *r, const struct mojibake_classes *classes, int64_t at, int64_t n)
{
    if (n - at < r->n || (r->at_start && at > 0)) return 0;
    for (int i = 0; i < r->n; i++)
        if (!has(&classes[at + i], r->classes[i])) return 0;
    return 1;
}

/* ftfy's is_bad: some sequence of characters is one that correct text does not contain. */
static int is_bad(const struct mojibake_classes *classes, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int r = 0; r < mcs_mojibake_n_rules; r++)
            if (rule_matches(&mcs_mojibake_rules[r], classes, i, n)) return 1;
    return 0;
}

/* The text in a single-byte encoding; 0 when it has a character that the encoding lacks. */
static int encode(const struct codes *text, const struct mojibake_encoding *e, unsigned char *dst)
{
    for (int64_t i = 0; i < text->n; i++) {
        const uint32_t c = text->v[i];
        int byte = -1;
        if (c < 0x80) byte = c == 0x1A && e->lossy ? -1 : (int)c;
        if (c == 0xFFFD && e->lossy) byte = 0x1A;
        for (int k = 0; c >= 0x80 && byte < 0 && k < 128; k++)
            if (e->high[k] == c) byte = 0x80 + k;
        if (byte < 0) return 0;
        dst[i] = (unsigned char)byte;
    }
    return 1;
}

static int within(int byte, int first, int last)
{
    return byte >= first && byte <= last;
}

/* The length of a UTF-8 sequence at b in which a space stands for byte 0xA0 (ftfy's ALTERED_UTF8_RE); 0 when none. */
static int altered_length(const unsigned char *b, int64_t n)
{
    static const unsigned char two[] = {0xC2, 0xC3, 0xC5, 0xCE, 0xD0, 0xD9};
#define CONTINUES(x) (within(x, 0x80, 0xBF) && (x) != 0x85 && (x) != 0xA0)
    if (n >= 2 && b[1] == ' ' && memchr(two, b[0], sizeof two)) return 2;
    if (n >= 3 && (b[0] == 0xE2 || b[0] == 0xE3) && b[1] == ' ' && CONTINUES(b[2])) return 3;
    if (n >= 3 && within(b[0], 0xE0, 0xE3) && CONTINUES(b[1]) && b[2] == ' ') return 3;
#undef CONTINUES
    if (n < 4 || b[0] != 0xF0) return 0;
    int spaces = 0;
    for (int i = 1; i < 4; i++) {
        if (b[i] == ' ')
            spaces++;
        else if (!within(b[i], 0x80, 0xBF))
            return 0;
    }
    return spaces == 1 ? 4 : 0;
}

/* ftfy's A_GRAVE_WORD_RE: byte C3 and a space that is followed by none of these is "à" as a word. */
static int is_a_grave(const unsigned char *b, int64_t n)
{
    static const char *const no[] = {" ", "quele", "quela", "quilo", "s "};
    if (n < 2 || b[0] != 0xC3 || b[1] != ' ') return 0;
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        const int64_t length = (int64_t)strlen(no[i]);
        if (n - 2 >= length && memcmp(b + 2, no[i], (size_t)length) == 0) return 0;
    }
    return 1;
}

/* Gives spaces that were byte 0xA0 back. dst holds 1.5 times the bytes of src. */
static void restore_a0(const struct bytes *src, struct bytes *dst)
{
    dst->n = 0;
    for (int64_t i = 0; i < src->n;) {
        const int word = is_a_grave(src->v + i, src->n - i);
        if (word) {
            memcpy(dst->v + dst->n, "\xC3\xA0 ", 3);
            dst->n += 3;
            i += 2;
            continue;
        }
        dst->v[dst->n++] = src->v[i++];
    }
    for (int64_t i = 0; i < dst->n;) {
        const int length = altered_length(dst->v + i, dst->n - i);
        for (int k = 0; k < length; k++)
            if (dst->v[i + k] == ' ') dst->v[i + k] = 0xA0;
        i += length ? length : 1;
    }
}

/* The length of a UTF-8 or CESU-8 sequence some of whose bytes were lost (ftfy's LOSSY_UTF8_RE); 0 when none. */
static int lossy_length(const unsigned char *b, int64_t n)
{
#define LOST(x) ((x) == 0x1A || (x) == '?')
#define TAIL(x) ((x) == 0x1A || within(x, 0x80, 0xBF))
    if (n >= 2 && within(b[0], 0xC2, 0xDF) && b[1] == 0x1A) return 2;
    if (n >= 2 && within(b[0], 0xC2, 0xC3) && b[1] == '?') return 2;
    if (n >= 6 && b[0] == 0xED && within(b[1], 0xA0, 0xAF) && b[3] == 0xED && within(b[4], 0xB0, 0xBF) &&
        ((LOST(b[2]) && (LOST(b[5]) || TAIL(b[5]))) || ((LOST(b[2]) || TAIL(b[2])) && LOST(b[5]))))
        return 6;
    if (n >= 3 && within(b[0], 0xE0, 0xEF) && ((LOST(b[1]) && TAIL(b[2])) || (TAIL(b[1]) && LOST(b[2])))) return 3;
    if (n >= 4 && within(b[0], 0xF0, 0xF4) &&
        ((LOST(b[1]) && TAIL(b[2]) && TAIL(b[3])) || (TAIL(b[1]) && LOST(b[2]) && TAIL(b[3])) ||
         (TAIL(b[1]) && TAIL(b[2]) && LOST(b[3]))))
        return 4;
#undef LOST
#undef TAIL
    return b[0] == 0x1A;
}

/* Replaces sequences with lost bytes by U+FFFD. dst holds three times the bytes of src. */
static void replace_lossy(const struct bytes *src, struct bytes *dst)
{
    dst->n = 0;
    for (int64_t i = 0; i < src->n;) {
        const int length = lossy_length(src->v + i, src->n - i);
        if (length) {
            memcpy(dst->v + dst->n, "\xEF\xBF\xBD", 3);
            dst->n += 3;
            i += length;
        } else {
            dst->v[dst->n++] = src->v[i++];
        }
    }
}

/* Decodes UTF-8 and its variants: CESU-8's pairs of surrogates, and C0 80 for U+0000. *ok is 0 where it is neither. */
static enum mcs_status decode(const struct bytes *b, struct codes *dst, int *ok)
{
    dst->n = 0;
    *ok = 0;
    for (int64_t i = 0; i < b->n;) {
        const unsigned char *p = b->v + i;
        uint32_t code = 0;
        int n = 0;
        if (b->n - i >= 6 && p[0] == 0xED && within(p[1], 0xA0, 0xAF) && within(p[2], 0x80, 0xBF) && p[3] == 0xED &&
            within(p[4], 0xB0, 0xBF) && within(p[5], 0x80, 0xBF)) {
            code = 0x10000 + ((uint32_t)(p[1] & 15) << 16 | (uint32_t)(p[2] & 63) << 10 | (uint32_t)(p[4] & 15) << 6 |
                              (p[5] & 63));
            n = 6;
        } else if (b->n - i >= 2 && p[0] == 0xC0 && p[1] == 0x80) {
            n = 2;
        } else {
            n = mcs_utf8_read((const char *)p, b->n - i, &code);
        }
        if (n == 0) return MCS_OK;
        MCS_TRY(mcs_codes_add(dst, code));
        i += n;
    }
    *ok = 1;
    return MCS_OK;
}

/* Reads the text as UTF-8 that was decoded with each single-byte encoding in turn. *found: dst is the result. *latin1:
 * Latin-1 can encode the text. */
static enum mcs_status try_encodings(const struct codes *text, struct codes *dst, int *found, int *latin1)
{
    enum mcs_status st = MCS_OK;
    struct bytes a = {malloc((size_t)text->n * 5), 0}, b = {malloc((size_t)text->n * 5), 0};

    *found = *latin1 = 0;
    MCS_REQUIRE_GOTO(a.v && b.v, MCS_E_NOMEM, st, done, "no memory for a text of %lld characters", (long long)text->n);
    for (int i = 0; i < mcs_mojibake_n_encodings && !*found; i++) {
        const struct mojibake_encoding *e = &mcs_mojibake_encodings[i];
        if (!encode(text, e, a.v)) continue;
        a.n = text->n;
        if (i == 0) *latin1 = 1;
        if (strcmp(e->name, "macroman") != 0) {
            restore_a0(&a, &b);
            memcpy(a.v, b.v, (size_t)b.n);
            a.n = b.n;
        }
        if (e->lossy) {
            replace_lossy(&a, &b);
            memcpy(a.v, b.v, (size_t)b.n);
            a.n = b.n;
        }
        MCS_TRY_GOTO(decode(&a, dst, found), st, done);
    }
done:
    free(a.v);
    free(b.v);
    return st;
}

/* The length of the run of sequences that look like UTF-8 at `at` (ftfy's UTF8_DETECTOR_RE); 0 when none. */
static int64_t detect(const struct mojibake_classes *classes, int64_t at, int64_t n)
{
    if (at > 0 && has(&classes[at - 1], mcs_mojibake_strict)) return 0;
    int64_t i = at;
    for (int more = 1; more;) {
        more = 0;
        for (int k = 0; k < 3 && !more; k++) {
            if (n - i < k + 2 || !has(&classes[i], mcs_mojibake_first[k])) continue;
            int length = 1;
            while (length < k + 2 && has(&classes[i + length], mcs_mojibake_continuation)) length++;
            more = length == k + 2;
            if (more) i += length;
        }
    }
    return i - at;
}

static enum mcs_status fix(struct codes *text, int depth);

static enum mcs_status append(struct codes *dst, const uint32_t *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++) MCS_TRY(mcs_codes_add(dst, v[i]));
    return MCS_OK;
}

/* Repairs the parts of a text that look like UTF-8 each for itself. */
static enum mcs_status fix_parts(const struct codes *text, const struct mojibake_classes *classes, int depth,
                                 struct codes *dst)
{
    enum mcs_status st = MCS_OK;
    struct codes part = {0};

    dst->n = 0;
    for (int64_t i = 0; i < text->n && st == MCS_OK;) {
        const int64_t n = detect(classes, i, text->n);
        part.n = 0;
        st = append(&part, text->v + i, n ? n : 1);
        if (st == MCS_OK && n && n < text->n && depth < MAX_NESTED && is_bad(classes + i, n))
            st = fix(&part, depth + 1);
        if (st == MCS_OK) st = append(dst, part.v, part.n);
        i += n ? n : 1;
    }
    mcs_codes_free(&part);
    return st;
}

/* C1 controls as cp1252. strict: 0 when the text has a control that cp1252 does not define. */
static int fix_c1(struct codes *text, int strict)
{
    const uint16_t *high = mcs_mojibake_encodings[CP1252].high;
    for (int64_t i = 0; strict && i < text->n; i++)
        if (within((int)text->v[i], 0x80, 0x9F) && high[text->v[i] - 0x80] == text->v[i]) return 0;
    for (int64_t i = 0; i < text->n; i++)
        if (within((int)text->v[i], 0x80, 0x9F)) text->v[i] = high[text->v[i] - 0x80];
    return 1;
}

static int same(const struct codes *a, const struct codes *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->v, b->v, (size_t)a->n * sizeof *a->v) == 0);
}

/* One step of the repair; *changed: the text is another. */
static enum mcs_status fix_once(struct codes *text, int depth, int *changed)
{
    enum mcs_status st = MCS_OK;
    struct codes next = {0};
    int found = 0, latin1 = 0, ascii = 1;
    struct mojibake_classes *classes = NULL;

    *changed = 0;
    for (int64_t i = 0; i < text->n && ascii; i++) ascii = text->v[i] < 0x80;
    if (ascii) return MCS_OK;
    classes = malloc((size_t)text->n * sizeof *classes);
    MCS_REQUIRE(classes, MCS_E_NOMEM, "no memory for a text of %lld characters", (long long)text->n);
    for (int64_t i = 0; i < text->n; i++) classes[i] = classes_of(text->v[i]);
    if (!is_bad(classes, text->n)) goto done;
    MCS_TRY_GOTO(try_encodings(text, &next, &found, &latin1), st, done);
    if (!found) {
        MCS_TRY_GOTO(fix_parts(text, classes, depth, &next), st, done);
        found = !same(text, &next);
    }
    if (!found) {
        next.n = 0;
        MCS_TRY_GOTO(append(&next, text->v, text->n), st, done);
        found = (latin1 && fix_c1(&next, 1) && !same(text, &next)) || fix_c1(&next, 0);
    }
    *changed = !same(text, &next);
    text->n = 0;
    MCS_TRY_GOTO(append(text, next.v, next.n), st, done);
done:
    free(classes);
    mcs_codes_free(&next);
    return st;
}

static enum mcs_status fix(struct codes *text, int depth)
{
    int changed = 1;
    while (changed) MCS_TRY(fix_once(text, depth, &changed));
    return MCS_OK;
}

enum mcs_status mcs_mojibake_fix(struct codes *line)
{
    return fix(line, 0);
}

/* UTF-8 and properties of code points: libutf8proc's, corrected by the tables of unicode_tables.c. */
#include "data/text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static int by_range(const void *code, const void *range)
{
    const uint32_t c = *(const uint32_t *)code;
    const struct unicode_range *r = range;
    return c < r->first ? -1 : c > r->last;
}

/* The value of the range that holds the code point; `other` where none does. */
static int find_range(const struct unicode_range *table, int n, uint32_t code, int other)
{
    const struct unicode_range *found = bsearch(&code, table, (size_t)n, sizeof *table, by_range);
    return found ? found->value : other;
}

enum mcs_code_kind mcs_unicode_kind(uint32_t code)
{
    return (enum mcs_code_kind)find_range(mcs_unicode_kinds, mcs_unicode_n_kinds, code, MCS_CODE_LETTER);
}

int mcs_unicode_combining_class(uint32_t code)
{
    const int order = utf8proc_get_property((int32_t)code)->combining_class;
    return order ? find_range(mcs_unicode_classes, mcs_unicode_n_classes, code, order) : 0;
}

uint32_t mcs_unicode_lower(uint32_t code)
{
    const int delta = utf8proc_tolower((int32_t)code) - (int32_t)code;
    return (uint32_t)((int32_t)code + find_range(mcs_unicode_lowers, mcs_unicode_n_lowers, code, delta));
}

int mcs_unicode_decompose(uint32_t code, uint32_t dst[4])
{
    int32_t parts[4];
    int unused = 0;
    const int64_t n = utf8proc_decompose_char((int32_t)code, parts, 4, UTF8PROC_DECOMPOSE, &unused);
    dst[0] = code;
    if (n < 1 || n > 4 || !find_range(mcs_unicode_undecomposed, mcs_unicode_n_undecomposed, code, 1)) return 1;
    memcpy(dst, parts, (size_t)n * sizeof *dst);
    return (int)n;
}

uint32_t mcs_unicode_normal_width(uint32_t code)
{
    int32_t part;
    int unused = 0;
    const int64_t n = utf8proc_decompose_char((int32_t)code, &part, 1, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &unused);
    return n == 1 ? (uint32_t)part : code;
}

uint32_t mcs_unicode_lower_current(uint32_t code)
{
    return (uint32_t)utf8proc_tolower((int32_t)code);
}

int mcs_unicode_is_decimal(uint32_t code)
{
    return utf8proc_category((int32_t)code) == UTF8PROC_CATEGORY_ND;
}

enum mcs_status mcs_codes_add(struct codes *c, uint32_t code)
{
    if (c->n == c->capacity) {
        int64_t capacity = c->capacity ? c->capacity * 2 : 256;
        uint32_t *v = realloc(c->v, (size_t)capacity * sizeof *v);
        MCS_REQUIRE(v, MCS_E_NOMEM, "no memory for a text of %lld characters", (long long)capacity);
        c->v = v;
        c->capacity = capacity;
    }
    c->v[c->n++] = code;
    return MCS_OK;
}

void mcs_codes_free(struct codes *c)
{
    free(c->v);
    memset(c, 0, sizeof *c);
}

/* Sorts a run of marks by combining class, stable (canonical ordering). Insertion sort for the few marks of real text;
 * a long run uses counting sort by class, so that no text takes quadratic time. */
enum mcs_status mcs_codes_order_marks(struct codes *text, int (*class_of)(uint32_t code))
{
    int64_t n = text->n;
    for (int64_t first = 0, after; first < n; first = after + 1) {
        for (after = first; after < n && class_of(text->v[after]); after++) continue;
        if (after - first > 64) {
            char seen[256] = {0};
            for (int64_t i = first; i < after; i++) seen[class_of(text->v[i])] = 1;
            for (int order = 1; order < 256; order++)
                for (int64_t i = first; seen[order] && i < after; i++)
                    if (class_of(text->v[i]) == order) MCS_TRY(mcs_codes_add(text, text->v[i]));
            memcpy(text->v + first, text->v + n, (size_t)(after - first) * sizeof *text->v);
            text->n = n;
            continue;
        }
        for (int64_t i = first + 1; i < after; i++) {
            uint32_t code = text->v[i];
            int order = class_of(code);
            int64_t k = i;
            for (; k > first && class_of(text->v[k - 1]) > order; k--) text->v[k] = text->v[k - 1];
            text->v[k] = code;
        }
    }
    return MCS_OK;
}

static int current_class(uint32_t code)
{
    return utf8proc_get_property((int32_t)code)->combining_class;
}

enum mcs_status mcs_codes_compose(struct codes *text)
{
    enum mcs_status st = MCS_OK;
    struct codes out = {0};
    int plain = 1; /* below U+0300 nothing composes */

    for (int64_t i = 0; i < text->n && plain; i++) plain = text->v[i] < 0x300;
    if (plain) return MCS_OK;
    for (int64_t i = 0; i < text->n; i++) {
        int32_t parts[4];
        int unused = 0;
        const int64_t n = utf8proc_decompose_char((int32_t)text->v[i], parts, 4, UTF8PROC_DECOMPOSE, &unused);
        if (n < 1 || n > 4) {
            MCS_TRY_GOTO(mcs_codes_add(&out, text->v[i]), st, done);
            continue;
        }
        for (int k = 0; k < n; k++) MCS_TRY_GOTO(mcs_codes_add(&out, (uint32_t)parts[k]), st, done);
    }
    MCS_TRY_GOTO(mcs_codes_order_marks(&out, current_class), st, done);
    out.n = utf8proc_normalize_utf32((utf8proc_int32_t *)out.v, out.n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    text->n = 0;
    for (int64_t i = 0; i < out.n; i++) MCS_TRY_GOTO(mcs_codes_add(text, out.v[i]), st, done);
done:
    mcs_codes_free(&out);
    return st;
}

int mcs_utf8_read(const char *bytes, int64_t n_bytes, uint32_t *code)
{
    int32_t found;
    const int64_t n = utf8proc_iterate((const uint8_t *)bytes, n_bytes, &found);
    if (n <= 0) return 0;
    *code = (uint32_t)found;
    return (int)n;
}

int mcs_utf8_write(uint32_t code, char dst[4])
{
    return (int)utf8proc_encode_char((int32_t)code, (uint8_t *)dst);
}

enum mcs_status mcs_utf8_decode(const char *bytes, int64_t n_bytes, const char *what, struct codes *dst)
{
    for (int64_t i = 0; i < n_bytes;) {
        uint32_t code;
        int n = mcs_utf8_read(bytes + i, n_bytes - i, &code);
        MCS_REQUIRE(n, MCS_E_DATA, "%s: byte %lld (0x%02X) is not UTF-8; save it as UTF-8", what, (long long)i,
                    (unsigned char)bytes[i]);
        MCS_TRY(mcs_codes_add(dst, code));
        i += n;
    }
    return MCS_OK;
}

enum mcs_status mcs_utf8_encode(const struct codes *src, char **text)
{
    char *t = malloc((size_t)src->n * 4 + 1);
    int64_t n = 0;
    MCS_REQUIRE(t, MCS_E_NOMEM, "no memory for a text of %lld characters", (long long)src->n);
    for (int64_t i = 0; i < src->n; i++) n += mcs_utf8_write(src->v[i], t + n);
    t[n] = 0;
    *text = t;
    return MCS_OK;
}

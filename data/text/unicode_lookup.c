/* UTF-8, and look-ups by bisection in the tables of unicode_tables.c. */
#include "data/text/unicode.h"

#include <stdlib.h>
#include <string.h>

static int find_range(const struct unicode_range *table, int n, uint32_t code)
{
    int low = 0, high = n;
    while (low < high) {
        int mid = (low + high) / 2;
        if (code > table[mid].last)
            low = mid + 1;
        else if (code < table[mid].first)
            high = mid;
        else
            return table[mid].value;
    }
    return 0;
}

enum mcs_code_kind mcs_unicode_kind(uint32_t code)
{
    return (enum mcs_code_kind)find_range(mcs_unicode_kinds, mcs_unicode_n_kinds, code);
}

int mcs_unicode_order(uint32_t code)
{
    return code < 0x300 ? 0 : find_range(mcs_unicode_orders, mcs_unicode_n_orders, code);
}

uint32_t mcs_unicode_lower(uint32_t code)
{
    if (code < 0x80) return code >= 'A' && code <= 'Z' ? code + 32 : code;
    int low = 0, high = mcs_unicode_n_lowers;
    while (low < high) {
        int mid = (low + high) / 2;
        const struct unicode_step *s = &mcs_unicode_lowers[mid];
        if (code > s->last)
            low = mid + 1;
        else if (code < s->first)
            high = mid;
        else
            return (code - s->first) % (uint32_t)s->stride ? code : (uint32_t)((int64_t)code + s->delta);
    }
    return code;
}

int mcs_unicode_decompose(uint32_t code, uint32_t dst[4])
{
    dst[0] = code;
    if (code < 0xC0) return 1;
    if (code >= 0xAC00 && code < 0xAC00 + 11172) { /* Hangul syllables: 19 x 21 x 28 of them (Unicode 3.12) */
        uint32_t s = code - 0xAC00, tail = s % 28;
        dst[0] = 0x1100 + s / (21 * 28);
        dst[1] = 0x1161 + s / 28 % 21;
        dst[2] = 0x11A7 + tail;
        return tail ? 3 : 2;
    }
    int low = 0, high = mcs_unicode_n_parts;
    while (low < high) {
        int mid = (low + high) / 2, n = 0;
        const struct unicode_parts *p = &mcs_unicode_parts[mid];
        if (code > p->code) {
            low = mid + 1;
        } else if (code < p->code) {
            high = mid;
        } else {
            for (; n < 4 && p->to[n]; n++) dst[n] = p->to[n];
            return n;
        }
    }
    return 1;
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

int mcs_utf8_read(const char *bytes, int64_t n_bytes, uint32_t *code)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *b = (const unsigned char *)bytes;
    int n = b[0] < 0x80 ? 1 : b[0] < 0xC0 ? 0 : b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : b[0] < 0xF8 ? 4 : 0;

    if (n == 0 || n > n_bytes) return 0;
    uint32_t c = n == 1 ? b[0] : b[0] & (0x7Fu >> n);
    for (int i = 1; i < n; i++) {
        if ((b[i] & 0xC0) != 0x80) return 0;
        c = c << 6 | (b[i] & 0x3F);
    }
    if (c < least[n] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) return 0;
    *code = c;
    return n;
}

int mcs_utf8_write(uint32_t code, char dst[4])
{
    int n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (n == 1) {
        dst[0] = (char)code;
        return 1;
    }
    for (int i = n - 1; i > 0; i--, code >>= 6) dst[i] = (char)(0x80 | (code & 0x3F));
    dst[0] = (char)(0xF00 >> n | code);
    return n;
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

/* The complete Unicode tables: a hash over the results for every code point, every named HTML character and every
 * width, so that one changed entry is detected. test_tokenizer.c tests that the results are right, against the
 * reference tokenizer. Also UTF-8 at its limits, and each rule of the cleaning by an example. */
#include "data/io/file.h"
#include "data/text/unicode.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert_eq((call), MCS_OK, "%s", mcs_error_message())

enum { N_CODES = 0x110000 };

static void expect_hash(const char *what, const void *bytes, int64_t n_bytes, const char *want)
{
    char hex[65];
    mcs_sha256(bytes, n_bytes, hex);
    cr_expect_str_eq(hex, want,
                     "%s: an entry of the tables has changed, or libutf8proc has another Unicode than those that "
                     "tests/golden/make_unicode.py knows: %s",
                     what, hex);
}

static uint32_t *row(int64_t n)
{
    uint32_t *v = calloc((size_t)n, sizeof *v);
    cr_assert(v);
    return v;
}

Test(unicode, kind_of_every_code_point)
{
    uint32_t *v = row(N_CODES);
    int n[6] = {0};
    for (uint32_t c = 0; c < N_CODES; c++) n[v[c] = (uint32_t)mcs_unicode_kind(c)]++;
    expect_hash("kinds", v, (int64_t)N_CODES * 4, "5bdc73af7b8ea545b2588853af0e9cd9cde6dec1309f51d3068cfd5e5b47fc9a");
    for (int i = 0; i < 6; i++) cr_expect_gt(n[i], 0, "no code point of kind %d", i);
    free(v);
}

/* Combining classes: Unicode assigns 1 to 240. */
Test(unicode, order_of_every_code_point)
{
    uint32_t *v = row(N_CODES);
    for (uint32_t c = 0; c < N_CODES; c++) {
        v[c] = (uint32_t)mcs_unicode_combining_class(c);
        cr_assert_leq(v[c], 240u, "U+%04X has class %u", c, v[c]);
    }
    expect_hash("combining classes", v, (int64_t)N_CODES * 4,
                "b49d2f36b6e7eff1d604f3777120ccfb74b2dc55ed582357a65a200511f4bdee");
    free(v);
}

Test(unicode, lower_case_of_every_code_point)
{
    uint32_t *v = row(N_CODES);
    for (uint32_t c = 0; c < N_CODES; c++) v[c] = mcs_unicode_lower(c);
    expect_hash("lower case", v, (int64_t)N_CODES * 4,
                "fdaffebe068ddf715789fc148e6de772d84e547e91099ee44a28457ce05f179d");
    cr_expect_eq(v['A'], 'a');
    cr_expect_eq(v['Z'], 'z');
    cr_expect_eq(v['@'], '@');
    cr_expect_eq(v['['], '[');
    cr_expect_eq(v[0xC4], 0xE4);
    free(v);
}

Test(unicode, decomposition_of_every_code_point)
{
    uint32_t *v = row((int64_t)N_CODES * 5);
    for (uint32_t c = 0; c < N_CODES; c++) {
        const int n = mcs_unicode_decompose(c, v + 5 * (int64_t)c + 1);
        cr_assert(n >= 1 && n <= 4, "U+%04X in %d parts", c, n);
        v[5 * (int64_t)c] = (uint32_t)n;
        for (int k = n; k < 4; k++) v[5 * (int64_t)c + 1 + k] = 0; /* not part of the result */
    }
    expect_hash("decompositions", v, (int64_t)N_CODES * 20,
                "315d61df1dd045df658ae9a8b548e42afc37cad8a49b808484041a13437d88c2");
    free(v);
}

static struct codes codes_of(const char *text)
{
    struct codes c = {0};
    OK(mcs_utf8_decode(text, (int64_t)strlen(text), "text", &c));
    return c;
}

/* Cleans a text; the caller frees the result. */
static char *cleaned(const char *text)
{
    struct codes c = codes_of(text);
    char *out;
    OK(mcs_text_clean(&c));
    OK(mcs_utf8_encode(&c, &out));
    mcs_codes_free(&c);
    return out;
}

static void expect_clean(const char *text, const char *want)
{
    char *got = cleaned(text);
    cr_expect_str_eq(got, want, "'%s' became '%s', want '%s'", text, got, want);
    free(got);
}

/* Each name in the table with its characters, and the same by the cleaning, which finds it by bisection. */
Test(unicode, every_named_character)
{
    struct codes all = {0};
    cr_assert_eq(mcs_unicode_n_entities, 2231);
    for (int i = 0; i < mcs_unicode_n_entities; i++) {
        const struct unicode_entity *e = &mcs_unicode_entities[i];
        char text[64];
        cr_assert(i == 0 || strcmp(e[-1].name, e->name) < 0, "%s is not in order", e->name);
        for (const char *p = e->name; *p; p++) OK(mcs_codes_add(&all, (uint32_t)*p));
        for (int k = 0; k < 2; k++) OK(mcs_codes_add(&all, e->to[k]));
        snprintf(text, sizeof text, "<&%s-", e->name); /* after '<' a name is decoded as HTML */
        struct codes c = codes_of(text);
        OK(mcs_text_clean(&c));
        for (int64_t k = 0; k < c.n; k++) OK(mcs_codes_add(&all, c.v[k]));
        mcs_codes_free(&c);
    }
    expect_hash("named characters", all.v, all.n * 4,
                "1ddf655e5dc1be914a7e36b4eb6d15a68e6cbaebc813a037151a5019b71f21dc");
    mcs_codes_free(&all);
}

Test(unicode, every_width_and_every_numbered_character)
{
    struct codes all = {0};
    char text[32];
    for (uint32_t c = 0xFF01; c < 0xFFF0; c++) OK(mcs_codes_add(&all, c == 0xFFE3 ? ' ' : mcs_unicode_normal_width(c)));
    expect_hash("widths", all.v, all.n * 4, "c9958fc3881cd52f4621ffb724a0a812639afe0d98e923ece0d5ff1a6eaa72a9");
    all.n = 0;
    /* alone between letters, literally and as a number; the hash is open_clip's (tests/ref/tokens/make_clean.py) */
    for (uint32_t c = 1; c < 0x10000; c++) {
        if (c >= 0xD800 && c < 0xE000) continue;
        for (int way = 0; way < 3; way++) {
            char bytes[5] = {0};
            mcs_utf8_write(c, bytes);
            if (way == 0)
                snprintf(text, sizeof text, "a%sb", bytes);
            else
                snprintf(text, sizeof text, way == 1 ? "a&#%u;b" : "<&#x%Xz", c);
            struct codes line = codes_of(text);
            OK(mcs_text_clean(&line));
            for (int64_t k = 0; k < line.n; k++) OK(mcs_codes_add(&all, line.v[k]));
            mcs_codes_free(&line);
        }
    }
    expect_hash("cleaned characters", all.v, all.n * 4,
                "605172fa499944a240aa12e677682cf8c52f63ac5dfd8fb01c0f24e877be3110");
    mcs_codes_free(&all);
}

Test(unicode, cleaning_by_example)
{
    static const char *const rows[][2] = {
        {"", ""},
        {"  a \t b\n", "a b"},
        {" \n ", ""},
        {"a&amp;b", "a&b"},
        {"a&amp;amp;b", "a&b"},
        {"<a&ampb", "<a&b"},
        {"<&lt;&notit;", "<<\xC2\xACit;"},
        {"<&notin;", "<\xE2\x88\x89"},
        {"&unknown;", "&unknown;"},
        {"& &; &#; &#x; &#xG;", "& &; &#; &#x; &#xG;"},
        {"&#65;&#x42;&#X43;&#x6a;", "ABCj"},
        {"&#65 <", "A <"},
        {"&#128;&#150;", "\xE2\x82\xAC\xE2\x80\x93"},
        {"a&#0;b", "a\xEF\xBF\xBD"
                   "b"},
        {"a&#1;b", "ab"},
        {"a&#xD800;b&#xE000;", "a\xEF\xBF\xBD"
                               "b\xEE\x80\x80"},
        {"a&#x10FFFF;&#x110000;b", "a\xEF\xBF\xBD"
                                   "b"},
        {"a&#99999999999999999999;", "a\xEF\xBF\xBD"},
        {"caf\xC3\x83\xC2\xA9", "caf\xC3\xA9"},                     /* UTF-8 decoded as Latin-1 */
        {"don\xC3\xA2\xE2\x82\xAC\xE2\x84\xA2t", "don't"},          /* as cp1252, then the curly quote straightened */
        {"\xC3\x83\xC2\xA9 \xE4\xB8\x80", "\xC3\xA9 \xE4\xB8\x80"}, /* a part of the line */
        {"\xE2\x80\x9C"
         "a\xE2\x80\x9D \xE2\x80\x98"
         "b\xE2\x80\x99",
         "\"a\" 'b'"},
        {"\xEF\xAC\x81n \xEF\xAC\x83x \xC4\xB2", "fin ffix IJ"},
        {"\xEF\xBC\xA1\xEF\xBC\x91\xE3\x80\x80z", "A1 z"},
        {"\xEF\xBF\xA3", "\xCC\x84"},
        {"a\x1B[31mred\x1B[0m", "ared"},
        {"a\x1B[31;1", "a[31;1"},
        {"a\x1B]b", "a]b"},
        {"a\x01\x08\x0E\x1F\x7F"
         "b",
         "ab"},
        {"a\r\nb\rc", "a b c"},
        {"a\xE2\x80\xA8"
         "b\xE2\x80\xA9"
         "c",
         "a b c"},
        {"a\xEF\xBB\xBF"
         "b\xE2\x81\xAA\xE2\x81\xAF"
         "c",
         "abc"},
        {"a\xEF\xBF\xB9\xEF\xBF\xBC"
         "b\xEF\xBF\xBD",
         "ab\xEF\xBF\xBD"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) expect_clean(rows[i][0], rows[i][1]);
}

Test(unicode, utf8_at_its_limits)
{
    static const uint32_t limits[] = {0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF};
    static const char *const bad[] = {"\x80",
                                      "\xBF",
                                      "\xC1\xBF",
                                      "\xE0\x9F\xBF",
                                      "\xED\xA0\x80",
                                      "\xED\xBF\xBF",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80",
                                      "\xF8\x80\x80\x80",
                                      "\xC3(",
                                      "\xE2\x82(",
                                      "\xE2(\xAC",
                                      "\xF0\x9F\x98(",
                                      "\xFF"};
    static const int length[] = {1, 1, 2, 2, 3, 3, 3, 3, 4, 4};
    uint32_t code;
    for (int i = 0; i < 10; i++) {
        char b[4] = {0};
        cr_expect_eq(mcs_utf8_write(limits[i], b), length[i], "U+%04X", limits[i]);
        cr_expect_eq(mcs_utf8_read(b, 4, &code), length[i], "U+%04X", limits[i]);
        cr_expect_eq(code, limits[i]);
        cr_expect_eq(mcs_utf8_read(b, length[i], &code), length[i], "U+%04X", limits[i]);
        if (length[i] > 1) cr_expect_eq(mcs_utf8_read(b, length[i] - 1, &code), 0, "U+%04X cut short", limits[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_eq(mcs_utf8_read(bad[i], (int64_t)strlen(bad[i]), &code), 0, "bad text %zu", i);
    struct codes c = {0};
    cr_expect_eq(mcs_utf8_decode("ab\xC3\xA9\xFFz", 6, "a note", &c), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "a note: byte 4 (0xFF) is not UTF-8"), "%s", mcs_error_message());
    cr_expect_eq(c.n, 3);
    mcs_error_clear();
    mcs_codes_free(&c);
    cr_expect(c.v == NULL && c.n == 0 && c.capacity == 0);
}

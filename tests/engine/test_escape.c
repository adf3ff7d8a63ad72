/* engine/base/escape: every byte sequence at a boundary of UTF-8 against a simple decoder, and shown and stored texts
 * against rules written out here. */
#include "engine/base/escape.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* ---- UTF-8 ---- */

/* RFC 3629 by its definition: the bits of the character, then the permitted ranges. */
static int plain_length(const unsigned char *p)
{
    static const unsigned least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const int n = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    if (n < 2) return n == 1 && p[0] != 0;
    unsigned code = p[0] & (0x7Fu >> n);
    for (int i = 1; i < n; i++) {
        if (p[i] >> 6 != 2) return 0;
        code = code << 6 | (p[i] & 63u);
    }
    return code < least[n] || code > 0x10FFFF || code >> 11 == 27 ? 0 : n;
}

Test(escape, utf8)
{
    static const unsigned char bytes[] = {0x00, 0x01, 0x1F, 0x20, 0x41, 0x7E, 0x7F, 0x80, 0x81, 0x8F, 0x90, 0x91,
                                          0x9F, 0xA0, 0xA1, 0xBF, 0xC0, 0xC1, 0xC2, 0xC3, 0xDF, 0xE0, 0xE1, 0xEC,
                                          0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFE, 0xFF};
    enum { N = sizeof bytes };
    int n_wrong = 0;
    for (int a = 0; a < N; a++)
        for (int b = 0; b < N; b++)
            for (int c = 0; c < N; c++)
                for (int d = 0; d < N; d++) {
                    const unsigned char text[5] = {bytes[a], bytes[b], bytes[c], bytes[d], 0};
                    const int got = mcs_text_utf8_length((const char *)text), want = plain_length(text);
                    if (got == want || n_wrong++ > 5) continue;
                    cr_expect_eq(got, want, "%02x %02x %02x %02x: %d, want %d", text[0], text[1], text[2], text[3], got,
                                 want);
                }
    cr_expect_eq(n_wrong, 0);
}

/* ---- to show ---- */

/* Every character of one and two bytes, and every byte that is not one. */
Test(escape, which_characters_are_shown)
{
    for (int code = 1; code < 0x800; code++) {
        char text[3] = {0}, want[12], got[12];
        if (code < 0x80)
            text[0] = (char)code;
        else
            text[0] = (char)(0xC0 | code >> 6), text[1] = (char)(0x80 | (code & 63));
        const int control = code < 32 || (code >= 127 && code < 160);
        if (!control)
            snprintf(want, sizeof want, "%s", text);
        else if (text[1])
            snprintf(want, sizeof want, "\\x%02x\\x%02x", (unsigned char)text[0], (unsigned char)text[1]);
        else
            snprintf(want, sizeof want, "\\x%02x", (unsigned char)text[0]);
        mcs_text_escape(got, sizeof got, text);
        cr_expect_str_eq(got, want, "U+%04X", (unsigned)code);
    }
    for (int byte = 0x80; byte < 0x100; byte++) {
        const char text[3] = {(char)byte, '.', 0};
        char want[8], got[8];
        snprintf(want, sizeof want, "\\x%02x.", (unsigned)byte);
        mcs_text_escape(got, sizeof got, text);
        cr_expect_str_eq(got, want);
    }
}

/* For any buffer size, whole characters are written, as many as fit. */
Test(escape, no_half_characters)
{
    static const char text[] = "ab\xc3\xa9"
                               "c\n\xe6\xbc\xa2\xff\xf0\x9f\x99\x82z\xc2\x9b";
    static const char *const parts[] = {
        "a", "b", "\xc3\xa9", "c", "\\x0a", "\xe6\xbc\xa2", "\\xff", "\xf0\x9f\x99\x82", "z", "\\xc2\\x9b"};
    for (size_t room = 0; room < 40; room++) {
        char got[48], want[48] = "";
        memset(got, '#', sizeof got);
        for (size_t i = 0; i < sizeof parts / sizeof *parts && strlen(want) + strlen(parts[i]) < room; i++)
            strcat(want, parts[i]);
        mcs_text_escape(got, room, text);
        if (room) cr_expect_str_eq(got, want, "room %zu", room);
        for (size_t i = room ? strlen(want) + 1 : 0; i < sizeof got; i++)
            cr_expect(got[i] == '#' || (i < room && got[i] == '\0'), "room %zu: byte %zu is written", room, i);
    }
}

Test(escape, eight_shown_texts_live)
{
    const char *shown[9];
    static char text[5000];
    for (int i = 0; i < 9; i++) {
        char one[3] = {(char)('a' + i), '\n', 0};
        shown[i] = mcs_text_shown(one);
    }
    for (int i = 1; i < 9; i++) {
        const char want[6] = {(char)('a' + i), '\\', 'x', '0', 'a', 0};
        cr_expect_str_eq(shown[i], want);
    }
    cr_expect_eq(shown[8], shown[0]);
    memset(text, 'x', sizeof text - 1);
    cr_expect_eq(strlen(mcs_text_shown(text)), 4095);
}

/* ---- to store ---- */

static int hex(int c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The rule of escape.h: text that is UTF-8 and has none of "\x80" to "\xff" is unchanged; otherwise bytes are encoded
 * so and backslashes doubled. */
static void plain_encode(const char *text, char *dst)
{
    int stays = 1;
    for (const char *p = text; *p; p += stays ? plain_length((const unsigned char *)p) : 1) {
        if (!plain_length((const unsigned char *)p)) stays = 0;
        if (!strncmp(p, "\\x", 2) && hex(p[2]) >= 8 && hex(p[3]) >= 0) stays = 0;
        if (!stays) break;
    }
    if (stays) {
        strcpy(dst, text);
        return;
    }
    while (*text) {
        const int n = plain_length((const unsigned char *)text);
        if (*text == '\\') *dst++ = '\\';
        if (n) {
            memcpy(dst, text, (size_t)n);
            dst += n;
        } else
            dst += sprintf(dst, "\\x%02x", (unsigned char)*text);
        text += n ? n : 1;
    }
    *dst = '\0';
}

/* All texts of up to four of these parts, alone and after a byte that needs encoding. */
Test(escape, stored_texts)
{
    static const char *const pieces[] = {"\\", "x", "7", "8", "9", "a",    "f",
                                         "g",  "F", "/", ":", "`", "\xff", "\xc3\xa9"};
    enum { N = sizeof pieces / sizeof *pieces };
    struct arena a = {0};
    int n_wrong = 0;
    for (int head = 0; head < 2; head++)
        for (int k = 0; k < N * N * N * N; k++) {
            const int at[4] = {k % N, k / N % N, k / N / N % N, k / N / N / N};
            char text[16], want[64];
            snprintf(text, sizeof text, "%s%s%s%s%s", head ? "\xff" : "", pieces[at[0]], pieces[at[1]], pieces[at[2]],
                     pieces[at[3]]);
            plain_encode(text, want);
            const char *got = mcs_text_encode(&a, text), *back = mcs_text_decode(&a, got);
            if (strcmp(got, want) != 0 || strcmp(back, text) != 0) {
                if (n_wrong++ < 5) cr_expect(0, "'%s': encoded '%s', want '%s', decoded '%s'", text, got, want, back);
            }
            /* Text that no encoding produces is returned unchanged. */
            const char *decoded = mcs_text_decode(&a, text);
            plain_encode(decoded, want);
            if (strcmp(decoded, text) != 0 && strcmp(want, text) != 0 && n_wrong++ < 5)
                cr_expect(0, "'%s' is decoded as '%s'", text, decoded);
            if (k % 1000 == 0) mcs_arena_free(&a);
        }
    cr_expect_eq(n_wrong, 0);
    static const char *const decoded[][2] = {{"\\xff", "\xff"},    {"a\\\\b\\x80", "a\\b\x80"}, {"\\x7f", "\\x7f"},
                                             {"a\\\\b", "a\\\\b"}, {"\\xC3", "\\xC3"},          {"", ""}};
    for (size_t i = 0; i < sizeof decoded / sizeof *decoded; i++)
        cr_expect_str_eq(mcs_text_decode(&a, decoded[i][0]), decoded[i][1]);
    mcs_arena_free(&a);
}

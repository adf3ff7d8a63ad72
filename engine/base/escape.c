#include "engine/base/escape.h"

#include <stdio.h>
#include <string.h>

enum { SHOWN_TEXTS = 8, SHOWN_BYTES = 4096 };

/* RFC 3629, section 4. */
int mcs_text_utf8_length(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    const unsigned char a = p[0];
    if (a < 0x80) return a != 0;
    if (a < 0xC2 || a > 0xF4) return 0;
    const int n = a < 0xE0 ? 2 : a < 0xF0 ? 3 : 4;
    const unsigned char lo = a == 0xE0   ? 0xA0
                             : a == 0xF0 ? 0x90
                                         : 0x80,
                        hi = a == 0xED   ? 0x9F
                             : a == 0xF4 ? 0x8F
                                         : 0xBF;
    if (p[1] < lo || p[1] > hi) return 0;
    for (int i = 2; i < n; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    return n;
}

/* A control character of n bytes: C0, DEL, or C1 as UTF-8 writes it. */
static int is_control(const char *text, int n)
{
    const unsigned char *p = (const unsigned char *)text;
    return (n == 1 && (p[0] < 0x20 || p[0] == 0x7F)) || (n == 2 && p[0] == 0xC2 && p[1] < 0xA0);
}

void mcs_text_escape(char *dst, size_t dst_bytes, const char *text)
{
    size_t used = 0;
    if (!dst_bytes) return;
    while (*text) {
        int n = mcs_text_utf8_length(text);
        const int raw = n && !is_control(text, n);
        if (!n) n = 1;
        const size_t need = raw ? (size_t)n : 4 * (size_t)n;
        if (used + need + 1 > dst_bytes) break;
        if (raw)
            memcpy(dst + used, text, (size_t)n);
        else
            for (int i = 0; i < n; i++) snprintf(dst + used + 4 * i, 5, "\\x%02x", (unsigned char)text[i]);
        used += need;
        text += n;
    }
    dst[used] = '\0';
}

const char *mcs_text_shown(const char *text)
{
    static _Thread_local char shown[SHOWN_TEXTS][SHOWN_BYTES];
    static _Thread_local unsigned turn;
    char *dst = shown[turn++ % SHOWN_TEXTS];
    mcs_text_escape(dst, SHOWN_BYTES, text);
    return dst;
}

/* The value of a lower-case hexadecimal digit, or -1. */
static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that "\xHH" at text stands for, or -1. Bytes below 0x80 are UTF-8 and never encoded. */
static int escaped_byte(const char *text)
{
    if (text[0] != '\\' || text[1] != 'x' || hex_value(text[2]) < 8 || hex_value(text[3]) < 0) return -1;
    return 16 * hex_value(text[2]) + hex_value(text[3]);
}

char *mcs_text_encode(struct arena *a, const char *text)
{
    int needed = 0;
    for (const char *p = text; *p && !needed;) {
        const int n = mcs_text_utf8_length(p);
        needed = !n || escaped_byte(p) >= 0;
        p += n;
    }
    if (!needed) return mcs_arena_strdup(a, text);
    char *out = mcs_arena_alloc(a, 4 * strlen(text) + 1), *to = out;
    if (!out) return mcs_arena_strdup(a, "");
    while (*text) {
        const int n = mcs_text_utf8_length(text);
        if (!n) {
            to += sprintf(to, "\\x%02x", (unsigned char)*text++);
            continue;
        }
        if (*text == '\\') *to++ = '\\';
        memcpy(to, text, (size_t)n);
        to += n;
        text += n;
    }
    *to = '\0';
    return out;
}

char *mcs_text_decode(struct arena *a, const char *text)
{
    char *out = mcs_arena_alloc(a, strlen(text) + 1), *to = out;
    if (!out) return mcs_arena_strdup(a, "");
    for (const char *p = text; *p;) {
        const int byte = escaped_byte(p);
        if (byte >= 0) {
            *to++ = (char)byte;
            p += 4;
        } else {
            p += p[0] == '\\' && p[1] == '\\';
            *to++ = *p++;
        }
    }
    *to = '\0';
    return strcmp(mcs_text_encode(a, out), text) == 0 ? out : mcs_arena_strdup(a, text);
}

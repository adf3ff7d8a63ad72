#include "engine/base/text_cut.h"

#include <stdarg.h>
#include <stdio.h>

void mcs_text_cut(char *dst, size_t dst_bytes, const char *fmt, ...)
{
    va_list ap;
    if (!dst_bytes) return;
    dst[0] = '\0';
    va_start(ap, fmt);
    const int n = vsnprintf(dst, dst_bytes, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n < dst_bytes) return;
    size_t end = dst_bytes - 1, start = end;
    while (start > 0 && end - start < 3 && ((unsigned char)dst[start - 1] & 0xC0) == 0x80) start--;
    if (start == 0 || (unsigned char)dst[start - 1] < 0xC0) return; /* ends in ASCII, or is not UTF-8 */
    const unsigned char first = (unsigned char)dst[start - 1];
    const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (end - (start - 1) < length) dst[start - 1] = '\0';
}

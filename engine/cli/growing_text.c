#include "engine/cli/growing_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void mcs_text_put(struct growing_text *t, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const size_t n = (size_t)vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (t->used + n + 1 > t->capacity) {
        const size_t capacity = 2 * (t->used + n + 1);
        char *s = mcs_arena_alloc(t->arena, capacity);
        if (!s) { /* mcs_arena_status has the error */
            va_end(again);
            return;
        }
        if (t->used) memcpy(s, t->s, t->used);
        t->s = s;
        t->capacity = capacity;
    }
    vsnprintf(t->s + t->used, n + 1, fmt, again);
    va_end(again);
    t->used += n;
}

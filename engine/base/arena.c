#include "engine/base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64, BLOCK_BYTES = 1 << 16 };

struct arena_block {
    struct arena_block *next;
    size_t used, capacity;
};

static size_t round_up(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

void *mcs_aligned_alloc(size_t bytes)
{
    void *p = aligned_alloc(ALIGN, round_up(bytes ? bytes : 1));
    if (p) memset(p, 0, round_up(bytes ? bytes : 1));
    return p;
}

void mcs_aligned_free(void *p)
{
    free(p);
}

void *mcs_arena_alloc(struct arena *a, size_t bytes)
{
    const size_t need = round_up(bytes ? bytes : 1), header = round_up(sizeof(struct arena_block));
    struct arena_block *b = a->head;
    if (!b || b->capacity - b->used < need) {
        const size_t capacity = need > BLOCK_BYTES ? need : BLOCK_BYTES;
        b = mcs_aligned_alloc(header + capacity);
        if (!b) {
            a->failed = 1;
            mcs_arena_status(a);
            return NULL;
        }
        b->capacity = capacity;
        b->next = a->head;
        a->head = b;
    }
    void *p = (char *)b + header + b->used;
    b->used += need;
    return p;
}

enum mcs_status mcs_arena_status(const struct arena *a)
{
    MCS_REQUIRE(!a->failed, MCS_E_NOMEM, "no memory for tables and texts");
    return MCS_OK;
}

/* "" that a caller may cut at its end as any other text. */
static char *no_text(void)
{
    static _Thread_local char nothing[1];
    nothing[0] = '\0';
    return nothing;
}

char *mcs_arena_strdup(struct arena *a, const char *s)
{
    const size_t n = strlen(s) + 1;
    char *copy = mcs_arena_alloc(a, n);
    return copy ? memcpy(copy, s, n) : no_text();
}

char *mcs_arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = mcs_arena_alloc(a, (size_t)n + 1);
    if (s) vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s ? s : no_text();
}

void mcs_arena_free(struct arena *a)
{
    while (a->head) {
        struct arena_block *next = a->head->next;
        free(a->head);
        a->head = next;
    }
    a->failed = 0;
}

/* A growing arena for host memory with one lifetime: names, graphs, tables. Zero-filled, 64-byte aligned. Whoever
 * opened it closes it. A failed allocation aborts: host tables are small, and no caller could continue. */
#ifndef MCS_ARENA_H
#define MCS_ARENA_H

#include <stddef.h>

struct arena_block;
struct arena {
    struct arena_block *head;
};

void *mcs_arena_alloc(struct arena *a, size_t bytes);
/* Copies or formats a string. Owned by the arena. */
char *mcs_arena_strdup(struct arena *a, const char *s);
char *mcs_arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mcs_arena_free(struct arena *a);

/* 64-byte aligned zeroed heap memory for buffers; NULL when out of memory. Freed with mcs_aligned_free. */
void *mcs_aligned_alloc(size_t bytes);
void mcs_aligned_free(void *p);

#endif

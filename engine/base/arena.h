/* A growing arena for host memory that lives and dies together: names, graphs, tables. Zero-filled, 64-byte aligned.
 * Whoever opened it closes it. A failed allocation aborts: host tables are small, and no caller could go on. */
#ifndef MCS_ARENA_H
#define MCS_ARENA_H

#include <stddef.h>

struct arena_block;
struct arena {
    struct arena_block *head;
};

void *mcs_arena_alloc(struct arena *a, size_t bytes);
/* Copies a string / formats one. Owned by the arena. */
char *mcs_arena_strdup(struct arena *a, const char *s);
char *mcs_arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mcs_arena_free(struct arena *a);

/* 64-byte aligned zeroed heap memory for buffers; NULL where there is none. Freed with mcs_aligned_free. */
void *mcs_aligned_alloc(size_t bytes);
void mcs_aligned_free(void *p);

#endif

/* A growing arena for host memory with one lifetime: names, graphs, tables. Zero-filled, 64-byte aligned. Whoever
 * opened it closes it.
 *
 * Exhausted memory. mcs_arena_alloc records the message of MCS_E_NOMEM and returns NULL. mcs_arena_strdup and
 * mcs_arena_printf then return "", so that many texts may be made before one check: mcs_arena_status reports any
 * failure since the arena was opened. */
#ifndef MCS_ARENA_H
#define MCS_ARENA_H

#include "engine/base/status.h"

#include <stddef.h>

struct arena_block;
struct arena {
    struct arena_block *head;
    int failed; /* memory was exhausted */
};

void *mcs_arena_alloc(struct arena *a, size_t bytes); /* NULL: no memory */
/* E_NOMEM where an allocation from this arena has failed. */
enum mcs_status mcs_arena_status(const struct arena *a);
/* Copies or formats a string; "" where there is no memory. Owned by the arena. */
char *mcs_arena_strdup(struct arena *a, const char *s);
char *mcs_arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mcs_arena_free(struct arena *a);

/* 64-byte aligned zeroed heap memory for buffers; NULL when out of memory. Freed with mcs_aligned_free. */
void *mcs_aligned_alloc(size_t bytes);
void mcs_aligned_free(void *p);

#endif

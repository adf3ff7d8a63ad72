/* A text that is written piece by piece. */
#ifndef MCS_GROWING_TEXT_H
#define MCS_GROWING_TEXT_H

#include "engine/base/arena.h"

#include <stddef.h>

/* Start with {.arena = arena}. The text is owned by the arena, which keeps the shorter copies too: these texts are
 * small. */
struct growing_text {
    struct arena *arena;
    char *s;
    size_t used, capacity;
};

void mcs_text_put(struct growing_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif

/* Fibers: what a simulated thread runs on. A switch saves the callee-saved registers and the stack pointer, no more. */
#ifndef CUDASIM_FIBER_H
#define CUDASIM_FIBER_H

#include <stddef.h>

struct fiber {
    void *sp;  /* saved stack pointer; with ucontext, the context */
    char *low; /* usable stack: [low, low + bytes) */
    size_t bytes;
};
/* Maps n stacks of `bytes`, each above a guard page and shifted by a colour, so that equal frames do not fall in one
 * set of the cache. Free with fiber_stacks_free. Returns NULL without memory. */
struct fiber *fiber_stacks(int n, size_t bytes);
void fiber_stacks_free(struct fiber *f, int n);
/* The next switch to f starts entry(), which must not return. May be called again for an abandoned fiber. */
void fiber_start(struct fiber *f, void (*entry)(void));
/* Leaves `from` (its place is saved) for `to`. A fiber{} of zeros stands for the caller's own stack. */
void fiber_switch(struct fiber *from, struct fiber *to);
/* 1 where address is in the guard page of one of the n stacks. */
int fiber_in_guard(const struct fiber *f, int n, const void *address);

#endif

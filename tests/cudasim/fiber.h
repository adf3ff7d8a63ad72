/* Fibers: each simulated thread runs on one. A switch saves only the callee-saved registers and the stack pointer. */
#ifndef CUDASIM_FIBER_H
#define CUDASIM_FIBER_H

#include <stddef.h>

struct fiber {
    void *sp;  /* saved stack pointer; with ucontext, the context */
    char *low; /* usable stack: [low, low + bytes) */
    size_t bytes;
};
/* Maps n stacks of `bytes` bytes, each above a guard page. Their tops are offset from one another, so that equal frames
 * do not fall into the same cache set. Free with fiber_stacks_free. NULL: out of memory. */
struct fiber *fiber_stacks(int n, size_t bytes);
void fiber_stacks_free(struct fiber *f, int n);
/* The next switch to f starts entry(), which must not return. May be called again for a fiber that was abandoned. */
void fiber_start(struct fiber *f, void (*entry)(void));
/* Switches to `to`; saves the state of the running fiber in `from`. A zeroed struct fiber stands for the caller's
 * stack. */
void fiber_switch(struct fiber *from, struct fiber *to);
/* 1 if address is in the guard page of one of the n stacks. */
int fiber_in_guard(const struct fiber *f, int n, const void *address);

#endif

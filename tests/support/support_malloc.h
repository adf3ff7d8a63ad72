/* Counts heap allocations of a test program: replaces malloc and its relatives in the program that includes this
 * header, once. Calls from the program's code are counted, which includes all of mcsam; libraries are not (oneDNN's
 * sgemm and stdio allocate internally). With the sanitizers, which replace malloc, nothing is counted. */
#ifndef MCS_SUPPORT_MALLOC_H
#define MCS_SUPPORT_MALLOC_H

#include <stdlib.h>

static volatile int counting __attribute__((unused)),
    n_allocations __attribute__((unused));                        /* counted while counting */
static const char *volatile first_caller __attribute__((unused)); /* code address of the first counted call */

#ifdef MCS_SANITIZE
static const char *const program __attribute__((unused)) = NULL;
#else
extern char __executable_start, etext;
static const char *const program __attribute__((unused)) = &__executable_start;
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static void count(const void *caller)
{
    const char *from = caller;
    if (!counting || from < &__executable_start || from >= &etext) return;
    if (__atomic_fetch_add(&n_allocations, 1, __ATOMIC_RELAXED) == 0) first_caller = from;
}
__attribute__((noinline)) void *malloc(size_t bytes)
{
    count(__builtin_return_address(0));
    return __libc_malloc(bytes);
}
__attribute__((noinline)) void *calloc(size_t n, size_t bytes)
{
    count(__builtin_return_address(0));
    return __libc_calloc(n, bytes);
}
__attribute__((noinline)) void *realloc(void *p, size_t bytes)
{
    count(__builtin_return_address(0));
    return __libc_realloc(p, bytes);
}
__attribute__((noinline)) void *aligned_alloc(size_t alignment, size_t bytes)
{
    count(__builtin_return_address(0));
    return __libc_memalign(alignment, bytes);
}
__attribute__((noinline)) int posix_memalign(void **p, size_t alignment, size_t bytes)
{
    count(__builtin_return_address(0));
    *p = __libc_memalign(alignment, bytes);
    return *p ? 0 : 12;
}
#endif

#endif

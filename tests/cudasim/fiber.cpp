/* The switch: assembly on x86-64 and aarch64 (System V and AAPCS64 calling conventions); ucontext elsewhere or with
 * CUDASIM_UCONTEXT, 40 to 80 times slower because of two system calls a switch. */
#include "tests/cudasim/fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

namespace
{
enum { GUARD = 4096, COLOUR_STEP = 832, COLOUR_RANGE = 12288 }; /* GUARD is rounded up to the page size */

size_t page_bytes()
{
    return GUARD > 65536 ? GUARD : 65536; /* the largest page size of x86-64 and aarch64 */
}

size_t stride(size_t bytes)
{
    const size_t page = page_bytes();
    return (bytes + COLOUR_RANGE + page - 1) / page * page + page;
}
} // namespace

#if defined(__x86_64__) && !defined(CUDASIM_UCONTEXT)
/* void cudasim_switch(void **save, void *sp): rdi, rsi */
asm(".text\n.align 16\n.globl cudasim_switch\n.type cudasim_switch,@function\ncudasim_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size cudasim_switch,.-cudasim_switch\n");
extern "C" void cudasim_switch(void **save, void *sp);

void fiber_start(struct fiber *f, void (*entry)(void))
{
    uintptr_t top = ((uintptr_t)f->low + f->bytes) & ~(uintptr_t)15;
    void **sp = (void **)top;
    *--sp = NULL;          /* return address of entry; rsp is then 8 past a multiple of 16, as after a call */
    *--sp = (void *)entry; /* popped by ret */
    for (int i = 0; i < 6; i++) *--sp = NULL;
    f->sp = sp;
}
void fiber_switch(struct fiber *from, struct fiber *to)
{
    cudasim_switch(&from->sp, to->sp);
}
#elif defined(__aarch64__) && !defined(CUDASIM_UCONTEXT)
/* x19-x28, frame pointer, link register, d8-d15: 160 bytes. Arguments: x0, x1. */
asm(".text\n.align 4\n.globl cudasim_switch\n.type cudasim_switch,%function\ncudasim_switch:\n"
    "sub sp, sp, #160\n"
    "stp x19, x20, [sp, #0]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\nstp x25, x26, [sp, #48]\n"
    "stp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\n"
    "stp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\nstp d12, d13, [sp, #128]\nstp d14, d15, [sp, #144]\n"
    "mov x9, sp\nstr x9, [x0]\nmov sp, x1\n"
    "ldp x19, x20, [sp, #0]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\nldp x25, x26, [sp, #48]\n"
    "ldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\n"
    "ldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\nldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\n"
    "add sp, sp, #160\nret\n.size cudasim_switch,.-cudasim_switch\n");
extern "C" void cudasim_switch(void **save, void *sp);

void fiber_start(struct fiber *f, void (*entry)(void))
{
    uintptr_t top = ((uintptr_t)f->low + f->bytes) & ~(uintptr_t)15;
    void **sp = (void **)(top - 160);
    memset(sp, 0, 160);
    sp[11] = (void *)entry; /* x30: ret jumps there */
    f->sp = sp;
}
void fiber_switch(struct fiber *from, struct fiber *to)
{
    cudasim_switch(&from->sp, to->sp);
}
#else
static ucontext_t *context(struct fiber *f)
{
    if (!f->sp) f->sp = calloc(1, sizeof(ucontext_t));
    if (!f->sp) abort();
    return (ucontext_t *)f->sp;
}
void fiber_start(struct fiber *f, void (*entry)(void))
{
    ucontext_t *c = context(f);
    getcontext(c);
    c->uc_stack.ss_sp = f->low;
    c->uc_stack.ss_size = f->bytes;
    c->uc_link = NULL;
    makecontext(c, entry, 0);
}
void fiber_switch(struct fiber *from, struct fiber *to)
{
    swapcontext(context(from), context(to));
}
#endif

struct fiber *fiber_stacks(int n, size_t bytes)
{
    struct fiber *f = (struct fiber *)calloc((size_t)n, sizeof *f);
    char *all = (char *)mmap(NULL, (size_t)n * stride(bytes), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!f || all == MAP_FAILED) {
        free(f);
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        char *low = all + (size_t)i * stride(bytes);
        mprotect(low, page_bytes(), PROT_NONE);
        f[i].low = low + page_bytes();
        f[i].bytes = bytes + (size_t)i * COLOUR_STEP % COLOUR_RANGE; /* moves the top, where frames begin */
    }
    return f;
}

void fiber_stacks_free(struct fiber *f, int n)
{
    if (!f) return;
#if defined(CUDASIM_UCONTEXT) || !(defined(__x86_64__) || defined(__aarch64__))
    for (int i = 0; i < n; i++) free(f[i].sp);
#endif
    munmap(f[0].low - page_bytes(), (size_t)n * stride(f[0].bytes));
    free(f);
}

int fiber_in_guard(const struct fiber *f, int n, const void *address)
{
    for (int i = 0; f && i < n; i++) {
        const uintptr_t low = (uintptr_t)f[i].low;
        if ((uintptr_t)address < low && (uintptr_t)address >= low - page_bytes()) return 1;
    }
    return 0;
}

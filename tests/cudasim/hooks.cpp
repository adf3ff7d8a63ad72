/* The functions that code compiled with -fsanitize=thread calls at every load and store of a kernel, and code compiled
 * with -fsanitize=alignment at a misaligned one. The kernels are compiled with both but linked without the sanitizers'
 * libraries. */
#include <string.h>

#include "tests/cudasim/sim.h"

using sim::access;

/* Arguments from the compiler: the place in the source and the type of the access. */
struct ubsan_location {
    const char *file;
    uint32_t line, column;
};
struct ubsan_mismatch {
    ubsan_location place;
    const void *type;
    unsigned char log_alignment, check_kind;
};

static void misaligned(const ubsan_mismatch *m, uintptr_t address)
{
    const size_t n = (size_t)1 << m->log_alignment;
    if (!sim::running || !address || address % n == 0) return; /* a null pointer is reported at the access */
    sim::report(CUDASIM_ALIGN, 0, 0,
                std::string(m->place.file) + ":" + std::to_string(m->place.line) +
                    ": access at an address that is no multiple of " + std::to_string(n));
    sim::abandon(cudaErrorMisalignedAddress);
}

extern "C" {
void __ubsan_handle_type_mismatch_v1(ubsan_mismatch *m, uintptr_t address);
void __ubsan_handle_type_mismatch_v1_abort(ubsan_mismatch *m, uintptr_t address);
void __ubsan_handle_type_mismatch_v1(ubsan_mismatch *m, uintptr_t address)
{
    misaligned(m, address);
}
void __ubsan_handle_type_mismatch_v1_abort(ubsan_mismatch *m, uintptr_t address)
{
    misaligned(m, address);
}

void __tsan_init(void);
void __tsan_init(void)
{
    sim::checked = true;
}

#define HOOK(name, size, kind)                                                                                         \
    void name(void *p);                                                                                                \
    void name(void *p)                                                                                                 \
    {                                                                                                                  \
        if (sim::running) sim::shadow_access(p, size, kind, (uintptr_t)__builtin_return_address(0));                   \
    }
#define HOOKS(size)                                                                                                    \
    HOOK(__tsan_read##size, size, sim::READ)                                                                           \
    HOOK(__tsan_write##size, size, sim::WRITE)                                                                         \
    HOOK(__tsan_unaligned_read##size, size, sim::READ)                                                                 \
    HOOK(__tsan_unaligned_write##size, size, sim::WRITE)                                                               \
    HOOK(__tsan_volatile_read##size, size, sim::READ)                                                                  \
    HOOK(__tsan_volatile_write##size, size, sim::WRITE)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
#define HOOK_BOTH(size)                                                                                                \
    HOOK(__tsan_read_write##size, size, sim::WRITE)                                                                    \
    HOOK(__tsan_unaligned_read_write##size, size, sim::WRITE)
HOOK_BOTH(1)
HOOK_BOTH(2)
HOOK_BOTH(4)
HOOK_BOTH(8)
HOOK_BOTH(16)
HOOK(__tsan_vptr_read, sizeof(void *), sim::READ)

void __tsan_read_range(void *p, unsigned long n);
void __tsan_read_range(void *p, unsigned long n)
{
    if (sim::running) sim::shadow_access(p, n, sim::READ, (uintptr_t)__builtin_return_address(0));
}
void __tsan_write_range(void *p, unsigned long n);
void __tsan_write_range(void *p, unsigned long n)
{
    if (sim::running) sim::shadow_access(p, n, sim::WRITE, (uintptr_t)__builtin_return_address(0));
}
void __tsan_vptr_update(void **p, void *v);
void __tsan_vptr_update(void **, void *)
{
}
void __tsan_func_entry(void *pc);
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit(void);
void __tsan_func_exit(void)
{
}
void *__tsan_memcpy(void *dst, const void *src, unsigned long n);
void *__tsan_memcpy(void *dst, const void *src, unsigned long n)
{
    if (sim::running) {
        const uintptr_t pc = (uintptr_t)__builtin_return_address(0);
        sim::shadow_access(src, n, sim::READ, pc);
        sim::shadow_access(dst, n, sim::WRITE, pc);
    }
    return memcpy(dst, src, n);
}
void *__tsan_memset(void *dst, int v, unsigned long n);
void *__tsan_memset(void *dst, int v, unsigned long n)
{
    if (sim::running) sim::shadow_access(dst, n, sim::WRITE, (uintptr_t)__builtin_return_address(0));
    return memset(dst, v, n);
}
}

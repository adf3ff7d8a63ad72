/* Shadow memory of device and shared memory, a race detector: for each byte whether it may be accessed and whether it
 * was written; for each two bytes the last write and the last two reads. Two accesses by different threads, at least
 * one of them a non-atomic write, need a barrier between them (happens-before). A missing barrier is found in any
 * schedule. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>

#include "tests/cudasim/sim.h"

namespace sim
{
char *arena, *shared;
const char *host_call;
static state *arena_state, shared_state[SHARED_SPACE];
static shadow_cell *arena_cells, *shared_cells;
static bool uninit_is_allowed; /* a device-to-device copy may read uninitialised bytes */
static size_t shared_used;     /* bytes of shared_state that the block has used */

static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        fprintf(stderr, "cudasim: cannot reserve %zu MiB of address space\n", bytes >> 20);
        abort();
    }
    return p;
}

void shadow_open()
{
    if (arena) return;
    arena = (char *)map(arena_bytes);
    shared = (char *)map(SHARED_SPACE);
    if (!checked) return;
    arena_state = (state *)map(arena_bytes);
    arena_cells = (shadow_cell *)map(arena_bytes / 2 * sizeof(shadow_cell));
    shared_cells = (shadow_cell *)map(SHARED_SPACE / 2 * sizeof(shadow_cell));
}

bool in_arena(const void *p)
{
    return arena && (size_t)((const char *)p - arena) < arena_bytes;
}

int device_of(const void *p)
{
    return (int)((size_t)((const char *)p - arena) / slice_bytes);
}

void release_pages(void *p, size_t n)
{
    const uintptr_t page = 65536; /* a multiple of every page size of x86-64 and aarch64 */
    const uintptr_t low = ((uintptr_t)p + page - 1) / page * page, high = ((uintptr_t)p + n) / page * page;
    if (high > low) madvise((void *)low, high - low, MADV_DONTNEED);
}

void shadow_set(const void *p, size_t n, state s, bool keep)
{
    if (!checked) return;
    const size_t at = (size_t)((const char *)p - arena);
    memset(arena_state + at, s, n);
    if (keep || (s != UNINIT && s != FREED)) return;
    char *cells = (char *)(arena_cells + at / 2); /* clear the access history; madvise zeroes whole pages */
    const size_t bytes = (n + 1) / 2 * sizeof(shadow_cell), page = 65536;
    release_pages(cells, bytes);
    const size_t head = std::min(bytes, (page - (uintptr_t)cells % page) % page), tail = (bytes - head) % page;
    memset(cells, 0, head);
    memset(cells + bytes - tail, 0, tail);
}
void shadow_shared_clear()
{
    if (checked) memset(shared_state, UNALLOCATED, shared_used);
    shared_used = 0;
}
void shadow_shared_set(const void *p, size_t n, state s)
{
    const size_t at = (size_t)((const char *)p - shared);
    if (!checked || at >= SHARED_SPACE) return;
    memset(shared_state + at, s, n);
    shared_used = std::max(shared_used, at + n);
}
void shadow_copy_state(void *dst, const void *src, size_t n)
{
    if (checked) memcpy(arena_state + ((char *)dst - arena), arena_state + ((const char *)src - arena), n);
}

/* Happens-before test: is access r concurrent with the running thread's access? */
static bool unordered(const access_record &r, unsigned mask, bool is_shared, uint16_t me)
{
    if (!r.block || !(r.mask & mask)) return false;
    if (r.block == block_now) {
        if (r.thread == me || r.epoch != epoch_now) return false;
        return host_call ? false : r.thread / WARP != me / WARP || r.wepoch == warps[me / WARP].epoch;
    }
    if (is_shared) return false; /* an earlier block: shared memory is not shared between blocks */
    return r.block >= launch_first_block || !ordered_before(r.block);
}

static const char *const verbs[] = {"read", "write", "atomic"};

static void race(const access_record &before, access kind, uint32_t pc, bool is_shared)
{
    std::string text = std::string(verbs[kind]) + " after a " + verbs[before.kind] + " by ";
    if (before.block == block_now)
        text += "thread " + std::to_string(before.thread) + " of the same block";
    else if (before.block >= launch_first_block)
        text += "thread " + std::to_string(before.thread) + " of another block of the same launch";
    else
        text += operation_text(before.block);
    text += " at " + pc_text(before.pc) +
            (before.block < launch_first_block ? ", not ordered by an event or stream" : ", no barrier between");
    report(is_shared ? CUDASIM_RACE_SHARED : CUDASIM_RACE_GLOBAL, pc, before.pc, text);
}

static inline void record_access(shadow_cell *c, unsigned mask, access kind, uint32_t pc, bool is_shared, uint16_t me,
                                 uint16_t wepoch)
{
    const access_record now = {pc, block_now, epoch_now, wepoch, me, (uint8_t)mask, kind};
    if (kind == READ) {
        if (unordered(c->write, mask, is_shared, me)) race(c->write, kind, pc, is_shared);
        if (unordered(c->read, mask, is_shared, me))
            c->read2 = now;
        else
            c->read = now;
        return;
    }
    if (!(kind == ATOMIC && c->write.kind == ATOMIC) && unordered(c->write, mask, is_shared, me))
        race(c->write, kind, pc, is_shared);
    if (unordered(c->read, mask, is_shared, me)) race(c->read, kind, pc, is_shared);
    if (unordered(c->read2, mask, is_shared, me)) race(c->read2, kind, pc, is_shared);
    c->write = now;
    if (mask == 3) c->read = c->read2 = access_record{}; /* both bytes were overwritten */
}

/* Reports why the access is wrong, given the byte's state s. True where the launch must end. */
static bool report_bad_access(state s, const char *p, size_t n, access kind, uint32_t pc, bool is_shared)
{
    const std::string what = std::string(verbs[kind]) + " of " + std::to_string(n) + " bytes of " +
                             (is_shared ? "shared" : "global") + " memory";
    switch (s) {
    case UNINIT:
        if (!uninit_is_allowed) report(CUDASIM_UNINIT, pc, 0, what + " that was never written");
        return false;
    case PENDING:
        report(CUDASIM_PENDING, pc, 0, what + " that is the target of a cp.async not waited for");
        return false;
    case FREED: report(CUDASIM_FREED, pc, 0, what + " that was freed"); return true;
    default:
        report(CUDASIM_BOUNDS, pc, 0,
               what + " outside every array" +
                   (is_shared ? " (byte " + std::to_string(p - shared) + ")" : ": " + nearest(p)));
        return true;
    }
}

static bool check(const char *p, size_t n, access kind, uint32_t pc, bool is_shared)
{
    const size_t at = (size_t)(p - (is_shared ? shared : arena));
    state *s = (is_shared ? shared_state : arena_state) + at;
    shadow_cell *cells = is_shared ? shared_cells : arena_cells;
    const uint16_t me = host_call ? 0 : current()->index, wepoch = host_call ? 0 : warps[me / WARP].epoch;
    bool good = true;
    for (size_t i = 0; i < n; i++) good = good && s[i] == INIT;
    for (size_t i = 0; !good && i < n; i++) {
        if (s[i] == INIT || (s[i] == UNINIT && kind == WRITE)) continue;
        if (report_bad_access(s[i], p + i, n, kind, pc, is_shared)) return false;
        break;
    }
    if (!good && kind != READ) memset(s, INIT, n);
    for (size_t i = at; i < at + n;) {
        const unsigned mask = i & 1 ? 2 : i + 1 < at + n ? 3 : 1; /* bytes of the cell: 1 even, 2 odd, 3 both */
        record_access(&cells[i / 2], mask, kind, pc, is_shared, me, wepoch);
        i += i & 1 ? 1 : 2;
    }
    return true;
}

bool shadow_host_access(const void *p, size_t n, access kind, const char *what, bool may_be_uninit)
{
    if (!checked || !n) return true;
    host_call = what;
    uninit_is_allowed = may_be_uninit;
    launch_first_block = block_now;
    const bool good = check((const char *)p, n, kind, 0, false);
    host_call = NULL;
    uninit_is_allowed = false;
    return good;
}

void shadow_access(const void *address, size_t n, access kind, uintptr_t pc)
{
    if (!running || !checked || in_current_stack(address)) return;
    const char *p = (const char *)address;
    const bool is_shared = (size_t)(p - shared) < SHARED_SPACE;
    if (is_shared || in_arena(p)) {
        if (!is_shared && device_of(p) != device_running && !peer_access(device_running, device_of(p))) {
            report(CUDASIM_DEVICE, pc_pack((void *)pc), 0,
                   std::string(verbs[kind]) + " of memory of device " + std::to_string(device_of(p)) + " by device " +
                       std::to_string(device_running) + " without peer access");
            abandon(cudaErrorIllegalAddress);
        }
        if (!check(p, n, kind, pc_pack((void *)pc), is_shared)) abandon(cudaErrorIllegalAddress);
        if (counting) count_access(p, n, is_shared, pc);
        return;
    }
    if (in_state(p)) return;
    const uint32_t at = pc_pack((void *)pc);
    if (kind == READ && in_read_only(p)) return; /* constants of the program */
    if (in_any_stack(p))
        report(CUDASIM_LOCAL, at, 0, std::string(verbs[kind]) + " of another thread's local memory");
    else if ((uintptr_t)p < 65536)
        report(CUDASIM_BOUNDS, at, 0,
               std::string(verbs[kind]) + " at address " + std::to_string((uintptr_t)p) + ", a null pointer");
    else
        report(CUDASIM_HOST, at, 0, std::string(verbs[kind]) + " of host memory");
    abandon(cudaErrorIllegalAddress);
}
} // namespace sim

using namespace sim;

void sim_touch(const void *p, size_t n, int kind, const void *pc)
{
    if (!running) return;
    if ((uintptr_t)p % n) {
        report(CUDASIM_ALIGN, pc_pack(pc), 0,
               std::string(verbs[kind]) + " of " + std::to_string(n) +
                   " bytes at an address that is no multiple of that");
        abandon(cudaErrorMisalignedAddress);
    }
    shadow_access(p, n, (sim::access)kind, (uintptr_t)pc);
}

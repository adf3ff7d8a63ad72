/* Device memory: every allocation lies between redzones; freed allocations are not reused until address space runs
 * out. Shared memory: the dynamic part first, then each array at its first use in the block, each followed by a guard
 * redzone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <map>

#include "tests/cudasim/sim.h"

namespace sim
{
struct space { /* allocations of one device, in its slice of the arena */
    std::map<char *, size_t> live, freed;
    char *top = NULL;
    size_t held = 0;
};
static space spaces[MAX_DEVICES];
struct host_range {
    size_t bytes;
    bool registered; /* cudaHostRegister: the program's memory */
};
static std::map<char *, host_range> pinned;
size_t memory_limit_set = (size_t)1 << 30;
static int fail_in;

size_t memory_limit()
{
    return memory_limit_set;
}

static size_t round_up(size_t n)
{
    return (n + redzone - 1) / redzone * redzone;
}

/* Address for n bytes and a redzone on either side: above all that was ever used, else in a gap between live
 * allocations. */
static char *find_place(space &m, char *slice, size_t n)
{
    const size_t limit = memory_limit();
    char *const end = slice + std::min(2 * limit + (1 << 20), slice_bytes);
    if (!m.top) m.top = slice + redzone;
    if (n > limit || m.held + n > limit) return NULL;
    if (m.top < end && n + redzone <= (size_t)(end - m.top)) {
        char *p = m.top;
        m.top += round_up(n) + redzone;
        return p;
    }
    char *from = slice + redzone;
    for (auto &a : m.live) {
        if (a.first >= from && (size_t)(a.first - from) >= round_up(n) + redzone) break;
        from = a.first + round_up(a.second) + redzone;
    }
    if (from > end || n + redzone > (size_t)(end - from)) return NULL;
    for (auto f = m.freed.begin(); f != m.freed.end();)
        f = f->first < from + n + redzone && f->first + f->second + redzone > from ? m.freed.erase(f) : std::next(f);
    return from;
}

template <class T> static typename std::map<char *, T>::iterator holder(std::map<char *, T> &m, const void *p)
{
    auto a = m.upper_bound((char *)p);
    return a == m.begin() ? m.end() : std::prev(a);
}

bool in_allocation(const void *p, size_t n)
{
    if (!in_arena(p)) return false;
    auto &live = spaces[device_of(p)].live;
    auto a = holder(live, p);
    return a != live.end() && (const char *)p + n <= a->first + a->second;
}
bool was_freed(const void *p)
{
    if (!in_arena(p)) return false;
    auto &freed = spaces[device_of(p)].freed;
    auto a = holder(freed, p);
    return a != freed.end() && (const char *)p < a->first + a->second;
}
bool is_pinned(const void *p)
{
    auto h = holder(pinned, p);
    return h != pinned.end() && (const char *)p < h->first + h->second.bytes;
}

std::string nearest(const void *p)
{
    auto &live = spaces[device_of(p)].live;
    auto a = holder(live, p);
    char text[128];
    if (a != live.end() && (const char *)p - a->first < (long)(round_up(a->second) + redzone / 2)) {
        snprintf(text, sizeof text, "byte %zd of an allocation of %zu", (const char *)p - a->first, a->second);
        return text;
    }
    a = live.upper_bound((char *)p);
    if (a == live.end()) return "no allocation is near";
    snprintf(text, sizeof text, "%zd bytes before an allocation of %zu", a->first - (const char *)p, a->second);
    return text;
}

void free_all(int device)
{
    space &m = spaces[device];
    for (auto &a : m.live) shadow_set(a.first, a.second, FREED);
    m.freed.insert(m.live.begin(), m.live.end());
    m.live.clear();
    m.held = 0;
}

/* --- shared memory --- */
static std::vector<std::pair<const void *, size_t>> arrays; /* arrays of the running block: declaration, offset */
static size_t next_array, static_bytes;

static void shared_open(size_t at, size_t bytes)
{
    memset(shared + at, 0xff, bytes); /* NaN */
    shadow_shared_set(shared + at, bytes, UNINIT);
}
void shared_begin(size_t dynamic)
{
    arrays.clear();
    static_bytes = 0;
    shadow_shared_clear();
    shared_open(0, dynamic);
    next_array = round_up(dynamic) + redzone;
}
} // namespace sim

using namespace sim;

void *sim_shared_dynamic(void)
{
    return shared;
}

void *sim_shared_array(const void *site, size_t bytes)
{
    for (auto &a : arrays)
        if (a.first == site) return shared + a.second;
    static_bytes += (bytes + 15) / 16 * 16;
    if (static_bytes > SHARED_DEFAULT || static_bytes + launch_now->dynamic > SHARED_MAX ||
        next_array + bytes > SHARED_SPACE) {
        report(CUDASIM_LIMIT, pc_pack(__builtin_return_address(0)), 0,
               std::to_string(static_bytes) + " bytes of static and " + std::to_string(launch_now->dynamic) +
                   " of dynamic shared memory; at most 49152 static, 232448 together");
        abandon(cudaErrorLaunchOutOfResources);
    }
    const size_t at = next_array;
    next_array += round_up(bytes) + redzone;
    shared_open(at, bytes);
    arrays.push_back({site, at});
    return shared + at;
}

void cudasim_fail_alloc(int n)
{
    const guard g;
    fail_in = n;
}
void cudasim_memory_limit(size_t bytes)
{
    const guard g;
    memory_limit_set = std::min(bytes, slice_bytes);
}
size_t cudasim_bytes_held(void)
{
    const guard g;
    size_t n = 0;
    for (const space &m : spaces) n += m.held;
    return n;
}
void cudasim_forget(void *p, size_t n, void *stream)
{
    const guard g;
    if (!n || !range_valid(p, n, true, "cudasim_forget")) return;
    enqueue_call((cudaStream_t)stream, "cudasim_forget", [=]() {
        block_now++;
        if (!shadow_host_access(p, n, WRITE, "cudasim_forget")) return cudaErrorIllegalAddress;
        memset(p, 0xff, n);
        shadow_set(p, n, UNINIT, true);
        return cudaSuccess;
    });
}

extern "C" {
cudaError_t cudaMalloc(void **p, size_t n)
{
    SIM_ENTER();
    if (!p) return fail(cudaErrorInvalidValue);
    *p = NULL;
    const cudaError_t e = forbidden_in_capture("cudaMalloc");
    if (e != cudaSuccess || !n) return e;
    shadow_open();
    if (fail_in && --fail_in == 0) return fail(cudaErrorMemoryAllocation);
    space &m = spaces[device_now()];
    char *at = find_place(m, arena + (size_t)device_now() * slice_bytes, n);
    if (!at) return fail(cudaErrorMemoryAllocation);
    m.live[at] = n;
    m.held += n;
    memset(at, 0xff, n); /* NaN: reads of uninitialised memory show in results too */
    shadow_set(at, round_up(n) + redzone, REDZONE);
    shadow_set(at, n, UNINIT);
    *p = at;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    SIM_ENTER();
    if (!p) return cudaSuccess;
    cudaError_t e = forbidden_in_capture("cudaFree");
    if (e != cudaSuccess) return e;
    space &m = spaces[in_arena(p) ? device_of(p) : device_now()];
    auto a = m.live.find((char *)p);
    if (a == m.live.end()) {
        report(m.freed.count((char *)p) ? CUDASIM_FREED : CUDASIM_HOST, 0, 0,
               "cudaFree of an address that is not allocated");
        return fail(cudaErrorInvalidValue);
    }
    wait_for_device(device_of(p)); /* cudaFree synchronises the device */
    e = device_error(device_of(p));
    if (e != cudaSuccess) return fail(e);
    m.held -= a->second;
    shadow_set(p, a->second, FREED);
    release_pages(p, a->second);
    m.freed[a->first] = a->second;
    m.live.erase(a);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t n)
{
    return cudaHostAlloc(p, n, cudaHostAllocDefault);
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned flags)
{
    SIM_ENTER();
    if (!p || flags > (cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined))
        return fail(cudaErrorInvalidValue);
    *p = NULL;
    const cudaError_t e = forbidden_in_capture("cudaHostAlloc");
    if (e != cudaSuccess || !n) return e;
    *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096);
    if (!*p) return fail(cudaErrorMemoryAllocation);
    memset(*p, 0xff, n);
    pinned[(char *)*p] = {n, false};
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p)
{
    SIM_ENTER();
    if (!p) return cudaSuccess;
    const cudaError_t e = forbidden_in_capture("cudaFreeHost");
    if (e != cudaSuccess) return e;
    auto h = pinned.find((char *)p);
    if (h == pinned.end() || h->second.registered) return fail(cudaErrorInvalidValue);
    for (int i = 0; i < MAX_DEVICES; i++) wait_for_device(i);
    pinned.erase((char *)p);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaHostRegister(void *p, size_t n, unsigned flags)
{
    SIM_ENTER();
    if (!p || !n || in_arena(p) || flags & ~0xfu) return fail(cudaErrorInvalidValue);
    const cudaError_t e = forbidden_in_capture("cudaHostRegister");
    if (e != cudaSuccess) return e;
    auto next = pinned.upper_bound((char *)p);
    if (is_pinned(p) || (next != pinned.end() && next->first < (char *)p + n))
        return fail(cudaErrorHostMemoryAlreadyRegistered);
    pinned[(char *)p] = {n, true};
    return cudaSuccess;
}
cudaError_t cudaHostUnregister(void *p)
{
    SIM_ENTER();
    const cudaError_t e = forbidden_in_capture("cudaHostUnregister");
    if (e != cudaSuccess) return e;
    auto h = pinned.find((char *)p);
    if (h == pinned.end() || !h->second.registered) return fail(cudaErrorHostMemoryNotRegistered);
    for (int i = 0; i < MAX_DEVICES; i++) wait_for_device(i);
    pinned.erase((char *)p);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    SIM_ENTER();
    if (!free_bytes || !total) return fail(cudaErrorInvalidValue);
    *total = memory_limit();
    *free_bytes = *total - std::min(spaces[device_now()].held, *total);
    return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p)
{
    SIM_ENTER();
    if (!a) return fail(cudaErrorInvalidValue);
    memset((void *)a, 0, sizeof *a);
    a->type = in_allocation(p, 1) ? cudaMemoryTypeDevice
              : is_pinned(p)      ? cudaMemoryTypeHost
                                  : cudaMemoryTypeUnregistered;
    a->device = a->type == cudaMemoryTypeDevice ? device_of(p) : -1;
    if (a->type == cudaMemoryTypeDevice) a->devicePointer = (void *)p;
    if (a->type == cudaMemoryTypeHost) a->hostPointer = (void *)p;
    return cudaSuccess;
}
}

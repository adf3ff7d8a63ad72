/* Device memory: every allocation between zones that nobody may touch, freed ones kept apart until space runs out.
 * Shared memory: the dynamic part first, then each array of the block at its first use, with a zone after each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <map>

#include "tests/cudasim/sim.h"

namespace sim
{
static std::map<char *, size_t> live, freed, pinned;
static char *top;
static size_t held, limit = arena_bytes;
static int fail_in;

static size_t round_up(size_t n)
{
    return (n + zone - 1) / zone * zone;
}

/* A place for n bytes and a zone on either side: past what was ever used, else between what lives. */
static char *find_place(size_t n)
{
    if (!top) top = arena + zone;
    if (n > limit || held + n > limit) return NULL;
    if (n + zone <= (size_t)(arena + arena_bytes - top)) {
        char *p = top;
        top += round_up(n) + zone;
        return p;
    }
    char *from = arena + zone;
    for (auto &a : live) {
        if (a.first >= from && (size_t)(a.first - from) >= round_up(n) + zone) break;
        from = a.first + round_up(a.second) + zone;
    }
    if (from > arena + arena_bytes || n + zone > (size_t)(arena + arena_bytes - from)) return NULL;
    for (auto f = freed.begin(); f != freed.end();)
        f = f->first < from + n + zone && f->first + f->second + zone > from ? freed.erase(f) : std::next(f);
    return from;
}

static std::map<char *, size_t>::iterator holder(std::map<char *, size_t> &m, const void *p)
{
    auto a = m.upper_bound((char *)p);
    return a == m.begin() ? m.end() : std::prev(a);
}

bool in_allocation(const void *p, size_t n)
{
    auto a = holder(live, p);
    return a != live.end() && (const char *)p + n <= a->first + a->second;
}

std::string nearest(const void *p)
{
    auto a = holder(live, p);
    char text[128];
    if (a != live.end() && (const char *)p - a->first < (long)(round_up(a->second) + zone / 2)) {
        snprintf(text, sizeof text, "byte %zd of an allocation of %zu", (const char *)p - a->first, a->second);
        return text;
    }
    a = live.upper_bound((char *)p);
    if (a == live.end()) return "no allocation is near";
    snprintf(text, sizeof text, "%zd bytes before an allocation of %zu", a->first - (const char *)p, a->second);
    return text;
}

void free_all()
{
    for (auto &a : live) shadow_set(a.first, a.second, FREED);
    freed.insert(live.begin(), live.end());
    live.clear();
    held = 0;
}

/* --- shared memory --- */
static std::vector<std::pair<const void *, size_t>> arrays; /* of the running block: site, offset */
static size_t next_array, static_bytes;

static void shared_open(size_t at, size_t bytes)
{
    memset(shared + at, 0xff, bytes); /* NaN */
    shadow_shared_set(shared + at, bytes, UNSET);
}
void shared_begin(size_t dynamic)
{
    arrays.clear();
    static_bytes = 0;
    shadow_shared_clear();
    shared_open(0, dynamic);
    next_array = round_up(dynamic) + zone;
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
    next_array += round_up(bytes) + zone;
    shared_open(at, bytes);
    arrays.push_back({site, at});
    return shared + at;
}

void cudasim_fail_alloc(int n)
{
    fail_in = n;
}
void cudasim_memory_limit(size_t bytes)
{
    limit = std::min(bytes, arena_bytes);
}
size_t cudasim_bytes_held(void)
{
    return held;
}

extern "C" {
cudaError_t cudaMalloc(void **p, size_t n)
{
    SIM_TRY_STICKY();
    if (!p) return fail(cudaErrorInvalidValue);
    *p = NULL;
    if (!n) return cudaSuccess;
    shadow_open();
    if (fail_in && --fail_in == 0) return fail(cudaErrorMemoryAllocation);
    char *at = find_place(n);
    if (!at) return fail(cudaErrorMemoryAllocation);
    live[at] = n;
    held += n;
    memset(at, 0xff, n); /* NaN: what is not written is seen in results too */
    shadow_set(at, round_up(n) + zone, ZONE);
    shadow_set(at, n, UNSET);
    *p = at;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    SIM_TRY_STICKY();
    if (!p) return cudaSuccess;
    run_all(); /* cudaFree waits for the device */
    SIM_TRY_STICKY();
    auto a = live.find((char *)p);
    if (a == live.end()) {
        report(freed.count((char *)p) ? CUDASIM_FREED : CUDASIM_HOST, 0, 0, "cudaFree of what is not allocated");
        return fail(cudaErrorInvalidValue);
    }
    held -= a->second;
    shadow_set(p, a->second, FREED);
    give_pages_back(p, a->second);
    freed[a->first] = a->second;
    live.erase(a);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t n)
{
    return cudaHostAlloc(p, n, 0);
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned)
{
    SIM_TRY_STICKY();
    if (!p) return fail(cudaErrorInvalidValue);
    *p = n ? malloc(n) : NULL;
    if (n && !*p) return fail(cudaErrorMemoryAllocation);
    if (n) pinned[(char *)*p] = n;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p)
{
    SIM_TRY_STICKY();
    if (!p) return cudaSuccess;
    run_all();
    if (!pinned.erase((char *)p)) return fail(cudaErrorInvalidValue);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    SIM_TRY_STICKY();
    *total = limit;
    *free_bytes = limit - std::min(held, limit);
    return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p)
{
    SIM_TRY_STICKY();
    memset((void *)a, 0, sizeof *a);
    auto h = holder(pinned, p);
    const bool is_pinned = h != pinned.end() && (const char *)p < h->first + h->second;
    a->type = in_allocation(p, 1) ? cudaMemoryTypeDevice : is_pinned ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    if (a->type == cudaMemoryTypeDevice) a->devicePointer = (void *)p;
    if (is_pinned) a->hostPointer = (void *)p;
    return cudaSuccess;
}
}

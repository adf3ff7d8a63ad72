/* Counters. A request is made of the accesses of a warp's lanes at one program counter, at the same number of
 * executions since the warp's last collective. So lanes that skip an iteration are counted out of step with the others
 * until the next collective. */
#include <string.h>

#include <algorithm>
#include <deque>
#include <unordered_map>

#include "tests/cudasim/sim.h"

namespace sim
{
bool counting;
static std::deque<cudasim_counters> all;

struct request {
    bool is_shared;
    int lanes, full;
    size_t bytes;
    uint64_t address[WARP];
    uint32_t mask;
};
struct passes {
    unsigned generation, n; /* generation: collectives of the warp so far; n: executions since the last one */
};
static std::unordered_map<uint64_t, request> open_requests; /* by program counter, warp, generation and execution */
static std::unordered_map<uint64_t, passes> passes_of;      /* by program counter and thread */
static std::unordered_map<uint64_t, uint32_t> place_ids;    /* program counter -> small number */

cudasim_counters *counters_of(const std::string &kernel)
{
    for (auto &c : all)
        if (kernel.compare(0, sizeof c.kernel - 1, c.kernel) == 0) return &c;
    all.push_back({});
    strncpy(all.back().kernel, kernel.c_str(), sizeof all.back().kernel - 1);
    return &all.back();
}

/* Wavefronts beyond the first: 32 lanes of up to 4 bytes are served at once, 16 of 8 bytes, 8 of 16; each wavefront
 * reads one word of each bank. */
static uint64_t conflicts(const request &r)
{
    const int group = r.bytes <= 4 ? 32 : r.bytes == 8 ? 16 : 8;
    uint64_t extra = 0;
    for (int g = 0; g < WARP; g += group) {
        std::vector<uint64_t> words;
        for (int i = g; i < g + group; i++)
            for (size_t b = 0; (r.mask >> i & 1) && b < r.bytes; b += 4) words.push_back((r.address[i] + b) / 4);
        std::sort(words.begin(), words.end());
        words.erase(std::unique(words.begin(), words.end()), words.end());
        uint64_t by_bank[32] = {0}, most = 0;
        for (uint64_t w : words) most = std::max(most, ++by_bank[w % 32]);
        if (most > 1) extra += most - 1;
    }
    return extra;
}

static void finish(const request &r)
{
    cudasim_counters *c = counters_of(launch_now->k->name);
    if (r.lanes < r.full) c->partial_requests++;
    if (r.is_shared) {
        c->shared_requests++;
        c->bank_conflicts += conflicts(r);
        return;
    }
    std::vector<uint64_t> bytes, sectors;
    for (int i = 0; i < WARP; i++)
        for (size_t b = 0; (r.mask >> i & 1) && b < r.bytes; b++) bytes.push_back(r.address[i] + b);
    std::sort(bytes.begin(), bytes.end());
    bytes.erase(std::unique(bytes.begin(), bytes.end()), bytes.end());
    for (uint64_t b : bytes)
        if (sectors.empty() || sectors.back() != b / 32) sectors.push_back(b / 32);
    for (uint64_t s : sectors) launch_touches(s);
    c->global_requests++;
    c->sectors += sectors.size();
    c->sector_bytes += bytes.size();
}

void count_access(const void *p, size_t n, bool is_shared, uintptr_t pc)
{
    const thread *t = current();
    /* one cp.async reads global and writes shared memory at the same program counter; its lanes with 0 bytes only
     * write */
    const uint64_t place = place_ids.emplace(pc * 2 + is_shared, (uint32_t)place_ids.size()).first->second;
    const int w = t->index / WARP;
    const unsigned generation = warps[w].generation;
    passes &was = passes_of[place << 16 | t->index];
    if (was.generation != generation) was = {generation, 0};
    /* 14 bits for program counters, 5 for warps, 20 for collectives and 25 for executions */
    const uint64_t key = place << 50 | (uint64_t)w << 45 | (uint64_t)(generation & 0xfffff) << 25 | was.n++;
    request &r = open_requests[key];
    if (!r.lanes) r = {is_shared, 0, warps[w].lanes, n, {}, 0};
    r.address[t->self.lane] = (uint64_t)((const char *)p - (is_shared ? shared : NULL));
    r.mask |= 1u << t->self.lane;
    if (++r.lanes < r.full) return;
    finish(r);
    open_requests.erase(key);
}

void count_block_end()
{
    for (auto &r : open_requests) finish(r.second);
    open_requests.clear();
    passes_of.clear();
}
} // namespace sim

using namespace sim;

void cudasim_count(int on)
{
    counting = on != 0;
}
int cudasim_counters_n(void)
{
    return (int)all.size();
}
const struct cudasim_counters *cudasim_counters_at(int i)
{
    return &all.at((size_t)i);
}
void cudasim_counters_clear(void)
{
    all.clear();
}
void cudasim_work(uint64_t work[4])
{
    static uint64_t before[4];
    const cudasim_counters sum = cudasim_counters_sum("");
    const uint64_t now[4] = {sum.launches, sum.blocks, sum.threads, sum.mma};
    for (int i = 0; i < 4; i++) work[i] = now[i] - before[i], before[i] = now[i];
    counting = true;
}
struct cudasim_counters cudasim_counters_sum(const char *part)
{
    struct cudasim_counters s = {};
    for (auto &c : all) {
        if (!strstr(c.kernel, part)) continue;
        const uint64_t *from = &c.launches;
        for (uint64_t *to = &s.launches; to <= &s.partial_requests; to++) *to += *from++;
    }
    strncpy(s.kernel, part, sizeof s.kernel - 1);
    return s;
}
double cudasim_tensor_share(const struct cudasim_counters *c)
{
    const double n = (double)(c->mma + c->global_requests + c->shared_requests + c->collectives);
    return n > 0 ? (double)c->mma / n : 0;
}
double cudasim_sector_use(const struct cudasim_counters *c)
{
    return c->sectors ? (double)c->sector_bytes / (double)(32 * c->sectors) : 1;
}

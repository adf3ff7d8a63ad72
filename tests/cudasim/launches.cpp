/* Log for ./run gpu-report. Where CUDASIM_LAUNCHES names a file, counters are on, and each launch that touches at least
 * as many sectors as the kernel's earlier ones appends a line: the kernel's address in the program, its name, grid and
 * block, shared memory, bytes touched, counters. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <map>
#include <unordered_set>

#include "tests/cudasim/sim.h"

/* Start of this program, or of the module that the simulation is linked into; set by the linker. */
extern "C" const char __ehdr_start[] __attribute__((visibility("hidden")));

namespace sim
{
static int file = -1;
static cudasim_counters before;
static std::unordered_set<uint64_t> touched; /* 32-byte sectors */
static std::map<const void *, size_t> largest;

static void open_file()
{
    static bool asked;
    if (asked) return;
    asked = true;
    const char *path = getenv("CUDASIM_LAUNCHES");
    if (!path || (file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600)) < 0) return;
    counting = true;
}

void launch_begins(const launch &l)
{
    open_file();
    if (file < 0) return;
    touched.clear();
    before = *counters_of(l.k->name);
}

void launch_touches(uint64_t sector)
{
    if (file >= 0) touched.insert(sector);
}

void launch_ends(const launch &l)
{
    if (file < 0) return;
    const cudasim_counters &now = *counters_of(l.k->name);
    size_t &most = largest[l.k->entry];
    if (touched.size() < most) return;
    most = touched.size();
    char line[768];
    int n = snprintf(line, sizeof line, "%zx\t%s\t%u,%u,%u\t%u,%u,%u\t%zu\t%zu",
                     (size_t)((const char *)l.k->entry - __ehdr_start), l.k->name.c_str(), l.grid.x, l.grid.y, l.grid.z,
                     l.block.x, l.block.y, l.block.z, l.dynamic, 32 * touched.size());
    const uint64_t *from = &before.launches;
    for (const uint64_t *to = &now.launches; to <= &now.partial_requests; to++, from++)
        n += snprintf(line + n, sizeof line - (size_t)n, "\t%llu", (unsigned long long)(*to - *from));
    line[n++] = '\n';
    if (write(file, line, (size_t)n) < 0) file = -1;
}
} // namespace sim

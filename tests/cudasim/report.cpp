/* Reports: each place once, with kernel, block, thread, file and line (addr2line is called only when there is a
 * report). */
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <map>
#include <set>

#include "tests/cudasim/sim.h"

/* Start of this program, or of the module that the simulation is linked into; set by the linker. */
extern "C" const char __ehdr_start[] __attribute__((visibility("hidden")));

namespace sim
{
bool checked;
static bool quiet;
struct found {
    enum cudasim_kind kind;
    std::string text;
};
static std::vector<found> all;
static std::set<std::string> known;
static const char *const names[] = {"race in shared memory",
                                    "race in global memory",
                                    "uninitialised",
                                    "not waited for",
                                    "out of bounds",
                                    "use after free",
                                    "host memory",
                                    "local memory",
                                    "misaligned",
                                    "barrier",
                                    "collective",
                                    "limit",
                                    "memory of another device",
                                    "pinned memory",
                                    "capture",
                                    "collective of ranks"};

uint32_t pc_pack(const void *return_address)
{
    return return_address ? (uint32_t)((uintptr_t)return_address - (uintptr_t)__ehdr_start) : 0;
}

/* Position-independent programs are linked at address 0, others at the address where they run. */
static uintptr_t link_base()
{
    const ElfW(Ehdr) *e = (const ElfW(Ehdr) *)__ehdr_start;
    return e->e_type == ET_DYN ? 0 : (uintptr_t)e;
}

/* Of the chain of inlined functions, the innermost line that is in a kernel's file and not in a header. */
std::string pc_text(uint32_t pc)
{
    static std::map<uint32_t, std::string> memory;
    if (!pc) return "a copy or memset";
    if (memory.count(pc)) return memory[pc];
    char command[4352], line[1024];
    Dl_info module;
    const int in_module = dladdr(__ehdr_start, &module) && module.dli_fname && strstr(module.dli_fname, ".so");
    snprintf(line, sizeof line, "/proc/%d/exe", (int)getpid());
    snprintf(command, sizeof command, "addr2line -i -e '%s' 0x%zx 2>/dev/null", in_module ? module.dli_fname : line,
             (size_t)(link_base() + pc - 1)); /* a return address points past its call */
    std::string text, first;
    FILE *f = popen(command, "r");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n (")] = '\0';
        for (size_t n; (n = strncmp(line, "./", 2) == 0 ? 2 : strncmp(line, "../", 3) == 0 ? 3 : 0) != 0;)
            memmove(line, line + n, strlen(line + n) + 1); /* ccache may write ../tests/... */
        if (first.empty()) first = line;
        if (text.empty() && !strstr(line, "sim_device.h") && !strstr(line, "sim_matrix.h") && !strstr(line, ".cuh:"))
            text = line;
    }
    if (f) pclose(f);
    if (text.empty()) text = first;
    if (text.empty() || text[0] == '?') {
        snprintf(line, sizeof line, "program + 0x%x", pc);
        text = line;
    }
    return memory[pc] = text;
}

/* Is p in a read-only segment of the program? */
bool in_read_only(const void *p)
{
    return dl_iterate_phdr(
               [](struct dl_phdr_info *info, size_t, void *data) {
                   for (int i = 0; i < info->dlpi_phnum; i++) {
                       const ElfW(Phdr) *h = &info->dlpi_phdr[i];
                       if (h->p_type != PT_LOAD || (h->p_flags & PF_W)) continue;
                       if ((uintptr_t)data - (info->dlpi_addr + h->p_vaddr) < h->p_memsz) return 1;
                   }
                   return 0;
               },
               (void *)p) != 0;
}

static std::string triple(const uint3 &u)
{
    return "(" + std::to_string(u.x) + "," + std::to_string(u.y) + "," + std::to_string(u.z) + ")";
}

void report(enum cudasim_kind kind, uint32_t pc, uint32_t other, const std::string &what)
{
    if (!known.insert(std::to_string(kind) + "/" + std::to_string(pc) + "/" + (pc ? std::to_string(other) : what))
             .second)
        return;
    const bool was_running = running;
    running = false; /* accesses below are not the kernel's */
    std::string text = std::string(names[kind]) + ": ";
    if (pc) text += pc_text(pc) + ": ";
    text += what;
    if (host_call)
        text += std::string("; in ") + host_call;
    else if (launch_now)
        text += "; kernel " + launch_now->k->name + ", block " + triple(sim_now->block) + ", thread " +
                triple(sim_now->thread);
    all.push_back({kind, text});
    if (!quiet) fprintf(stderr, "cudasim: %s\n", text.c_str());
    running = was_running;
}
} // namespace sim

int cudasim_checked(void)
{
    return sim::checked;
}
int cudasim_reports(void)
{
    return (int)sim::all.size();
}
enum cudasim_kind cudasim_report_kind(int i)
{
    return sim::all.at((size_t)i).kind;
}
const char *cudasim_report_text(int i)
{
    return sim::all.at((size_t)i).text.c_str();
}
void cudasim_reports_clear(void)
{
    sim::all.clear();
    sim::known.clear();
}
void cudasim_quiet(int on)
{
    sim::quiet = on != 0;
}

#include "engine/base/memory.h"

#include "engine/base/path.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { NAME_BYTES = 1024, LINE_BYTES = 2048 };
static const int64_t SMALL_BYTES = (int64_t)1 << 20; /* smaller requests pass without asking the system */
static const int64_t MAX_LIMIT = (int64_t)1 << 60;   /* larger than any machine; sums of two stay in int64_t */
static const int64_t MAX_REQUEST = (int64_t)1 << 62;
static int64_t limit_bytes; /* 0: the machine's free memory */

enum mcs_status mcs_memory_parse(const char *text, const char *where, int64_t *bytes)
{
    static const char units[] = "kmgt";
    char *end = NULL;
    const double value = strtod(text, &end);
    double unit = 1;

    /* strtod also accepts signs, exponents, hexadecimal and "inf"; they are refused here. */
    const int number = end != text && end == text + strspn(text, "0123456789.");
    while (*end == ' ') end++;
    const char *letter = *end ? strchr(units, *end | 0x20) : NULL;
    if (letter) {
        for (const char *u = units; u <= letter; u++) unit *= 1024;
        end++;
        if (*end == 'i' && (end[1] | 0x20) == 'b') end++;
    }
    if ((*end | 0x20) == 'b') end++;
    MCS_REQUIRE(number && !*end, MCS_E_USAGE, "%s: want a size such as 8G, 512M or a number of bytes, got '%s'", where,
                text);
    const double size = value * unit;
    MCS_REQUIRE(size >= 1 && size <= (double)MAX_LIMIT, MCS_E_USAGE, "%s: a size of '%s' is out of range", where, text);
    *bytes = (int64_t)size;
    return MCS_OK;
}

void mcs_memory_limit_set(int64_t bytes)
{
    limit_bytes = bytes > 0 ? bytes : 0;
}

const char *mcs_memory_text(int64_t bytes, char *dst, int dst_bytes)
{
    static const char *const names[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    int unit = -1;
    while (value >= 1024 && unit < 5) {
        value /= 1024;
        unit++;
    }
    if (unit < 0)
        snprintf(dst, (size_t)dst_bytes, "%lld bytes", (long long)bytes);
    else
        snprintf(dst, (size_t)dst_bytes, "%.1f %s", value, names[unit]);
    return dst;
}

/* ---- the system's figures ---- */

/* The number after `key` in a file of lines "key number", or the file's first number where key is ""; -1: not found. */
static int64_t number_in(const char *path, const char *key)
{
    char line[LINE_BYTES];
    int64_t found = -1;
    FILE *f = fopen(path, "re");
    if (!f) return -1;
    while (found < 0 && fgets(line, sizeof line, f)) {
        const size_t n = strlen(key);
        char *end = NULL;
        if (strncmp(line, key, n) != 0) continue;
        errno = 0;
        const long long v = strtoll(line + n, &end, 10);
        if (end != line + n && errno == 0 && v >= 0) found = v;
    }
    fclose(f);
    return found;
}

/* Where cgroup versions 1 and 2 keep a group's files, and their names. Page cache of files that are not mapped can be
 * dropped, so it counts as free. */
static const struct cgroup_files {
    const char *mount, *limit, *usage, *cache;
} versions[] = {
    {"sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "}, /* version 1 */
    {"sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "},                                /* version 2 */
    {"sys/fs/cgroup/unified", "memory.max", "memory.current", "inactive_file "}, /* version 2 beside 1 */
};

/* The smallest number of bytes that a group and its ancestors leave. group: "/a/b", shortened here component by
 * component down to "". */
static int64_t group_left(const char *root, const struct cgroup_files *v, char *group)
{
    int64_t left = INT64_MAX;
    for (;;) {
        char path[MCS_PATH_BYTES];
        if (!mcs_path_fits(path, "%s/%s%s/%s", root, v->mount, group, v->limit)) return left;
        const int64_t limit = number_in(path, ""); /* version 2 writes "max" for no limit */
        if (!mcs_path_fits(path, "%s/%s%s/%s", root, v->mount, group, v->usage)) return left;
        const int64_t usage = number_in(path, "");
        if (limit >= 0 && usage >= 0 && mcs_path_fits(path, "%s/%s%s/memory.stat", root, v->mount, group)) {
            const int64_t cache = number_in(path, v->cache), used = usage - (cache > 0 ? cache : 0);
            const int64_t here = used < limit ? limit - (used > 0 ? used : 0) : 0;
            if (here < left) left = here;
        }
        char *slash = strrchr(group, '/');
        if (!slash) return left;
        *slash = '\0';
    }
}

/* The group in a line "9:memory,cpu:/a/b" (version 1) or "0::/a/b" (version 2); NULL: another controller's. */
static char *group_in(char *line, int *version)
{
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group) return NULL;
    *controllers++ = '\0';
    *group++ = '\0';
    *version = *controllers ? 1 : 2;
    if (*version == 2) return group;
    for (char *rest = NULL, *w = strtok_r(controllers, ",", &rest); w; w = strtok_r(NULL, ",", &rest))
        if (strcmp(w, "memory") == 0) return group;
    return NULL;
}

static int64_t groups_left(const char *root)
{
    char path[MCS_PATH_BYTES], line[LINE_BYTES];
    int64_t left = INT64_MAX;
    FILE *f = mcs_path_fits(path, "%s/proc/self/cgroup", root) ? fopen(path, "re") : NULL;
    if (!f) return left;
    while (fgets(line, sizeof line, f)) {
        int version = 0;
        const char *group = group_in(line, &version);
        for (size_t v = version == 1 ? 0 : 1; group && v < (version == 1 ? 1u : 3u); v++) {
            char copy[LINE_BYTES];
            memcpy(copy, group, strlen(group) + 1);
            const int64_t here = group_left(root, &versions[v], copy);
            if (here < left) left = here;
        }
    }
    fclose(f);
    return left;
}

int64_t mcs_memory_free_under(const char *root)
{
    char path[MCS_PATH_BYTES];
    const int64_t kib = mcs_path_fits(path, "%s/proc/meminfo", root) ? number_in(path, "MemAvailable:") : -1;
    const int64_t groups = groups_left(root);
    const int64_t machine = kib >= 0 && kib <= INT64_MAX / 1024 ? kib * 1024 : INT64_MAX;
    return machine < groups ? machine : groups;
}

struct mcs_process_memory mcs_memory_of_process(void)
{
    long long mapped = 0, resident = 0, data = 0;
    const int64_t page = sysconf(_SC_PAGESIZE);
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return (struct mcs_process_memory){0};
    const int n = fscanf(f, "%lld %lld %*d %*d %*d %lld", &mapped, &resident, &data);
    fclose(f);
    return n == 3 ? (struct mcs_process_memory){mapped * page, resident * page, data * page}
                  : (struct mcs_process_memory){0};
}

int64_t mcs_memory_rlimit(int resource)
{
    struct rlimit r;
    return getrlimit(resource, &r) == 0 && r.rlim_cur <= INT64_MAX ? (int64_t)r.rlim_cur : INT64_MAX;
}

/* Bytes that the process may still map under RLIMIT_AS and RLIMIT_DATA (ulimit -v and -d); INT64_MAX: no limit. */
static int64_t limits_left(void)
{
    const struct mcs_process_memory p = mcs_memory_of_process();
    const int64_t limits[2] = {mcs_memory_rlimit(RLIMIT_AS), mcs_memory_rlimit(RLIMIT_DATA)},
                  used[2] = {p.mapped, p.data};
    int64_t left = INT64_MAX;
    for (int i = 0; i < 2; i++) {
        const int64_t here = limits[i] == INT64_MAX ? INT64_MAX : limits[i] > used[i] ? limits[i] - used[i] : 0;
        if (here < left) left = here;
    }
    return left;
}

/* mcs_memory_left; *by_rlimit: without --max-memory, 1 where a limit of the process (ulimit) is the smallest. */
static int64_t memory_left(int *by_rlimit)
{
    *by_rlimit = 0;
    if (limit_bytes == 0) {
        const int64_t machine = mcs_memory_free_under(""), limits = limits_left();
        *by_rlimit = limits <= machine;
        return *by_rlimit ? limits : machine;
    }
    const int64_t used = mcs_memory_of_process().resident;
    return used < limit_bytes ? limit_bytes - used : 0;
}

int64_t mcs_memory_left(void)
{
    int by_rlimit;
    return memory_left(&by_rlimit);
}

/* ---- the check ---- */

static enum mcs_status check(enum mcs_status failure, int64_t bytes, const char *what)
{
    char needed[32], allowed[32], used[32];
    int by_rlimit;
    MCS_REQUIRE(bytes >= 0 && bytes <= MAX_REQUEST, failure, "%s: needs more memory than can be addressed", what);
    const int64_t left = memory_left(&by_rlimit);
    if (bytes <= left) return MCS_OK;
    mcs_memory_text(bytes, needed, sizeof needed);
    if (by_rlimit)
        return MCS_FAIL(failure,
                        "%s: needs %s of memory, but the limits on this process (ulimit -v, -d) leave %s; raise them",
                        what, needed, mcs_memory_text(left, allowed, sizeof allowed));
    if (limit_bytes == 0)
        return MCS_FAIL(failure, "%s: needs %s of memory, but %s are free; --max-memory SIZE sets another limit", what,
                        needed, mcs_memory_text(left, allowed, sizeof allowed));
    return MCS_FAIL(failure, "%s: needs %s of memory, --max-memory allows %s and %s are in use", what, needed,
                    mcs_memory_text(limit_bytes, allowed, sizeof allowed),
                    mcs_memory_text(mcs_memory_of_process().resident, used, sizeof used));
}

enum mcs_status mcs_memory_check_as(enum mcs_status failure, int64_t bytes, const char *fmt, ...)
{
    char what[NAME_BYTES + MCS_PATH_BYTES];
    va_list ap;
    if (bytes >= 0 && bytes < SMALL_BYTES) return MCS_OK;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return check(failure, bytes, what);
}

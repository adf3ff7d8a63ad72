#define _GNU_SOURCE /* pthread_getattr_default_np */
#include "engine/cpu/limits_cpu.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* Beside the threads' stacks. Measured as the smallest limit under which `train` and `predict` of a small network run,
 * less what the process has mapped at its start and the stacks: 24 MiB with one thread to 52 MiB with 16 (oneDNN's
 * generated code, one heap of malloc a thread as far as there is room). */
enum { RESERVE_MIB = 64, GUARD_KIB = 64 };

/* Bytes mapped (RLIMIT_AS counts them), and of these private and writable (RLIMIT_DATA). */
static int mapped_bytes(int64_t *all, int64_t *data)
{
    long long pages = 0, data_pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    const int found = f && fscanf(f, "%lld %*d %*d %*d %*d %lld", &pages, &data_pages) == 2;
    if (f) fclose(f);
    *all = pages * sysconf(_SC_PAGESIZE);
    *data = data_pages * sysconf(_SC_PAGESIZE);
    return found;
}

static enum mcs_status check(int resource, const char *flag, int64_t used, int64_t one, int threads)
{
    struct rlimit limit;
    const int64_t fixed = used + ((int64_t)RESERVE_MIB << 20);
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > INT64_MAX)
        return MCS_OK;
    const int64_t allowed = (int64_t)limit.rlim_cur, need = fixed + (threads - 1) * one,
                  fewer = (allowed - fixed) / one + 1;
    if (need <= allowed) return MCS_OK;
    if (allowed >= fixed)
        return MCS_FAIL(
            MCS_E_FAIL,
            "the limit on memory (ulimit -%s) is %lld MiB, but %d threads need %lld MiB to start; raise it, or "
            "use --threads %lld",
            flag, (long long)(allowed >> 20), threads, (long long)(need >> 20) + 1, (long long)fewer);
    return MCS_FAIL(MCS_E_FAIL,
                    "the limit on memory (ulimit -%s) is %lld MiB, but at least %lld MiB are needed to start; raise it",
                    flag, (long long)(allowed >> 20), (long long)(fixed >> 20) + 1);
}

enum mcs_status mcs_cpu_check_limits(int threads)
{
    pthread_attr_t attributes;
    size_t stack = 8 << 20;
    int64_t all, data;
    if (!mapped_bytes(&all, &data)) return MCS_OK;
    if (pthread_getattr_default_np(&attributes) == 0) {
        pthread_attr_getstacksize(&attributes, &stack);
        pthread_attr_destroy(&attributes);
    }
    const int64_t one = (int64_t)stack + (GUARD_KIB << 10);
    MCS_TRY(check(RLIMIT_AS, "v", all, one, threads));
    MCS_TRY(check(RLIMIT_DATA, "d", data, one, threads));
    return MCS_OK;
}

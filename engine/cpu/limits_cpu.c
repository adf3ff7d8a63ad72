#define _GNU_SOURCE /* pthread_getattr_default_np */
#include "engine/cpu/limits_cpu.h"

#include "engine/base/memory.h"

#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/resource.h>

/* Memory apart from the threads' stacks. Measured as the smallest limit under which `train` and `predict` of a small
 * network run, minus the memory mapped at the start and the stacks: from 24 MiB with one thread to 52 MiB with 16
 * (oneDNN's generated code). */
enum { RESERVE_MIB = 64, GUARD_KIB = 64 /* guard area below each thread's stack */ };

static enum mcs_status check(int resource, const char *flag, int64_t used, int64_t one, int threads)
{
    const int64_t fixed = used + ((int64_t)RESERVE_MIB << 20);
    const int64_t allowed = mcs_memory_rlimit(resource), need = fixed + (threads - 1) * one,
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
    size_t stack = 8 << 20; /* if the default cannot be read */
    const struct mcs_process_memory now = mcs_memory_of_process();
    if (now.mapped == 0) return MCS_OK; /* the system does not tell */
    /* A malloc arena of a thread reserves 64 MiB of addresses, so threads share one where addresses are limited. */
    if (mcs_memory_rlimit(RLIMIT_AS) < INT64_MAX) mallopt(M_ARENA_MAX, 1);
    if (pthread_getattr_default_np(&attributes) == 0) {
        pthread_attr_getstacksize(&attributes, &stack);
        pthread_attr_destroy(&attributes);
    }
    const int64_t one = (int64_t)stack + (GUARD_KIB << 10);
    MCS_TRY(check(RLIMIT_AS, "v", now.mapped, one, threads));
    MCS_TRY(check(RLIMIT_DATA, "d", now.data, one, threads));
    return MCS_OK;
}

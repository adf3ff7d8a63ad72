#include "data/helper/helper_limits.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MCS_SANITIZE /* the shadow memory of AddressSanitizer exceeds any limit */
/* RLIMIT_DATA at first, and at most. */
static const int64_t FIRST_BYTES = (int64_t)128 << 20, MOST_BYTES = (int64_t)6 << 30;
#endif
/* Processor time: FIRST_SECONDS, and one second more per BYTES_A_SECOND requested bytes. */
static const int64_t FIRST_SECONDS = 30, BYTES_A_SECOND = (int64_t)8 << 20;

/* Sets the soft limit, within the hard one. */
static int limit_soft(int what, int64_t value)
{
    struct rlimit r;
    if (getrlimit(what, &r) != 0) return 0;
    r.rlim_cur = r.rlim_max != RLIM_INFINITY && (rlim_t)value > r.rlim_max ? r.rlim_max : (rlim_t)value;
    return setrlimit(what, &r) == 0;
}

/* Lowers the hard limit, and the soft one with it; never raises either. */
static int limit_hard(int what, int64_t value)
{
    struct rlimit r;
    if (getrlimit(what, &r) != 0) return 0;
    if (r.rlim_max == RLIM_INFINITY || (rlim_t)value < r.rlim_max) r.rlim_max = (rlim_t)value;
    if (r.rlim_cur == RLIM_INFINITY || r.rlim_cur > r.rlim_max) r.rlim_cur = r.rlim_max;
    return setrlimit(what, &r) == 0;
}

void mcs_helper_allow(int64_t bytes, int64_t chunk_bytes)
{
    struct rusage used = {0};
    getrusage(RUSAGE_SELF, &used);
    limit_soft(RLIMIT_CPU,
               (int64_t)used.ru_utime.tv_sec + used.ru_stime.tv_sec + FIRST_SECONDS + bytes / BYTES_A_SECOND);
#ifndef MCS_SANITIZE
    /* A compressed chunk, and the chunk itself in a buffer that doubles while it grows. */
    limit_soft(RLIMIT_DATA, FIRST_BYTES + 4 * chunk_bytes);
#endif
}

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#if defined(ARCHITECTURE) && !defined(MCS_SANITIZE)
/* Permits a system call: for any other number the comparison jumps over the permission. */
#define PERMIT(call)                                                                                                   \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
/* Permits a call where argument i, in its low 32 bits, has no bit of `denied`. */
#define PERMIT_WITHOUT(call, i, denied)                                                                                \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##call, 0, 4),                                                            \
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * (i)),                             \
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, denied, 1, 0), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),              \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

/* From here on every system call that is not listed fails with EPERM. */
static void filter_calls(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        PERMIT(pread64),
        PERMIT(recvfrom),
        PERMIT(sendto),
        PERMIT(fstat),
        PERMIT(newfstatat), /* glibc's fstat */
        PERMIT(munmap),
        PERMIT(mremap),
        PERMIT(madvise),
        PERMIT(brk),
        PERMIT(futex),
        PERMIT(rt_sigreturn),
        PERMIT(restart_syscall),
        PERMIT(clock_gettime),
        PERMIT(gettimeofday),
        PERMIT(getrandom),
        PERMIT(getrusage),
        PERMIT(exit),
        PERMIT(exit_group),
        PERMIT_WITHOUT(prlimit64, 0, 0xffffffff), /* of this process alone, which is process 0 */
        PERMIT_WITHOUT(mmap, 2, PROT_EXEC),
        PERMIT_WITHOUT(mprotect, 2, PROT_EXEC),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    };
    const struct sock_fprog filter = {sizeof program / sizeof *program, program};
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}
#else
static void filter_calls(void)
{
}
#endif

/* Makes the out-of-memory killer choose this process before mcsam. A failure does no harm. */
static void die_first(void)
{
    const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (write(fd, "1000", 4) != 4) errno = 0;
    close(fd);
}

int mcs_helper_limit(void)
{
    static const int left_to_mcsam[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGPIPE};
    sigset_t none;
    for (size_t i = 0; i < sizeof left_to_mcsam / sizeof *left_to_mcsam; i++) signal(left_to_mcsam[i], SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* mcsam starts this program with every signal blocked */
    die_first();
    if (!limit_hard(RLIMIT_CORE, 0) || !limit_hard(RLIMIT_FSIZE, 0) || !limit_hard(RLIMIT_NOFILE, 16)) return 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return 0;
#ifndef MCS_SANITIZE
    if (!limit_hard(RLIMIT_DATA, MOST_BYTES)) return 0;
#endif
    mcs_helper_allow(0, 0);
    filter_calls();
    return 1;
}

#define _GNU_SOURCE /* memfd_create, posix_spawn_file_actions_addclosefrom_np, secure_getenv */
#include "data/helper/helper_start.h"

#include "data/helper/helper_protocol.h"
#include "engine/base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ABOVE_ALL_FIXED: lowest descriptor that is passed in, above the helper's fixed ones (MCS_HELPER_*). */
enum { MAX_ENVIRONMENT = 32, NAME_BYTES = 64, ABOVE_ALL_FIXED = 16 };

static int is_program(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode) && access(path, X_OK) == 0;
}

enum mcs_status mcs_helper_find(const struct helper_kind *kind, char path[MCS_PATH_BYTES])
{
    static const char *const places[] = {"", "../libexec/mcsam/"};
    const char *chosen = secure_getenv("MCSAM_LIBEXEC");
    char own[MCS_PATH_BYTES];
    if (chosen && *chosen) {
        MCS_REQUIRE(chosen[0] == '/' && mcs_path_fits(path, "%s/%s", chosen, kind->program) && is_program(path),
                    MCS_E_FAIL,
                    "MCSAM_LIBEXEC is %s; want the full path of a folder with the program %s, which reads %s", chosen,
                    kind->program, kind->files);
        return MCS_OK;
    }
    const ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
    MCS_REQUIRE(n > 0, MCS_E_FAIL,
                "cannot tell where this program is (/proc/self/exe: %s); set MCSAM_LIBEXEC to the folder of %s",
                strerror(errno), kind->program);
    own[n] = 0;
    char *slash = strrchr(own, '/');
    if (slash) slash[1] = 0;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (mcs_path_fits(path, "%s%s%s", own, places[i], kind->program) && is_program(path)) return MCS_OK;
    return MCS_FAIL(MCS_E_FAIL,
                    "the program %s, which reads %s, is neither in %s nor in %s%s; install mcsam again, or set "
                    "MCSAM_LIBEXEC to the folder that has it",
                    kind->program, kind->files, own, own, places[1]);
}

/* The helper's environment: variables of the C library and of the sanitizers, none of the libraries'. */
static void choose_environment(char *dst[MAX_ENVIRONMENT])
{
    static const char *const kept[] = {
        "LD_LIBRARY_PATH=", "GLIBC_TUNABLES=", "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS="};
    int n = 0;
    for (char **e = environ; e && *e && n < MAX_ENVIRONMENT - 1; e++)
        for (size_t k = 0; k < sizeof kept / sizeof *kept; k++)
            if (strncmp(*e, kept[k], strlen(kept[k])) == 0 && n < MAX_ENVIRONMENT - 1) dst[n++] = *e;
    dst[n] = NULL;
}

/* Lists the helper's descriptors. Standard input, output and error are /dev/null: on standard error the C library would
 * print a crash among mcsam's lines. With MCSAM_TRACE_ERRORS standard error stays open. */
static int list_descriptors(posix_spawn_file_actions_t *actions, int file, int socket, int memory)
{
    int failed = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    failed |= posix_spawn_file_actions_addopen(actions, 1, "/dev/null", O_WRONLY, 0);
    if (!getenv("MCSAM_TRACE_ERRORS")) failed |= posix_spawn_file_actions_addopen(actions, 2, "/dev/null", O_WRONLY, 0);
    failed |= posix_spawn_file_actions_adddup2(actions, file, MCS_HELPER_FILE);
    failed |= posix_spawn_file_actions_adddup2(actions, socket, MCS_HELPER_SOCKET);
    failed |= posix_spawn_file_actions_adddup2(actions, memory, MCS_HELPER_MEMORY);
    failed |= posix_spawn_file_actions_addclosefrom_np(actions, MCS_HELPER_MEMORY + 1);
    return failed;
}

/* Every signal is blocked at the start, so that Ctrl-C cannot end the helper before it has set its own handling. The
 * descriptors passed in are above the helper's fixed numbers, so that no dup2 overwrites one that is still needed. */
static int spawn(const char *program, const char *called, int file, int socket, int memory, pid_t *pid)
{
    char name[NAME_BYTES], *argv[] = {name, NULL}, *environment[MAX_ENVIRONMENT];
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t all;
    snprintf(name, sizeof name, "%s", called);
    int error = posix_spawn_file_actions_init(&actions);
    if (error) return error;
    error = posix_spawnattr_init(&attributes);
    if (!error) {
        sigfillset(&all);
        choose_environment(environment);
        error = list_descriptors(&actions, file, socket, memory);
        if (!error) error = posix_spawnattr_setsigmask(&attributes, &all);
        if (!error) error = posix_spawnattr_setsigdefault(&attributes, &all);
        if (!error) error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        if (!error) error = posix_spawn(pid, program, &actions, &attributes, argv, environment);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

static void close_all(int n, int *fd)
{
    for (int i = 0; i < n; i++) {
        if (fd[i] >= 0) close(fd[i]);
        fd[i] = -1;
    }
}

enum mcs_status mcs_helper_process_start(const struct helper_kind *kind, int file, struct helper_process *p)
{
    /* 0, 1: the socket's ends; 2: memory; 3, 4, 5: the helper's three descriptors, high enough to be copied down. */
    int fd[6] = {-1, -1, -1, -1, -1, -1};
    char program[MCS_PATH_BYTES];
    *p = (struct helper_process){.pid = -1, .socket = -1, .memory = -1};
    MCS_TRY(mcs_helper_find(kind, program));
    int error = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) == 0 ? 0 : errno;
    if (!error) fd[2] = memfd_create(kind->program, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (!error && (fd[2] < 0 || fcntl(fd[2], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) != 0)) error = errno;
    const int from[3] = {file, fd[1], fd[2]};
    for (int i = 0; i < 3 && !error; i++)
        if ((fd[3 + i] = fcntl(from[i], F_DUPFD_CLOEXEC, ABOVE_ALL_FIXED)) < 0) error = errno;
    if (!error) error = spawn(program, kind->program, fd[3], fd[4], fd[5], &p->pid);
    if (!error) {
        p->socket = fd[0];
        p->memory = fd[2];
        fd[0] = fd[2] = -1;
    }
    close_all(6, fd);
    MCS_REQUIRE(!error, MCS_E_FAIL, "%s, which reads %s, cannot be started: %s", program, kind->files, strerror(error));
    return MCS_OK;
}

int mcs_helper_process_end(struct helper_process *p)
{
    int how = -1;
    if (p->pid > 0) {
        kill(p->pid, SIGKILL);
        while (waitpid(p->pid, &how, 0) < 0)
            if (errno != EINTR) {
                how = -1;
                break;
            }
    }
    int fd[2] = {p->socket, p->memory};
    close_all(2, fd);
    *p = (struct helper_process){.pid = -1, .socket = -1, .memory = -1};
    return how;
}

/* flock on a file that its holder removes. Between opening the file and locking it, the previous holder may have
 * removed it: then the lock is on a file that no other process will open, and the name must be opened again. */
#include "data/run/run_lock.h"

#include "engine/base/log.h"
#include "engine/base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HOLDER_BYTES = 512, HOST_BYTES = 256 };

static void write_holder(int fd, const char *verb)
{
    char text[HOLDER_BYTES], host[HOST_BYTES] = "?", since[32];
    const time_t now = time(NULL);
    struct tm t;
    gethostname(host, sizeof host - 1);
    strftime(since, sizeof since, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&now, &t));
    const int n =
        snprintf(text, sizeof text, "mcsam %s, process %ld on host %s, since %s", verb, (long)getpid(), host, since);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n)
        mcs_warn("the lock file cannot name this process: %s", strerror(errno));
}

static enum mcs_status refuse(int fd, const char *what)
{
    char holder[HOLDER_BYTES];
    const ssize_t n = pread(fd, holder, sizeof holder - 1, 0);
    holder[n > 0 ? n : 0] = '\0';
    for (char *c = holder; *c; c++)
        if (*c < ' ') *c = '?';
    return MCS_FAIL(MCS_E_FAIL, "%s: is in use by %s; wait for it, stop it, or choose another place for the results",
                    what, *holder ? holder : "another process");
}

/* 1 where the name still refers to the open file. */
static int is_current(int fd, const char *path)
{
    struct stat mine, named;
    return fstat(fd, &mine) == 0 && stat(path, &named) == 0 && mine.st_dev == named.st_dev &&
           mine.st_ino == named.st_ino;
}

enum mcs_status mcs_run_lock(const char *path, const char *what, const char *verb, struct run_lock *lock)
{
    enum { TRIES = 100 };
    lock->fd = -1;
    MCS_TRY(mcs_path(lock->path, "%s", path));
    for (int i = 0; i < TRIES; i++) {
        const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        MCS_REQUIRE(fd >= 0, MCS_E_IO, "%s: cannot write: %s: %s", what, path, strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            if (errno == EWOULDBLOCK) {
                const enum mcs_status st = refuse(fd, what);
                close(fd);
                return st;
            }
            mcs_warn("%s: its file system has no locks (%s): nothing keeps a second run out", what, strerror(errno));
        }
        if (is_current(fd, path)) {
            write_holder(fd, verb);
            lock->fd = fd;
            return MCS_OK;
        }
        close(fd);
    }
    return MCS_FAIL(MCS_E_FAIL, "%s: is in use by other processes that come and go; try again", what);
}

void mcs_run_unlock(struct run_lock *lock)
{
    if (lock->fd < 0) return;
    unlink(lock->path);
    close(lock->fd);
    lock->fd = -1;
}

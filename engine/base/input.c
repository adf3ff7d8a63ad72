#include "engine/base/input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *kind_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR: return "a folder";
    case S_IFIFO: return "a named pipe";
    case S_IFSOCK: return "a socket";
    case S_IFCHR:
    case S_IFBLK: return "a device";
    default: return "no regular file";
    }
}

static enum mcs_status check_kind(const char *path, const struct stat *info)
{
    MCS_REQUIRE(S_ISREG(info->st_mode), MCS_E_IO, "%s: is %s, a file is needed", path, kind_name(info->st_mode));
    return MCS_OK;
}

enum mcs_status mcs_input_open(const char *path, int *fd, int64_t *n_bytes)
{
    enum mcs_status st = MCS_OK;
    struct stat info;

    *fd = -1;
    *n_bytes = 0;
    /* Checked before it is opened, since opening alone makes some devices act; and again afterwards, since the name may
     * refer to another file by then. */
    MCS_REQUIRE(stat(path, &info) == 0, errno == ENOENT || errno == ENOTDIR ? MCS_E_NOINPUT : MCS_E_IO,
                "%s: cannot read: %s", path, strerror(errno));
    MCS_TRY(check_kind(path, &info));
    const int opened = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    MCS_REQUIRE(opened >= 0, errno == ENOENT || errno == ENOTDIR ? MCS_E_NOINPUT : MCS_E_IO, "%s: cannot read: %s",
                path, strerror(errno));
    MCS_REQUIRE_GOTO(fstat(opened, &info) == 0, MCS_E_IO, st, failed, "%s: cannot read: %s", path, strerror(errno));
    MCS_TRY_GOTO(check_kind(path, &info), st, failed);
    *fd = opened;
    *n_bytes = info.st_size;
    return MCS_OK;
failed:
    close(opened);
    return st;
}

enum mcs_status mcs_input_read(int fd, const char *path, void *dst, int64_t n, int64_t offset)
{
    char *at = dst;
    while (n > 0) {
        const ssize_t got = pread(fd, at, n > (1 << 30) ? (size_t)1 << 30 : (size_t)n, offset);
        if (got < 0 && errno == EINTR) continue;
        MCS_REQUIRE(got >= 0, MCS_E_IO, "%s: cannot read: %s", path, strerror(errno));
        MCS_REQUIRE(got > 0, MCS_E_DATA, "%s: truncated: %lld bytes are missing; it became shorter while it was read",
                    path, (long long)n);
        at += got;
        offset += got;
        n -= got;
    }
    return MCS_OK;
}

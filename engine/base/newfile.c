#define _GNU_SOURCE /* O_TMPFILE */
#include "engine/base/newfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HASH_DIGITS = 16,     /* hexadecimal digits of the hash, and of the random number */
    MAX_LEFTOVERS = 4096, /* remembered per process; more are not removed */
    MAX_FOLDERS = 256,    /* listed per process; leftovers in others are not removed */
    NAME_TRIES = 100
};
static const char prefix[] = ".mcsam-";
static int always_named;

void mcs_file_always_named(int always)
{
    always_named = always;
}

const char *mcs_file_write_error(int error)
{
    static _Thread_local char text[160];
    struct rlimit limit;
    if (error == EFBIG && getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        snprintf(text, sizeof text, "%s: files may have %llu bytes here (ulimit -f); raise that limit", strerror(error),
                 (unsigned long long)limit.rlim_cur);
    else
        snprintf(text, sizeof text, "%s", strerror(error));
    return text;
}

/* FNV-1a, 64 bits: short enough for a name; only equality of names matters. */
static unsigned long long name_hash(const char *name)
{
    unsigned long long h = 0xcbf29ce484222325ull;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3ull;
    return h;
}

/* ---- leftovers ---- */

/* A folder is listed once per process, since it may hold very many files; the temporary names found then are kept here
 * until their target is written. */
static struct {
    pthread_mutex_t lock;
    int n_folders, n;
    struct {
        dev_t device;
        ino_t inode;
    } folders[MAX_FOLDERS];
    struct {
        int folder; /* index into folders */
        char name[sizeof prefix + 2 * HASH_DIGITS + 1];
    } * items;
} leftovers = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ".mcsam-" + 16 digits + "-" + 16 digits. */
static int is_temporary(const char *name)
{
    const size_t n = sizeof prefix - 1;
    return strncmp(name, prefix, n) == 0 && strlen(name) == n + 2 * HASH_DIGITS + 1 &&
           strspn(name + n, "0123456789abcdef") == HASH_DIGITS && name[n + HASH_DIGITS] == '-' &&
           strspn(name + n + HASH_DIGITS + 1, "0123456789abcdef") == HASH_DIGITS;
}

static void list_folder(const char *folder, int index)
{
    DIR *d = opendir(folder);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d)) && leftovers.n < MAX_LEFTOVERS;) {
        if (!is_temporary(e->d_name)) continue;
        if (!leftovers.items) leftovers.items = calloc(MAX_LEFTOVERS, sizeof *leftovers.items);
        if (!leftovers.items) break;
        leftovers.items[leftovers.n].folder = index;
        snprintf(leftovers.items[leftovers.n++].name, sizeof leftovers.items->name, "%s", e->d_name);
    }
    closedir(d);
}

/* The folder's index in the table; a new folder is listed now. -1: the table is full, or there is no such folder. */
static int folder_index(const char *folder)
{
    struct stat info;
    if (stat(folder, &info) != 0) return -1;
    for (int i = 0; i < leftovers.n_folders; i++)
        if (leftovers.folders[i].device == info.st_dev && leftovers.folders[i].inode == info.st_ino) return i;
    if (leftovers.n_folders == MAX_FOLDERS) return -1;
    leftovers.folders[leftovers.n_folders].device = info.st_dev;
    leftovers.folders[leftovers.n_folders].inode = info.st_ino;
    list_folder(folder, leftovers.n_folders);
    return leftovers.n_folders++;
}

/* Removes a temporary file unless a process has it locked. A process that has just created the name and not locked it
 * yet sees this lock and chooses another name. */
static void remove_unlocked(const char *folder, const char *name)
{
    char path[MCS_PATH_BYTES];
    struct stat opened, there;
    if (!mcs_path_fits(path, "%s/%s", folder, name)) return;
    const int fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return;
    if (fstat(fd, &opened) == 0 && S_ISREG(opened.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
        lstat(path, &there) == 0 && there.st_dev == opened.st_dev && there.st_ino == opened.st_ino)
        unlink(path);
    close(fd);
}

/* Removes the unlocked leftovers of one target. */
static void sweep(const char *folder, const char *target)
{
    char digits[HASH_DIGITS + 1];
    snprintf(digits, sizeof digits, "%016llx", name_hash(target));
    pthread_mutex_lock(&leftovers.lock);
    const int index = folder_index(folder);
    for (int i = 0; index >= 0 && i < leftovers.n;) {
        const char *name = leftovers.items[i].name;
        if (leftovers.items[i].folder != index || strncmp(name + sizeof prefix - 1, digits, HASH_DIGITS) != 0) {
            i++;
            continue;
        }
        remove_unlocked(folder, name);
        leftovers.items[i] = leftovers.items[--leftovers.n];
    }
    pthread_mutex_unlock(&leftovers.lock);
}

static void remove_contents(int fd)
{
    DIR *d = fdopendir(dup(fd));
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) unlinkat(fd, e->d_name, 0); /* fails for . and .. */
    closedir(d);
}

void mcs_leftovers_remove(const char *folder, const char *prefix_wanted)
{
    DIR *d = opendir(folder);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        struct stat info;
        if (strncmp(e->d_name, prefix_wanted, strlen(prefix_wanted)) != 0) continue;
        const int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) continue;
        const int mine = fstat(fd, &info) == 0 && info.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0;
        if (mine && S_ISDIR(info.st_mode)) remove_contents(fd);
        if (mine) unlinkat(dirfd(d), e->d_name, S_ISDIR(info.st_mode) ? AT_REMOVEDIR : 0);
        close(fd);
    }
    closedir(d);
}

/* ---- the new file ---- */

static enum mcs_status scratch_name(struct mcs_new_file *f)
{
    char folder[MCS_PATH_BYTES];
    const char *name;
    unsigned long long random;
    MCS_TRY(mcs_path_split(f->target, folder, &name));
    MCS_REQUIRE(getrandom(&random, sizeof random, 0) == sizeof random, MCS_E_FAIL, "no random numbers: %s",
                strerror(errno));
    return mcs_path(f->scratch, "%s/%s%016llx-%016llx", folder, prefix, name_hash(name), random);
}

static enum mcs_status open_named(struct mcs_new_file *f)
{
    for (int i = 0; i < NAME_TRIES; i++) {
        MCS_TRY(scratch_name(f));
        f->fd = open(f->scratch, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (f->fd < 0 && errno == EEXIST) continue;
        MCS_REQUIRE(f->fd >= 0, MCS_E_IO, "%s: cannot write: %s", f->target, mcs_file_write_error(errno));
        /* Other errors: a file system without locks, where leftovers are not removed either. */
        if (flock(f->fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) {
            f->named = 1;
            return MCS_OK;
        }
        close(f->fd); /* another process is removing it */
        f->fd = -1;
    }
    return MCS_FAIL(MCS_E_IO, "%s: cannot write: no free name for a temporary file", f->target);
}

/* f->path: the open file's name in /proc. 1 where that exists. */
static int path_by_descriptor(struct mcs_new_file *f)
{
    return mcs_path_fits(f->path, "/proc/self/fd/%d", f->fd) && access(f->path, F_OK) == 0;
}

static int open_unnamed(struct mcs_new_file *f, const char *folder)
{
    if (always_named) return 0;
    f->fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    if (f->fd < 0) return 0;
    if (path_by_descriptor(f) && (flock(f->fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)) return 1;
    close(f->fd); /* without /proc it could never be given a name */
    f->fd = -1;
    return 0;
}

enum mcs_status mcs_file_begin(const char *path, struct mcs_new_file *f)
{
    char folder[MCS_PATH_BYTES];
    const char *name;
    struct stat info;
    f->fd = -1;
    f->named = 0;
    MCS_REQUIRE(path[0], MCS_E_IO, "cannot write: empty file name");
    MCS_TRY(mcs_path(f->target, "%s", path));
    MCS_TRY(mcs_path_split(path, folder, &name));
    if (stat(path, &info) == 0) {
        MCS_REQUIRE(!S_ISDIR(info.st_mode), MCS_E_IO, "%s: cannot write: is a folder, a file name is needed", path);
        MCS_REQUIRE(S_ISREG(info.st_mode), MCS_E_IO, "%s: cannot write: exists and is no regular file", path);
    } else {
        MCS_REQUIRE(errno != ENAMETOOLONG, MCS_E_IO, "%s: cannot write: %s", path, strerror(errno));
    }
    sweep(folder, name);
    if (open_unnamed(f, folder)) return MCS_OK;
    MCS_TRY(open_named(f));
    return path_by_descriptor(f) ? MCS_OK : mcs_path(f->path, "%s", f->scratch);
}

void mcs_file_abort(struct mcs_new_file *f)
{
    if (f->fd < 0) return;
    if (f->named) unlink(f->scratch);
    close(f->fd);
    f->fd = -1;
}

/* Links a nameless file to its target's name, where there is no such file yet; else to a temporary name. */
static enum mcs_status give_name(struct mcs_new_file *f)
{
    char self[64];
    if (f->named) return MCS_OK;
    snprintf(self, sizeof self, "/proc/self/fd/%d", f->fd);
    if (linkat(AT_FDCWD, self, AT_FDCWD, f->target, AT_SYMLINK_FOLLOW) == 0) {
        f->scratch[0] = '\0';
        return MCS_OK;
    }
    MCS_REQUIRE(errno == EEXIST, MCS_E_IO, "%s: cannot write: %s", f->target, mcs_file_write_error(errno));
    for (int i = 0; i < NAME_TRIES; i++) {
        MCS_TRY(scratch_name(f));
        if (linkat(AT_FDCWD, self, AT_FDCWD, f->scratch, AT_SYMLINK_FOLLOW) == 0) {
            f->named = 1;
            return MCS_OK;
        }
        MCS_REQUIRE(errno == EEXIST, MCS_E_IO, "%s: cannot write: %s", f->target, mcs_file_write_error(errno));
    }
    return MCS_FAIL(MCS_E_IO, "%s: cannot write: no free name for a temporary file", f->target);
}

static enum mcs_status sync_folder_of(const char *path)
{
    char folder[MCS_PATH_BYTES];
    const char *name;
    MCS_TRY(mcs_path_split(path, folder, &name));
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return MCS_OK;                         /* a folder that is writable but cannot be listed */
    const int failed = fsync(fd) != 0 && errno == EIO; /* other errors: a file system that cannot sync folders */
    close(fd);
    MCS_REQUIRE(!failed, MCS_E_IO, "%s: cannot sync its folder: %s", path, strerror(EIO));
    return MCS_OK;
}

enum mcs_status mcs_file_commit(struct mcs_new_file *f)
{
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(fsync(f->fd) == 0, MCS_E_IO, st, fail, "%s: cannot write: %s", f->target,
                     mcs_file_write_error(errno));
    MCS_TRY_GOTO(give_name(f), st, fail);
    MCS_REQUIRE_GOTO(!f->named || rename(f->scratch, f->target) == 0, MCS_E_IO, st, fail, "%s: cannot write: %s",
                     f->target, mcs_file_write_error(errno));
    close(f->fd);
    f->fd = -1;
    MCS_TRY(sync_folder_of(f->target));
    return MCS_OK;
fail:
    mcs_file_abort(f);
    return st;
}

enum mcs_status mcs_file_write(const char *path, const void *bytes, int64_t n_bytes)
{
    struct mcs_new_file f = MCS_NEW_FILE;
    enum mcs_status st = MCS_OK;
    const char *p = bytes;

    MCS_TRY(mcs_file_begin(path, &f));
    for (int64_t left = n_bytes; left > 0;) {
        const ssize_t put = write(f.fd, p, left > (1 << 30) ? 1u << 30 : (size_t)left);
        if (put < 0 && errno == EINTR) continue;
        MCS_REQUIRE_GOTO(put > 0, MCS_E_IO, st, fail, "%s: cannot write: %s", path,
                         put ? mcs_file_write_error(errno) : "disk full");
        p += put;
        left -= put;
    }
    MCS_TRY(mcs_file_commit(&f));
    return MCS_OK;
fail:
    mcs_file_abort(&f);
    return st;
}

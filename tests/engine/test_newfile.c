/* engine/base/newfile: names of temporary files, which leftovers are removed and which stay, the longest paths, locks,
 * and a folder that disappears. tests/data/test_file.c tests writing and killed writers. */
#include "engine/base/newfile.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* FNV-1a (64 bits) of "a" and "foobar", from the test vectors of its authors. */
#define A "af63dc4c8601ec8c"
#define FOOBAR "85944171f73967e8"
#define RANDOM "0123456789abcdef"

static char folder[64];

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/mcs_newfile_XXXXXX");
    cr_assert(mkdtemp(folder));
    chmod(folder, 0777);
    mcs_error_clear();
}

static void teardown(void)
{
    char command[128];
    mcs_file_always_named(0);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0) cr_log_warn("%s was left behind", folder);
}

TestSuite(newfile, .init = setup, .fini = teardown);

static const char *at(const char *name)
{
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static void touch(const char *name)
{
    const int fd = open(at(name), O_WRONLY | O_CREAT, 0600);
    cr_assert(fd >= 0, "%s: %s", name, strerror(errno));
    close(fd);
}

static int there(const char *name)
{
    struct stat info;
    return lstat(at(name), &info) == 0;
}

static int n_entries(const char *name)
{
    int n = -2; /* . and .. */
    DIR *d = opendir(at(name));
    cr_assert(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

/* Begins a file, which removes leftovers of its name, and aborts it. */
static void sweep(const char *name)
{
    struct mcs_new_file f = MCS_NEW_FILE;
    cr_assert_eq(mcs_file_begin(at(name), &f), MCS_OK, "%s", mcs_error_message());
    mcs_file_abort(&f);
}

static void fails(enum mcs_status st, const char *part)
{
    cr_expect_eq(st, MCS_E_IO, "status %d", st);
    cr_expect(strstr(mcs_error_message(), part), "no '%s' in: %s", part, mcs_error_message());
    mcs_error_clear();
}

Test(newfile, folder_of_a_path)
{
    static const char *const cases[][2] = {{"a", "."}, {"/a", "/"}, {"x/y/z", "x/y"}, {"/x/y", "/x"}, {"x/", "x"}};
    char got[MCS_PATH_BYTES];
    const char *name;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_expect_eq(mcs_path_split(cases[i][0], got, &name), MCS_OK);
        cr_expect_str_eq(got, cases[i][1], "%s", cases[i][0]);
    }
}

Test(newfile, reasons)
{
    struct rlimit limit;
    cr_expect_str_eq(mcs_file_write_error(ENOSPC), strerror(ENOSPC));
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    if (limit.rlim_max == RLIM_INFINITY) cr_expect_str_eq(mcs_file_write_error(EFBIG), strerror(EFBIG));
    limit.rlim_cur = 123456789;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_expect_str_eq(mcs_file_write_error(ENOSPC), strerror(ENOSPC));
    cr_expect(strstr(mcs_file_write_error(EFBIG), ": files may have 123456789 bytes here (ulimit -f); raise"));
}

/* The name of a temporary file identifies its target, in any folder. */
Test(newfile, names_of_temporary_files)
{
    static const char *const targets[][2] = {{"a", A}, {"foobar", FOOBAR}};
    mcs_file_always_named(1);
    for (int i = 0; i < 2; i++) {
        struct mcs_new_file f = MCS_NEW_FILE;
        char want[160];
        cr_assert_eq(mcs_file_begin(at(targets[i][0]), &f), MCS_OK);
        const int n = snprintf(want, sizeof want, "%s/.mcsam-%s-", folder, targets[i][1]);
        cr_expect(strncmp(f.scratch, want, (size_t)n) == 0, "%s, want %s...", f.scratch, want);
        cr_expect_eq(strlen(f.scratch), (size_t)n + 16);
        cr_expect_eq(strspn(f.scratch + n, "0123456789abcdef"), 16u);
        mcs_file_abort(&f);
        cr_expect_eq(n_entries("."), 0);
    }
}

/* Only regular files with exactly such a name, unlocked, and of this target. */
Test(newfile, which_leftovers_are_removed)
{
    static const char *const stay[] = {
        ".mcsam-" FOOBAR "-" RANDOM,     ".mcsam-" A "-0123456789abcde",  ".mcsam-" A "-" RANDOM "0",
        ".mcsam-" A "-0123456789abcdeg", ".mcsam-" A "-0123456789ABCDEF", ".mcsam-" A "_" RANDOM,
        ".mcsbm-" A "-" RANDOM,          "mcsam--" A "-" RANDOM,          ".mcsam-bf63dc4c8601ec8c-" RANDOM};
    enum { N = sizeof stay / sizeof *stay };
    for (int i = 0; i < N; i++) touch(stay[i]);
    touch("file");
    cr_assert_eq(symlink("file", at(".mcsam-" A "-00000000000000aa")), 0);
    cr_assert_eq(mkfifo(at(".mcsam-" A "-00000000000000bb"), 0600), 0);
    cr_assert_eq(mkdir(at(".mcsam-" A "-00000000000000cc"), 0700), 0);
    touch(".mcsam-" A "-00000000000000dd");
    const int locked = open(at(".mcsam-" A "-00000000000000dd"), O_RDWR | O_CLOEXEC);
    cr_assert(locked >= 0 && flock(locked, LOCK_EX | LOCK_NB) == 0);
    touch(".mcsam-" A "-" RANDOM);
    touch(".mcsam-" A "-fedcba9876543210");
    cr_assert_eq(n_entries("."), N + 7);
    sweep("a");
    close(locked);
    cr_expect_not(there(".mcsam-" A "-" RANDOM));
    cr_expect_not(there(".mcsam-" A "-fedcba9876543210"));
    cr_expect_eq(n_entries("."), N + 5);
    for (int i = 0; i < N; i++) cr_expect(there(stay[i]), "%s", stay[i]);
    cr_expect(there("file") && there(".mcsam-" A "-00000000000000aa"), "a link is not followed");
    cr_expect(there(".mcsam-" A "-00000000000000bb") && there(".mcsam-" A "-00000000000000cc"));
    cr_expect(there(".mcsam-" A "-00000000000000dd"), "of a process that still writes");
    sweep("foobar");
    cr_expect_not(there(stay[0]));
    cr_expect_eq(n_entries("."), N + 4);
}

/* A folder is listed once per process, whatever path refers to it, and folders are distinguished. */
Test(newfile, leftovers_of_several_folders)
{
    cr_assert_eq(mkdir(at("one"), 0777), 0);
    cr_assert_eq(mkdir(at("two"), 0777), 0);
    cr_assert_eq(symlink("one", at("link")), 0);
    touch("one/.mcsam-" A "-" RANDOM);
    touch("one/.mcsam-" FOOBAR "-" RANDOM);
    touch("two/.mcsam-" A "-" RANDOM);
    sweep("one/a");
    cr_expect_eq(n_entries("one"), 1);
    cr_expect_eq(n_entries("two"), 1);
    sweep("two/a");
    cr_expect_eq(n_entries("one"), 1);
    cr_expect_eq(n_entries("two"), 0);
    touch("one/.mcsam-" A "-" RANDOM);
    sweep("one/a");
    cr_expect_eq(n_entries("one"), 2, "not listed again");
    sweep("link/foobar");
    cr_expect_eq(n_entries("one"), 1, "the listed one is remembered under every path");
    cr_expect(there("one/.mcsam-" A "-" RANDOM));
}

/* At most 4,096 leftovers and 256 folders are remembered. */
Test(newfile, bounded_memory)
{
    char name[96];
    enum { MANY = 4100, FOLDERS = 260 };
    cr_assert_eq(mkdir(at("many"), 0777), 0);
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "many/.mcsam-" A "-%016x", i);
        touch(name);
    }
    sweep("many/a");
    cr_expect_eq(n_entries("many"), 4);
    for (int i = 0; i < FOLDERS; i++) {
        snprintf(name, sizeof name, "d%d", i);
        cr_assert_eq(mkdir(at(name), 0777), 0);
        snprintf(name, sizeof name, "d%d/.mcsam-" A "-" RANDOM, i);
        touch(name);
        snprintf(name, sizeof name, "d%d/a", i);
        sweep(name);
    }
    int left = 0;
    for (int i = 0; i < FOLDERS; i++) {
        snprintf(name, sizeof name, "d%d", i);
        left += n_entries(name);
    }
    cr_expect_eq(left, FOLDERS + 1 - 256);
}

/* A path of n bytes to file `a` of the folder. */
static const char *long_path(int n)
{
    static char path[MCS_PATH_BYTES + 8];
    const int used = snprintf(path, sizeof path, "%s", folder);
    char *to = path + used;
    for (; path + n - to > 3; to += 2) memcpy(to, "/.", 2);
    if (path + n - to == 3) *to++ = '/';
    memcpy(to, "/a", 3);
    cr_assert_eq(strlen(path), (size_t)n);
    return path;
}

Test(newfile, the_longest_path)
{
    struct mcs_new_file f = MCS_NEW_FILE;
    fails(mcs_file_begin(long_path(MCS_PATH_BYTES), &f), "the path is too long");
    cr_expect_eq(f.fd, -1);
    cr_assert_eq(mcs_file_write(long_path(MCS_PATH_BYTES - 1), "old", 3), MCS_OK, "%s", mcs_error_message());
    cr_expect(there("a"));
    /* Over an older file it needs a temporary name, for which the path is too long. */
    fails(mcs_file_write(long_path(MCS_PATH_BYTES - 1), "new", 3), "the path is too long");
    struct stat info;
    cr_assert_eq(stat(at("a"), &info), 0);
    cr_expect_eq(info.st_size, 3);
    mcs_file_always_named(1);
    const int name_bytes = (int)strlen("/.mcsam-") + 16 + 1 + 16, most = MCS_PATH_BYTES - 1 - name_bytes + 2;
    fails(mcs_file_begin(long_path(most + 1), &f), "the path is too long");
    cr_assert_eq(mcs_file_begin(long_path(most), &f), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(strlen(f.scratch), (size_t)MCS_PATH_BYTES - 1);
    mcs_file_abort(&f);
    cr_expect_eq(n_entries("."), 1);
}

/* A sweep finds the file locked, with a name or without. */
Test(newfile, locked_while_open)
{
    for (int named = 0; named < 2; named++) {
        struct mcs_new_file f = MCS_NEW_FILE;
        mcs_file_always_named(named);
        cr_assert_eq(mcs_file_begin(at("a"), &f), MCS_OK);
        cr_expect_eq(f.named, named);
        cr_expect_eq(n_entries("."), named);
        cr_expect_eq(fcntl(f.fd, F_GETFL) & O_ACCMODE, O_RDWR);
        const int fd = open(f.path, O_RDONLY | O_CLOEXEC);
        cr_assert(fd >= 0);
        cr_expect(flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK, "named %d", named);
        close(fd);
        mcs_file_abort(&f);
        cr_expect_eq(f.fd, -1);
        cr_expect_eq(n_entries("."), 0);
    }
}

Test(newfile, the_folder_disappears)
{
    for (int named = 0; named < 2; named++) {
        struct mcs_new_file f = MCS_NEW_FILE;
        mcs_file_always_named(named);
        cr_assert_eq(mkdir(at("d"), 0777), 0);
        cr_assert_eq(mcs_file_begin(at("d/a"), &f), MCS_OK);
        cr_assert_eq(rename(at("d"), at("e")), 0);
        fails(mcs_file_commit(&f), "cannot write: No such file or directory");
        cr_expect_eq(f.fd, -1);
        char command[160];
        snprintf(command, sizeof command, "rm -rf %s", at("e"));
        cr_assert_eq(system(command), 0);
    }
}

/* A folder that is writable but cannot be listed. */
Test(newfile, a_folder_that_cannot_be_listed)
{
    char bytes[8] = "";
    cr_assert_eq(mkdir(at("d"), 0777), 0);
    touch("d/.mcsam-" A "-" RANDOM);
    chmod(at("d"), 0333);
    if (geteuid() == 0) cr_assert_eq(seteuid(65534), 0);
    for (int named = 0; named < 2; named++) {
        mcs_file_always_named(named);
        cr_expect_eq(mcs_file_write(at("d/a"), named ? "two" : "one", 3), MCS_OK, "%s", mcs_error_message());
    }
    if (getuid() == 0) cr_assert_eq(seteuid(0), 0);
    chmod(at("d"), 0777);
    const int fd = open(at("d/a"), O_RDONLY);
    cr_assert(fd >= 0);
    cr_expect_eq(read(fd, bytes, sizeof bytes), 3);
    cr_expect_str_eq(bytes, "two");
    close(fd);
    cr_expect_eq(n_entries("d"), 2, "the leftover cannot be seen");
}

/* Temporary folders: locked ones stay with their contents, others are removed with their files; links are not followed.
 */
Test(newfile, temporary_folders)
{
    cr_assert_eq(mkdir(at("run-1"), 0777), 0);
    cr_assert_eq(mkdir(at("run-2"), 0777), 0);
    cr_assert_eq(mkdir(at("run-3"), 0777), 0);
    cr_assert_eq(mkdir(at("run-3/inner"), 0777), 0);
    cr_assert_eq(mkdir(at("runs"), 0777), 0);
    cr_assert_eq(mkdir(at("kept"), 0777), 0);
    touch("run-1/a"), touch("run-1/b"), touch("run-2/a"), touch("run-3/a"), touch("runs/a"), touch("kept/a");
    cr_assert_eq(symlink("kept", at("run-link")), 0);
    const int fd = open(at("run-2"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
    mcs_leftovers_remove(folder, "run-");
    cr_expect_not(there("run-1"));
    cr_expect(there("run-2/a") && there("runs/a") && there("kept/a") && there("run-link"));
    cr_expect_not(there("run-3/a"));
    cr_expect(there("run-3/inner"), "folders of files only");
    close(fd);
    mcs_leftovers_remove(folder, "run-");
    cr_expect_not(there("run-2"));
    cr_expect_eq(n_entries("."), 4);
    if (geteuid() != 0) return;
    cr_assert_eq(mkdir(at("run-4"), 0777), 0);
    touch("run-4/a");
    cr_assert_eq(chown(at("run-4"), 65534, 65534), 0);
    mcs_leftovers_remove(folder, "run-");
    cr_expect(there("run-4/a"), "another user's");
}

/* Several processes and one folder: two writers, killed writers, the leftovers of both, and the folders of killed
 * ranks. A single writer: test_file.c. */
#include "data/io/file.h"
#include "engine/dist/ranks.h"
#include "tests/support/support_folder.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void setup(void)
{
    test_folder_open("file");
    chmod(test_folder, 0777);
}
TestSuite(file, .init = setup, .fini = test_folder_close);

/* As in two containers with equal process numbers that write one file: neither touches the other's temporary file. */
Test(file, two_writers)
{
    struct mcs_new_file one = MCS_NEW_FILE, two = MCS_NEW_FILE;
    for (int named = 0; named < 2; named++) {
        mcs_file_always_named(named);
        cr_assert_eq(mcs_file_begin(in_folder("a"), &one), MCS_OK);
        cr_assert_eq(mcs_file_begin(in_folder("a"), &two), MCS_OK);
        cr_assert_eq(write(one.fd, "one", 3), 3);
        cr_assert_eq(write(two.fd, "other", 5), 5);
        cr_assert_eq(mcs_file_commit(&one), MCS_OK);
        file_holds(in_folder("a"), "one");
        cr_assert_eq(mcs_file_commit(&two), MCS_OK);
        file_holds(in_folder("a"), "other");
        cr_assert_eq(folder_n_entries(test_folder), 1);
    }
    mcs_file_always_named(0);
}

/* A process that ends in the middle of a write; `named`: on a file system without nameless files. */
static void die_writing(const char *path, int named)
{
    const pid_t child = fork();
    if (child == 0) {
        struct mcs_new_file f = MCS_NEW_FILE;
        mcs_file_always_named(named);
        if (mcs_file_begin(path, &f) != MCS_OK || write(f.fd, "half", 4) != 4) _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

Test(file, a_killed_writer_leaves_nothing)
{
    die_writing(in_folder("a"), 0);
    cr_expect_eq(folder_n_entries(test_folder), 0);
}

/* Without O_TMPFILE its partial file stays until the same file is written again; those of other files stay. */
Test(file, leftovers)
{
    struct mcs_new_file alive = MCS_NEW_FILE;
    die_writing(in_folder("a"), 1);
    die_writing(in_folder("a"), 1);
    die_writing(in_folder("b"), 1);
    mcs_file_always_named(1);
    const pid_t writer = fork(); /* still running: its temporary file of the same name must stay */
    if (writer == 0) {
        if (mcs_file_begin(in_folder("a"), &alive) != MCS_OK) _exit(1);
        cr_assert_eq(mcs_file_write(in_folder("ready"), "", 0), MCS_OK);
        for (;;) pause();
    }
    while (!mcs_file_exists(in_folder("ready"))) usleep(1000);
    /* its begin has removed the two of "a"; remaining: its temporary file, that of "b", "ready" */
    cr_expect_eq(folder_n_entries(test_folder), 3);
    cr_assert_eq(mcs_file_write(in_folder(".mcsam-0123456789abcdef-short"), "x", 1), MCS_OK); /* not a temporary name */
    cr_assert_eq(mcs_file_write(in_folder("a"), "x", 1), MCS_OK);
    cr_expect_eq(folder_n_entries(test_folder), 5, "%d", folder_n_entries(test_folder));
    cr_assert_eq(mcs_file_write(in_folder("b"), "x", 1), MCS_OK);
    cr_expect_eq(folder_n_entries(test_folder), 5, "%d",
                 folder_n_entries(test_folder)); /* "b" replaced its temporary file */
    kill(writer, SIGKILL);
    waitpid(writer, NULL, 0);
    mcs_file_always_named(0);
}

/* A file at a name that a writer might choose is never opened: names are random, and O_EXCL refuses existing ones. */
Test(file, temporary_names_differ)
{
    struct mcs_new_file one = MCS_NEW_FILE, two = MCS_NEW_FILE;
    mcs_file_always_named(1);
    cr_assert_eq(mcs_file_begin(in_folder("a"), &one), MCS_OK);
    cr_assert_eq(mcs_file_begin(in_folder("a"), &two), MCS_OK);
    cr_expect_str_neq(one.scratch, two.scratch);
    cr_expect(fcntl(one.fd, F_GETFD) & FD_CLOEXEC);
    /* short, whatever the target's name */
    cr_expect_eq(strlen(strrchr(one.scratch, '/') + 1), strlen(".mcsam-") + 16 + 1 + 16);
    cr_expect_eq(strrchr(one.scratch, '/')[1], '.'); /* hidden from listings */
    mcs_file_abort(&one);
    mcs_file_abort(&two);
    mcs_file_always_named(0);
}

/* ---- folders left by ranks ---- */

static enum mcs_status die(void *context, struct ranks *r)
{
    if (r->rank == 0) kill(getpid(), SIGKILL);
    pause();
    return MCS_OK;
}

/* Says that it is ready, then waits for the file "go". */
static enum mcs_status wait_for_go(void *context, struct ranks *r)
{
    if (r->rank) return MCS_OK;
    cr_assert_eq(mcs_file_write(in_folder("ready"), "", 0), MCS_OK);
    while (!mcs_file_exists(in_folder("go"))) usleep(1000);
    cr_expect(mcs_folder_exists(r->folder)); /* the other run has not removed it */
    return MCS_OK;
}

static enum mcs_status nothing(void *context, struct ranks *r)
{
    return mcs_folder_exists(r->folder) ? MCS_OK : MCS_E_FAIL;
}

/* The rendezvous folder of a killed run is removed by the next run; that of a running one is not. */
Test(file, folder_of_killed_ranks)
{
    setenv("TMPDIR", test_folder, 1);
    pid_t child = fork();
    if (child == 0) _exit(mcs_ranks_run(2, die, NULL));
    cr_assert_eq(waitpid(child, NULL, 0), child);
    cr_assert_eq(folder_n_entries(test_folder), 1);
    DIR *d = opendir(test_folder);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] == 'm') {
            char alive[512];
            snprintf(alive, sizeof alive, "%s/alive.0", e->d_name);
            cr_assert_eq(mcs_file_write(in_folder(alive), "x", 1), MCS_OK);
        }
    closedir(d);
    child = fork();
    if (child == 0) _exit(mcs_ranks_run(2, wait_for_go, NULL));
    while (!mcs_file_exists(in_folder("ready"))) usleep(1000);
    cr_expect_eq(folder_n_entries(test_folder), 2); /* "ready" and the folder of the running ranks */
    cr_expect_eq(mcs_ranks_run(2, nothing, NULL), MCS_OK);
    cr_expect_eq(folder_n_entries(test_folder), 2);
    cr_assert_eq(mcs_file_write(in_folder("go"), "", 0), MCS_OK);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    cr_expect_eq(folder_n_entries(test_folder), 2); /* "ready" and "go" */
}

/* Only this user's, and only names with the prefix. */
Test(file, leftovers_by_name)
{
    cr_assert_eq(mcs_file_write(in_folder("part-1"), "x", 1), MCS_OK);
    cr_assert_eq(mcs_file_write(in_folder("part-2"), "x", 1), MCS_OK);
    cr_assert_eq(mcs_file_write(in_folder("other"), "x", 1), MCS_OK);
    cr_assert_eq(symlink("other", in_folder("part-link")), 0);
    cr_assert_eq(mcs_folder_make(in_folder("part-3")), MCS_OK);
    cr_assert_eq(mcs_file_write(in_folder("part-3/a"), "x", 1), MCS_OK);
    const int fd = open(in_folder("part-2"), O_RDONLY | O_CLOEXEC);
    cr_assert_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
    mcs_leftovers_remove(in_folder("none"), "part-");
    mcs_leftovers_remove(test_folder, "part-");
    close(fd);
    cr_expect_not(mcs_file_exists(in_folder("part-1")) || mcs_folder_exists(in_folder("part-3")));
    cr_expect(mcs_file_exists(in_folder("part-2")) && mcs_file_exists(in_folder("other")));
    cr_expect_eq(folder_n_entries(test_folder), 3); /* and the link */
    if (geteuid() != 0) return;
    cr_assert_eq(chown(in_folder("part-2"), 65534, 65534), 0);
    mcs_leftovers_remove(test_folder, "part-");
    cr_expect(mcs_file_exists(in_folder("part-2")));
}

/* Files: written whole or not at all, whatever exists at the target; listing, stems, SHA-256. Killed writers and
 * several writers: test_file_writers.c. */
#include "data/io/file.h"
#include "engine/dist/ranks.h"
#include "tests/support/support_folder.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void setup(void)
{
    test_folder_open("file");
    chmod(test_folder, 0777);
}

TestSuite(file, .init = setup, .fini = test_folder_close);

static int n_files(const char *path)
{
    struct file_list l;
    cr_assert_eq(mcs_folder_list(path, NULL, &l), MCS_OK);
    int n = l.n;
    mcs_file_list_free(&l);
    return n;
}

static void fails(enum mcs_status st, enum mcs_status want, const char *word)
{
    cr_assert_eq(st, want, "status %d: %s", st, mcs_error_message());
    cr_assert(strstr(mcs_error_message(), word), "no '%s' in: %s", word, mcs_error_message());
    mcs_error_clear();
}

Test(file, written_and_replaced)
{
    cr_assert_eq(mcs_file_write(in_folder("a"), "old", 3), MCS_OK);
    file_holds(in_folder("a"), "old");
    cr_assert_eq(mcs_file_write(in_folder("a"), "newer", 5), MCS_OK);
    file_holds(in_folder("a"), "newer");
    cr_assert_eq(mcs_file_write(in_folder("a"), "", 0), MCS_OK);
    file_holds(in_folder("a"), "");
    cr_assert_eq(n_files(test_folder), 1);
}

Test(file, in_steps)
{
    struct mcs_new_file new = MCS_NEW_FILE;
    static char longest[MCS_PATH_BYTES + 10];
    for (int named = 0; named < 2; named++) {
        mcs_file_always_named(named);
        cr_assert_eq(mcs_file_write(in_folder("a"), "old", 3), MCS_OK);
        cr_assert_eq(mcs_file_begin(in_folder("a"), &new), MCS_OK);
        cr_expect_eq(new.named, named);
        FILE *f = fopen(new.path, "w");
        fputs("new", f);
        fclose(f);
        file_holds(in_folder("a"), "old"); /* until the commit */
        cr_assert_eq(mcs_file_commit(&new), MCS_OK);
        cr_expect_eq(new.fd, -1);
        file_holds(in_folder("a"), "new");
        cr_assert_eq(mcs_file_begin(in_folder("a"), &new), MCS_OK);
        mcs_file_abort(&new);
        mcs_file_abort(&new); /* nothing is left to abort */
        file_holds(in_folder("a"), "new");
        cr_assert_eq(folder_n_entries(test_folder), 1);
    }
    mcs_file_always_named(0);
    memset(longest, 'x', sizeof longest - 1);
    fails(mcs_file_begin(longest, &new), MCS_E_IO, "too long");
    fails(mcs_file_begin(longest + sizeof longest - 300, &new), MCS_E_IO, "name too long");
}

/* The permissions are those of any new file, and a link is replaced, not written through. */
Test(file, permissions_and_links)
{
    struct stat info;
    const mode_t before = umask(027);
    for (int named = 0; named < 2; named++) {
        mcs_file_always_named(named);
        unlink(in_folder("a"));
        cr_assert_eq(mcs_file_write(in_folder("a"), "1", 1), MCS_OK);
        cr_assert_eq(stat(in_folder("a"), &info), 0);
        cr_expect_eq(info.st_mode & 0777, 0640);
        cr_assert_eq(mcs_file_write(in_folder("a"), "2", 1), MCS_OK); /* now over an older file */
        cr_assert_eq(stat(in_folder("a"), &info), 0);
        cr_expect_eq(info.st_mode & 0777, 0640);
        cr_assert_eq(symlink("a", in_folder("link")), 0);
        cr_assert_eq(mcs_file_write(in_folder("link"), "3", 1), MCS_OK);
        file_holds(in_folder("a"), "2");
        file_holds(in_folder("link"), "3");
        cr_assert_eq(lstat(in_folder("link"), &info), 0);
        cr_expect(S_ISREG(info.st_mode));
        unlink(in_folder("link"));
    }
    mcs_file_always_named(0);
    umask(before);
}

Test(file, what_is_in_the_way)
{
    mkdir(in_folder("d"), 0777);
    fails(mcs_file_write(in_folder("d"), "x", 1), MCS_E_IO, "is a folder");
    fails(mcs_file_write(in_folder("no/such/a"), "x", 1), MCS_E_IO, "No such");
    fails(mcs_file_write("/dev/null", "x", 1), MCS_E_IO, "regular"); /* a rename over it would break the machine */
    fails(mcs_file_write("", "x", 1), MCS_E_IO, "empty");
    cr_assert_eq(n_files(test_folder), 0); /* folders are not listed, and no temporary file is left */
}

Test(file, read_only_folder)
{
    cr_assert_eq(mcs_file_write(in_folder("a"), "old", 3), MCS_OK);
    chmod(test_folder, 0555);
    if (geteuid() == 0) cr_assert_eq(seteuid(65534), 0); /* root may write anywhere; this process runs only this test */
    enum mcs_status st = mcs_file_write(in_folder("a"), "new", 3);
    if (getuid() == 0) cr_assert_eq(seteuid(0), 0);
    chmod(test_folder, 0777);
    fails(st, MCS_E_IO, "Permission denied");
    file_holds(in_folder("a"), "old");
    cr_assert_eq(n_files(test_folder), 1);
}

/* A limit on the size of files truncates a write as a full disk does. */
Test(file, limit_on_size)
{
    struct rlimit limit = {1000, 1000};
    static char big[5000];
    cr_assert_eq(mcs_file_write(in_folder("a"), "old", 3), MCS_OK);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    limit.rlim_max = before.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    enum mcs_status st = mcs_file_write(in_folder("a"), big, sizeof big);
    setrlimit(RLIMIT_FSIZE, &before);
    fails(st, MCS_E_IO, "1000 bytes here (ulimit -f)");
    file_holds(in_folder("a"), "old");
    cr_assert_eq(n_files(test_folder), 1);
}

Test(file, full_disk)
{
    static char big[1 << 20];
    mkdir(in_folder("disk"), 0777);
    if (geteuid() != 0 || mount("none", in_folder("disk"), "tmpfs", 0, "size=65536") != 0)
        cr_skip_test("a small file system cannot be mounted here");
    cr_expect_eq(mcs_file_write(in_folder("disk/a"), "old", 3), MCS_OK);
    enum mcs_status st = mcs_file_write(in_folder("disk/a"), big, sizeof big);
    cr_expect_eq(st, MCS_E_IO);
    cr_expect(strstr(mcs_error_message(), "No space left"), "%s", mcs_error_message());
    mcs_error_clear();
    file_holds(in_folder("disk/a"), "old");
    cr_expect_eq(n_files(in_folder("disk")), 1);
    umount(in_folder("disk"));
}

Test(file, reading)
{
    char *bytes;
    int64_t n;
    cr_assert_eq(mcs_file_write(in_folder("a"), "12345", 5), MCS_OK);
    fails(mcs_file_read(in_folder("a"), 4, &bytes, &n), MCS_E_DATA, "more than the 4");
    fails(mcs_file_read(in_folder("b"), 4, &bytes, &n), MCS_E_NOINPUT, "No such");
    fails(mcs_file_read(test_folder, 4, &bytes, &n), MCS_E_IO, "is a folder");
    cr_assert_eq(mcs_file_read(in_folder("a"), 5, &bytes, &n), MCS_OK);
    free(bytes);
    fails(mcs_file_read("/dev/zero", 1 << 20, &bytes, &n), MCS_E_IO, "is a device"); /* endless, without a size */
}

Test(file, folders)
{
    struct file_list l;
    static const char *const names[] = {"b.PNG", "a.nii.gz", "c.jpg", "d.txt", ".hidden.png", "png", "a.png"};
    cr_assert_eq(mcs_folder_make(in_folder("x/y//z/")), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_folder_make(in_folder("x/y/z")), MCS_OK);
    cr_assert(mcs_folder_exists(in_folder("x/y/z")) && !mcs_file_exists(in_folder("x/y/z")));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/x/%s", test_folder, names[i]);
        cr_assert_eq(mcs_file_write(path, "", 0), MCS_OK);
    }
    cr_assert(mcs_file_exists(in_folder("x/a.png")) && !mcs_folder_exists(in_folder("x/a.png")));
    fails(mcs_folder_make(in_folder("x/a.png")), MCS_E_IO, "a file has that name");
    cr_assert_eq(mcs_folder_list(in_folder("x"), ".png;.jpg;.nii.gz", &l), MCS_OK);
    cr_assert_eq(l.n, 4);
    cr_assert(!strcmp(l.names[0], "a.nii.gz") && !strcmp(l.names[1], "a.png") && !strcmp(l.names[2], "b.PNG") &&
              !strcmp(l.names[3], "c.jpg"));
    mcs_file_list_free(&l);
    fails(mcs_folder_list(in_folder("none"), NULL, &l), MCS_E_NOINPUT, "No such");
}

Test(file, stems)
{
    static const char *const cases[][2] = {{"a/b/case_01.nii.gz", "case_01"},
                                           {"x.png", "x"},
                                           {"/d.e/f", "f"},
                                           {"a.b.png", "a.b"},
                                           {".config", ".config"},
                                           {"d/", ""}};
    char stem[32], tiny[4];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mcs_file_stem(cases[i][0], stem, sizeof stem);
        cr_assert_str_eq(stem, cases[i][1]);
    }
    mcs_file_stem("abcdef.png", tiny, sizeof tiny);
    cr_assert_str_eq(tiny, "abc");
}

/* FIPS 180-4's examples, and every length around a block boundary against the version for files. */
Test(file, sha256)
{
    char hex[65], again[65], text[200];
    mcs_sha256("", 0, hex);
    cr_assert_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    mcs_sha256("abc", 3, hex);
    cr_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    mcs_sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex);
    cr_assert_str_eq(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *million = malloc(1000000);
    memset(million, 'a', 1000000);
    mcs_sha256(million, 1000000, hex);
    cr_assert_str_eq(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    cr_assert_eq(mcs_file_write(in_folder("m"), million, 1000000), MCS_OK);
    cr_assert_eq(mcs_file_sha256(in_folder("m"), again), MCS_OK);
    cr_assert_str_eq(hex, again);
    free(million);
    memset(text, 'x', sizeof text);
    for (int n = 50; n < 140; n += 3) {
        mcs_sha256(text, n, hex);
        cr_assert_eq(mcs_file_write(in_folder("t"), text, n), MCS_OK);
        cr_assert_eq(mcs_file_sha256(in_folder("t"), again), MCS_OK);
        cr_assert_str_eq(hex, again);
    }
    fails(mcs_file_sha256(in_folder("none"), hex), MCS_E_NOINPUT, "No such");
}

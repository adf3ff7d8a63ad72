/* Programs in place of the helper that reads HDF5 files: missing, of another version, hanging, or lying, as one
 * controlled by a hostile file could. Each of them costs only the file. */
#include "data/helper/helper.h"
#include "data/io/file.h"
#include "data/io/h5_helper.h"
#include "data/io/h5_protocol.h"
#include "data/io/store.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static void setup(void)
{
    test_folder_open("liars");
}

TestSuite(store_liars, .init = setup, .fini = test_folder_close, .timeout = 120);

static void put_file(const char *name)
{
    static const float x[4] = {1, 2, 3, 4};
    struct store *s;
    OK(mcs_store_create(in_folder(name), &s));
    OK(mcs_store_put(s, "f32", MCS_ARRAY_F32, 2, (int64_t[]){2, 2}, x));
    OK(mcs_store_commit(s));
}

/* Installs a shell script as the helper. */
static void put_script(const char *text)
{
    tiny_shell("mkdir -p %s", in_folder("bin"));
    OK(mcs_file_write(in_folder("bin/" H5_HELPER_NAME), text, (int64_t)strlen(text)));
    cr_assert_eq(chmod(in_folder("bin/" H5_HELPER_NAME), 0755), 0);
    setenv("MCSAM_LIBEXEC", in_folder("bin"), 1);
    put_file("a.h5");
}

/* A helper that sends a valid hello, opens every file, and then answers each request with `reply` and n_bytes bytes of
 * shared memory. */
static void put_liar(const struct h5_reply *reply, const char *memory, size_t n_bytes)
{
    struct helper_hello hello = {.request_bytes = sizeof(struct h5_request), .reply_bytes = sizeof(struct h5_reply)};
    static const struct h5_reply good = {0};
    memcpy(hello.magic, H5_MAGIC, sizeof hello.magic);
    snprintf(hello.version, sizeof hello.version, "%s", MCS_VERSION);
    OK(mcs_file_write(in_folder("hello"), &hello, sizeof hello));
    OK(mcs_file_write(in_folder("good"), &good, sizeof good));
    OK(mcs_file_write(in_folder("reply"), reply, sizeof *reply));
    OK(mcs_file_write(in_folder("memory"), memory, (int64_t)n_bytes));
    char script[4096];
    snprintf(script, sizeof script,
             "#!/bin/sh\ncat %s/hello >&4\ncat %s/good >&4\n"
             "while dd bs=65536 count=1 <&4 of=%s/request 2>/dev/null && [ -s %s/request ]; do " /* empty: closed */
             "cat %s/memory >&5; cat %s/reply >&4; done\n",
             test_folder, test_folder, test_folder, test_folder, test_folder, test_folder);
    put_script(script);
}

Test(store_liars, one_that_is_missing_is_told_with_what_to_do)
{
    struct store *s;
    put_file("a.h5");
    const char *const diff[] = {"diff", "a.h5", "a.h5", NULL};
    setenv("MCSAM_LIBEXEC", test_folder, 1);
    fails_with(mcs_store_open(in_folder("a.h5"), &s), MCS_E_FAIL,
               "want the full path of a folder with the program mcsam-h5read");
    cr_expect_eq(tiny_wait(tiny_spawn(MCS_BINARY, test_folder, diff, NULL)), 1, "%s", tiny_log(test_folder));
    setenv("MCSAM_LIBEXEC", ".", 1);
    fails_with(mcs_store_open(in_folder("a.h5"), &s), MCS_E_FAIL, "MCSAM_LIBEXEC is .");

    unsetenv("MCSAM_LIBEXEC");
    tiny_shell("mkdir -p %s && cp %s %s", in_folder("prefix/bin"), MCS_BINARY, in_folder("prefix/bin/mcsam"));
    cr_expect_eq(tiny_wait(tiny_spawn(in_folder("prefix/bin/mcsam"), test_folder, diff, NULL)), 1, "%s",
                 tiny_log(test_folder));
    cr_expect(strstr(tiny_log(test_folder), "install mcsam again, or set MCSAM_LIBEXEC"), "%s", tiny_log(test_folder));
    tiny_shell("mkdir -p %s && cp %s/" H5_HELPER_NAME " %s", in_folder("prefix/libexec/mcsam"), MCS_BUILD,
               in_folder("prefix/libexec/mcsam"));
    cr_expect_eq(tiny_wait(tiny_spawn(in_folder("prefix/bin/mcsam"), test_folder, diff, NULL)), 0, "%s",
                 tiny_log(test_folder));
}

/* A missing helper fails every case alike: the verb ends at once, without a list of failures. */
Test(store_liars, a_batch_without_one_ends_at_once)
{
    put_file("a.h5");
    tiny_shell("mkdir %s && cp %s %s", in_folder("in"), in_folder("a.h5"), in_folder("in/a.h5"));
    setenv("MCSAM_LIBEXEC", test_folder, 1);
    const char *const verbs[][7] = {{"ensemble", "-i", "in", "-o", "out", NULL},
                                    {"uncertainty", "-i", "in", "-o", "out2", NULL},
                                    {"coarse", "-i", "in", "-o", "out3", NULL}};
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(tiny_wait(tiny_spawn(MCS_BINARY, test_folder, verbs[i], NULL)), 1, "%s", tiny_log(test_folder));
        cr_expect(strstr(tiny_log(test_folder), "mcsam-h5read"), "%s", tiny_log(test_folder));
    }
}

Test(store_liars, one_of_another_version_or_that_hangs_is_refused)
{
    struct store *s;
    put_script("#!/bin/sh\nprintf 'mcsam-h5 something else' >&4\nsleep 60\n");
    fails_with(mcs_store_open(in_folder("a.h5"), &s), MCS_E_FAIL, "does not answer, or is not of mcsam");
    put_script("#!/bin/sh\nexit 0\n");
    fails_with(mcs_store_open(in_folder("a.h5"), &s), MCS_E_FAIL, "does not answer, or is not of mcsam");
    mcs_helper_timeout_ms = 200;
    put_script("#!/bin/sh\nexec sleep 60\n");
    fails_with(mcs_store_open(in_folder("a.h5"), &s), MCS_E_FAIL, "does not answer, or is not of mcsam");
    put_script("no program\n");
    fails_with(mcs_store_open(in_folder("a.h5"), &s), MCS_E_FAIL, "cannot be started: Exec format error");
}

Test(store_liars, a_file_that_makes_it_hang_is_damaged)
{
    static const struct h5_reply nothing = {0};
    struct store *s;
    double x;
    put_liar(&nothing, "", 0);
    char script[1024];
    snprintf(script, sizeof script, "#!/bin/sh\ncat %s/hello >&4\ncat %s/good >&4\nexec sleep 60\n", test_folder,
             test_folder);
    put_script(script);
    OK(mcs_store_open(in_folder("a.h5"), &s));
    mcs_helper_timeout_ms = 200;
    fails_with(mcs_store_get_number(s, "number", &x), MCS_E_DATA, "the HDF5 library failed on it (it took too long)");
    fails_with(mcs_store_get_number(s, "number", &x), MCS_E_DATA, "failed on it before");
    mcs_store_close(s);
}

/* Each of these numbers, if trusted, would read or write out of bounds. */
Test(store_liars, what_it_answers_is_checked)
{
    const struct h5_reply infos[] = {
        {.nd = 7},
        {.nd = -1},
        {.nd = 1, .dims = {-4}},
        {.nd = 2, .dims = {(int64_t)1 << 31, (int64_t)1 << 31}},
        {.nd = 1, .dims = {(int64_t)1 << 39}},
        {.nd = 1, .dims = {4}, .type = 99},
        {.nd = 1, .dims = {4}, .type = -1},
        {.nd = 1, .dims = {4}, .chunk_bytes = -1},
    };
    const struct h5_reply texts[] = {
        {.n = -1, .bytes = 4},
        {.n = 4, .bytes = -4},
        {.n = 4, .bytes = 3},
        {.n = INT64_MAX, .bytes = INT64_MAX},
        {.n = 1, .bytes = (int64_t)1 << 40},
        {.n = 2, .bytes = 8},
        {.n = 1, .bytes = 4},
    };
    struct store_info info;
    struct store *s;
    char note[8], **list;
    int n;
    for (size_t i = 0; i < sizeof infos / sizeof *infos; i++) {
        put_liar(&infos[i], "", 0);
        OK(mcs_store_open(in_folder("a.h5"), &s));
        fails_with(mcs_store_get_info(s, "f32", &info), MCS_E_DATA, "failed on it (it answered nonsense)");
        mcs_store_close(s);
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put_liar(&texts[i], "abcdefg", 8); /* one NUL, at the end */
        OK(mcs_store_open(in_folder("a.h5"), &s));
        fails_with(mcs_store_get_texts(s, "free", &n, &list), MCS_E_DATA, "failed on it (it answered nonsense)");
        mcs_store_close(s);
    }
    const struct h5_reply no_end = {.n = 1, .bytes = 6};
    put_liar(&no_end, "abc\0de", 6); /* one NUL, not at the end */
    OK(mcs_store_open(in_folder("a.h5"), &s));
    fails_with(mcs_store_get_texts(s, "free", &n, &list), MCS_E_DATA, "failed on it (it answered nonsense)");
    mcs_store_close(s);
    const struct h5_reply long_note = {.n = 1, .bytes = 9};
    put_liar(&long_note, "abcdefgh", 9);
    OK(mcs_store_open(in_folder("a.h5"), &s));
    fails_with(mcs_store_get_text(s, "text", note, sizeof note), MCS_E_DATA, "failed on it (it answered nonsense)");
    mcs_store_close(s);
    struct h5_reply message = {.status = MCS_E_USAGE,
                               .message = "a\x1b[31mred\n\xc2\x9b"
                                          "31m"};
    put_liar(&message, "", 0);
    OK(mcs_store_open(in_folder("a.h5"), &s));
    fails_with(mcs_store_get_info(s, "f32", &info), MCS_E_DATA, "a.h5: a?[31mred???31m");
    mcs_store_close(s);
}

/* A reply of another length, and a helper that closes the socket but keeps running. */
Test(store_liars, messages_of_another_length_are_refused)
{
    static const struct h5_reply nothing = {0};
    struct store_info info;
    struct store *s;
    char script[1024];
    put_liar(&nothing, "", 0);
    static const char *const last[] = {"head -c 99 %s/reply >&4; sleep 60", "exec 4>&-; exec sleep 60",
                                       "cat %s/reply %s/reply | dd bs=65536 iflag=fullblock >&4; sleep 60"};
    for (int i = 0; i < 3; i++) {
        int n =
            snprintf(script, sizeof script, "#!/bin/sh\ncat %s/hello >&4\ncat %s/good >&4\n", test_folder, test_folder);
        snprintf(script + n, sizeof script - (size_t)n, last[i], test_folder, test_folder);
        put_script(script);
        OK(mcs_store_open(in_folder("a.h5"), &s));
        fails_with(mcs_store_get_info(s, "f32", &info), MCS_E_DATA,
                   i == 1 ? "failed on it (it crashed)" : "failed on it (it answered nonsense)");
        mcs_store_close(s);
    }
}

/* Shared memory that the helper shrinks would end this process by SIGBUS. */
Test(store_liars, it_cannot_make_the_shared_memory_smaller)
{
    static const struct h5_reply nothing = {0};
    const int64_t dims[2] = {2, 2};
    struct store *s;
    float x[4] = {1, 1, 1, 1}, zeros[4] = {0};
    char script[1024];
    put_liar(&nothing, "", 0);
    snprintf(script, sizeof script,
             "#!/bin/sh\ncat %s/hello >&4\ncat %s/good >&4\ndd bs=65536 count=1 <&4 of=/dev/null\n"
             "truncate -s 0 /proc/self/fd/5\ncat %s/reply >&4\nsleep 60\n",
             test_folder, test_folder, test_folder);
    put_script(script);
    OK(mcs_store_open(in_folder("a.h5"), &s));
    OK(mcs_store_get(s, "f32", MCS_ARRAY_F32, 2, dims, x));
    cr_expect_arr_eq(x, zeros, sizeof x);
    mcs_store_close(s);
}

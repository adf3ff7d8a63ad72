/* The helper program that reads HDF5 files: the same values as in this process, files on which libhdf5 fails, the
 * limits on the process. Helpers that lie, hang or are missing: test_store_liars.c. */
#include "data/io/file.h"
#include "data/io/store.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static void setup(void)
{
    test_folder_open("helper");
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

TestSuite(store_helper, .init = setup, .fini = test_folder_close, .timeout = 120);

/* A file with every kind of dataset that the store reads, some of which only other programs write. */
static void put_kinds(const char *name)
{
    static const double f64[4] = {1.5, -2, 1e300, 0.1};
    static const float f16[4] = {1.5f, -2, 65504, 0x1p-24f};
    static const int32_t i32[4] = {-1, 0, 1, INT32_MAX};
    static const int64_t i64[4] = {INT64_MIN, -1, 0, INT64_MAX};
    static const uint8_t u8[4] = {0, 1, 128, 255};
    static const char *free_texts[2] = {"caf\xc3\xa9", ""};
    static const char fixed_texts[2][4] = {"abcd", "e"};
    const hsize_t dims[2] = {2, 2}, two[1] = {2}, none[1] = {0};
    const hid_t file = H5Fcreate(in_folder(name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t space = H5Screate_simple(2, dims, NULL), list = H5Screate_simple(1, two, NULL);
    const hid_t empty = H5Screate_simple(1, none, NULL), scalar = H5Screate(H5S_SCALAR);
    const hid_t half = H5Tcopy(H5T_IEEE_F32BE), text = H5Tcopy(H5T_C_S1), four = H5Tcopy(H5T_C_S1);
    H5Tset_fields(half, 15, 10, 5, 0, 10);
    H5Tset_size(half, 2);
    H5Tset_ebias(half, 15);
    H5Tset_size(text, H5T_VARIABLE);
    H5Tset_size(four, 4);
    H5Tset_strpad(four, H5T_STR_NULLPAD);
    const struct {
        const char *name;
        hid_t stored, memory, space;
        const void *data;
    } sets[] = {
        {"f64", H5T_IEEE_F64BE, H5T_NATIVE_DOUBLE, space, f64},
        {"f16", half, H5T_NATIVE_FLOAT, space, f16},
        {"f32", H5T_IEEE_F32BE, H5T_NATIVE_FLOAT, space, f16},
        {"i32", H5T_STD_I32BE, H5T_NATIVE_INT32, space, i32},
        {"i64", H5T_STD_I64LE, H5T_NATIVE_INT64, space, i64},
        {"u8", H5T_STD_U8LE, H5T_NATIVE_UINT8, space, u8},
        {"free", text, text, list, free_texts},
        {"fixed", four, four, list, fixed_texts},
        {"empty", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, empty, u8},
        {"scalar", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, scalar, f16},
        {"no_texts", text, text, empty, free_texts},
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        const hid_t set =
            H5Dcreate2(file, sets[i].name, sets[i].stored, sets[i].space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        cr_assert(set >= 0, "%s", sets[i].name);
        cr_assert(H5Dwrite(set, sets[i].memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, sets[i].data) >= 0, "%s", sets[i].name);
        H5Dclose(set);
    }
    hid_t note = H5Acreate2(file, "number", H5T_STD_I16BE, scalar, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(note, H5T_NATIVE_INT32, (int32_t[]){-7});
    H5Aclose(note);
    note = H5Acreate2(file, "text", four, scalar, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(note, four, fixed_texts[0]);
    H5Aclose(note);
    H5Fclose(file);
}

/* Everything in the file, concatenated, as read through the store. Malloc'ed. */
static char *read_all(const char *name, size_t *n_bytes)
{
    char *all = NULL, **names, **texts, note[8];
    int n, n_texts;
    double number;
    struct store *s;
    FILE *f = open_memstream(&all, n_bytes);
    OK(mcs_store_open(in_folder(name), &s));
    OK(mcs_store_list(s, &n, &names));
    cr_assert_eq(n, 11);
    for (int i = 0; i < n; i++) {
        struct store_info info;
        char values[32] = {0};
        OK(mcs_store_get_info(s, names[i], &info));
        fprintf(f, "%s %d %d %lld %lld %lld\n", names[i], info.type, info.nd, (long long)info.n_values,
                (long long)info.dims[0], (long long)info.dims[1]);
        if (info.type == MCS_ARRAY_N_TYPES) {
            OK(mcs_store_get_texts(s, names[i], &n_texts, &texts));
            for (int k = 0; k < n_texts; k++) fprintf(f, "'%s'\n", texts[k]);
            mcs_store_texts_free(n_texts, texts);
            continue;
        }
        const int is_float = strchr("fes", names[i][0]) != NULL;
        OK(mcs_store_get(s, names[i], is_float ? MCS_ARRAY_F32 : info.type, info.nd, info.dims, values));
        fwrite(values, sizeof values, 1, f);
    }
    OK(mcs_store_get_number(s, "number", &number));
    OK(mcs_store_get_text(s, "text", note, sizeof note));
    fprintf(f, "%a %s\n", number, note);
    mcs_store_texts_free(n, names);
    mcs_store_close(s);
    fclose(f);
    return all;
}

/* Adds the file to the record of a run folder, as if this program had written it. */
static void make_known(const char *name)
{
    char hex[65], line[256];
    OK(mcs_file_sha256(in_folder(name), hex));
    const int n = snprintf(line, sizeof line, "{\"file\":\"%s\",\"sha256\":\"%s\"}\n", name, hex);
    OK(mcs_file_write(in_folder(".mcsam.record"), line, n));
}

Test(store_helper, gives_the_values_that_this_process_reads)
{
    static const float f16[4] = {1.5f, -2, 65504, 0x1p-24f}, f64[4] = {1.5f, -2, HUGE_VALF, 0.1f};
    const int64_t dims[2] = {2, 2};
    struct store *s;
    float x[4];
    size_t n, m;
    put_kinds("a.h5");
    char *helper = read_all("a.h5", &n);
    OK(mcs_store_open(in_folder("a.h5"), &s));
    OK(mcs_store_get(s, "f16", MCS_ARRAY_F32, 2, dims, x));
    cr_expect_arr_eq(x, f16, sizeof x);
    OK(mcs_store_get(s, "f64", MCS_ARRAY_F32, 2, dims, x));
    cr_expect_arr_eq(x, f64, sizeof x);
    fails_with(mcs_store_get(s, "i32", MCS_ARRAY_F32, 2, dims, x), MCS_E_DATA,
               "a.h5: dataset i32 has type I32, want F32");
    fails_with(mcs_store_put_number(s, "x", 1), MCS_E_USAGE, "opened for reading");
    mcs_store_close(s);

    make_known("a.h5");
    setenv("MCSAM_LIBEXEC", "/nowhere", 1); /* it must not be needed */
    char *here = read_all("a.h5", &m);
    cr_expect(n == m && memcmp(helper, here, n) == 0, "%s\n---\n%s", helper, here);
    free(helper);
    free(here);
}

/* With one byte more, the file is no longer the recorded one. */
Test(store_helper, only_recorded_bytes_are_read_in_this_process)
{
    struct store *s;
    put_kinds("a.h5");
    make_known("a.h5");
    setenv("MCSAM_LIBEXEC", "/nowhere", 1);
    OK(mcs_store_open(in_folder("a.h5"), &s));
    mcs_store_close(s);
    cr_assert_eq(tiny_shell("printf x >> %s", in_folder("a.h5")), 0);
    fails_with(mcs_store_open(in_folder("a.h5"), &s), MCS_E_FAIL, "MCSAM_LIBEXEC is /nowhere");
}

/* ---- damaged files ---- */

/* A file with its links in a B-tree, of which one byte is wrong: libhdf5 1.10.8 then releases links that it never read,
 * through uninitialised pointers. */
static void put_crash(const char *name)
{
    const hsize_t dims[1] = {4};
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    const hid_t file = H5Fcreate(in_folder(name), H5F_ACC_TRUNC, H5P_DEFAULT, access),
                space = H5Screate_simple(1, dims, NULL);
    for (int i = 0; i < 20; i++) {
        char set[16];
        snprintf(set, sizeof set, "dataset%02d", i);
        H5Dclose(H5Dcreate2(file, set, H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    }
    H5Sclose(space);
    H5Fclose(file);
    H5Pclose(access);
    char *bytes;
    int64_t n, changed = 0;
    OK(mcs_file_read(in_folder(name), 1 << 24, &bytes, &n));
    for (int64_t i = 0; i + 16 < n; i++)
        if (memcmp(bytes + i, "BTLF", 4) == 0) bytes[i + 8] ^= 1, changed++;
    cr_assert(changed > 0);
    OK(mcs_file_write(in_folder(name), bytes, n));
    free(bytes);
}

/* Fills new memory in the helper with 0x5a, so that uninitialised pointers are invalid. */
static void fill_memory(void)
{
    setenv("GLIBC_TUNABLES", "glibc.malloc.perturb=165", 1);
}

Test(store_helper, a_crash_of_the_library_costs_one_file)
{
    static const float x[2] = {0.25f, 0.75f};
    const int64_t dims[4] = {2, 1, 1, 1};
    struct store *s;
    char **names, *text;
    int n;
    int64_t bytes;
    put_crash("crash.h5");
    fill_memory();
    OK(mcs_store_open(in_folder("crash.h5"), &s));
#if H5_VERS_MAJOR == 1 && H5_VERS_MINOR == 10 && H5_VERS_RELEASE <= 8
    fails_with(mcs_store_list(s, &n, &names), MCS_E_DATA,
               "crash.h5: damaged: the HDF5 library failed on it (it crashed)");
    fails_with(mcs_store_list(s, &n, &names), MCS_E_DATA, "failed on it before");
#else
    fails_with(mcs_store_list(s, &n, &names), MCS_E_DATA, "crash.h5: ");
#endif
    mcs_store_close(s);

    const char *const diff[] = {"diff", "crash.h5", "crash.h5", NULL};
    const int rc = tiny_wait(tiny_spawn(MCS_BINARY, test_folder, diff, NULL));
    cr_expect_eq(rc, 65, "exit %d: %s", rc, tiny_log(test_folder));

    tiny_shell("mkdir %s && cp %s %s", in_folder("in"), in_folder("crash.h5"), in_folder("in/b.h5"));
    for (int i = 0; i < 2; i++) {
        OK(mcs_store_create(in_folder(i ? "in/a.h5" : "in/c.h5"), &s));
        OK(mcs_store_put(s, "probabilities", MCS_ARRAY_F32, 4, dims, x));
        OK(mcs_store_commit(s));
    }
    const char *const ensemble[] = {"ensemble", "-i", "in", "-o", "out", NULL};
    cr_expect_eq(tiny_wait(tiny_spawn(MCS_BINARY, test_folder, ensemble, NULL)), 3, "%s", tiny_log(test_folder));
    cr_expect(mcs_file_exists(in_folder("out/a.png")) && mcs_file_exists(in_folder("out/c.png")));
    OK(mcs_file_read(in_folder("out/failures.csv"), 1 << 16, &text, &bytes));
    cr_expect(strstr(text, "\nb,") && !strstr(text, "\na,"), "%s", text);
    free(text);
}

/* Bytes changed by fixed seeds: whatever the library does, the result is E_DATA or values. */
Test(store_helper, changed_bytes_never_end_this_process)
{
    char *bytes, **names;
    int64_t n;
    int n_names, n_refused = 0;
    put_kinds("a.h5");
    OK(mcs_file_read(in_folder("a.h5"), 1 << 24, &bytes, &n));
    fill_memory();
    for (unsigned seed = 0; seed < 40; seed++) {
        struct store *s = NULL;
        char *copy = malloc((size_t)n);
        memcpy(copy, bytes, (size_t)n);
        srand(seed);
        for (int i = 0; i < 4; i++) copy[rand() % n] = (char)rand();
        OK(mcs_file_write(in_folder("b.h5"), copy, n));
        free(copy);
        enum mcs_status st = mcs_store_open(in_folder("b.h5"), &s);
        if (st == MCS_OK) st = mcs_store_list(s, &n_names, &names);
        for (int i = 0; st == MCS_OK && i < n_names; i++) {
            struct store_info info;
            char values[64];
            st = mcs_store_get_info(s, names[i], &info);
            if (st == MCS_OK && info.n_values <= 4 && info.type != MCS_ARRAY_N_TYPES)
                st = mcs_store_get(s, names[i], info.type, info.nd, info.dims, values);
            cr_assert(st == MCS_OK || st == MCS_E_DATA, "seed %u: status %d: %s", seed, st, mcs_error_message());
            mcs_error_clear();
            if (i == n_names - 1 || st != MCS_OK) mcs_store_texts_free(n_names, names);
        }
        cr_assert(st == MCS_OK || st == MCS_E_DATA, "seed %u: status %d: %s", seed, st, mcs_error_message());
        n_refused += st != MCS_OK;
        mcs_error_clear();
        mcs_store_close(s);
    }
    cr_expect(n_refused > 0, "no change was noticed");
    free(bytes);
}

/* ---- the process ---- */

/* The only child of this process. */
static pid_t child(void)
{
    char name[64], line[64] = "";
    snprintf(name, sizeof name, "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(name, "r");
    if (!f) return 0;
    if (!fgets(line, sizeof line, f)) line[0] = 0;
    fclose(f);
    return (pid_t)atoi(line);
}

/* /proc/PID/NAME with runs of blanks as one; malloc'ed. */
static char *proc_text(pid_t pid, const char *name)
{
    char path[64], *text = calloc(1, 16384), *to = text;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *f = fopen(path, "r");
    cr_assert(f && text, "%s: %s", path, strerror(errno));
    for (int c, before = 0; (c = fgetc(f)) != EOF && to < text + 16383; before = c) {
        if (c == '\t') c = ' ';
        if (c != ' ' || before != ' ') *to++ = (char)c;
    }
    fclose(f);
    return text;
}

static int has_words(const char *text, const char *words)
{
    return strstr(text, words) != NULL;
}

static int n_open(pid_t pid)
{
    char name[64];
    int n = 0;
    snprintf(name, sizeof name, "/proc/%d/fd", (int)pid);
    DIR *d = opendir(name);
    cr_assert(d, "%s: %s", name, strerror(errno));
    while (readdir(d)) n++;
    closedir(d);
    return n - 2;
}

Test(store_helper, has_no_more_than_it_needs_and_ignores_the_terminal)
{
    struct store *s;
    double x;
    put_kinds("a.h5");
    const int ours = open(in_folder("a.h5"), O_RDONLY); /* without close-on-exec */
    OK(mcs_store_open(in_folder("a.h5"), &s));
    const pid_t pid = child();
    if (pid > 0) {
        if (geteuid() == 0) cr_expect_eq(n_open(pid), 6); /* other users cannot inspect it */
        const int sent[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
        for (int i = 0; i < 4; i++) cr_assert_eq(kill(pid, sent[i]), 0);
        if (geteuid() == 0) {
            char *limits = proc_text(pid, "limits"), *status = proc_text(pid, "status");
            cr_expect(has_words(limits, "Max file size 0 0") && has_words(limits, "Max core file size 0 0") &&
                          has_words(limits, "Max open files 16 16") && has_words(limits, "Max cpu time 30"),
                      "%s", limits);
            cr_expect(has_words(status, "NoNewPrivs: 1"), "%s", status);
#ifndef MCS_SANITIZE
            cr_expect(has_words(limits, "Max data size 134217728 6442450944"), "%s", limits);
            cr_expect(has_words(status, "Seccomp: 2"), "%s", status);
#endif
            free(limits);
            free(status);
        }
    }
    OK(mcs_store_get_number(s, "number", &x));
    cr_expect_eq(x, -7);
    mcs_store_close(s);
    close(ours);
    cr_expect(pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH), "the helper lives on");
}

Test(store_helper, leaves_no_process_and_no_descriptor)
{
    struct store *s;
    put_kinds("a.h5");
    put_crash("b.h5");
    OK(mcs_file_write(in_folder("c.h5"), "no HDF5", 7));
    fill_memory();
    const int before = n_open(getpid());
    for (int i = 0; i < 5; i++) {
        char **names;
        int n;
        OK(mcs_store_open(in_folder("a.h5"), &s));
        mcs_store_close(s);
        OK(mcs_store_open(in_folder("b.h5"), &s));
        cr_expect_neq(mcs_store_list(s, &n, &names), MCS_OK);
        mcs_error_clear();
        mcs_store_close(s);
        fails_with(mcs_store_open(in_folder("c.h5"), &s), MCS_E_DATA, "c.h5: no HDF5 file");
    }
    cr_expect_eq(n_open(getpid()), before);
    cr_expect(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a child is left");
}

static void *read_often(void *count)
{
    const int64_t dims[2] = {2, 2};
    for (int i = 0; i < 6; i++) {
        struct store *s;
        int32_t x[4] = {0};
        if (mcs_store_open(in_folder("a.h5"), &s) != MCS_OK) return NULL;
        if (mcs_store_get(s, "i32", MCS_ARRAY_I32, 2, dims, x) == MCS_OK && x[0] == -1 && x[3] == INT32_MAX)
            ++*(int *)count;
        mcs_store_close(s);
    }
    return NULL;
}

Test(store_helper, several_threads_read_at_once)
{
    pthread_t thread[4];
    int count[4] = {0};
    put_kinds("a.h5");
    in_folder("a.h5"); /* the name is made before the threads start */
    for (int i = 0; i < 4; i++) cr_assert_eq(pthread_create(&thread[i], NULL, read_often, &count[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        cr_expect_eq(count[i], 6);
    }
}

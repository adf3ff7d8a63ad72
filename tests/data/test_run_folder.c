/* The folder of a run: outputs kept apart from inputs by real paths, one process at a time, and a record of finished
 * cases that survives a kill at any moment. */
#include "data/run/run_folder.h"

#include "data/io/file.h"
#include "data/io/store.h"
#include "engine/cli/config.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct options {
    struct mcs_common common;
    const char *input, *output;
    double threshold;
};
static const struct mcs_option table[] = {
    {"input", 'i', MCS_FIELD(options, input), .help = "in"},
    {"output", 'o', MCS_FIELD(options, output), .help = "out"},
    {"threshold", 0, MCS_FIELD(options, threshold), .def = "0.5", .help = "t"},
    {0},
};
static const struct mcs_verb verb = {
    .name = "testverb", .line = "a verb", .options = table, .options_bytes = sizeof(struct options)};

static struct arena arena;

static struct options options_of(const char *output, double threshold)
{
    struct options o = {.common = {.verb = &verb}, .input = "in", .output = output, .threshold = threshold};
    o.common.command = mcs_config_command(&o, &arena);
    return o;
}

static void put(const char *path, const char *text)
{
    cr_assert_eq(mcs_file_write(path, text, (int64_t)strlen(text)), MCS_OK, "%s", mcs_error_message());
}

static char *bytes_of(const char *path)
{
    char *text;
    int64_t n;
    cr_assert_eq(mcs_file_read(path, 1 << 20, &text, &n), MCS_OK, "%s", mcs_error_message());
    return text;
}

static const struct run_source source_a = {.texts = (const char *const[]){"a", NULL}},
                               source_b = {.texts = (const char *const[]){"b", NULL}};

static struct run_folder *open_run(const struct options *o, const char *more)
{
    struct run_folder *run;
    cr_assert_eq(mcs_run_open(&o->common.command, o->output, more, &run), MCS_OK, "%s", mcs_error_message());
    return run;
}

static void add(struct run_folder *run, const char *folder, const char *stem)
{
    const char *file = tiny_path(folder, "%s.txt", stem), *names[] = {strrchr(file, '/') + 1, NULL};
    put(file, stem);
    cr_assert_eq(mcs_run_case_add(run, stem, &source_a, names, json_pack("{s:f}", "v", 0.1)), MCS_OK, "%s",
                 mcs_error_message());
    cr_assert_eq(mcs_run_flush(run), MCS_OK, "%s", mcs_error_message());
}

/* ---- the record ---- */

Test(run_folder, finished_cases_are_known_while_all_is_as_it_was)
{
    const char *folder = tiny_folder("run");
    const struct options o = options_of(folder, 0.5), other = options_of(folder, 0.25);
    json_t *result;
    struct run_folder *run = open_run(&o, "weights: w1\n");
    cr_expect(!mcs_run_case_done(run, "a", &source_a, NULL));
    add(run, folder, "a");
    add(run, folder, "b");
    cr_expect(mcs_run_case_done(run, "a", &source_a, &result), "within the run");
    cr_expect_eq(mcs_run_close(run, MCS_E_STOPPED), MCS_E_STOPPED);

    run = open_run(&o, "weights: w1\n");
    cr_expect(mcs_run_case_done(run, "a", &source_a, &result));
    cr_expect_eq(json_real_value(json_object_get(result, "v")), 0.1, "a result comes back to the last bit");
    cr_expect(!mcs_run_case_done(run, "a", &source_b, NULL), "another input");
    cr_expect(!mcs_run_case_done(run, "c", &source_a, NULL), "another case");
    put(tiny_path(folder, "a.txt"), "A");
    cr_expect(!mcs_run_case_done(run, "a", &source_a, NULL), "a file of other bytes");
    remove(tiny_path(folder, "b.txt"));
    cr_expect(!mcs_run_case_done(run, "b", &source_a, NULL), "a file that is gone");
    mcs_run_close(run, MCS_E_STOPPED);

    put(tiny_path(folder, "a.txt"), "a");
    run = open_run(&other, "weights: w1\n");
    cr_expect(!mcs_run_case_done(run, "a", &source_a, NULL), "other options");
    mcs_run_close(run, MCS_E_STOPPED);
    run = open_run(&o, "weights: w2\n");
    cr_expect(!mcs_run_case_done(run, "a", &source_a, NULL), "other weights");
    mcs_run_close(run, MCS_E_STOPPED);
    run = open_run(&o, "weights: w1\n");
    cr_expect(mcs_run_case_done(run, "a", &source_a, NULL));
    mcs_run_close(run, MCS_OK);
    tiny_remove(folder);
}

Test(run_folder, the_record_has_the_same_bytes_whatever_came_in_between)
{
    const char *whole = tiny_folder("whole"), *parts = tiny_folder("parts");
    const struct options o = options_of(whole, 0.5), p = options_of(parts, 0.5), other = options_of(parts, 0.25);
    struct run_folder *run = open_run(&o, NULL);
    for (int i = 0; i < 3; i++) add(run, whole, (const char *[]){"a", "b", "c"}[i]);
    mcs_run_close(run, MCS_OK);
    run = open_run(&other, NULL);
    add(run, parts, "z");
    mcs_run_close(run, MCS_E_STOPPED);
    run = open_run(&p, NULL);
    add(run, parts, "c");
    add(run, parts, "a");
    mcs_run_close(run, MCS_E_STOPPED);
    run = open_run(&p, NULL);
    add(run, parts, "b");
    mcs_run_close(run, MCS_OK);
    char *a = bytes_of(tiny_path(whole, ".mcsam.record")), *b = bytes_of(tiny_path(parts, ".mcsam.record"));
    cr_expect_str_eq(a, b);
    cr_expect(!mcs_file_exists(tiny_path(whole, ".mcsam.lock")), "the lock file stayed");
    free(a);
    free(b);
    tiny_remove(whole);
    tiny_remove(parts);
}

/* A record truncated at any byte, as by a kill or a full disk: whole lines count, and later appended lines are read. */
Test(run_folder, a_record_cut_anywhere_is_read_to_its_last_whole_line)
{
    const char *folder = tiny_folder("cut");
    const struct options o = options_of(folder, 0.5);
    const char *path = tiny_path(folder, ".mcsam.record");
    struct run_folder *run = open_run(&o, NULL);
    add(run, folder, "a");
    add(run, folder, "b");
    mcs_run_close(run, MCS_E_STOPPED);
    char *text = bytes_of(path);
    const size_t n = strlen(text);
    const char *first = strchr(strchr(text, '\n') + 1, '\n') + 1; /* after the lines of the options and of a */
    for (size_t cut = 0; cut <= n; cut++) {
        cr_assert_eq(mcs_file_write(path, text, (int64_t)cut), MCS_OK);
        run = open_run(&o, NULL);
        cr_assert_eq(mcs_run_case_done(run, "a", &source_a, NULL), cut >= (size_t)(first - text), "cut at %zu", cut);
        cr_assert_eq(mcs_run_case_done(run, "b", &source_a, NULL), cut == n, "cut at %zu", cut);
        add(run, folder, "c");
        mcs_run_close(run, MCS_E_STOPPED);
        run = open_run(&o, NULL);
        cr_assert(mcs_run_case_done(run, "c", &source_a, NULL), "appended behind a cut at %zu", cut);
        mcs_run_close(run, MCS_E_STOPPED);
    }
    put(path, "[1]\n{\"case\": 3}\n{\"file\": 1}\n\xff\xfe\n{}\n{\"verb\":\"testverb\",\"case\":\"a\",\"files\":7}\n");
    run = open_run(&o, NULL);
    cr_expect(!mcs_run_case_done(run, "a", &source_a, NULL));
    mcs_run_close(run, MCS_OK);
    free(text);
    tiny_remove(folder);
}

Test(run_folder, names_of_any_bytes)
{
    static const char *const stems[] = {"a\xff", "a%FF", "l\xc3\xa9sion", "a\x01", "a\"b\\c", "a%"};
    enum { N = sizeof stems / sizeof *stems };
    const char *folder = tiny_folder("names");
    const struct options o = options_of(folder, 0.5);
    struct run_folder *run = open_run(&o, NULL);
    for (int i = 0; i < N; i++) {
        add(run, folder, stems[i]);
        for (int k = 0; k < N; k++)
            cr_expect_eq(mcs_run_case_done(run, stems[k], &source_a, NULL), k <= i, "%d after %d", k, i);
    }
    mcs_run_close(run, MCS_E_STOPPED);
    run = open_run(&o, NULL);
    for (int i = 0; i < N; i++) cr_expect(mcs_run_case_done(run, stems[i], &source_a, NULL), "%d", i);
    mcs_run_close(run, MCS_OK);
    tiny_remove(folder);
}

/* The input files of a case count by their contents, texts too, and where one text ends. */
Test(run_folder, the_source_of_a_case_is_its_files_and_texts)
{
    const char *folder = tiny_folder("source"), *in = tiny_path(folder, "in.png"), *none[] = {NULL};
    const struct options o = options_of(folder, 0.5);
    const struct run_source source = {(const char *const[]){in, NULL}, (const char *const[]){"x", "y", NULL}},
                            joined = {(const char *const[]){in, NULL}, (const char *const[]){"xy", NULL}},
                            missing = {(const char *const[]){tiny_path(folder, "none"), NULL}, NULL};
    struct run_folder *run = open_run(&o, NULL);
    put(in, "one");
    cr_assert_eq(mcs_run_case_add(run, "a", &source, none, NULL), MCS_OK, "%s", mcs_error_message());
    cr_expect(!mcs_run_case_done(run, "a", &source, NULL), "recorded before its group is whole");
    cr_assert_eq(mcs_run_flush(run), MCS_OK);
    cr_expect(mcs_run_case_done(run, "a", &source, NULL));
    cr_expect(!mcs_run_case_done(run, "a", &joined, NULL));
    cr_expect(!mcs_run_case_done(run, "a", &missing, NULL));
    put(in, "two");
    cr_expect(!mcs_run_case_done(run, "a", &source, NULL));
    put(in, "one");
    cr_expect(mcs_run_case_done(run, "a", &source, NULL));
    cr_expect_neq(mcs_run_case_add(run, "b", &missing, none, json_true()), MCS_OK);
    mcs_error_clear();
    cr_expect_neq(mcs_run_case_add(run, "b", &source, (const char *const[]){"none", NULL}, json_true()), MCS_OK);
    mcs_error_clear();
    mcs_run_close(run, MCS_OK);
    tiny_remove(folder);
}

/* ---- HDF5 files ---- */

static void put_store(const char *path, int32_t value)
{
    struct store *s;
    const int64_t one = 1;
    cr_assert_eq(mcs_store_create(path, &s), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_store_put(s, "v", MCS_ARRAY_I32, 1, &one, &value), MCS_OK);
    cr_assert_eq(mcs_store_commit(s), MCS_OK, "%s", mcs_error_message());
}

Test(run_folder, hdf5_files_of_a_run_are_known)
{
    const char *folder = tiny_folder("h5"), *elsewhere = tiny_folder("elsewhere"), *below = tiny_path(folder, "a/b"),
               *deep = tiny_path(folder, "a/b/c");
    const struct options o = options_of(folder, 0.5);
    char hash[4][65], other[65];
    cr_assert_eq(mcs_folder_make(deep), MCS_OK);
    put_store(tiny_path(elsewhere, "x.h5"), 1);
    cr_assert_eq(mcs_file_sha256(tiny_path(elsewhere, "x.h5"), other), MCS_OK);
    struct run_folder *run = open_run(&o, NULL);
    put_store(tiny_path(folder, "x.h5"), 2);
    put_store(tiny_path(below, "x.h5"), 3);
    put_store(tiny_path(deep, "x.h5"), 4);
    const char *path[] = {tiny_path(folder, "x.h5"), tiny_path(below, "x.h5"), tiny_path(deep, "x.h5")};
    for (int round = 0; round < 2; round++) { /* while the run is open, and from the file */
        for (int i = 0; i < 2 + (round == 0); i++) {
            cr_assert_eq(mcs_file_sha256(path[i], hash[i]), MCS_OK);
            cr_expect(mcs_run_knows_sha256(path[i], hash[i]), "%d", i);
            cr_expect(!mcs_run_knows_sha256(path[i], other), "%d", i);
            cr_expect(!mcs_run_knows_sha256(tiny_path(elsewhere, "x.h5"), hash[i]), "%d", i);
        }
        if (!round) mcs_run_close(run, MCS_OK);
    }
    cr_expect(!mcs_run_knows_sha256(path[2], hash[2]), "more than two folders above");
    /* Written again: both versions are known until the run ends, then only the current one. */
    run = open_run(&o, NULL);
    put_store(path[0], 5);
    cr_assert_eq(mcs_file_sha256(path[0], hash[3]), MCS_OK);
    cr_expect(mcs_run_knows_sha256(path[0], hash[0]) && mcs_run_knows_sha256(path[0], hash[3]));
    mcs_run_close(run, MCS_OK);
    cr_expect(!mcs_run_knows_sha256(path[0], hash[0]) && mcs_run_knows_sha256(path[0], hash[3]));
    tiny_remove(folder);
    tiny_remove(elsewhere);
}

Test(run_folder, a_run_of_one_file)
{
    const char *folder = tiny_folder("file"), *path = tiny_path(folder, "x.h5"), *other = tiny_path(folder, "y.h5");
    const struct options o = options_of(path, 0.5);
    struct run_folder *run, *second, *third;
    char hash[65];
    cr_assert_eq(mcs_run_open_file(&o.common.command, path, NULL, &run), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_run_open_file(&o.common.command, other, NULL, &second), MCS_OK,
                 "another file in the folder is free");
    cr_assert_eq(mcs_run_open_file(&o.common.command, path, NULL, &third), MCS_E_FAIL);
    mcs_error_clear();
    put_store(path, 1);
    cr_assert_eq(mcs_file_sha256(path, hash), MCS_OK);
    mcs_run_close(run, MCS_OK);
    mcs_run_close(second, MCS_OK);
    cr_expect(mcs_run_knows_sha256(path, hash));
    cr_expect(!mcs_run_knows_sha256(other, hash));
    cr_expect(!mcs_file_exists(tiny_path(folder, ".y.h5.record")), "an empty record");
    tiny_remove(folder);
}

/* ---- the lock ---- */

/* Another process that holds the lock until it is killed. */
static pid_t hold(const struct options *o)
{
    int ready[2];
    char byte;
    cr_assert_eq(pipe(ready), 0);
    const pid_t pid = fork();
    cr_assert(pid >= 0);
    if (pid == 0) {
        struct run_folder *run;
        const enum mcs_status st = mcs_run_open(&o->common.command, o->output, NULL, &run);
        if (write(ready[1], st == MCS_OK ? "y" : "n", 1) != 1) _exit(1);
        for (;;) pause();
    }
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    cr_assert_eq(byte, 'y');
    close(ready[0]);
    close(ready[1]);
    return pid;
}

Test(run_folder, a_second_process_is_told_who_holds_the_folder)
{
    const char *folder = tiny_folder("lock");
    const struct options o = options_of(folder, 0.5);
    struct run_folder *run;
    char host[256] = "", want[400];
    const pid_t pid = hold(&o);
    cr_assert_eq(gethostname(host, sizeof host - 1), 0);
    cr_expect_eq(mcs_run_open(&o.common.command, folder, NULL, &run), MCS_E_FAIL);
    snprintf(want, sizeof want, "is in use by mcsam testverb, process %ld on host %s, since 20", (long)pid, host);
    cr_expect(strstr(mcs_error_message(), want), "%s", mcs_error_message());
    cr_expect(strstr(mcs_error_message(), folder), "%s", mcs_error_message());
    mcs_error_clear();
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    cr_expect(mcs_file_exists(tiny_path(folder, ".mcsam.lock")), "a killed process leaves its file");
    cr_assert_eq(mcs_run_open(&o.common.command, folder, NULL, &run), MCS_OK, "but not its lock: %s",
                 mcs_error_message());
    mcs_run_close(run, MCS_OK);
    tiny_remove(folder);
}

/* ---- outputs and inputs ---- */

struct path_row {
    const char *output, *names, *input, *endings;
    int refused;
};

/* In a folder with in/a.png, in/notes.txt, in/sub/, model/m.json, link -> in, in/alias.png -> ../out/b.png, out/b.png.
 */
static const struct path_row rows[] = {
    {"out", "*.png", "in/a.png", NULL, 0},
    {"new", "*.png", "in", ".png", 0},
    {"new/deep", "*.png", "in", ".png", 0},
    {"in", "*.png", "in", ".png", 1},
    {"./in", "*.png", "in", ".png", 1},
    {"in/", "*.png", "in", ".png", 1},
    {"in//.", "*.png", "in", ".png", 1},
    {"out/../in", "*.png", "in", ".png", 1},
    {"none/../in", "*.png", "in", ".png", 1}, /* making the folder first makes "none" */
    {"none/./deep/../../in/", "*.png", "in", ".png", 1},
    {"link", "*.png", "in", ".png", 1},
    {"in", "*.png", "link", ".png", 1},
    {"link/sub/..", "*.png", "in/.", ".png", 1},
    {"in/sub", "*.png", "in", ".png", 0}, /* inside: no input file can be replaced */
    {".", "*.png", "in", ".png", 0},      /* containing it */
    {"in", "summary.json", "in", ".png", 0},
    {"in", "summary.json;a.png", "in", ".png", 1},
    {"in", "notes.txt", "in", ".png", 0}, /* exists, but is not read */
    {"in", "notes.txt", "in", "", 1},
    {"in", "new.txt", "in", "", 0},
    {"in", "*.txt", "in", ".png", 1}, /* images are read, and each gets a text beside it */
    {"in", "*.png", "in", ".txt", 1}, /* a *.txt in the folder lists images of that folder */
    {"in", "*.png;new.txt", "in", ".txt", 1},
    {"in", "new.txt;other.png", "in", ".txt", 0},
    {"in", "notes.txt", "in", ".png;.txt", 1},
    {"in", "NOTES.txt", "in", ".txt", 0},
    {"in", "notes.tx", "in", ".txt", 0},
    {"in", "otes.txt", "in", ".txt", 0},
    {"/", "*.png", "in", ".png", 0},
    {"in/../../../../../../../../../..", "*.png", "in", ".png", 0}, /* more ".." than parent folders */
    {"out", "*.png", "in", ".png", 1},                              /* in/alias.png is out/b.png */
    {"out", "*.txt", "in", ".png", 0},
    {"in", "*.png", "in/a.png", NULL, 1},
    {"link", "*.png", "in/a.png", NULL, 1},
    {"in", "*.PNG", "link/a.png", NULL, 1},
    {"in", "a.png", "in/a.png", NULL, 1},
    {"in", "b.png", "in/a.png", NULL, 0},
    {"in", "*.h5", "in/a.png", NULL, 0},
    {"in", "hard.png", "in/a.png", NULL, 1}, /* a hard link to the file, written in place */
    {"model", "x.h5", "model", NULL, 1},     /* nothing may be written into a model's folder */
    {"model", "m.json", "model", NULL, 1},
    {"model", "*", "model", NULL, 1},
    {"model/out", "*", "model", NULL, 0},
    {"new", "*", "missing", NULL, 0}, /* its reader reports that it is missing */
};

Test(run_folder, no_output_replaces_an_input)
{
    const char *folder = tiny_folder("paths");
    const struct mcs_command command = {.verb = "testverb"};
    cr_assert_eq(tiny_shell("cd %s && mkdir in in/sub model out && echo a > in/a.png && ln in/a.png in/hard.png && "
                            "echo n > in/notes.txt && echo m > model/m.json && ln -s in link && echo b > out/b.png && "
                            "ln -s ../out/b.png in/alias.png",
                            folder),
                 0);
    char before[4096];
    cr_assert(getcwd(before, sizeof before) && chdir(folder) == 0);
    for (int absolute = 0; absolute < 2; absolute++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            const struct path_row *r = &rows[i];
            const char *output = absolute ? tiny_path(folder, "%s", r->output) : r->output;
            const struct run_output out = {output, r->names};
            const struct run_input in = {"--input", r->input, r->endings};
            const enum mcs_status st = mcs_run_check_paths(&command, &out, 1, &in, 1);
            cr_expect_eq(st, r->refused ? MCS_E_USAGE : MCS_OK, "row %zu: %s in %s, read %s: %s", i, r->names, output,
                         r->input, mcs_error_message());
            if (r->refused) cr_expect(strstr(mcs_error_message(), "--input"), "%s", mcs_error_message());
            mcs_error_clear();
        }
    cr_assert_eq(tiny_shell("cd %s && ls -A | tr '\\n' ' ' | grep -qx 'in link model out '", folder), 0, "written");
    cr_assert_eq(chdir(before), 0);
    tiny_remove(folder);
}

/* ---- options ---- */

Test(run_folder, options_that_differ_are_named)
{
    struct arena a = {0};
    const char *text;
    cr_expect_eq(mcs_options_differ("lr: 1e-4\nseed: 1\n", "lr: 1e-4\nseed: 1\n", 1, &a, &text), 0);
    cr_expect_str_eq(text, "");
    cr_expect_eq(mcs_options_differ("lr: 1e-4\nseed: 1\n", "lr: 5e-4\nseed: 0\n", 1, &a, &text), 2);
    cr_expect_str_eq(text, "--lr 1e-4, was 5e-4; --seed 1, was 0");
    cr_expect_eq(mcs_options_differ("lr: 1\nrank: \"text\"\n", "lr: 1\n", 1, &a, &text), 1);
    cr_expect_str_eq(text, "--rank \"text\", was not given");
    cr_expect_eq(mcs_options_differ("lr: 1\n", "lr: 1\nrank: \"text\"\n", 1, &a, &text), 1);
    cr_expect_str_eq(text, "--rank not given, was \"text\"");
    cr_expect_eq(mcs_options_differ("lr: 1\n", "lr: 10\n", 1, &a, &text), 1, "a value that begins the other");
    cr_expect_eq(mcs_options_differ("l: 1\n", "lr: 1\n", 1, &a, &text), 2, "a key that begins the other");
    cr_expect_eq(mcs_options_differ("threads: 1\n", "threads: 2\n", 0, &a, &text), 0);
    cr_expect_eq(mcs_options_differ("threads: 1\n", "threads: 2\n", 1, &a, &text), 1);
    cr_expect_eq(mcs_options_differ("output: \"x\"\nquiet: true\ngpus: 2\ninput: \"a\"\n", "output: \"y\"\ngpus: 4\n",
                                    1, &a, &text),
                 0);
    cr_expect_eq(mcs_options_differ("tiny", "tiny", 1, &a, &text), 0);
    cr_expect_eq(mcs_options_differ("tiny", "other", 1, &a, &text), 2);
    mcs_arena_free(&a);
}

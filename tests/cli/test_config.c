/* engine/cli/config: the option table read from command line, environment and YAML; precedence, ranges, suggestions,
 * saving. */
#include "engine/base/stop.h"
#include "engine/cli/config.h"
#include "tests/support/support_config.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct try_options {
    struct mcs_common common;
    const char *input, *kind;
    int64_t steps;
    double rate;
    int rank, fill;
    struct mcs_strings folds;
    double contrast;
};
static const struct mcs_option table[] = {
    {"input", 'i', MCS_FIELD(try_options, input), .required = 1, .value = "DIR", .help = "where from"},
    {"kind", 0, MCS_FIELD(try_options, kind), .def = "a", .choices = "a|b", .help = "a text that is a choice"},
    {"step-count", 's', MCS_FIELD(try_options, steps), .def = "10", .lo = 1, .hi = 1000, .alias = "iterations",
     .help = "how many"},
    {"learning-rate", 0, MCS_FIELD(try_options, rate), .def = "0.1", .lo = 0, .hi = 1, .help = "how fast"},
    {"rank", 0, MCS_FIELD(try_options, rank), .def = "area", .choices = "confidence|area|text", .help = "by what"},
    {"fill", 0, MCS_FIELD(try_options, fill), .help = "fill holes"},
    {"folds", 'f', MCS_FIELD(try_options, folds), .def = "0 1", .help = "which"},
    {"lesion.contrast", 0, MCS_FIELD(try_options, contrast), .def = "2", .help = "nested"},
    {0},
};
static enum mcs_status run(const void *o)
{
    return MCS_OK;
}
static const struct mcs_verb verb = {
    .name = "try", .line = "a verb to try", .options = table, .options_bytes = sizeof(struct try_options), .run = run};
static const struct mcs_verb verb_args = {.name = "tryargs",
                                          .line = "takes words",
                                          .options = table,
                                          .options_bytes = sizeof(struct try_options),
                                          .run = run,
                                          .args = "SRC DST",
                                          .min_args = 2,
                                          .max_args = 2};

static struct arena arena;
static struct try_options got;
static char file[64];

static void setup(void)
{
    snprintf(file, sizeof file, "/tmp/mcs_config_%ld.yaml", (long)getpid());
}
static void teardown(void)
{
    unlink(file);
    mcs_arena_free(&arena);
    mcs_error_clear();
}
TestSuite(config, .init = setup, .fini = teardown);

static void write_file(const char *text)
{
    FILE *f = fopen(file, "w");
    cr_assert(f);
    fputs(text, f);
    fclose(f);
}

static enum mcs_status parse_as(const struct mcs_verb *v, char **env, const char *line)
{
    return config_parse_line(v, env, line, file, &arena, &got);
}
#define PARSE(line) parse_as(&verb, NULL, line)

static void expect_error(const char *line, enum mcs_status st, const char *part)
{
    cr_expect_eq(PARSE(line), st, "'%s': %s", line, mcs_error_message());
    cr_expect(strstr(mcs_error_message(), part), "'%s': want '%s' in '%s'", line, part, mcs_error_message());
}

Test(config, defaults_and_types)
{
    cr_assert_eq(PARSE("-i in"), MCS_OK, "%s", mcs_error_message());
    cr_expect_str_eq(got.input, "in");
    cr_expect_str_eq(got.kind, "a");
    cr_expect_eq(got.steps, 10);
    cr_expect_eq(got.rate, 0.1);
    cr_expect_eq(got.rank, 1);
    cr_expect_eq(got.fill, 0);
    cr_expect_eq(got.folds.n, 2);
    cr_expect_str_eq(got.folds.v[1], "1");
    cr_expect_eq(got.contrast, 2);
    cr_expect_eq(got.common.seed, 1);
    cr_expect_eq(got.common.device.kind, MCS_DEVICE_CPU);
    cr_expect_eq(got.common.form[MCS_FORM_LOSS], MCS_PAPER);
    cr_expect_eq(got.common.verb, &verb);
}

Test(config, every_spelling)
{
    static const char *const lines[] = {
        "-i in --step-count 7", "-iin --step_count=7",       "--input=in -s7",
        "-i=in -step_count 7",  "--input in --iterations 7", "-input in --STEP-COUNT=7"};
    for (int i = 0; i < 6; i++) {
        cr_assert_eq(PARSE(lines[i]), MCS_OK, "%s: %s", lines[i], mcs_error_message());
        cr_expect_str_eq(got.input, "in", "%s", lines[i]);
        cr_expect_eq(got.steps, 7, "%s", lines[i]);
    }
    cr_assert_eq(PARSE("-i in --fill --no-fill"), MCS_OK);
    cr_expect_eq(got.fill, 0);
    cr_assert_eq(PARSE("-i in --no-fill --fill=yes -q"), MCS_OK);
    cr_expect_eq(got.fill, 1);
    cr_expect_eq(got.common.quiet, 1);
    cr_assert_eq(PARSE("-i in -f 3 4 5 --seed 9"), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(got.folds.n, 3);
    cr_expect_str_eq(got.folds.v[2], "5");
    cr_assert_eq(PARSE("-i in -f 3 -f 4"), MCS_OK);
    cr_expect_eq(got.folds.n, 2);
}

Test(config, precedence)
{
    char *env[] = {"MCSAM_STEP_COUNT=30", "MCSAM_LEARNING_RATE=0.3",
                   "MCSAM_FOLDS=5 6 7",   "MCSAM_LESION_CONTRAST=4",
                   "MCSAM_KIND=",         NULL};
    write_file(
        "step-count: 20\nlearning_rate: 0.2\nrank: text\nfolds: [8]\nfill: true\nlesion: {contrast: 3}\ninput: here\n");
    cr_assert_eq(parse_as(&verb, env, "--config % --step-count 40"), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(got.steps, 40, "command line over environment");
    cr_expect_eq(got.rate, 0.3, "environment over file");
    cr_expect_eq(got.folds.n, 3, "a list is replaced, not added to");
    cr_expect_eq(got.contrast, 4);
    cr_expect_eq(got.rank, 2, "file over default");
    cr_expect_eq(got.fill, 1);
    cr_expect_str_eq(got.input, "here", "a file may give what is required");
    cr_expect_str_eq(got.kind, "a", "an empty variable is none");
    cr_assert_eq(PARSE("--config %"), MCS_OK);
    cr_expect_eq(got.contrast, 3);
    cr_expect_eq(got.folds.n, 1);
    cr_assert_eq(PARSE("--config % --no-fill"), MCS_OK);
    cr_expect_eq(got.fill, 0);
}

Test(config, errors_name_the_nearest)
{
    expect_error("-i in --stepcount 3", MCS_E_USAGE, "--step-count");
    expect_error("-i in --tread 3", MCS_E_USAGE, "--threads");
    expect_error("-i in -z", MCS_E_USAGE, "-z");
    expect_error("-i in --rank aera", MCS_E_USAGE, "'area'");
    expect_error("-i in --rank are", MCS_E_USAGE, "'area'");
    expect_error("-i in --kind c", MCS_E_USAGE, "a|b");
    expect_error("", MCS_E_USAGE, "--input DIR is required");
    expect_error("-i", MCS_E_USAGE, "needs a value");
    expect_error("-i in extra", MCS_E_USAGE, "'extra' is too much");
    expect_error("-i in --fill=maybe", MCS_E_USAGE, "true or false");
    expect_error("-i in --form losss=paper", MCS_E_USAGE, "'loss'");
    expect_error("-i in --form published", MCS_E_USAGE, "paper or release");
}

Test(config, numbers_are_checked)
{
    expect_error("-i in -s 0", MCS_E_USAGE, "out of range, want 1 to 1000");
    expect_error("-i in -s 1001", MCS_E_USAGE, "out of range");
    expect_error("-i in -s 3x", MCS_E_USAGE, "whole number");
    expect_error("-i in -s 1.5", MCS_E_USAGE, "whole number");
    expect_error("-i in -s 99999999999999999999", MCS_E_USAGE, "too large");
    expect_error("-i in -s=", MCS_E_USAGE, "whole number");
    expect_error("-i in --learning-rate nan", MCS_E_USAGE, "want a number");
    expect_error("-i in --learning-rate inf", MCS_E_USAGE, "want a number");
    expect_error("-i in --learning-rate 1.01", MCS_E_USAGE, "out of range");
    expect_error("-i in --learning-rate -0.1", MCS_E_USAGE, "out of range");
    expect_error("-i in --seed -1", MCS_E_USAGE, "out of range");
    char *env[] = {"MCSAM_STEP_COUNT=many", NULL};
    cr_expect_eq(parse_as(&verb, env, "-i in"), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "MCSAM_STEP_COUNT"), "%s", mcs_error_message());
}

Test(config, bad_files)
{
    static const struct {
        const char *text, *part;
        enum mcs_status st;
    } cases[] = {
        {"step-count: 5\nstep-cuont: 6\n", ":2: step-cuont: unknown key; did you mean 'step-count'?", MCS_E_USAGE},
        {"lesion: {contrsat: 6}\n", "did you mean 'lesion.contrast'?", MCS_E_USAGE},
        {"step-count: 5000\n", ":1: step-count: 5000 is out of range", MCS_E_USAGE},
        {"step-count: 5\nstep_count: 6\n", "given twice", MCS_E_USAGE},
        {"step-count: [1, 2]\n", "single value", MCS_E_USAGE},
        {"help: true\n", "unknown key", MCS_E_USAGE},
        {"verb: other\n", "is for 'other'", MCS_E_USAGE},
        {"- a\n- b\n", "key: value", MCS_E_USAGE},
        {"a: {b: {c: {d: {e: 1}}}}\n", "nested too deeply", MCS_E_USAGE},
        {"step-count: 'open\n", "not YAML", MCS_E_DATA},
        {"step-count: 5\n---\nstep-count: 6\n", "more than one", MCS_E_DATA},
        {"a: b: c\n", "not YAML", MCS_E_DATA},
        {"input: \"a\\0b\"\n", "NUL", MCS_E_DATA},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file(cases[i].text);
        expect_error("-i in --config %", cases[i].st, cases[i].part);
    }
    expect_error("-i in --config /nonexistent/x.yaml", MCS_E_NOINPUT, "/nonexistent/x.yaml");
    expect_error("-i in --config /tmp", MCS_E_IO, "/tmp");
    write_file("");
    cr_expect_eq(PARSE("-i in --config %"), MCS_OK, "an empty file sets nothing");
    write_file("step-count: ~\nkind:\n");
    cr_expect_eq(PARSE("-i in --config %"), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(got.steps, 10);
}

Test(config, saved_and_read_back)
{
    static char *argv[] = {
        "a\"b\\c\td", "dst dir", "-i",     "x: y # z",       "--learning-rate", "0.30000000000000004", "--rank", "text",
        "-f",         "7",       "--form", "coarse=release", "--seed",          "123456789012345678",  "--fill"};
    cr_assert_eq(mcs_config_parse_env(&verb_args, 15, argv, NULL, &arena, &got), MCS_OK, "%s", mcs_error_message());
    const char *text = mcs_config_text(&got, &arena);
    write_file(text);
    const char *name = NULL;
    cr_assert_eq(mcs_config_verb(file, &arena, &name), MCS_OK);
    cr_expect_str_eq(name, "tryargs");
    cr_assert_eq(parse_as(&verb_args, NULL, "--config %"), MCS_OK, "%s in\n%s", mcs_error_message(), text);
    cr_expect_str_eq(mcs_config_text(&got, &arena), text);
    cr_expect_eq(got.rate, 0.30000000000000004);
    cr_expect_eq(got.common.seed, 123456789012345678);
    cr_expect_eq(got.common.form[MCS_FORM_COARSE], MCS_RELEASE);
    cr_expect_eq(got.common.form[MCS_FORM_LOSS], MCS_PAPER);
    cr_expect_eq(got.common.args.n, 2);
    cr_expect_str_eq(got.common.args.v[0], "a\"b\\c\td");
    cr_expect_str_eq(got.input, "x: y # z");
    write_file("seed: 1\n");
    cr_expect_eq(mcs_config_verb(file, &arena, &name), MCS_E_DATA);
}

/* It depends on the machine and does not affect the result: a saved config omits it, since it may be used on another
 * machine. */
Test(config, max_memory_is_checked_and_not_saved)
{
    cr_expect_eq(PARSE("-i in --max-memory 8Q"), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "--max-memory: want a size"), "%s", mcs_error_message());
    cr_assert_eq(PARSE("-i in --max-memory 8G"), MCS_OK, "%s", mcs_error_message());
    cr_expect_str_eq(got.common.max_memory, "8G");
    cr_expect_not(strstr(mcs_config_text(&got, &arena), "max-memory"));
}

Test(config, words)
{
    cr_expect_eq(parse_as(&verb_args, NULL, "-i in one"), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "SRC DST"), "%s", mcs_error_message());
    cr_expect_eq(parse_as(&verb_args, NULL, "one -i in two three"), MCS_E_USAGE);
    cr_assert_eq(parse_as(&verb_args, NULL, "one -i in -- --two"), MCS_OK, "%s", mcs_error_message());
    cr_expect_str_eq(got.common.args.v[1], "--two");
    cr_expect_eq(parse_as(&verb_args, NULL, "--help"), MCS_OK, "help asks for nothing else");
    cr_expect_eq(got.common.help, 1);
}

Test(config, help_shows_every_option)
{
    const char *help = mcs_config_help(&verb_args, &arena);
    for (const struct mcs_option *o = table; o->name; o++) cr_expect(strstr(help, o->name), "%s", o->name);
    static const char *const parts[] = {
        "tryargs SRC DST", "(required)", "-i, --input DIR", "confidence|area|text", "[area]", "also --iterations",
        "--trace FILE",    "--dry-run",  "--json",          "--precision"};
    for (int i = 0; i < 10; i++) cr_expect(strstr(help, parts[i]), "%s not in\n%s", parts[i], help);
    int width = 0;
    for (const char *c = help; *c; c++) {
        width = *c == '\n' ? 0 : width + 1;
        cr_assert(width <= 120, "a line too long in\n%s", help);
    }
}

Test(config, edit_distance)
{
    cr_expect_eq(mcs_edit_distance("", ""), 0);
    cr_expect_eq(mcs_edit_distance("abc", ""), 3);
    cr_expect_eq(mcs_edit_distance("saliency", "saliency"), 0);
    cr_expect_eq(mcs_edit_distance("saliecny", "saliency"), 1);
    cr_expect_eq(mcs_edit_distance("kitten", "sitting"), 3);
    cr_expect_eq(mcs_edit_distance("step_size", "step-size"), 0);
    cr_expect_eq(mcs_edit_distance("coarse", "sam"), 5);
}

/* Signals also do not interrupt computing threads: engine/base/stop.h says why. */
Test(config, signals_ask_to_stop)
{
    static const int numbers[] = {SIGTERM, SIGUSR1};
    sigset_t blocked;
    mcs_stop_install();
    cr_assert_eq(pthread_sigmask(SIG_BLOCK, NULL, &blocked), 0);
    for (int i = 0; i < 2; i++) {
        cr_expect(sigismember(&blocked, numbers[i]), "signal %d", numbers[i]);
        mcs_stop_reset();
        cr_expect(!mcs_stop_requested());
        kill(getpid(), numbers[i]);
        for (int k = 0; k < 10000 && !mcs_stop_requested(); k++) nanosleep(&(struct timespec){0, 1000000}, NULL);
        cr_expect(mcs_stop_requested(), "signal %d", numbers[i]);
    }
    mcs_stop_reset();
}

/* Plain words: those of the command line replace all those of the file; without any, the file's are used. */
Test(config, words_of_the_command_line_beat_the_files)
{
    write_file("args: [from, file]\ninput: x\n");
    cr_assert_eq(parse_as(&verb_args, NULL, "--config %"), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(got.common.args.n, 2);
    cr_expect_str_eq(got.common.args.v[0], "from");
    cr_expect_str_eq(got.common.args.v[1], "file");
    cr_assert_eq(parse_as(&verb_args, NULL, "--config % the line"), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(got.common.args.n, 2);
    cr_expect_str_eq(got.common.args.v[0], "the");
    cr_expect_str_eq(got.common.args.v[1], "line");
    cr_assert_eq(parse_as(&verb_args, NULL, "before --config % after"), MCS_OK, "%s", mcs_error_message());
    cr_expect_str_eq(got.common.args.v[0], "before");
    cr_expect_str_eq(got.common.args.v[1], "after");
}

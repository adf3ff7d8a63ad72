/* engine/cli/config in detail: help and saved options as whole texts, every spelling of an option, the limits of
 * numbers, the environment, and the distance for suggestions. YAML: test_config_yaml.c. */
#include "engine/cli/config.h"
#include "tests/support/support_config_values.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(config_values, .init = values_open, .fini = values_close);

/* ---- whole texts ---- */

#define COMMON_HELP                                                                                                    \
    "\nFor every verb:\n"                                                                                              \
    "      --config FILE             read options from a YAML file\n"                                                  \
    "      --device cpu|cuda|cudasim \n"                                                                               \
    "                                where to compute [cpu]\n"                                                         \
    "      --gpu N                   which GPU, counted from 0 [0]\n"                                                  \
    "      --threads N               threads of the CPU; 0: as many as it has [0]\n"                                   \
    "      --seed N                  seed of all random numbers [1]\n"                                                 \
    "      --form FORM               paper or release, or by stage: loss=paper,coarse=release (stages: loss,\n"        \
    "                                saliency, coarse, sam, train, metrics) [paper]\n"                                 \
    "      --precision auto|fp32|bf16\n"                                                                               \
    "                                number format of activations and products; auto: bf16 on a GPU, fp32 on the\n"    \
    "                                CPU [auto]\n"                                                                     \
    "      --max-memory SIZE         memory that may be taken, as 8G or 512M; a file that needs more is refused\n"     \
    "                                (default: what the machine has free)\n"                                           \
    "      --trace FILE              write a Perfetto trace of the steps\n"                                            \
    "      --dry-run                 say what would be done and the memory it needs, do nothing\n"                     \
    "      --json                    results on standard output as JSON\n"                                             \
    "  -q, --quiet                   only warnings and errors on standard error\n"                                     \
    "  -h, --help                    print this text\n"

Test(config_values, help)
{
    cr_expect_str_eq(mcs_config_help(&values_verb, &values_arena),
                     "Usage: mcsam try [OPTION]...\n"
                     "a verb to try\n"
                     "\n"
                     "Options:\n"
                     "  -i, --input DIR               where from (required)\n"
                     "      --kind a|bc               a text that is a choice [a]\n"
                     "  -s, --step-count N            [10]; also --iterations\n"
                     "      --any-number N            \n"
                     "      --learning-rate X         how fast [0.1]\n"
                     "      --rank confidence|area|text\n"
                     "                                by what [area]\n"
                     "  -y, --fill                    fill holes\n"
                     "  -f, --folds N                 which [0 1]\n"
                     "      --lesion.contrast VALUE   nested [2]\n" COMMON_HELP "\n"
                     "And more.\n");
    cr_expect_str_eq(mcs_config_help(&values_verb_plain, &values_arena),
                     "Usage: mcsam plain [OPTION]...\nno options\n" COMMON_HELP);
    cr_expect(strncmp(mcs_config_help(&values_verb_args, &values_arena),
                      "Usage: mcsam words SRC [DST] [OPTION]...\ntakes", 46) == 0);
}

Test(config_values, saved_options)
{
    GOOD("-i in");
    cr_expect_str_eq(mcs_config_text(&values_got, &values_arena),
                     "verb: try\nversion: " MCS_VERSION "\ninput: \"in\"\nkind: \"a\"\nstep-count: 10\nany-number: 0\n"
                     "learning-rate: 0.1\nrank: area\nfill: false\nfolds: [\"0\", \"1\"]\nlesion.contrast: 2\n"
                     "device: cpu\ngpu: 0\nthreads: 0\nseed: 1\nprecision: auto\nform: \"paper\"\n");
    values_good(
        &values_verb_args, NULL,
        "one two -i in --kind bc -s 7 --any-number -5 --rank text --fill -f 4 --device cuda --gpu 2 --threads 3 "
        "--seed 9 "
        "--form release --precision fp32 --max-memory 1G --trace t --dry-run --json -q");
    cr_expect_str_eq(mcs_config_text(&values_got, &values_arena),
                     "verb: words\nversion: " MCS_VERSION "\nargs: [\"one\", \"two\"]\ninput: \"in\"\nkind: \"bc\"\n"
                     "step-count: 7\nany-number: -5\nlearning-rate: 0.1\nrank: text\nfill: true\nfolds: [\"4\"]\n"
                     "lesion.contrast: 2\ndevice: cuda\ngpu: 2\nthreads: 3\nseed: 9\nprecision: fp32\n"
                     "form: \"release\"\n");
    cr_expect_str_eq(values_got.common.trace, "t");
    cr_expect(values_got.common.dry_run && values_got.common.json && values_got.common.quiet &&
              !values_got.common.help);
    struct mcs_common common;
    cr_assert_eq(mcs_config_parse_env(&values_verb_plain, 0, NULL, NULL, &values_arena, &common), MCS_OK);
    cr_expect_str_eq(mcs_config_text(&common, &values_arena),
                     "verb: plain\nversion: " MCS_VERSION
                     "\ndevice: cpu\ngpu: 0\nthreads: 0\nseed: 1\nprecision: auto\nform: \"paper\"\n");
    values_write("input: x\nfolds: []\n");
    values_saved("--config %",
                 "input: \"x\"\nkind: \"a\"\nstep-count: 10\nany-number: 0\nlearning-rate: 0.1\nrank: area\n"
                 "fill: false\nfolds: []\nlesion.contrast: 2\n");
}

/* Numbers are written with the fewest digits that read back equal. */
Test(config_values, saved_numbers)
{
    static const char *const texts[] = {"0.1",    "0.25",    "1e-05",  "123456",   "1234567", "0.30000000000000004",
                                        "1e+300", "-2.5",    "0.1234", "5e-324",   "0",       "9007199254740993",
                                        "1e+06",  "3.14159", "1e+100", "100000000"};
    static const char *const want[] = {"0.1",    "0.25",    "1e-05",  "123456",       "1234567", "0.30000000000000004",
                                       "1e+300", "-2.5",    "0.1234", "4.94066e-324", "0",       "9007199254740992",
                                       "1e+06",  "3.14159", "1e+100", "1e+08"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char line[80], row[64];
        snprintf(line, sizeof line, "-i in --lesion.contrast %s", texts[i]);
        snprintf(row, sizeof row, "\nlesion.contrast: %s\n", want[i]);
        GOOD(line);
        cr_expect(strstr(mcs_config_text(&values_got, &values_arena), row), "want '%s' in\n%s", row,
                  mcs_config_text(&values_got, &values_arena));
        cr_expect_eq(values_got.contrast, strtod(texts[i], NULL));
    }
}

/* Controls, YAML's line ends, and byte order marks are written as escapes; all of it is read back. */
Test(config_values, saved_texts)
{
    static const unsigned more[] = {0x800,  0x1028, 0x2027, 0x2028, 0x2029, 0x202A, 0x2068,  0x3028,  0xFEBF,
                                    0xFEFE, 0xFEFF, 0xFF00, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x1F642, 0x10FFFF};
    enum { MORE = sizeof more / sizeof *more, LAST = 0x250 };
    for (int i = 1; i < LAST + MORE; i++) {
        const unsigned code = i < LAST ? (unsigned)i : more[i - LAST];
        char text[8] = {0}, want[32], *argv[] = {"-i", text};
        if (code < 0x80)
            text[0] = (char)code;
        else if (code < 0x800)
            text[0] = (char)(0xC0 | code >> 6), text[1] = (char)(0x80 | (code & 63));
        else if (code < 0x10000)
            text[0] = (char)(0xE0 | code >> 12), text[1] = (char)(0x80 | (code >> 6 & 63)),
            text[2] = (char)(0x80 | (code & 63));
        else
            text[0] = (char)(0xF0 | code >> 18), text[1] = (char)(0x80 | (code >> 12 & 63)),
            text[2] = (char)(0x80 | (code >> 6 & 63)), text[3] = (char)(0x80 | (code & 63));
        if (code < 32 || (code >= 127 && code < 160))
            snprintf(want, sizeof want, "input: \"\\x%02X\"\n", code);
        else if (code == 0x2028 || code == 0x2029 || code == 0xFEFF || code == 0xFFFE || code == 0xFFFF)
            snprintf(want, sizeof want, "input: \"\\u%04X\"\n", code);
        else
            snprintf(want, sizeof want, "input: \"%s%s\"\n", code == '"' || code == '\\' ? "\\" : "", text);
        cr_assert_eq(mcs_config_parse_env(&values_verb, 2, argv, NULL, &values_arena, &values_got), MCS_OK);
        const char *whole = mcs_config_text(&values_got, &values_arena);
        cr_expect(strstr(whole, want), "U+%04X: want '%s' in\n%s", code, want, whole);
        values_write(whole);
        GOOD("--config %");
        cr_expect_str_eq(values_got.input, text, "U+%04X is read back", code);
        if (i % 64 == 0) mcs_arena_free(&values_arena);
    }
    char *bytes[] = {"-i", "a\\\xff"};
    cr_assert_eq(mcs_config_parse_env(&values_verb, 2, bytes, NULL, &values_arena, &values_got), MCS_OK);
    const char *encoded = mcs_config_text(&values_got, &values_arena);
    cr_expect(strstr(encoded, "input: \"a\\\\\\\\\\\\xff\"\n"), "%s", encoded);
    values_write(encoded);
    GOOD("--config %");
    cr_expect_str_eq(values_got.input, "a\\\xff");
    values_write("input: \"\\\\xff\\\\\\\\\"\nfolds: [\"\\\\x80\", b]\nargs: [\"\\\\xfe\"]\n");
    values_good(&values_verb_args, NULL, "--config %");
    cr_expect_str_eq(values_got.input, "\xff\\", "bytes that are no UTF-8");
    cr_expect_str_eq(values_got.folds.v[0], "\x80");
    cr_expect_str_eq(values_got.common.args.v[0], "\xfe");
    GOOD("-i \\xff");
    cr_expect_str_eq(values_got.input, "\\xff", "on the command line nothing is decoded");
}

/* ---- forms ---- */

Test(config_values, forms)
{
    static const char *const stages[] = {"loss", "saliency", "coarse", "sam", "train", "metrics"};
    for (int set = 0; set < 64; set++) {
        struct mcs_common common = {0};
        char want[128] = "";
        for (int s = 0; s < 6; s++) {
            common.form[s] = set >> s & 1 ? MCS_RELEASE : MCS_PAPER;
            snprintf(want + strlen(want), sizeof want - strlen(want), "%s%s=%s", s ? "," : "", stages[s],
                     set >> s & 1 ? "release" : "paper");
        }
        const char *text = mcs_form_text(common.form, &values_arena);
        cr_expect_str_eq(text, set == 0 ? "paper" : set == 63 ? "release" : want);
        enum mcs_form back[MCS_FORM_STAGES] = {0};
        cr_assert_eq(mcs_form_parse(text, back), MCS_OK, "%s", mcs_error_message());
        cr_expect_arr_eq(back, common.form, sizeof back);
    }
    GOOD("-i in --form release,sam=paper,loss=paper");
    static const enum mcs_form want[] = {MCS_PAPER, MCS_RELEASE, MCS_RELEASE, MCS_PAPER, MCS_RELEASE, MCS_RELEASE};
    cr_expect_arr_eq(values_got.common.form, want, sizeof want);
    GOOD("-i in --form sam=release,");
    cr_expect_eq(values_got.common.form[MCS_FORM_SAM], MCS_RELEASE);
    BAD("-i in --form new", "--form: want paper or release, got 'new' (in 'new')");
    BAD("-i in --form sam=release,sam=", "--form: want paper or release, got '' (in 'sam=release,sam=')");
    BAD("-i in --form papers", "--form: want paper or release, got 'papers' (in 'papers')");
    BAD("-i in --form salency=release", "--form: unknown stage 'salency'; did you mean 'saliency'?");
    BAD("-i in --form metric=paper", "--form: unknown stage 'metric'; did you mean 'metrics'?");
    BAD("-i in --form los=paper", "--form: unknown stage 'los'; did you mean 'loss'?");
    char line[256] = "-i in --form paper,", long_form[160];
    memset(long_form, 'x', 127), long_form[127] = '\0';
    strcat(line, long_form);
    cr_expect_eq(values_parse(&values_verb, NULL, line), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "want paper or release"));
    strcat(line, "x");
    cr_expect_eq(values_parse(&values_verb, NULL, line), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "is too long"));
}

/* ---- the command line ---- */

Test(config_values, spellings)
{
    static const char *const seven[] = {"-s 7",           "-s7",           "-s=7",          "--step-count 7",
                                        "--step_count=7", "-step-count 7", "-STEP_COUNT=7", "--iterations 7",
                                        "-iterations=7",  "-s 3 -s 7"};
    for (size_t i = 0; i < sizeof seven / sizeof *seven; i++) {
        char line[64];
        snprintf(line, sizeof line, "-i in %s", seven[i]);
        GOOD(line);
        cr_expect_eq(values_got.steps, 7, "%s", line);
        cr_expect_str_eq(values_got.input, "in");
    }
    static const struct {
        const char *line;
        int fill, quiet;
    } flags[] = {{"", 0, 0},          {"--fill", 1, 0},           {"-y", 1, 0},          {"-fill", 1, 0},
                 {"--fill=no", 0, 0}, {"--fill --no-fill", 0, 0}, {"-y -no-fill", 0, 0}, {"-yes", 0, 0},
                 {"-y=off -q", 0, 1}, {"--no_fill -q=on", 0, 1},  {"--FILL=1", 1, 0},    {"-ytrue", 1, 0},
                 {"-yno", 0, 0},      {"--no-quiet", 0, 0}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        char line[64];
        snprintf(line, sizeof line, "-i in %s", flags[i].line);
        if (strcmp(flags[i].line, "-yes") == 0) {
            BAD(line, "try: --fill: want true or false, got 'es'");
            continue;
        }
        GOOD(line);
        cr_expect_eq(values_got.fill, flags[i].fill, "%s", line);
        cr_expect_eq(values_got.common.quiet, flags[i].quiet, "%s", line);
    }
    static const char *const words[] = {"false", "no", "off", "0", "true", "yes", "on", "1"};
    for (int k = 0; k < 8; k++) {
        char line[64];
        snprintf(line, sizeof line, "-i in --fill=%s", words[k]);
        GOOD(line);
        cr_expect_eq(values_got.fill, k >= 4, "%s", line);
    }
    GOOD("--input --fill");
    cr_expect_str_eq(values_got.input, "--fill", "the word behind an option is its value");
    GOOD("--input=a=b");
    cr_expect_str_eq(values_got.input, "a=b");
    BAD("--input=", "try: --input: is empty, want DIR");
    GOOD("--input== --kind=bc --rank=confidence --learning-rate=-0.5");
    cr_expect_str_eq(values_got.input, "=");
    cr_expect_str_eq(values_got.kind, "bc");
    cr_expect_eq(values_got.rank, 0);
    cr_expect_eq(values_got.rate, -0.5);
}

Test(config_values, lists_and_words)
{
    GOOD("-f 3 4 -5 -i in");
    cr_expect_eq(values_got.folds.n, 3);
    cr_expect_str_eq(values_got.folds.v[2], "-5", "a number with a sign is no option");
    GOOD("-f 3 -i in -f 4 5");
    cr_expect_eq(values_got.folds.n, 3);
    cr_expect_str_eq(values_got.folds.v[0], "3");
    cr_expect_str_eq(values_got.folds.v[1], "4");
    cr_expect_str_eq(values_got.folds.v[2], "5");
    BAD("-f 3 -i in 4", "try: '4' is too much: it takes options only");
    BAD("-i in -", "try: '-' is too much: it takes options only");
    BAD("-i in --fill yes", "try: 'yes' is too much: it takes options only");
    BAD("-i in -- --fill", "try: '--fill' is too much: it takes options only");
    values_good(&values_verb_args, NULL, "-i in -f 3 one");
    cr_expect_eq(values_got.folds.n, 1);
    cr_expect_eq(values_got.common.args.n, 1);
    cr_expect_str_eq(values_got.common.args.v[0], "one");
    values_good(&values_verb_args, NULL, "-i in -5 - ");
    cr_expect_str_eq(values_got.common.args.v[0], "-5");
    cr_expect_str_eq(values_got.common.args.v[1], "-");
    values_good(&values_verb_args, NULL, "-i in -- -s --help");
    cr_expect_eq(values_got.common.args.n, 2);
    cr_expect_str_eq(values_got.common.args.v[0], "-s");
    cr_expect_str_eq(values_got.common.args.v[1], "--help");
    cr_expect_eq(values_got.common.help, 0);
    values_bad(&values_verb_args, "-i in a b c d", MCS_E_USAGE, "words: 'c' is too much: want SRC [DST]");
    values_bad(&values_verb_args, "-i in", MCS_E_USAGE, "words: want SRC [DST] (mcsam words --help)");
    values_good(&values_verb_args, NULL, "-h");
    cr_expect_eq(values_got.common.help, 1);
    values_good(&values_verb_args, NULL, "nonsense --nonsense --help");
    cr_expect_eq(values_got.common.help, 1);
    /* Very many: every one is kept. */
    enum { MANY = 1000 };
    static char text[MANY][8], *argv[MANY + 3] = {"-i", "in", "-f"};
    for (int i = 0; i < MANY; i++) snprintf(text[i], sizeof text[i], "%d", i), argv[3 + i] = text[i];
    cr_assert_eq(mcs_config_parse_env(&values_verb, MANY + 3, argv, NULL, &values_arena, &values_got), MCS_OK);
    cr_assert_eq(values_got.folds.n, MANY);
    for (int i = 0; i < MANY; i++) cr_expect_str_eq(values_got.folds.v[i], text[i]);
}

Test(config_values, what_is_refused)
{
    BAD("-i in --stepcount 3",
        "try: unknown option '--stepcount'; did you mean --step-count? (mcsam try --help lists all)");
    BAD("-i in --iteratons=3",
        "try: unknown option '--iteratons=3'; did you mean --iterations? (mcsam try --help lists all)");
    BAD("-i in -z", "try: unknown option '-z'; did you mean --gpu? (mcsam try --help lists all)");
    BAD("-i in --s 3", "try: unknown option '--s'; did you mean --gpu? (mcsam try --help lists all)");
    BAD("-i in --no-rank", "try: unknown option '--no-rank'; did you mean --rank? (mcsam try --help lists all)");
    BAD("-i in --no-fil", "try: unknown option '--no-fil'; did you mean --config? (mcsam try --help lists all)");
    BAD("-i in --no-fill=1", "try: --fill: '--no-fill=1' takes no value");
    BAD("-i", "try: --input: needs a value, DIR");
    BAD("-i in --rank", "try: --rank: needs a value, confidence|area|text");
    BAD("-i in --step-count", "try: --step-count: needs a value, TEXT");
    BAD("", "try: --input DIR is required (mcsam try --help)");
    BAD("-i in -sx", "try: --step-count: want a whole number, got 'x'");
    BAD("-i in -s 5x", "try: --step-count: want a whole number, got '5x'");
    BAD("-i in -s 9223372036854775808", "try: --step-count: 9223372036854775808 is too large");
    BAD("-i in --lesion.contrast 1e999", "try: --lesion.contrast: want a number, got '1e999'");
    BAD("-i in --lesion.contrast 1.5mm", "try: --lesion.contrast: want a number, got '1.5mm'");
    BAD("-i in --lesion.contrast=", "try: --lesion.contrast: want a number, got ''");
    BAD("-i in --lesion.contrast nan", "try: --lesion.contrast: want a number, got 'nan'");
    BAD("-i in --rank tex", "try: --rank: want one of confidence|area|text, got 'tex'; did you mean 'text'?");
    BAD("-i in --rank texts", "try: --rank: want one of confidence|area|text, got 'texts'; did you mean 'text'?");
    BAD("-i in --rank rea", "try: --rank: want one of confidence|area|text, got 'rea'; did you mean 'area'?");
    BAD("-i in --rank confidance",
        "try: --rank: want one of confidence|area|text, got 'confidance'; did you mean 'confidence'?");
    BAD("-i in --kind b", "try: --kind: want one of a|bc, got 'b'; did you mean 'a'?");
    BAD("-i in --kind=", "try: --kind: want one of a|bc, got ''; did you mean 'a'?");
    BAD("-i in --fill=2", "try: --fill: want true or false, got '2'");
    char line[128] = "-i in --";
    memset(line + strlen(line), 'x', 100);
    cr_expect_eq(values_parse(&values_verb, NULL, line), MCS_E_USAGE);
}

/* Both ends of every range are allowed. */
Test(config_values, ranges)
{
    static const struct {
        const char *name, *least, *most, *below, *above, *range;
    } rows[] = {{"step-count", "1", "1000", "0", "1001", "1 to 1000"},
                {"learning-rate", "-1", "1", "-1.0001", "1.0001", "-1 to 1"},
                {"gpu", "0", "1023", "-1", "1024", "0 to 1023"},
                {"threads", "0", "4096", "-1", "4097", "0 to 4096"},
                {"seed", "0", "9000000000000000000", "-1", "9000000000000002000", "0 to 9e+18"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *const values[] = {rows[i].least, rows[i].most, rows[i].below, rows[i].above};
        for (int k = 0; k < 4; k++) {
            char line[128], want[160];
            snprintf(line, sizeof line, "-i in --%s %s", rows[i].name, values[k]);
            snprintf(want, sizeof want, "try: --%s: %s is out of range, want %s", rows[i].name, values[k],
                     rows[i].range);
            if (k < 2)
                GOOD(line);
            else
                BAD(line, want);
        }
    }
    GOOD("-i in --any-number -9223372036854775808 --lesion.contrast -1e300");
    cr_expect_eq(values_got.any, INT64_MIN);
    GOOD("-i in --any-number 9223372036854775807 --seed 9000000000000000000 --gpu 1023 --threads 4096");
    cr_expect_eq(values_got.any, INT64_MAX);
    cr_expect_eq(values_got.common.seed, 9000000000000000000);
    cr_expect_eq(values_got.common.device.gpu, 1023);
    cr_expect_eq(values_got.common.device.threads, 4096);
}

/* ---- the environment ---- */

Test(config_values, environment)
{
    char *env[] = {"MCSAM_STEP_COUNTS=5", "MCSAM_STEP=6",    "XMCSAM_STEP_COUNT=7",      "MCSAM_STEP_COUNT=8",
                   "MCSAM_STEP_COUNT=9",  "MCSAM_HELP=true", "MCSAM_LESION_CONTRAST=-3", "MCSAM_INPUT=a b",
                   "MCSAM_FOLDS= 5  6 ",  "MCSAM_FILL=on",   "MCSAM_RANK=text",          "MCSAM_QUIET=",
                   "MCSAM_LEARNING_RATE", "MCSAM_KIND=bc",   "MCSAM_ITERATIONS=77",      NULL};
    values_good(&values_verb, env, "");
    cr_expect_eq(values_got.steps, 8);
    cr_expect_eq(values_got.common.help, 0);
    cr_expect_eq(values_got.contrast, -3);
    cr_expect_str_eq(values_got.input, "a b");
    cr_expect_eq(values_got.folds.n, 2);
    cr_expect_str_eq(values_got.folds.v[0], "5");
    cr_expect_str_eq(values_got.folds.v[1], "6");
    cr_expect_eq(values_got.fill, 1);
    cr_expect_eq(values_got.rank, 2);
    cr_expect_eq(values_got.rate, 0.1);
    cr_expect_str_eq(values_got.kind, "bc");
    values_write("seed: 5\nstep-count: 3\n");
    char from[96];
    snprintf(from, sizeof from, "MCSAM_CONFIG=%s", values_file);
    char *with_file[] = {from, "MCSAM_GPU=2", NULL};
    values_good(&values_verb, with_file, "-i in");
    cr_expect_eq(values_got.common.seed, 5);
    cr_expect_eq(values_got.steps, 3);
    cr_expect_eq(values_got.common.device.gpu, 2);
    char *missing[] = {"MCSAM_CONFIG=/nonexistent/a.yaml", NULL};
    values_good(&values_verb, missing, "-i in --config %");
    cr_expect_eq(values_got.common.seed, 5, "the command line's file is read alone");
    cr_expect_eq(values_parse(&values_verb, missing, "-i in"), MCS_E_NOINPUT);
}

/* ---- suggestions ---- */

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Optimal string alignment by its definition. */
static int plain_distance(const char *a, int na, const char *b, int nb)
{
    int d[8][8];
    for (int i = 0; i <= na; i++)
        for (int j = 0; j <= nb; j++) {
            d[i][j] = i == 0 ? j : j == 0 ? i : 99;
            if (!i || !j) continue;
            d[i][j] = least(d[i - 1][j] + 1, d[i][j - 1] + 1);
            d[i][j] = least(d[i][j], d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[na][nb];
}

Test(config_values, distances)
{
    static char words[400][6];
    int n = 0;
    for (int length = 0; length <= 5; length++)
        for (int k = 0, all = (int)pow(3, length); k < all; k++) {
            char *w = words[n++];
            for (int i = 0, rest = k; i < length; i++, rest /= 3) w[i] = (char)('a' + rest % 3);
        }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            const int want = plain_distance(words[i], (int)strlen(words[i]), words[j], (int)strlen(words[j]));
            if (mcs_edit_distance(words[i], words[j]) != want)
                cr_assert(0, "'%s' and '%s': %d, want %d", words[i], words[j], mcs_edit_distance(words[i], words[j]),
                          want);
        }
    cr_expect_eq(mcs_edit_distance("Learning_Rate", "learning-rate"), 0);
    cr_expect_eq(mcs_edit_distance("AB", "ba"), 1);
    char a[80], b[80];
    memset(a, 'a', sizeof a), memset(b, 'b', sizeof b);
    a[79] = b[79] = '\0';
    cr_expect_eq(mcs_edit_distance(a, b), 64, "of long names the first 64 characters count");
    cr_expect_eq(mcs_edit_distance(a, ""), 64);
    cr_expect_eq(mcs_edit_distance("", b), 64);
}

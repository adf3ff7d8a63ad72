/* Arbitrary names and texts: any bytes and any length, with characters that terminals and spreadsheets interpret. They
 * must not end a run, get lost, or have an effect. Here escapes, tables, JSON and YAML; verbs: test_names_verbs.c. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/text/pairs.h"
#include "data/text/prompts.h"
#include "engine/base/escape.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/cli/config.h"
#include "infer/cases.h"
#include "infer/coarse/boxes.h"
#include "infer/sam/sam_model.h"
#include "tests/support/support_names.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

TestSuite(names, .init = names_open, .fini = shell_close, .timeout = 120);

/* ---- escapes ---- */

Test(names, shown)
{
    static const char *const cases[][2] = {{"plain é 漢 \xf0\x9f\x99\x82", "plain é 漢 \xf0\x9f\x99\x82"},
                                           {"\x1b[2J\x07\t\r\n", "\\x1b[2J\\x07\\x09\\x0d\\x0a"},
                                           {"a\x7f\xc2\x80\xc2\x9f\xc2\xa0", "a\\x7f\\xc2\\x80\\xc2\\x9f\xc2\xa0"},
                                           {"\xff\xc0\xaf\xed\xa0\x80", "\\xff\\xc0\\xaf\\xed\\xa0\\x80"},
                                           {"\xf4\x90\x80\x80\xe2\x82", "\\xf4\\x90\\x80\\x80\\xe2\\x82"},
                                           {"back\\slash", "back\\slash"}};
    char dst[64], small[8];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mcs_text_escape(dst, sizeof dst, cases[i][0]);
        cr_expect_str_eq(dst, cases[i][1]);
        cr_expect_str_eq(mcs_text_shown(dst), cases[i][1]); /* applying it again changes nothing */
    }
    mcs_text_escape(small, sizeof small,
                    "abcd\x1b"
                    "e"); /* the escape does not fit: no part of it is written */
    cr_expect_str_eq(small, "abcd");
    mcs_text_escape(small, sizeof small, "abcdef\xc3\xa9");
    cr_expect_str_eq(small, "abcdef");
}

/* Decoding gives back every name, and no two names are encoded alike. */
Test(names, stored)
{
    static const char *const names[] = {"plain",     "é",           "\xff",  "\\xff", "\\\\xff", "a\\b",
                                        "a\\b\xff",  "a\\\\b\\xff", "\\x41", "\\xFF", "\\\xff",  "\\x\xff",
                                        "\xff\\xff", "\\\\",        "\\",    "",      "\xc3",    "\\xc3\\xa9"};
    enum { N = sizeof names / sizeof *names };
    struct arena a = {0};
    const char *encoded[N];
    for (int i = 0; i < N; i++) {
        encoded[i] = mcs_text_encode(&a, names[i]);
        cr_expect_str_eq(mcs_text_decode(&a, encoded[i]), names[i]);
        for (const char *p = encoded[i]; *p; p += mcs_text_utf8_length(p)) cr_assert(mcs_text_utf8_length(p) > 0);
        for (int k = 0; k < i; k++) cr_expect_str_neq(encoded[k], encoded[i], "%d and %d", k, i);
    }
    cr_expect_str_eq(encoded[1], "é");
    cr_expect_str_eq(encoded[5], "a\\b"); /* ordinary names are unchanged */
    cr_expect_str_eq(encoded[2], "\\xff");
    cr_expect_str_eq(mcs_text_decode(&a, "\\x41\\\\"), "\\x41\\\\"); /* not produced by encoding */
    mcs_arena_free(&a);
}

/* Names in messages cannot send commands to the terminal: errors, warnings, notes. */
Test(names, messages)
{
    cr_expect_eq(MCS_FAIL(MCS_E_DATA, "%s: bad", NAMES_ODD), MCS_E_DATA);
    cr_expect_str_eq(mcs_error_message(), "-o\\x1b[31m\\x0a\",\\x7f\\xc2\\x9b\\xff\\xfeé: bad");
    mcs_error_add("; %s", "\x1b]0;t\x07");
    cr_expect(strstr(mcs_error_message(), "; \\x1b]0;t\\x07"));
    mcs_error_clear();
    const int kept = dup(2), fd = open(names_path("%s", "log"), O_CREAT | O_RDWR, 0600);
    dup2(fd, 2);
    mcs_warn("%s", NAMES_ODD);
    mcs_log("%s", NAMES_ODD);
    dup2(kept, 2);
    close(fd);
    close(kept);
    const char *said = names_text("log");
    cr_expect_str_eq(said, "mcsam: warning: -o\\x1b[31m\\x0a\",\\x7f\\xc2\\x9b\\xff\\xfeé\n"
                           "mcsam: -o\\x1b[31m\\x0a\",\\x7f\\xc2\\x9b\\xff\\xfeé\n");
    names_put_image("%s.png", NAMES_ODD);
    expect("E=$(printf '\\033'); mcsam info ./*.png \"no$E[31mwhere.png\"", 3, "no\\x1b[31mwhere.png");
    cr_expect(strstr(shell_output, "-o\\x1b[31m\\x0a\""), "%s", shell_output);
    cr_expect_not(names_raw_control(shell_output), "%s", shell_output);
    expect("mcsam info --json ./*.png", 0, "\\\\xff\\\\xfe");
    expect("mcsam info \"a$(printf '\\033')\"", 66, "mcsam: error: a\\x1b: ");
    expect(MCS_BINARY " \"$(printf '\\033')[31m\"", 2, "unknown verb '\\x1b[31m'");
    expect("mkdir x y && cp ./*.png x && cp ./*.png y && mcsam diff x y --all", 0, "\\xff\\xfe");
    cr_expect_not(names_raw_control(shell_output), "%s", shell_output);
}

/* ---- tables ---- */

Test(names, cells)
{
    static const char *const cases[][2] = {
        {"=1+2", "'=1+2"},
        {"+a", "'+a"},
        {"-a", "'-a"},
        {"@SUM(A1)", "'@SUM(A1)"},
        {"\tx", "'\tx"},
        {"\rx", "\"'\rx\""},
        {"\n=", "\"'\n=\""},
        {"'=x", "''=x"},
        {"''-", "'''-"},
        {"'quoted'", "'quoted'"},
        {"a=b", "a=b"},
        {"a,b", "\"a,b\""},
        {"a\"b", "\"a\"\"b\""},
        {"", ""},
        {"'", "'"},
        {"=\"x\",1", "\"'=\"\"x\"\",1\""},
        {"\xff", "\\xff"},
    };
    struct arena a = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect_str_eq(mcs_csv_field(&a, cases[i][0]), cases[i][1], "%s",
                         mcs_text_shown(mcs_csv_field(&a, cases[i][0])));
    mcs_arena_free(&a);
}

/* Captions and image names that mcsam wrote are read back unchanged. */
Test(names, cells_read_back)
{
    static const char *const names[] = {"=1+2.png", "-x.png",   "@a.png",     "'=q.png",
                                        "\xff.png", "a\nb.png", "a\"b,c.png", "plain.png"};
    static const char *const captions[] = {"=HYPERLINK(\"x\")", "-no effusion", "+pneumonia", "'-x",
                                           "'quoted' text",     "@home",        "a\nb",       "b, c"};
    enum { N = sizeof names / sizeof *names };
    struct arena a = {0};
    FILE *f = fopen(names_path("%s", "pairs.csv"), "w");
    fprintf(f, "filename,Caption\n");
    for (int i = 0; i < N; i++) {
        OK(mcs_file_write(names_path("%s", names[i]), "x", 1));
        fprintf(f, "%s,%s\n", mcs_csv_field(&a, names[i]), mcs_csv_field(&a, captions[i]));
    }
    fclose(f);
    mcs_arena_free(&a);
    struct pairs p;
    OK(mcs_pairs_read(names_path("%s", "pairs.csv"), NULL, &p));
    cr_assert_eq(p.n, N);
    for (int i = 0; i < N; i++) {
        cr_expect_str_eq(p.v[i].image, names_path("%s", names[i]));
        cr_expect_str_eq(p.v[i].caption, captions[i]);
    }
    mcs_pairs_free(&p);
}

/* ---- JSON and YAML ---- */

Test(names, prompts_and_boxes_read_back)
{
    struct prompts p = {0}, q;
    const char *const text = "a lesion";
    OK(mcs_prompts_add(&p, "a\xff.png", &text, 1));
    OK(mcs_prompts_add(&p, "a\\xff.png", &text, 1));
    OK(mcs_prompts_add(&p, NAMES_ODD, &text, 1));
    OK(mcs_prompts_write(names_path("%s", "p.json"), &p));
    OK(mcs_prompts_read(names_path("%s", "p.json"), &q));
    cr_assert_eq(q.n, 3);
    for (int i = 0; i < 3; i++) cr_expect_str_eq(q.v[i].name, p.v[i].name);
    cr_expect_eq(mcs_prompts_find(&q, "x/a\xff.png"), &q.v[0]);
    mcs_prompts_free(&p);
    mcs_prompts_free(&q);

    struct box_case c[] = {{.image = "b\xfe.png", .width = 3, .height = 2},
                           {.image = NAMES_ODD, .width = 3, .height = 2}};
    struct box_list l = {.n = 2, .cases = c}, m;
    OK(mcs_boxes_write(names_path("%s", "b.json"), &l));
    OK(mcs_boxes_read(names_path("%s", "b.json"), &m));
    cr_assert_eq(m.n, 2);
    for (int i = 0; i < 2; i++) cr_expect_str_eq(m.cases[i].image, c[i].image);
    cr_expect(mcs_boxes_find(&m, "b\xfe"));
    mcs_boxes_free(&m);
}

struct fields {
    struct mcs_common common;
    const char *input;
    struct mcs_strings inputs;
};

Test(names, config_reads_back)
{
    static const struct mcs_option options[] = {
        {"input", 0, MCS_FIELD(fields, input), .help = ""}, {"inputs", 0, MCS_FIELD(fields, inputs), .help = ""}, {0}};
    static const struct mcs_verb verb = {
        .name = "v", .options = options, .options_bytes = sizeof(struct fields), .args = "X", .max_args = 9};
    struct arena a = {0};
    struct fields one, two;
    char *argv[] = {
        "--input",
        "in\xff\\" NAMES_ODD "\xe2\x80\xa8\xe2\x80\xa9\xef\xbb\xbf\xef\xbf\xbe\xef\xbf\xbf\xc2\x85\xf0\x9f\x99\x82",
        "--inputs",
        "\xfe",
        "--inputs",
        "b\\xfe",
        "--",
        "w\xff"};
    OK(mcs_config_parse_env(&verb, 8, argv, NULL, &a, &one));
    const char *saved = mcs_config_text(&one, &a);
    OK(mcs_file_write(names_path("%s", "c.yaml"), saved, (int64_t)strlen(saved)));
    char *again[] = {"--config", (char *)names_path("%s", "c.yaml")};
    OK(mcs_config_parse_env(&verb, 2, again, NULL, &a, &two));
    cr_expect_str_eq(two.input, one.input);
    cr_assert_eq(two.inputs.n, 2);
    cr_expect_str_eq(two.inputs.v[0], "\xfe");
    cr_expect_str_eq(two.inputs.v[1], "b\\xfe");
    cr_assert_eq(two.common.args.n, 1);
    cr_expect_str_eq(two.common.args.v[0], "w\xff");
    mcs_arena_free(&a);
}

static void refused(const char *yaml, size_t n, const char *words)
{
    const char *verb;
    struct arena a = {0};
    struct timespec from, to;
    OK(mcs_file_write(names_path("%s", "bad.yaml"), yaml, (int64_t)n));
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from); /* CPU time of this thread: other load does not count */
    cr_expect_eq(mcs_config_verb(names_path("%s", "bad.yaml"), &a, &verb), MCS_E_DATA);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    const double seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    cr_expect(strstr(mcs_error_message(), words), "want '%s' in: %s", words, mcs_error_message());
    cr_expect_lt(seconds, 2.0, "%s: %.2f s", words,
                 seconds); /* once 40 s, now some ms; the limit allows for sanitizers and slow machines */
    mcs_error_clear();
    mcs_arena_free(&a);
}

/* n times `part` after `head`. */
static void refused_many(const char *head, const char *part, int n, const char *words)
{
    char *text = malloc(strlen(head) + (size_t)n * strlen(part) + 1);
    cr_assert(text);
    char *end = text + sprintf(text, "%s", head);
    for (int i = 0; i < n; i++) end += sprintf(end, "%s", part);
    refused(text, (size_t)(end - text), words);
    free(text);
}

Test(names, yaml_is_bounded)
{
    refused_many("verb: train\nx: ", "[", 400000, "nested more than 16 deep");
    refused_many("verb: train\nx: ", "{a: ", 100000, "nested more than 16 deep");
    refused_many("", "- ", 200000, "nested more than 16 deep");
    refused_many("", "? ", 200000, "nested more than 16 deep");
    refused_many("a: &a [x]\nx: [", "*a, ", 100000, "aliases");
    refused_many("x: [", "&a b, ", 60000, "more than 16384 keys and values");
    refused_many("", "k: v\n", 60000, "more than 16384 keys and values");
    refused_many("", "%TAG !a! b\n", 90000, "more than 8 directives");
    refused_many("", "x", (1 << 20) + 1, "more than 1048576 bytes");
    refused_many("verb: train\n", "---\na: b\n", 2, "more than one YAML document");
    mkfifo(names_path("%s", "fifo"), 0600);
    expect("timeout 20 " MCS_BINARY " info x --config fifo", 74, "is a named pipe");
}

Test(names, json_is_bounded)
{
    json_t *root;
    const int n = 300000;
    char *text = malloc((size_t)n + 1);
    memset(text, '[', (size_t)n);
    cr_expect_eq(mcs_json_parse("f.json", text, n, 0, &root), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "f.json:1: JSON nested more than 64 deep"), "%s", mcs_error_message());
    mcs_error_clear();
    memcpy(text, "[\"[[[[\\\"[[\", 1]", 16); /* brackets in a text do not count */
    OK(mcs_json_parse("f.json", text, 15, 0, &root));
    json_decref(root);
    /* 3 bytes per value, over a hundred in memory: with 16 MiB allowed they are refused before they are allocated */
    for (int i = 0; i < n; i += 3) memcpy(text + i, "[],", 3);
    text[0] = '[', text[1] = '0', text[n - 1] = ']';
    mcs_memory_limit_set(16 << 20);
    cr_expect_eq(mcs_json_parse("many.json", text, n, 0, &root), MCS_E_DATA);
    mcs_memory_limit_set(0);
    cr_expect(strstr(mcs_error_message(), "many.json: its values of JSON: needs"), "%s", mcs_error_message());
    mcs_error_clear();
    OK(mcs_json_parse("many.json", text, n, 0, &root));
    cr_expect_eq(json_array_size(root), 100000);
    json_decref(root);
    free(text);
}

/* engine/cli/config: the accepted YAML, its errors with file and line, its limits, and the verb that a saved config
 * names. */
#include "engine/cli/config.h"
#include "tests/support/support_config_values.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

TestSuite(config_values, .init = values_open, .fini = values_close);

/* ---- YAML ---- */

static void yaml(const char *text, enum mcs_status st, const char *part)
{
    char want[256];
    values_write(text);
    cr_expect_eq(values_parse(&values_verb, NULL, "-i in --config %"), st, "%s: %s", text, mcs_error_message());
    snprintf(want, sizeof want, "%s%s", values_file, part);
    if (st != MCS_OK) cr_expect_str_eq(mcs_error_message(), want, "%s: %s", text, mcs_error_message());
}

Test(config_values, yaml_errors)
{
    yaml("\nstep-cuont: 6\n", MCS_E_USAGE,
         ":2: step-cuont: unknown key; did you mean 'step-count'? (mcsam try --help lists all)");
    yaml("a: {b: {c: {d: 1}}}\n", MCS_E_USAGE,
         ":1: a.b.c.d: unknown key; did you mean 'kind'? (mcsam try --help lists all)");
    yaml("a: {b: {c: {d: {e: 1}}}}\n", MCS_E_USAGE, ":1: nested too deeply");
    yaml("help: true\n", MCS_E_USAGE, ":1: help: unknown key; did you mean 'help'? (mcsam try --help lists all)");
    yaml("config: x\n", MCS_E_USAGE, ":1: config: unknown key; did you mean 'config'? (mcsam try --help lists all)");
    yaml("seed: 1\nseed: 2\n", MCS_E_USAGE, ":2: seed: given twice");
    yaml("folds: [1]\nfolds: [2]\n", MCS_E_USAGE, ":2: folds: given twice");
    yaml("seed: [1]\n", MCS_E_USAGE, ":1: seed: want a single value, got a list");
    yaml("folds: [1, [2]]\n", MCS_E_USAGE, ":1: folds: want a single value");
    yaml("folds: [1, {a: 2}]\n", MCS_E_USAGE, ":1: folds: want a single value");
    yaml("? [a]\n: b\n", MCS_E_USAGE, ":1: want a single value");
    yaml("args: x\n", MCS_E_USAGE, ":1: args: want a list");
    yaml("args: [[x]]\n", MCS_E_USAGE, ":1: args: want a single value");
    yaml("verb: other\n", MCS_E_USAGE, ": the file is for 'other', not for 'try'");
    yaml("verb: [try]\n", MCS_E_USAGE, ":1: verb: want a single value");
    yaml("\n\nword\n", MCS_E_USAGE, ":3: want 'key: value' lines");
    yaml("seed: \"1\\02\"\n", MCS_E_DATA, ":1: seed: a NUL character in the value");
    yaml("seed: &s 1\ngpu: *s\n", MCS_E_DATA, ":2: aliases (*name) are not read here; write the value itself");
    yaml("seed: 1\n---\nseed: 2\n", MCS_E_DATA, ": more than one YAML document");
    yaml("seed: 1\ngpu: [\n", MCS_E_DATA, ":3: not YAML: did not find expected node content");
    yaml("rank: texts\n", MCS_E_USAGE, ":1: rank: want one of confidence|area|text, got 'texts'; did you mean 'text'?");
}

Test(config_values, yaml_values)
{
    yaml("verb: try\nversion: 0.0.1\nSTEP_COUNT: 5\nlesion: {contrast: 7}\nfolds: x y\nkind: ~\nrank: null\n"
         "gpu:\nseed: &a 4\nargs: []\n",
         MCS_OK, "");
    cr_expect_eq(values_got.steps, 5);
    cr_expect_eq(values_got.contrast, 7);
    cr_expect_eq(values_got.folds.n, 1);
    cr_expect_str_eq(values_got.folds.v[0], "x y", "one value is one");
    cr_expect_str_eq(values_got.kind, "a");
    cr_expect_eq(values_got.rank, 1);
    cr_expect_eq(values_got.common.device.gpu, 0);
    cr_expect_eq(values_got.common.seed, 4);
    yaml("iterations: 6\nlesion.contrast: 8\nfolds:\n- \"1 2\"\n- ~\n", MCS_OK, "");
    cr_expect_eq(values_got.steps, 6);
    cr_expect_eq(values_got.contrast, 8);
    cr_expect_eq(values_got.folds.n, 2);
    cr_expect_str_eq(values_got.folds.v[0], "1 2");
    values_write("input: \"~\"\n");
    GOOD("--config %");
    cr_expect_str_eq(values_got.input, "~", "a text in quotes is one");
    values_write("input: 'null'\n");
    GOOD("--config %");
    cr_expect_str_eq(values_got.input, "null");
    yaml("input: \"\"\n", MCS_E_USAGE, ":1: input: is empty, want DIR");
    values_write("input: NULLs\n");
    GOOD("--config %");
    cr_expect_str_eq(values_got.input, "NULLs");
    values_write("input: ~\n");
    BAD("--config %", "try: --input DIR is required (mcsam try --help)");
    yaml("# nothing\n", MCS_OK, "");
    yaml("--- {}\n", MCS_OK, "");
}

/* The maximum size of an options file. */
Test(config_values, yaml_limits)
{
    enum { MOST_NODES = 1 << 14, MOST_BYTES = 1 << 20 };
    static char text[MOST_BYTES + 16];
    char *to = text;
    to += sprintf(to, "folds: [");
    for (int i = 0; i < MOST_NODES - 3; i++)
        to += sprintf(to, "%s%d", i ? "," : "", i % 10); /* the map, the key, the list */
    strcpy(to, "]\n");
    yaml(text, MCS_OK, "");
    cr_assert_eq(values_got.folds.n, MOST_NODES - 3);
    for (int i = 0; i < values_got.folds.n; i++)
        cr_assert(values_got.folds.v[i][0] == '0' + i % 10 && values_got.folds.v[i][1] == '\0');
    strcpy(to, ",\n7]\n");
    yaml(text, MCS_E_DATA, ":2: more than 16384 keys and values, not a file of options");
    /* 16 deep: the mapping and 15 lists. */
    yaml("folds: [[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]\n", MCS_E_USAGE, ":1: folds: want a single value");
    yaml("folds:\n [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]\n", MCS_E_DATA, ":2: nested more than 16 deep");
    yaml("folds: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: 1}}}}}}}}}}}}}}}}\n", MCS_E_DATA,
         ":1: nested more than 16 deep");
    yaml("folds: [[1],[2],[3],[4],[5],[6],[7],[8],[9],[10],[11],[12],[13],[14],[15],[16],[17]]\n", MCS_E_USAGE,
         ":1: folds: want a single value");
    /* Lines that begin with %. */
    yaml("kind: \"\n%1\n%2\n%3\n%4\n%5\n%6\n%7\n%8\n a%\"\n", MCS_E_USAGE,
         ":1: kind: want one of a|bc, got ' %1 %2 %3 %4 %5 %6 %7 %8 a%'; did you mean 'a'?");
    yaml("kind: \"\n%1\n%2\n%3\n%4\r%5\r\n%6\n%7\n%8\n%9\"\n", MCS_E_DATA,
         ": more than 8 directives (lines that begin with %)");
    yaml("%YAML 1.1\n--- \n\"kind\": \"\n%2\n%3\n%4\n%5\n%6\n%7\n%8\n%9\"\n", MCS_E_DATA,
         ": more than 8 directives (lines that begin with %)");
    memset(text, ' ', sizeof text);
    memcpy(text, "seed: 6 #", 9);
    text[MOST_BYTES] = '\0';
    yaml(text, MCS_OK, "");
    cr_expect_eq(values_got.common.seed, 6);
    text[MOST_BYTES] = ' ';
    text[MOST_BYTES + 1] = '\0';
    yaml(text, MCS_E_DATA, ": more than 1048576 bytes, not a file of options");
}

Test(config_values, the_verb_of_a_file)
{
    const char *name = NULL;
    values_write("seed: 1\nverb: finetune\n");
    cr_assert_eq(mcs_config_verb(values_file, &values_arena, &name), MCS_OK, "%s", mcs_error_message());
    cr_expect_str_eq(name, "finetune");
    static const char *const without[] = {"", "seed: 1\n", "[verb, a]\n", "verb: [a]\n", "[verb]: a\n", "- verb: a\n"};
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
        char want[128];
        values_write(without[i]);
        snprintf(want, sizeof want, "%s: no key 'verb', want a config saved with a run", values_file);
        cr_expect_eq(mcs_config_verb(values_file, &values_arena, &name), MCS_E_DATA, "%s", without[i]);
        cr_expect_str_eq(mcs_error_message(), want, "%s", without[i]);
        mcs_error_clear();
    }
    values_write("verb: 'a\n");
    cr_expect_eq(mcs_config_verb(values_file, &values_arena, &name), MCS_E_DATA);
}

/* JSON files: depth and memory are bounded before parsing, errors name file and line, written files read back. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void setup(void)
{
    shell_open(":", "");
}
TestSuite(json, .init = setup, .fini = shell_close);

static enum mcs_status check(const char *text)
{
    mcs_error_clear();
    return mcs_json_check_size("x.json", text, (int64_t)strlen(text));
}

/* `n` opening brackets of alternating kinds after `start`, one per line where `lines`. */
static const char *nested(const char *start, int n, int lines)
{
    static char text[1024];
    size_t used = (size_t)sprintf(text, "%s", start);
    for (int i = 0; i < n; i++)
        used += (size_t)sprintf(text + used, "%s%s", i % 2 ? "{\"a\":" : "[", lines ? "\n" : "");
    return text;
}

Test(json, depth_is_bounded)
{
    cr_expect_eq(check(nested("", 64, 0)), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(check(nested("", 65, 0)), MCS_E_DATA);
    cr_expect_str_eq(mcs_error_message(), "x.json:1: JSON nested more than 64 deep");
    cr_expect_eq(check(nested("\n\n", 65, 1)), MCS_E_DATA);
    cr_expect_str_eq(mcs_error_message(),
                     "x.json:67: JSON nested more than 64 deep"); /* two lines, then one per bracket */
    /* closed brackets do not count */
    cr_expect_eq(check(nested("[[]],[],{},{}", 64, 0)), MCS_OK);
    cr_expect_eq(check(nested("[[],{}", 63, 0)), MCS_OK);
    cr_expect_eq(check(nested("[[],{}", 64, 0)), MCS_E_DATA);
    mcs_error_clear();
}

/* Brackets inside of texts do not count; a quote after a backslash does not end a text, a quote after two does. */
Test(json, texts_hold_no_brackets)
{
    char text[400] = "[\"";
    memset(text + 2, '[', 100);
    memset(text + 102, '{', 100);
    strcpy(text + 202, "\"]");
    cr_expect_eq(check(text), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(check(nested("[\"\\\"[[\",\"\\\\\",\"]]\"", 63, 0)), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(check(nested("[\"\\\"[[\",\"\\\\\",\"]]\"", 64, 0)), MCS_E_DATA);
    cr_expect_eq(check(nested("[\"\n\",", 64, 0)), MCS_E_DATA);
    cr_expect_str_eq(mcs_error_message(), "x.json:2: JSON nested more than 64 deep"); /* a line end in a text */
    mcs_error_clear();
}

/* Four times the text, and 160 bytes for each value: the first, and one after each of [ { , : */
Test(json, memory_of_values)
{
    static const struct {
        const char *text;
        int n_values;
    } rows[] = {{"", 1}, {"1", 1}, {"[]", 2}, {"[1,2]", 3}, {"{}", 2}, {"{\"a\":1}", 3}, {"[{},{}]", 5}, {"]}", 1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const int64_t n = (int64_t)strlen(rows[i].text);
        cr_expect_eq(mcs_json_memory(rows[i].text, n), 4 * n + 160 * rows[i].n_values, "%s", rows[i].text);
    }
}

Test(json, errors_name_file_and_line)
{
    json_t *root = (json_t *)1;
    cr_expect_eq(mcs_json_parse("a.json", "{\"a\":\n 1,\n}", 11, 0, &root), MCS_E_DATA);
    cr_expect_null(root);
    cr_expect_eq(strncmp(mcs_error_message(), "a.json:3: not JSON: ", 20), 0, "%s", mcs_error_message());
    mcs_error_clear();
    const char *twice = "{\"a\": 1, \"a\": 2}";
    cr_expect_eq(mcs_json_parse("a.json", twice, 16, 0, &root), MCS_OK);
    cr_expect_eq(json_integer_value(json_object_get(root, "a")), 2);
    json_decref(root);
    cr_expect_eq(mcs_json_parse("a.json", twice, 16, JSON_REJECT_DUPLICATES, &root), MCS_E_DATA);
    mcs_error_clear();
    cr_expect_eq(mcs_json_parse("a.json", "[1]garbage", 3, 0, &root), MCS_OK, "only its bytes");
    json_decref(root);

    root = (json_t *)1;
    cr_expect_eq(mcs_json_read(shell_path("none.json"), 100, 0, &root), MCS_E_NOINPUT);
    cr_expect_null(root);
    mcs_error_clear();
    shell_write("x.json", "[1, 2]");
    cr_expect_eq(mcs_json_read(shell_path("x.json"), 5, 0, &root), MCS_E_DATA);
    mcs_error_clear();
    cr_assert_eq(mcs_json_read(shell_path("x.json"), 6, 0, &root), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(json_array_size(root), 2);
    json_decref(root);
    shell_write("x.json", "{\"a\": 1, \"a\": 2}");
    cr_expect_eq(mcs_json_read(shell_path("x.json"), 100, JSON_REJECT_DUPLICATES, &root), MCS_E_DATA);
    cr_expect_null(root);
    mcs_error_clear();
}

Test(json, written_with_flags_or_refused)
{
    char *text;
    int64_t n;
    cr_assert_eq(mcs_json_write(json_pack("{s:i, s:[i]}", "b", 1, "a", 2), JSON_INDENT(1) | JSON_SORT_KEYS,
                                "%s/%d.json", shell_path("."), 7),
                 MCS_OK);
    cr_assert_eq(mcs_file_read(shell_path("7.json"), 100, &text, &n), MCS_OK);
    cr_expect_str_eq(text, "{\n \"a\": [\n  2\n ],\n \"b\": 1\n}");
    free(text);
    cr_expect_eq(mcs_json_write(NULL, 0, "%s", shell_path("8.json")), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "/8.json cannot be made"), "%s", mcs_error_message());
    mcs_error_clear();
    cr_expect_not(mcs_file_exists(shell_path("8.json")));
    cr_expect_eq(mcs_json_write(json_array(), 0, "%s/none/9.json", shell_path(".")), MCS_E_IO);
    mcs_error_clear();
}

/* Bytes that are not UTF-8 survive a round trip in a text and a name. */
Test(json, texts_of_any_bytes)
{
    struct arena a = {0};
    const char *odd = "a\xff\xc3\xa9%";
    json_t *o = json_object(), *text = mcs_json_text(odd), *null = mcs_json_text(NULL);
    cr_assert(json_is_string(text) && json_is_null(null));
    cr_expect_str_eq(mcs_json_name(&a, json_string_value(text)), odd);
    cr_expect_null(mcs_json_name(&a, NULL));
    cr_assert_eq(mcs_json_put(o, odd, text), 0);
    cr_expect_str_eq(mcs_json_name(&a, json_object_iter_key(json_object_iter(o))), odd);
    cr_expect_eq(json_object_size(o), 1);
    cr_expect_eq(mcs_json_put(o, "b", NULL), -1, "no value");
    json_decref(null);
    json_decref(o);
    mcs_arena_free(&a);

    json_t *number = mcs_json_number(-0.5), *nan = mcs_json_number(NAN), *inf = mcs_json_number(-INFINITY);
    cr_expect(json_is_real(number) && json_real_value(number) == -0.5 && json_is_null(nan) && json_is_null(inf));
    json_decref(number);
}

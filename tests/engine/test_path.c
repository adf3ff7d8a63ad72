/* engine/base/path: the longest path that fits, one that is a byte too long, and the two parts of a path.
 * engine/base/text_cut: a cut text ends with a whole character. */
#include "engine/base/path.h"

#include "engine/base/text_cut.h"

#include <criterion/criterion.h>
#include <string.h>

static char dst[MCS_PATH_BYTES];

static const char *letters(int n)
{
    static char text[2 * MCS_PATH_BYTES];
    memset(text, 'a', (size_t)n);
    text[n] = '\0';
    return text;
}

static void setup(void)
{
    mcs_error_clear();
}
TestSuite(path, .init = setup);

Test(path, is_formatted)
{
    cr_assert_eq(mcs_path(dst, "%s/%d.%s", "folder", 7, "png"), MCS_OK);
    cr_expect_str_eq(dst, "folder/7.png");
    cr_expect(mcs_path_fits(dst, "%s/x", "y"));
    cr_expect_str_eq(dst, "y/x");
    cr_expect_str_eq(mcs_error_message(), "");
}

Test(path, the_longest_fits)
{
    const int most = MCS_PATH_BYTES - 1;
    cr_assert_eq(mcs_path(dst, "%s", letters(most)), MCS_OK);
    cr_expect_eq(strlen(dst), (size_t)most);
    cr_expect_eq(mcs_path(dst, "%s/b", letters(most - 2)), MCS_OK);
    cr_expect_str_eq(dst + most - 3, "a/b");
    cr_expect(mcs_path_fits(dst, "%s", letters(most)));
}

/* Never a shorter path: the buffer is empty after an error. */
Test(path, one_byte_more_is_an_error)
{
    const int over = MCS_PATH_BYTES;
    cr_assert_eq(mcs_path(dst, "%s/b", letters(over - 2)), MCS_E_IO);
    cr_expect_str_empty(dst);
    const char *m = mcs_error_message();
    cr_expect(strncmp(m, letters(127), 127) == 0 && strstr(m, "a...: the path is too long: 4096 bytes, at most 4095"),
              "%s", m);
    cr_expect(strstr(m, "use a shorter folder"), "%s", m);
    mcs_error_clear();
    cr_expect_not(mcs_path_fits(dst, "%s", letters(over)));
    cr_expect_str_empty(dst);
    cr_expect_str_eq(mcs_error_message(), "", "a question records no message");
}

Test(path, room_for_the_files_of_a_folder)
{
    const int most = MCS_PATH_BYTES - 1 - MCS_PATH_ROOM;
    cr_expect_eq(mcs_path_room(letters(most)), MCS_OK);
    cr_expect_eq(mcs_path_room(letters(most + 1)), MCS_E_IO);
    cr_expect(strstr(mcs_error_message(), "the path is too long: the folder's name has 3968 bytes, at most 3967 are"),
              "%s", mcs_error_message());
}

Test(path, is_split)
{
    static const char *const cases[][3] = {
        {"a", ".", "a"}, {"/a", "/", "a"}, {"x/y/z", "x/y", "z"}, {"/x/y", "/x", "y"}, {"x/", "x", ""}};
    const char *name;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_expect_eq(mcs_path_split(cases[i][0], dst, &name), MCS_OK);
        cr_expect_str_eq(dst, cases[i][1], "%s", cases[i][0]);
        cr_expect_str_eq(name, cases[i][2], "%s", cases[i][0]);
    }
    static char deep[2 * MCS_PATH_BYTES];
    memset(deep, 'a', sizeof deep - 1);
    deep[MCS_PATH_BYTES] = '/';
    cr_expect_eq(mcs_path_split(deep, dst, &name), MCS_E_IO);
}

Test(text_cut, ends_with_a_whole_character)
{
    static const struct {
        const char *text;
        size_t bytes;
        const char *want;
    } cases[] = {{"abc", 4, "abc"},
                 {"abcd", 4, "abc"},
                 {"ab\u00e9", 5, "ab\u00e9"},
                 {"ab\u00e9", 4, "ab"},
                 {"a\u00e9b", 4, "a\u00e9"},
                 {"a\u20ac", 4, "a"},
                 {"a\u20acb", 5, "a\u20ac"},
                 {"\U0001f600", 4, ""},
                 {"\U0001f600x", 5, "\U0001f600"},
                 {"\x80\x80\x80\x80\x80", 4, "\x80\x80\x80"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char got[16] = "unchanged";
        mcs_text_cut(got, cases[i].bytes, "%s", cases[i].text);
        cr_expect_str_eq(got, cases[i].want, "case %zu", i);
    }
    char none[] = "x";
    mcs_text_cut(none, 0, "%s", "text");
    cr_expect_str_eq(none, "x");
}

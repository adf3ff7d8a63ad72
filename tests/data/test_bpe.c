/* OpenAI's byte-pair encoding against open_clip's ids (tests/golden/bpe.json); bad files of merges. */
#include "data/io/file.h"
#include "data/text/bpe.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN MCS_SOURCE_DIR "/tests/golden/"
enum { CONTEXT = 77 };

Test(bpe, ids_equal_the_reference)
{
    int wrong = 0;
    struct bpe *b;
    json_t *rows = json_load_file(GOLDEN "bpe.json", 0, NULL);
    cr_assert_eq(mcs_bpe_open(GOLDEN "bpe_merges.txt", &b), MCS_OK, "%s", mcs_error_message());
    cr_assert_gt(json_array_size(rows), 300);
    cr_expect_eq(mcs_bpe_n_ids(b), 512 + 700 + 2);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *want = json_array_get(json_array_get(rows, i), 1);
        const char *text = json_string_value(json_array_get(json_array_get(rows, i), 0));
        int32_t ids[CONTEXT];
        int n = 0, same;
        cr_assert_eq(mcs_bpe_encode(b, text, CONTEXT, ids, &n), MCS_OK);
        same = n == (int)json_array_size(want);
        for (int k = 0; k < n && same; k++) same = ids[k] == json_integer_value(json_array_get(want, (size_t)k));
        if (!same && wrong++ < 10)
            fprintf(stderr, "line %zu: \"%s\": %d ids for %zu\n", i, text, n, json_array_size(want));
    }
    mcs_bpe_close(b);
    json_decref(rows);
    cr_assert_eq(wrong, 0, "%d lines differ from the reference", wrong);
}

Test(bpe, bad_files)
{
    static const char *const bad[][2] = {
        {"", "has no merges"},
        {"#version", "has no merges"},
        {"#\na b\nab", "line 3 is not a merge of two"},
        {"#\na b c", "line 2 is not"},
        {"#\n b", "line 2 is not a merge"},
        {"#\na \n", "line 2 is not a merge"},
    };
    struct bpe *b;
    int32_t ids[8];
    int n;
    shell_open(":", "");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        shell_write("merges", bad[i][0]);
        cr_expect_eq(mcs_bpe_open(shell_path("merges"), &b), MCS_E_DATA, "file %zu was taken", i);
        cr_expect(strstr(mcs_error_message(), bad[i][1]), "%s: want \"%s\"", mcs_error_message(), bad[i][1]);
        cr_expect_null(b);
        mcs_error_clear();
    }
    shell_write("merges", "\x1f\x8b\x08");
    cr_expect_eq(mcs_bpe_open(shell_path("merges"), &b), MCS_E_DATA);
    mcs_error_clear();
    cr_expect_eq(mcs_bpe_open(shell_path("none"), &b), MCS_E_NOINPUT);
    mcs_error_clear();
    shell_write("merges", "#\na b</w>\r\nx y\n"); /* CR LF, a last line feed */
    cr_assert_eq(mcs_bpe_open(shell_path("merges"), &b), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_bpe_encode(b, "AB", 8, ids, &n), MCS_OK);
    cr_expect(n == 3 && ids[0] == 514 && ids[1] == 512 && ids[2] == 515);
    cr_expect_eq(mcs_bpe_encode(b, "AB", 1, ids, &n), MCS_E_USAGE);
    cr_expect_eq(mcs_bpe_encode(b, "\xFF", 8, ids, &n), MCS_E_DATA);
    mcs_error_clear();
    mcs_bpe_close(b);
    shell_close();
}

/* A word of 100,000 letters: as many rounds as there are merges, not as letters. */
Test(bpe, a_long_word_is_quick, .timeout = 20)
{
    enum { N = 100000 };
    struct bpe *b;
    char *word = malloc(N + 1);
    int32_t ids[CONTEXT];
    int n;
    cr_assert_eq(mcs_bpe_open(GOLDEN "bpe_merges.txt", &b), MCS_OK, "%s", mcs_error_message());
    for (int i = 0; i < N; i++) word[i] = (char)('a' + (i * 7919 + i / 26) % 26);
    word[N] = '\0';
    cr_assert_eq(mcs_bpe_encode(b, word, CONTEXT, ids, &n), MCS_OK);
    cr_expect_eq(n, CONTEXT);
    mcs_bpe_close(b);
    free(word);
}

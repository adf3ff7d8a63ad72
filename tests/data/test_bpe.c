/* OpenAI's byte-pair encoding against open_clip's and transformers' ids (tests/golden/bpe.json: text, open_clip's ids,
 * transformers' where they differ, null where they are
 * not compared); folders; bad files. */
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
    for (size_t at = 0; at < 2 * json_array_size(rows); at++) {
        const size_t i = at / 2, raw = at % 2, n_kinds = json_array_size(json_array_get(rows, i)) - 1;
        const json_t *want = json_array_get(json_array_get(rows, i), 1 + (n_kinds > 1 ? raw : 0));
        if (json_is_null(want)) continue; /* not compared */
        const char *text = json_string_value(json_array_get(json_array_get(rows, i), 0));
        int32_t ids[CONTEXT];
        int n = 0, same;
        cr_assert_eq((raw ? mcs_bpe_encode_raw : mcs_bpe_encode)(b, text, CONTEXT, ids, &n), MCS_OK);
        same = n == (int)json_array_size(want);
        for (int k = 0; k < n && same; k++) same = ids[k] == json_integer_value(json_array_get(want, (size_t)k));
        if (!same && wrong++ < 10)
            fprintf(stderr, "line %zu, raw %zu: \"%s\": %d ids for %zu\n", i, raw, text, n, json_array_size(want));
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

static void folder_refused(enum mcs_status want, const char *part)
{
    struct bpe *b;
    cr_expect_eq(mcs_bpe_open_folder(shell_path("f"), &b), want, "%s: taken", part);
    cr_expect(strstr(mcs_error_message(), part), "%s: %s", part, mcs_error_message());
    cr_expect_null(b);
    mcs_error_clear();
}

/* tokenizer.json with two merges: model, merges and vocabulary in the form of transformers. */
static void write_json(const char *model, const char *normalizer, const char *merges, int ids)
{
    char text[32768];
    struct bpe *b;
    shell_write("f/merges", "#\na b</w>\nx y");
    cr_assert_eq(mcs_bpe_open(shell_path("f/merges"), &b), MCS_OK);
    int n =
        snprintf(text, sizeof text,
                 "{\"normalizer\": {\"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"Replace\"}, {\"type\": "
                 "\"%s\"}]}, \"pre_tokenizer\": {\"pretokenizers\": [{\"type\": \"Split\", \"pattern\": "
                 "{\"Regex\": \"'s|'t|'re|'ve|'m|'ll|'d|[\\\\p{L}]+|[\\\\p{N}]|[^\\\\s\\\\p{L}\\\\p{N}]+\"}}, "
                 "{\"type\": \"ByteLevel\"}]}, \"model\": {%s, \"merges\": [%s], \"vocab\": {\"<|startoftext|>\": 514, "
                 "\"<|endoftext|>\": %d",
                 normalizer, model, merges, ids);
    for (int id = 0, code = 1; id < 514; code++) { /* every piece, found by its id */
        char piece[16], name[32];
        for (int end = 0; end < 2; end++) {
            const int length = mcs_utf8_write((uint32_t)code, piece);
            snprintf(name, sizeof name, "%.*s%s", length, piece, end ? "</w>" : "");
            if (mcs_bpe_id(b, name) < 0) continue;
            id++;
            n += snprintf(text + n, sizeof text - (size_t)n, ", \"%s%s\": %d",
                          *name == '"' || *name == '\\' ? "\\" : "", name, mcs_bpe_id(b, name));
        }
        if (code == 'a') id += 2, n += snprintf(text + n, sizeof text - (size_t)n, ", \"ab</w>\": 512, \"xy\": 513");
    }
    snprintf(text + n, sizeof text - (size_t)n, "}}}");
    shell_write("f/tokenizer.json", text);
    mcs_bpe_close(b);
}

Test(bpe, folders)
{
    struct bpe *b;
    int32_t ids[8];
    int n;
    static const char model[] = "\"type\": \"BPE\", \"end_of_word_suffix\": \"</w>\", \"dropout\": null";
    shell_open(":", "");
    expect("mkdir f", 0, "");
    folder_refused(MCS_E_NOINPUT, "f: no tokenizer: want tokenizer.json, merges.txt with vocab.json, or bpe_simple");
    shell_write("f/bpe_simple_vocab_16e6.txt", "#\na b</w>\nx y\n");
    cr_assert_eq(mcs_bpe_open_folder(shell_path("f"), &b), MCS_OK, "%s", mcs_error_message());
    mcs_bpe_close(b);
    shell_write("f/merges.txt", "#\na b</w>\n");
    cr_assert_eq(mcs_bpe_open_folder(shell_path("f"), &b), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(mcs_bpe_n_ids(b), 515);
    cr_expect(mcs_bpe_id(b, "ab</w>") == 512 && mcs_bpe_id(b, "<|endoftext|>") == 514 && mcs_bpe_id(b, "ab") == -1);
    mcs_bpe_close(b);
    shell_write("f/vocab.json", "{\"!\": 0}");
    folder_refused(MCS_E_DATA, "vocab.json: a vocabulary of 1 pieces; the merges make 515");
    write_json(model, "Lowercase", "\"a b</w>\", [\"x\", \"y\"]", 515);
    cr_assert_eq(mcs_bpe_open_folder(shell_path("f"), &b), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_bpe_encode_raw(b, "AB", 8, ids, &n), MCS_OK);
    cr_expect(n == 3 && ids[0] == 514 && ids[1] == 512 && ids[2] == 515);
    mcs_bpe_close(b);
    write_json(model, "Lowercase", "\"a b</w>\", [\"x\", \"y\"]", 516);
    folder_refused(MCS_E_DATA, "\"<|endoftext|>\" has another id than 515");
    write_json(model, "Lowercase", "\"a b</w>\", [\"x\"]", 515);
    folder_refused(MCS_E_DATA, "model.merges: number 1 is not a merge of two pieces");
    write_json(model, "Lowercase", "\"ab</w>\"", 515);
    folder_refused(MCS_E_DATA, "line 2 is not a merge");
    write_json(model, "Strip", "", 515);
    folder_refused(MCS_E_DATA, "normalizer: mcsam supports the sequence NFC, Replace, Lowercase");
    write_json("\"type\": \"WordPiece\"", "Lowercase", "", 515);
    folder_refused(MCS_E_DATA, "model.type is not \"BPE\"");
    write_json("\"type\": \"BPE\"", "Lowercase", "", 515);
    folder_refused(MCS_E_DATA, "model.end_of_word_suffix is not");
    write_json("\"type\": \"BPE\", \"end_of_word_suffix\": \"</w>\", \"dropout\": 0.1", "Lowercase", "", 515);
    folder_refused(MCS_E_DATA, "model.dropout is not null");
    shell_close();
}

/* Written files hold the same merges, and the reader finds every id of vocab.json in its place. What transformers
 * cannot say is refused: it keeps one rank for a pair, and has no id for a piece that is made twice. */
Test(bpe, written_folders)
{
    struct bpe *b, *again;
    char *first, *second;
    int64_t n[2];
    shell_open(":", "");
    cr_assert_eq(mcs_bpe_open(GOLDEN "bpe_merges.txt", &b), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_bpe_write_folder(b, shell_path(".")), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_bpe_open_folder(shell_path("."), &again), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(mcs_bpe_n_ids(again), mcs_bpe_n_ids(b));
    cr_assert_eq(mcs_file_read(GOLDEN "bpe_merges.txt", 1 << 24, &first, &n[0]), MCS_OK);
    cr_assert_eq(mcs_file_read(shell_path("merges.txt"), 1 << 24, &second, &n[1]), MCS_OK);
    const char *merges[] = {strchr(first, '\n'), strchr(second, '\n')};
    n[0] -= merges[0] - first, n[1] -= merges[1] - second;
    cr_expect(n[0] + 1 == n[1] && !memcmp(merges[0], merges[1], (size_t)n[0]), "but for comment and last newline");
    free(first);
    free(second);
    mcs_bpe_close(again);
    mcs_bpe_close(b);
    static const char *const bad[][2] = {{"#\na b\na b\n", "same piece"}, {"#\na b\nb c\nab c\na bc\n", "same piece"}};
    for (int i = 0; i < 2; i++) {
        shell_write("bad.txt", bad[i][0]);
        cr_assert_eq(mcs_bpe_open(shell_path("bad.txt"), &b), MCS_OK, "%s", mcs_error_message());
        cr_expect_eq(mcs_bpe_write_folder(b, shell_path(".")), MCS_E_DATA);
        cr_expect(strstr(mcs_error_message(), bad[i][1]), "%s", mcs_error_message());
        mcs_error_clear();
        mcs_bpe_close(b);
    }
    shell_write("bad.txt", "#\nab c\na b\nzz y\n");
    cr_assert_eq(mcs_bpe_open(shell_path("bad.txt"), &b), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(mcs_bpe_write_folder(b, shell_path(".")), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "2 of 3 can be written"), "%s", mcs_error_message());
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

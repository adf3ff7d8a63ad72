/* The tokenizer against the reference's ids (exact) on many texts and on every code point; each kind of bad vocabulary.
 */
#include "data/io/file.h"
#include "data/text/tokenizer.h"
#include "data/text/unicode.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN MCS_SOURCE_DIR "/tests/golden/"

static struct tokenizer *tok;

static void setup(void)
{
    cr_assert_eq(mcs_tokenizer_open(GOLDEN "tokenizer_vocab.txt", &tok), MCS_OK, "%s", mcs_error_message());
}

static void teardown(void)
{
    mcs_tokenizer_close(tok);
}

TestSuite(tokenizer, .init = setup, .fini = teardown);

Test(tokenizer, ids_equal_the_reference)
{
    int wrong = 0;
    json_t *cases = json_load_file(GOLDEN "tokenizer.json", JSON_ALLOW_NUL, NULL);
    cr_assert(cases);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *want = json_object_get(c, "ids");
        int context = (int)json_integer_value(json_object_get(c, "context")), n = 0;
        int clean = (int)json_integer_value(json_object_get(c, "clean"));
        const char *text = json_string_value(json_object_get(c, "text"));
        int32_t ids[256];
        cr_assert_eq((clean ? mcs_tokenizer_encode : mcs_tokenizer_encode_raw)(tok, text, context, ids, &n), MCS_OK);
        int first = -1;
        for (int k = 0; k < n && k < (int)json_array_size(want) && first < 0; k++)
            if (ids[k] != (int32_t)json_integer_value(json_array_get(want, (size_t)k))) first = k;
        if (first >= 0 || n != (int)json_array_size(want)) {
            fprintf(stderr,
                    "case %zu, clean %d, context %d: \"%.300s\": %d tokens for %zu, first difference at %d (%s, %s)\n",
                    i, clean, context, text, n, json_array_size(want), first,
                    first < 0 ? "" : mcs_tokenizer_piece(tok, ids[first]),
                    first < 0
                        ? ""
                        : mcs_tokenizer_piece(tok, (int32_t)json_integer_value(json_array_get(want, (size_t)first))));
            wrong++;
        }
    }
    cr_assert_gt(json_array_size(cases), 200);
    json_decref(cases);
    cr_assert_eq(wrong, 0, "%d texts differ from the reference", wrong);
}

/* open_clip's cleaning, on lines of varied text: wrong encodings, HTML, controls, widths, marks. */
Test(tokenizer, cleaned_texts_equal_the_reference)
{
    int wrong = 0;
    json_t *rows = json_load_file(GOLDEN "text_clean.json", 0, NULL);
    cr_assert_gt(json_array_size(rows), 400);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *text = json_string_value(json_array_get(json_array_get(rows, i), 0)),
                   *want = json_string_value(json_array_get(json_array_get(rows, i), 1));
        struct codes codes = {0};
        char *got;
        cr_assert_eq(mcs_utf8_decode(text, (int64_t)strlen(text), "text", &codes), MCS_OK);
        cr_assert_eq(mcs_text_clean(&codes), MCS_OK);
        cr_assert_eq(mcs_utf8_encode(&codes, &got), MCS_OK);
        if (strcmp(got, want) != 0 && wrong++ < 10)
            fprintf(stderr, "line %zu: \"%s\"\n  want \"%s\"\n  got  \"%s\"\n", i, text, want, got);
        free(got);
        mcs_codes_free(&codes);
    }
    json_decref(rows);
    cr_assert_eq(wrong, 0, "%d lines differ from the reference", wrong);
}

/* A line whose repair nests, one with thousands of suspicious characters, and a run of marks: all in linear time. */
Test(tokenizer, hostile_lines_are_cleaned_quickly, .timeout = 20)
{
    static const char *const parts[] = {"\u00C3\u0192",        "\u00E2\u20AC\u2122", "\u00C3 ",
                                        "\u00EF\u00BF\u00BD?", "a\u0301\u0327",      "&amp;"};
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        const int n = 20000;
        const size_t length = strlen(parts[k]);
        char *text = malloc((size_t)n * length + 1);
        struct codes codes = {0};
        for (int i = 0; i < n; i++) memcpy(text + (size_t)i * length, parts[k], length);
        cr_assert_eq(mcs_utf8_decode(text, (int64_t)((size_t)n * length), "text", &codes), MCS_OK);
        cr_assert_eq(mcs_text_clean(&codes), MCS_OK);
        mcs_codes_free(&codes);
        free(text);
    }
}

/* The text of make_tokenizer.py for a code point: alone between letters, and among marks that must be reordered. */
static int code_text(uint32_t p, char *dst)
{
    char c[5] = {0};
    mcs_utf8_write(p, c);
    return sprintf(dst, "A%sb%s %s\xF0\x9D\x85\xA5\xCC\x81%s\xCC\xA7\xF0\x9D\x85\xA5", c, c, c, c);
}

Test(tokenizer, every_code_point)
{
    char line[128], hex[65], text[64], *all = malloc(0x1000 * 64);
    int blocks = 0, wrong = 0;
    FILE *f = fopen(GOLDEN "tokenizer_codes.tsv", "r");
    cr_assert(f && all);
    for (; fgets(line, sizeof line, f); blocks++) {
        uint32_t block = (uint32_t)strtoul(line, NULL, 16);
        int64_t n = 0;
        for (uint32_t p = block ? block : 1; p < block + 0x1000; p++) {
            char *words;
            if (p >= 0xD800 && p < 0xE000) continue;
            code_text(p, text);
            cr_assert_eq(mcs_tokenizer_words(text, &words), MCS_OK);
            cr_assert_lt(strlen(words), 64);
            memcpy(all + n, words, strlen(words));
            n += (int64_t)strlen(words);
            free(words);
        }
        mcs_sha256(all, n, hex);
        if (strncmp(hex, line + 7, 64) != 0) {
            fprintf(stderr, "code points U+%04X .. U+%04X differ from the reference\n", block, block + 0xFFF);
            wrong++;
        }
    }
    fclose(f);
    free(all);
    cr_assert_eq(blocks, 0x110);
    cr_assert_eq(wrong, 0);
}

/* 200,000 marks in falling order: a quadratic sort takes seconds (and exceeds the test's time limit), this one
 * milliseconds. */
Test(tokenizer, many_marks_are_quick, .timeout = 5)
{
    int half = 100000, n;
    int32_t ids[4];
    char *text = malloc((size_t)half * 7 + 2), *p = text;
    *p++ = 'a';
    for (int i = 0; i < 2 * half; i++) p += mcs_utf8_write(i < half ? 0x302E : 0x1D165, p); /* classes 224 and 216 */
    *p = 0;
    cr_assert_eq(mcs_tokenizer_encode_raw(tok, text, 4, ids, &n), MCS_OK);
    cr_assert_eq(n, 3);
    cr_assert_eq(ids[1], mcs_tokenizer_id(tok, "[UNK]"));
    free(text);
}

Test(tokenizer, context_and_bad_text)
{
    int32_t ids[8] = {-7, -7, -7, -7, -7, -7, -7, -7};
    int n = 0;
    cr_assert_eq(mcs_tokenizer_encode(tok, "lung lung lung", 4, ids, &n), MCS_OK);
    cr_assert_eq(n, 4);
    cr_assert_eq(ids[0], mcs_tokenizer_id(tok, "[CLS]"));
    cr_assert_eq(ids[3], mcs_tokenizer_id(tok, "[SEP]"));
    cr_assert_eq(ids[4], -7); /* nothing is written after the context */
    cr_assert_eq(mcs_tokenizer_encode(tok, "", 8, ids, &n), MCS_OK);
    cr_assert_eq(n, 2);
    cr_assert_eq(mcs_tokenizer_encode(tok, "x", 1, ids, &n), MCS_E_USAGE);
    mcs_error_clear();
    static const char *const bad[] = {"a\xC3",
                                      "\x80",
                                      "\xC0\x80",
                                      "\xED\xA0\x80",
                                      "\xF4\x90\x80\x80",
                                      "\xE0\x80\x80",
                                      "ok \xFF then",
                                      "\xF8\x88\x80\x80\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_eq(mcs_tokenizer_encode(tok, bad[i], 8, ids, &n), MCS_E_DATA, "bad text %zu was taken", i);
        cr_expect(strstr(mcs_error_message(), "not UTF-8"));
        mcs_error_clear();
    }
    cr_assert_null(mcs_tokenizer_piece(tok, mcs_tokenizer_n_pieces(tok)));
    cr_assert_null(mcs_tokenizer_piece(tok, -1));
    cr_assert_eq(mcs_tokenizer_id(tok, "no such piece"), -1);
}

static enum mcs_status open_vocab(const char *bytes, struct tokenizer **t)
{
    char path[] = "/tmp/mcs_vocab_XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    cr_assert_eq(write(fd, bytes, strlen(bytes)), (ssize_t)strlen(bytes));
    close(fd);
    enum mcs_status st = mcs_tokenizer_open(path, t);
    unlink(path);
    return st;
}

Test(tokenizer, bad_vocabularies)
{
    static const struct {
        const char *bytes, *says;
    } bad[] = {
        {"", "no line [PAD]"},
        {"[UNK]\n[PAD]\n[CLS]\n[SEP]\n", "[PAD] is in line 2"},
        {"[PAD]\n[CLS]\n[SEP]\n", "no line [UNK]"},
        {"[PAD]\n[UNK]\n[SEP]\n", "no line [CLS]"},
        {"[PAD]\n[UNK]\n[CLS]\n", "no line [SEP]"},
        {"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\na\n", "lines 5 and 7"},
        {"[PAD]\n[UNK]\n[CLS]\n[SEP]\n\nb\n", "line 5 is empty"},
        {"[PAD]\n[UNK]\n[CLS]\n[SEP]\ncaf\xE9\n", "line 5 is not UTF-8"},
        {"\xEF\xBB\xBF[PAD]\n[UNK]\n[CLS]\n[SEP]\n", "begins with a byte order mark"},
    };
    struct tokenizer *t;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_eq(open_vocab(bad[i].bytes, &t), MCS_E_DATA, "vocabulary %zu was taken", i);
        cr_expect(strstr(mcs_error_message(), bad[i].says), "%s: want \"%s\"", mcs_error_message(), bad[i].says);
        cr_expect_null(t);
        mcs_error_clear();
    }
    cr_assert_eq(mcs_tokenizer_open("/nonexistent/vocab.txt", &t), MCS_E_NOINPUT);
    mcs_error_clear();
    cr_assert_eq(open_vocab("[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\nlung", &t),
                 MCS_OK); /* CR LF, no final line feed, no [MASK] */
    cr_assert_eq(mcs_tokenizer_n_pieces(t), 5);
    int32_t ids[4];
    int n;
    cr_assert_eq(mcs_tokenizer_encode(t, "Lung [MASK]", 4, ids, &n), MCS_OK);
    cr_assert_eq(ids[1], 4);
    cr_assert_eq(ids[2], 1); /* "[" */
    mcs_tokenizer_close(t);
}

/* ---- tokenizer.json ---- */

#define NORMALIZER                                                                                                     \
    "\"normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": true, "            \
    "\"strip_accents\": null, \"lowercase\": true}, "
#define PRE "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, "
#define SPECIAL(name) "{\"SpecialToken\": {\"id\": \"" name "\", \"type_id\": 0}}"
#define POST                                                                                                           \
    "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [" SPECIAL(                                    \
        "[CLS]") ", {\"Sequence\": {\"id\": "                                                                          \
                 "\"A\", \"type_id\": 0}}, " SPECIAL("[SEP]") "]}, "
#define VOCAB "{\"[PAD]\": 0, \"[UNK]\": 1, \"[CLS]\": 2, \"[SEP]\": 3, \"lung\": 5, \"##s\": 4}"
#define MODEL(vocab)                                                                                                   \
    "\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\", \"continuing_subword_prefix\": \"##\", "           \
    "\"max_input_chars_per_word\": 100, \"vocab\": " vocab "}"

static enum mcs_status open_json(const char *text, struct tokenizer **t)
{
    char folder[] = "/tmp/mcs_tokenizer_XXXXXX", path[64];
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    cr_assert_eq(mcs_file_write(path, text, (int64_t)strlen(text)), MCS_OK);
    const enum mcs_status st = mcs_tokenizer_open_folder(folder, t);
    unlink(path);
    rmdir(folder);
    return st;
}

Test(tokenizer, tokenizer_json)
{
    struct tokenizer *t;
    int32_t ids[8];
    int n;
    cr_assert_eq(open_json("{" NORMALIZER PRE POST MODEL(VOCAB) "}", &t), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_tokenizer_n_pieces(t), 6);
    cr_assert_eq(mcs_tokenizer_encode(t, "Lungs x", 8, ids, &n), MCS_OK);
    const int32_t want[] = {2, 5, 4, 1, 3};
    cr_assert_eq(n, 5);
    cr_assert_eq(memcmp(ids, want, sizeof want), 0);
    mcs_tokenizer_close(t);
    static const char *const bad[][2] = {
        {"{" PRE POST MODEL(VOCAB) "}", "has no \"normalizer\""},
        {"{\"normalizer\": {\"type\": \"Sequence\"}, " PRE POST MODEL(VOCAB) "}", "normalizer.type has another value"},
        {"{\"normalizer\": {\"type\": \"BertNormalizer\", \"lowercase\": false}, " PRE POST MODEL(VOCAB) "}",
         "normalizer.lowercase has another value; mcsam supports true"},
        {"{" NORMALIZER "\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, " POST MODEL(VOCAB) "}", "pre_tokenizer.type"},
        {"{" NORMALIZER PRE "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": []}, " MODEL(VOCAB) "}",
         "post_processor.single: mcsam supports [CLS] text [SEP]"},
        {"{" NORMALIZER PRE POST "\"model\": {\"type\": \"BPE\"}}", "model.type has another value"},
        {"{" NORMALIZER PRE POST MODEL("{}") "}", "model.vocab has no pieces"},
        {"{" NORMALIZER PRE POST MODEL("{\"[PAD]\": 0, \"a\": 0}") "}", "its id is not a number from 0 to 1"},
        {"{" NORMALIZER PRE POST MODEL("{\"[PAD]\": 0, \"a\": 2}") "}", "\"a\": its id is not"},
        {"{" NORMALIZER PRE POST MODEL("{\"[PAD]\": 0, \"[UNK]\": 1}") "}", "no line [CLS]"},
        {"{\"added_tokens\": [{\"content\": \"<x>\"}], " NORMALIZER PRE POST MODEL(VOCAB) "}", "added_tokens: \"<x>\""},
        {"{\"added_tokens\": [{\"content\": \"[SEP]\", \"lstrip\": true}], " NORMALIZER PRE POST MODEL(VOCAB) "}",
         "[SEP] has \"lstrip\": true"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect_eq(open_json(bad[i][0], &t), MCS_E_DATA, "tokenizer.json %zu was taken", i);
        cr_expect(strstr(mcs_error_message(), bad[i][1]), "want \"%s\": %s", bad[i][1], mcs_error_message());
        cr_expect_null(t);
        mcs_error_clear();
    }
}

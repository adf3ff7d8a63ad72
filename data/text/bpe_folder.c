/* The byte-pair encoding of a model's folder, in transformers' files or OpenAI's. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/text/bpe_parts.h"
#include "engine/base/path.h"

#include <stdlib.h>
#include <string.h>

enum { JSON_BYTES = 64 << 20 };

/* Ids follow from the order of the merges; a file's must be the same. */
static enum mcs_status check_vocab(const char *path, const json_t *vocab, const struct bpe *b)
{
    const char *key;
    json_t *value;
    MCS_REQUIRE(json_is_object(vocab) && json_object_size(vocab) == (size_t)mcs_bpe_n_ids(b), MCS_E_DATA,
                "%s: a vocabulary of %zu pieces; the merges make %d", path, json_object_size(vocab), mcs_bpe_n_ids(b));
    json_object_foreach((json_t *)vocab, key, value)
    {
        const int32_t id = mcs_bpe_id(b, key);
        MCS_REQUIRE(json_is_integer(value) && json_integer_value(value) == id, MCS_E_DATA,
                    "%s: \"%.80s\" has another id than %d, its place in the merges: not OpenAI's vocabulary", path, key,
                    id);
    }
    return MCS_OK;
}

/* ---- tokenizer.json ---- */

static int is_text(const json_t *v, const char *want)
{
    return json_is_string(v) && !strcmp(json_string_value(v), want);
}

static int has_types(const json_t *list, const char *const *types)
{
    size_t n = 0;
    while (types[n] && is_text(json_object_get(json_array_get(list, n), "type"), types[n])) n++;
    return !types[n] && json_array_size(list) == n;
}

static enum mcs_status check_parts(const char *path, const json_t *root)
{
    static const char *const normalizers[] = {"NFC", "Replace", "Lowercase", NULL};
    static const char *const splitters[] = {"Split", "ByteLevel", NULL};
    static const char words[] = "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+";
    const json_t *model = json_object_get(root, "model"), *pre = json_object_get(root, "pre_tokenizer");
    const json_t *split = json_object_get(pre, "pretokenizers");
    const char *pattern =
        json_string_value(json_object_get(json_object_get(json_array_get(split, 0), "pattern"), "Regex"));
    const json_t *dropout = json_object_get(model, "dropout");
    MCS_REQUIRE(is_text(json_object_get(model, "type"), "BPE"), MCS_E_DATA,
                "%s: model.type is not \"BPE\": not the tokenizer of OpenAI's text tower", path);
    MCS_REQUIRE(is_text(json_object_get(model, "end_of_word_suffix"), "</w>"), MCS_E_DATA,
                "%s: model.end_of_word_suffix is not \"</w>\", which mcsam supports", path);
    MCS_REQUIRE(!dropout || json_is_null(dropout) || json_number_value(dropout) == 0, MCS_E_DATA,
                "%s: model.dropout is not null, which mcsam supports", path);
    MCS_REQUIRE(has_types(json_object_get(json_object_get(root, "normalizer"), "normalizers"), normalizers), MCS_E_DATA,
                "%s: normalizer: mcsam supports the sequence NFC, Replace, Lowercase", path);
    const size_t n = pattern ? strlen(pattern) : 0;
    MCS_REQUIRE(has_types(split, splitters) && n >= sizeof words - 1 &&
                    !strcmp(pattern + n - (sizeof words - 1), words),
                MCS_E_DATA, "%s: pre_tokenizer: mcsam supports a split at CLIP's pattern, then ByteLevel", path);
    return MCS_OK;
}

/* The merges as the text of a merges.txt, *text malloc'ed. A merge is "a b" or ["a","b"]. */
static enum mcs_status merges_text(const char *path, const json_t *merges, char **text, int64_t *n)
{
    size_t i, bytes = 16;
    const json_t *m;
    *text = NULL;
    json_array_foreach((json_t *)merges, i, m)
    {
        const json_t *left = json_is_array(m) ? json_array_get(m, 0) : m, *right = json_array_get(m, 1);
        MCS_REQUIRE(json_is_string(left) && (!json_is_array(m) || (json_array_size(m) == 2 && json_is_string(right))),
                    MCS_E_DATA, "%s: model.merges: number %zu is not a merge of two pieces", path, i);
        bytes += json_string_length(left) + json_string_length(right) + 2;
    }
    char *at = *text = malloc(bytes);
    MCS_REQUIRE(at, MCS_E_NOMEM, "%s: no memory for %zu merges", path, json_array_size(merges));
    *at++ = '\n'; /* the comment */
    json_array_foreach((json_t *)merges, i, m)
    {
        const json_t *left = json_is_array(m) ? json_array_get(m, 0) : m, *right = json_array_get(m, 1);
        memcpy(at, json_string_value(left), json_string_length(left));
        at += json_string_length(left);
        if (right) {
            *at++ = ' ';
            memcpy(at, json_string_value(right), json_string_length(right));
            at += json_string_length(right);
        }
        *at++ = '\n';
    }
    *n = at - *text;
    return MCS_OK;
}

static enum mcs_status open_json(const char *path, struct bpe **bpe)
{
    json_t *root;
    char *text = NULL;
    int64_t n = 0;
    MCS_TRY(mcs_json_read(path, JSON_BYTES, JSON_REJECT_DUPLICATES, &root));
    const json_t *model = json_object_get(root, "model");
    enum mcs_status st = check_parts(path, root);
    if (st == MCS_OK) st = merges_text(path, json_object_get(model, "merges"), &text, &n);
    if (st == MCS_OK) st = mcs_bpe_from_text(path, text, n, bpe);
    if (st == MCS_OK) st = check_vocab(path, json_object_get(model, "vocab"), *bpe);
    free(text);
    json_decref(root);
    return st;
}

/* ---- folders ---- */

static enum mcs_status open_merges(const char *folder, const char *path, struct bpe **bpe)
{
    char vocab[MCS_PATH_BYTES];
    json_t *root;
    MCS_TRY(mcs_path(vocab, "%s/vocab.json", folder));
    MCS_TRY(mcs_bpe_open(path, bpe));
    if (!mcs_file_exists(vocab)) return MCS_OK;
    MCS_TRY(mcs_json_read(vocab, JSON_BYTES, JSON_REJECT_DUPLICATES, &root));
    const enum mcs_status st = check_vocab(vocab, root, *bpe);
    json_decref(root);
    return st;
}

enum mcs_status mcs_bpe_open_folder(const char *folder, struct bpe **bpe)
{
    static const char *const names[] = {"tokenizer.json", "merges.txt", "bpe_simple_vocab_16e6.txt.gz",
                                        "bpe_simple_vocab_16e6.txt"};
    char path[MCS_PATH_BYTES];
    *bpe = NULL;
    for (int k = 0; k < 4; k++) {
        MCS_TRY(mcs_path(path, "%s/%s", folder, names[k]));
        if (!mcs_file_exists(path)) continue;
        const enum mcs_status st = k == 0   ? open_json(path, bpe)
                                   : k == 1 ? open_merges(folder, path, bpe)
                                            : mcs_bpe_open(path, bpe);
        if (st != MCS_OK) {
            mcs_bpe_close(*bpe);
            *bpe = NULL;
        }
        return st;
    }
    return MCS_FAIL(MCS_E_NOINPUT,
                    "%s: no tokenizer: want tokenizer.json, merges.txt with vocab.json, or "
                    "bpe_simple_vocab_16e6.txt.gz (a file of the open_clip package)",
                    folder);
}

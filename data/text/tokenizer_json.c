/* A BERT tokenizer's tokenizer.json (Hugging Face's tokenizers): its parts are compared with those that mcsam computes,
 * and the vocabulary is read. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/text/tokenizer_parts.h"
#include "engine/base/path.h"

#include <stdlib.h>
#include <string.h>

enum { JSON_BYTES = 64 << 20 };

/* A value inside the file and the JSON values that mcsam supports for it, separated by '|' (compact). missing: the
 * value may be absent. */
static const struct part_rule {
    const char *part, *key, *accepts;
    int missing;
} rules[] = {
    {"normalizer", "type", "\"BertNormalizer\"", 0},
    {"normalizer", "clean_text", "true", 1},
    {"normalizer", "handle_chinese_chars", "true", 1},
    {"normalizer", "strip_accents", "null|true", 1},
    {"normalizer", "lowercase", "true", 1},
    {"pre_tokenizer", "type", "\"BertPreTokenizer\"", 0},
    {"post_processor", "type", "\"TemplateProcessing\"|\"BertProcessing\"", 0},
    {"model", "type", "\"WordPiece\"", 1}, /* files of old versions do not state it */
    {"model", "unk_token", "\"[UNK]\"", 0},
    {"model", "continuing_subword_prefix", "\"##\"", 0},
    {"model", "max_input_chars_per_word", "100", 0},
};

static int accepts(const char *list, const json_t *v)
{
    char value[64];
    const size_t n = json_dumpb(v, value, sizeof value, JSON_COMPACT | JSON_ENCODE_ANY);
    for (const char *at = list; at && n < sizeof value; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (!strncmp(at, value, n) && (at[n] == '|' || !at[n])) return 1;
    return 0;
}

/* [CLS] text [SEP]: the first sentence's template; the pair's is not used. */
static enum mcs_status check_template(const char *path, const json_t *post)
{
    static const char *const want[] = {"[CLS]", "A", "[SEP]"};
    const json_t *single = json_object_get(post, "single");
    if (strcmp(json_string_value(json_object_get(post, "type")), "TemplateProcessing") != 0) {
        const json_t *sep = json_array_get(json_object_get(post, "sep"), 0),
                     *cls = json_array_get(json_object_get(post, "cls"), 0);
        MCS_REQUIRE(json_is_string(sep) && json_is_string(cls) && !strcmp(json_string_value(sep), want[2]) &&
                        !strcmp(json_string_value(cls), want[0]),
                    MCS_E_DATA, "%s: post_processor: mcsam supports [CLS] text [SEP]", path);
        return MCS_OK;
    }
    int same = json_array_size(single) == 3;
    for (size_t i = 0; i < 3 && same; i++) {
        const json_t *item = json_object_get(json_array_get(single, i), i == 1 ? "Sequence" : "SpecialToken"),
                     *id = json_object_get(item, "id");
        same = json_is_string(id) && !strcmp(json_string_value(id), want[i]);
    }
    MCS_REQUIRE(same, MCS_E_DATA, "%s: post_processor.single: mcsam supports [CLS] text [SEP]", path);
    return MCS_OK;
}

/* Tokens that are found in the text before it is split: mcsam knows BERT's five. */
static enum mcs_status check_added(const char *path, const json_t *added)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
    size_t i;
    const json_t *a;
    json_array_foreach((json_t *)added, i, a)
    {
        const char *token = json_string_value(json_object_get(a, "content"));
        MCS_REQUIRE(token && mcs_tokenizer_is_special(token), MCS_E_DATA,
                    "%s: added_tokens: \"%s\": mcsam supports [PAD], [UNK], [CLS], [SEP] and [MASK]", path,
                    token ? token : "");
        for (size_t k = 0; k < sizeof flags / sizeof *flags; k++)
            MCS_REQUIRE(!json_is_true(json_object_get(a, flags[k])), MCS_E_DATA,
                        "%s: added_tokens: %s has \"%s\": true, which mcsam does not support", path, token, flags[k]);
    }
    return MCS_OK;
}

static enum mcs_status check_parts(const char *path, const json_t *root)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const struct part_rule *r = &rules[i];
        const json_t *part = json_object_get(root, r->part), *v = json_object_get(part, r->key);
        MCS_REQUIRE(json_is_object(part), MCS_E_DATA, "%s: has no \"%s\": not the tokenizer of a BERT model", path,
                    r->part);
        MCS_REQUIRE(v ? accepts(r->accepts, v) : r->missing, MCS_E_DATA, "%s: %s.%s %s; mcsam supports %s", path,
                    r->part, r->key, v ? "has another value" : "is missing", r->accepts);
    }
    MCS_TRY(check_added(path, json_object_get(root, "added_tokens")));
    return check_template(path, json_object_get(root, "post_processor"));
}

/* The pieces by id as the text of a vocab.txt. *text: malloc'ed. */
static enum mcs_status list_pieces(const char *path, const json_t *vocab, char **text, int64_t *n_bytes)
{
    const size_t n = json_object_size(vocab);
    const char **piece = NULL, *key;
    json_t *value;
    enum mcs_status st = MCS_OK;

    *n_bytes = 0;
    *text = NULL;
    MCS_REQUIRE(n > 0, MCS_E_DATA, "%s: model.vocab has no pieces", path);
    piece = calloc(n, sizeof *piece);
    MCS_REQUIRE(piece, MCS_E_NOMEM, "%s: no memory for %zu pieces", path, n);
    json_object_foreach((json_t *)vocab, key, value)
    {
        const json_int_t id = json_integer_value(value);
        MCS_REQUIRE_GOTO(json_is_integer(value) && id >= 0 && (uint64_t)id < n && !piece[id], MCS_E_DATA, st, done,
                         "%s: model.vocab: \"%.80s\": its id is not a number from 0 to %zu of its own", path, key,
                         n - 1);
        MCS_REQUIRE_GOTO(!strchr(key, '\n'), MCS_E_DATA, st, done, "%s: model.vocab: a piece holds a line feed", path);
        piece[id] = key;
        *n_bytes += (int64_t)strlen(key) + 1;
    }
    char *at = *text = malloc((size_t)*n_bytes + 1);
    MCS_REQUIRE_GOTO(at, MCS_E_NOMEM, st, done, "%s: no memory for %zu pieces", path, n);
    for (size_t i = 0; i < n; i++) {
        const size_t length = strlen(piece[i]);
        memcpy(at, piece[i], length);
        at[length] = '\n';
        at += length + 1;
    }
    *at = '\0';
done:
    free(piece);
    return st;
}

static enum mcs_status open_json(const char *path, struct tokenizer **tok)
{
    json_t *root;
    char *text;
    int64_t n_bytes;
    MCS_TRY(mcs_json_read(path, JSON_BYTES, JSON_REJECT_DUPLICATES, &root));
    enum mcs_status st = check_parts(path, root);
    if (st == MCS_OK) st = list_pieces(path, json_object_get(json_object_get(root, "model"), "vocab"), &text, &n_bytes);
    json_decref(root);
    if (st == MCS_OK) st = mcs_tokenizer_from_text(path, text, n_bytes, tok);
    return st;
}

enum mcs_status mcs_tokenizer_open_folder(const char *folder, struct tokenizer **tok)
{
    char path[MCS_PATH_BYTES];
    *tok = NULL;
    MCS_TRY(mcs_path(path, "%s/tokenizer.json", folder));
    if (mcs_file_exists(path)) return open_json(path, tok);
    MCS_TRY(mcs_path(path, "%s/vocab.txt", folder));
    MCS_REQUIRE(mcs_file_exists(path), MCS_E_NOINPUT,
                "%s: has neither tokenizer.json nor vocab.txt; docs/models.md lists the files of each model", folder);
    return mcs_tokenizer_open(path, tok);
}

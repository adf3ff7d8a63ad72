/* OpenAI's byte-pair encoding in transformers' files. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/text/bpe_parts.h"
#include "engine/base/path.h"

#include <stdlib.h>
#include <string.h>

/* {"piece": id, ...}: bytes, merges, and the two special tokens under transformers' names. */
static enum mcs_status write_vocab(const struct bpe *b, const char *folder)
{
    json_t *root = json_object();
    int bad = 0;
    for (int i = 0; i < b->n_symbols && root; i++) {
        char *piece = strndup(b->symbols[i].text, (size_t)b->symbols[i].n_bytes);
        bad |= !piece || json_object_set_new(root, piece, json_integer(b->symbols[i].id)) != 0;
        free(piece);
    }
    const int n = mcs_bpe_n_ids(b);
    bad |= !root || json_object_set_new(root, "<|startoftext|>", json_integer(n - 2)) != 0 ||
           json_object_set_new(root, "<|endoftext|>", json_integer(n - 1)) != 0;
    if (!bad && json_object_size(root) == (size_t)n) return mcs_json_write(root, JSON_COMPACT, "%s/vocab.json", folder);
    json_decref(root);
    return MCS_FAIL(MCS_E_DATA, "%s/vocab.json: two merges make the same piece, or one that is not UTF-8", folder);
}

static char *put_symbol(char *at, const struct symbol *s)
{
    memcpy(at, s->text, (size_t)s->n_bytes);
    return at + s->n_bytes;
}

/* A line of comment, then the merges in their order. */
static enum mcs_status write_merges(const struct bpe *b, const char *folder)
{
    static const char comment[] = "#version: 0.2\n";
    const struct merge **ranked = calloc((size_t)b->n_merges + 1, sizeof *ranked);
    char path[MCS_PATH_BYTES], *text = NULL, *at;
    int64_t bytes = sizeof comment;
    int n = 0;
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(ranked, MCS_E_NOMEM, "%s: no memory for its merges", folder);
    MCS_TRY_GOTO(mcs_path(path, "%s/merges.txt", folder), st, done);
    for (int i = 0; i < SLOTS; i++) {
        const struct merge *m = &b->merges[i];
        if (m->left < 0) continue;
        ranked[m->rank] = m;
        bytes += b->symbols[m->left].n_bytes + b->symbols[m->right].n_bytes + 2;
        n++;
    }
    MCS_REQUIRE_GOTO(n == b->n_merges, MCS_E_DATA, st, done,
                     "%s: two merges of one pair, or one of pieces that are not there: %d of %d can be written", path,
                     n, b->n_merges);
    at = text = malloc((size_t)bytes);
    MCS_REQUIRE_GOTO(text, MCS_E_NOMEM, st, done, "%s: no memory for its merges", path);
    at = stpcpy(at, comment);
    for (int i = 0; i < n; i++) {
        at = put_symbol(at, &b->symbols[ranked[i]->left]);
        *at++ = ' ';
        at = put_symbol(at, &b->symbols[ranked[i]->right]);
        *at++ = '\n';
    }
    st = mcs_file_write(path, text, at - text);
done:
    free(text);
    free(ranked);
    return st;
}

enum mcs_status mcs_bpe_write_folder(const struct bpe *b, const char *folder)
{
    MCS_TRY(write_vocab(b, folder));
    return write_merges(b, folder);
}

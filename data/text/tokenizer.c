/* BERT WordPiece: normalise, split into words, then the longest known piece first. */
#include "data/text/tokenizer_parts.h"

#include "data/io/file.h"
#include "data/text/bpe.h"
#include "data/text/unicode.h"
#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
    WORD_CODES = 100, /* a longer word is [UNK] (WordPiece max_input_chars_per_word) */
    WORD_BYTES = WORD_CODES * 4,
    VOCAB_BYTES = 64 << 20,
    VOCAB_PIECES = 1 << 24
};

enum special { PAD, UNK, CLS, SEP, MASK, N_SPECIAL };
static const char *const special_name[N_SPECIAL] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};

struct piece {
    const char *text;
    int n_bytes;
};

struct tokenizer {
    struct bpe *bpe;      /* not NULL: byte-pair encoding, and of the rest only n_pieces counts */
    char *bytes;          /* the file, line ends replaced by NUL */
    struct piece *pieces; /* (n_pieces) by id */
    int32_t *slots;       /* (n_slots, a power of two) id or -1; linear probing */
    int n_pieces;
    uint32_t n_slots;
    int32_t special[N_SPECIAL]; /* -1 when the vocabulary has none */
};

/* FNV-1a is computed byte by byte, so one pass over a word hashes every prefix of it. */
static const uint32_t hash_seed = 2166136261u;

static uint32_t hash_more(uint32_t h, const char *bytes, int n)
{
    for (int i = 0; i < n; i++) h = (h ^ (unsigned char)bytes[i]) * 16777619u;
    return h;
}

/* The id of prefix + bytes (whose hash is h), -1 when there is none. */
static int32_t find(const struct tokenizer *tok, uint32_t h, const char *prefix, const char *bytes, int n)
{
    int n_prefix = (int)strlen(prefix);
    for (uint32_t slot = h & (tok->n_slots - 1);; slot = (slot + 1) & (tok->n_slots - 1)) {
        int32_t id = tok->slots[slot];
        if (id < 0) return -1;
        const struct piece *p = &tok->pieces[id];
        if (p->n_bytes == n_prefix + n && memcmp(p->text, prefix, (size_t)n_prefix) == 0 &&
            memcmp(p->text + n_prefix, bytes, (size_t)n) == 0)
            return id;
    }
}

static enum mcs_status add_piece(struct tokenizer *tok, const char *path, char *text, int64_t n_bytes)
{
    int line = tok->n_pieces + 1;

    MCS_REQUIRE(n_bytes > 0, MCS_E_DATA, "%s: line %d is empty; a vocabulary has one piece a line", path, line);
    MCS_REQUIRE(line < VOCAB_PIECES, MCS_E_DATA, "%s: more than %d lines", path, VOCAB_PIECES);
    for (int64_t i = 0; i < n_bytes;) {
        uint32_t code;
        int n = mcs_utf8_read(text + i, n_bytes - i, &code);
        MCS_REQUIRE(n && code, MCS_E_DATA, "%s: line %d is not UTF-8 text (byte 0x%02X)", path, line,
                    (unsigned char)text[i]);
        i += n;
    }
    uint32_t h = hash_more(hash_seed, text, (int)n_bytes);
    int32_t twin = find(tok, h, "", text, (int)n_bytes);
    MCS_REQUIRE(twin < 0, MCS_E_DATA, "%s: lines %d and %d hold the same piece \"%s\"", path, twin + 1, line, text);
    tok->pieces[tok->n_pieces] = (struct piece){text, (int)n_bytes};
    uint32_t slot = h & (tok->n_slots - 1);
    while (tok->slots[slot] >= 0) slot = (slot + 1) & (tok->n_slots - 1);
    tok->slots[slot] = tok->n_pieces++;
    return MCS_OK;
}

enum mcs_status mcs_tokenizer_open(const char *vocab_path, struct tokenizer **tok)
{
    char *text;
    int64_t n_bytes;
    *tok = NULL;
    MCS_TRY(mcs_file_read(vocab_path, VOCAB_BYTES, &text, &n_bytes));
    return mcs_tokenizer_from_text(vocab_path, text, n_bytes, tok);
}

int mcs_tokenizer_is_special(const char *token)
{
    for (int i = 0; i < N_SPECIAL; i++)
        if (!strcmp(token, special_name[i])) return 1;
    return 0;
}

enum mcs_status mcs_tokenizer_open_bpe(const char *folder, struct tokenizer **out)
{
    struct tokenizer *tok = calloc(1, sizeof *tok);
    *out = NULL;
    MCS_REQUIRE(tok, MCS_E_NOMEM, "%s: no memory for a tokenizer", folder);
    const enum mcs_status st = mcs_bpe_open_folder(folder, &tok->bpe);
    if (st != MCS_OK) {
        free(tok);
        return st;
    }
    tok->n_pieces = mcs_bpe_n_ids(tok->bpe);
    *out = tok;
    return MCS_OK;
}

enum mcs_status mcs_tokenizer_from_text(const char *vocab_path, char *text, int64_t n_bytes, struct tokenizer **out)
{
    enum mcs_status st = MCS_OK;
    int64_t n_lines = 1;
    struct tokenizer *tok = calloc(1, sizeof *tok);

    *out = NULL;
    if (!tok) free(text);
    MCS_REQUIRE(tok, MCS_E_NOMEM, "%s: no memory for the vocabulary", vocab_path);
    tok->bytes = text;
    MCS_REQUIRE_GOTO(n_bytes < 3 || memcmp(text, "\xef\xbb\xbf", 3) != 0, MCS_E_DATA, st, fail,
                     "%s: begins with a byte order mark, which would be part of its first piece: save it as UTF-8 "
                     "without one, or take the published file",
                     vocab_path);
    for (int64_t i = 0; i < n_bytes; i++) n_lines += tok->bytes[i] == '\n';
    MCS_REQUIRE_GOTO(n_lines <= VOCAB_PIECES, MCS_E_DATA, st, fail, "%s: more than %d lines", vocab_path, VOCAB_PIECES);
    MCS_TRY_GOTO(mcs_memory_check(n_lines * (int64_t)(sizeof *tok->pieces + 4 * sizeof *tok->slots), "%s: %lld pieces",
                                  vocab_path, (long long)n_lines),
                 st, fail);
    for (tok->n_slots = 16; tok->n_slots < 2 * n_lines;) tok->n_slots *= 2;
    tok->pieces = malloc((size_t)n_lines * sizeof *tok->pieces);
    tok->slots = malloc(tok->n_slots * sizeof *tok->slots);
    MCS_REQUIRE_GOTO(tok->pieces && tok->slots, MCS_E_NOMEM, st, fail, "%s: no memory for %lld pieces", vocab_path,
                     (long long)n_lines);
    for (uint32_t i = 0; i < tok->n_slots; i++) tok->slots[i] = -1;
    for (char *p = tok->bytes, *end = p + n_bytes; p < end;) {
        char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop) stop = end;
        int64_t n = stop - p - (stop > p && stop[-1] == '\r');
        p[n] = 0;
        MCS_TRY_GOTO(add_piece(tok, vocab_path, p, n), st, fail);
        p = stop + 1;
    }
    for (int i = 0; i < N_SPECIAL; i++) {
        tok->special[i] = mcs_tokenizer_id(tok, special_name[i]);
        MCS_REQUIRE_GOTO(tok->special[i] >= 0 || i == MASK, MCS_E_DATA, st, fail,
                         "%s: no line %s: not the vocabulary of a BERT tokenizer", vocab_path, special_name[i]);
    }
    MCS_REQUIRE_GOTO(tok->special[PAD] == 0, MCS_E_DATA, st, fail,
                     "%s: [PAD] is in line %d, must be in line 1: the model takes id 0 for padding", vocab_path,
                     tok->special[PAD] + 1);
    *out = tok;
    return MCS_OK;
fail:
    mcs_tokenizer_close(tok);
    return st;
}

void mcs_tokenizer_close(struct tokenizer *tok)
{
    if (!tok) return;
    mcs_bpe_close(tok->bpe);
    free(tok->bytes);
    free(tok->pieces);
    free(tok->slots);
    free(tok);
}

int mcs_tokenizer_n_pieces(const struct tokenizer *tok)
{
    return tok->n_pieces;
}

const char *mcs_tokenizer_piece(const struct tokenizer *tok, int32_t id)
{
    return tok->pieces && id >= 0 && id < tok->n_pieces ? tok->pieces[id].text : NULL;
}

int32_t mcs_tokenizer_id(const struct tokenizer *tok, const char *piece)
{
    int n = (int)strlen(piece);
    if (tok->bpe) return mcs_bpe_id(tok->bpe, piece);
    return find(tok, hash_more(hash_seed, piece, n), "", piece, n);
}

/* BertNormalizer: clean, spaces around ideographs, canonical decomposition, marks (Mn) dropped, lower case. */
static enum mcs_status normalise(const uint32_t *src, int64_t n, struct codes *dst)
{
    dst->n = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t parts[4];
        enum mcs_code_kind kind = mcs_unicode_kind(src[i]);
        if (kind == MCS_CODE_DELETE) continue;
        int n_parts = mcs_unicode_decompose(kind == MCS_CODE_SPACE ? ' ' : src[i], parts);
        if (kind == MCS_CODE_IDEOGRAPH) MCS_TRY(mcs_codes_add(dst, ' '));
        for (int k = 0; k < n_parts; k++) MCS_TRY(mcs_codes_add(dst, parts[k]));
        if (kind == MCS_CODE_IDEOGRAPH) MCS_TRY(mcs_codes_add(dst, ' '));
    }
    int64_t kept = 0;
    MCS_TRY(mcs_codes_order_marks(dst, mcs_unicode_combining_class));
    for (int64_t i = 0; i < dst->n; i++)
        if (mcs_unicode_kind(dst->v[i]) != MCS_CODE_MARK) dst->v[kept++] = mcs_unicode_lower(dst->v[i]);
    dst->n = kept;
    return MCS_OK;
}

/* Moves *at to the next word: a run without white space, or one punctuation character. Returns its length; 0: none. */
static int64_t next_word(const struct codes *c, int64_t *at)
{
    int64_t i = *at;
    while (i < c->n && mcs_unicode_kind(c->v[i]) == MCS_CODE_SPACE) i++;
    *at = i;
    for (; i < c->n; i++) {
        enum mcs_code_kind kind = mcs_unicode_kind(c->v[i]);
        if (kind == MCS_CODE_PUNCTUATION) return i == *at ? 1 : i - *at;
        if (kind == MCS_CODE_SPACE) break;
    }
    return i - *at;
}

/* Greedy longest match first. Writes at most WORD_CODES ids; a word with a part that matches no piece is one [UNK]. */
static int word_pieces(const struct tokenizer *tok, const uint32_t *word, int64_t n, int32_t ids[WORD_CODES])
{
    char bytes[WORD_BYTES];
    int ends[WORD_CODES], n_ids = 0, n_bytes = 0;

    ids[0] = tok->special[UNK];
    if (n > WORD_CODES) return 1;
    for (int i = 0; i < n; i++) ends[i] = n_bytes += mcs_utf8_write(word[i], bytes + n_bytes);
    for (int first = 0, start = 0; first < n;) {
        const char *prefix = first ? "##" : "";
        uint32_t h = hash_more(hash_seed, prefix, (int)strlen(prefix));
        int32_t best = -1;
        int from = start, after = first;
        for (int i = first, at = start; i < n; at = ends[i++]) {
            h = hash_more(h, bytes + at, ends[i] - at);
            int32_t id = find(tok, h, prefix, bytes + from, ends[i] - from);
            if (id < 0) continue;
            best = id;
            after = i + 1;
        }
        if (best < 0) {
            ids[0] = tok->special[UNK];
            return 1;
        }
        ids[n_ids++] = best;
        first = after;
        start = ends[after - 1];
    }
    return n_ids;
}

/* The special token whose literal text is at v, -1 when none. */
static int special_at(const struct tokenizer *tok, const uint32_t *v, int64_t n)
{
    if (v[0] != '[') return -1;
    for (int s = 0; s < N_SPECIAL; s++) {
        int64_t i = 0, length = (int64_t)strlen(special_name[s]);
        while (i < length && i < n && v[i] == (uint32_t)special_name[s][i]) i++;
        if (i == length && tok->special[s] >= 0) return s;
    }
    return -1;
}

static enum mcs_status encode(const struct tokenizer *tok, const char *text, int clean, int context_length,
                              int32_t *ids, int *n_tokens)
{
    enum mcs_status st = MCS_OK;
    struct codes raw = {0}, norm = {0};
    int n = 1, last = context_length - 1;

    MCS_REQUIRE(context_length >= 2, MCS_E_USAGE, "a context of %d tokens: at least 2 are needed", context_length);
    MCS_TRY_GOTO(mcs_utf8_decode(text, (int64_t)strlen(text), "text", &raw), st, done);
    if (clean) MCS_TRY_GOTO(mcs_text_clean(&raw), st, done);
    ids[0] = tok->special[CLS];
    for (int64_t from = 0; from < raw.n && n < last;) {
        int special = special_at(tok, raw.v + from, raw.n - from);
        if (special >= 0) {
            ids[n++] = tok->special[special];
            from += (int64_t)strlen(special_name[special]);
            continue;
        }
        int64_t to = from + 1, length; /* text between special tokens is normalised separately */
        while (to < raw.n && special_at(tok, raw.v + to, raw.n - to) < 0) to++;
        MCS_TRY_GOTO(normalise(raw.v + from, to - from, &norm), st, done);
        for (int64_t at = 0; n < last && (length = next_word(&norm, &at)) > 0; at += length) {
            int32_t pieces[WORD_CODES];
            int n_pieces = word_pieces(tok, norm.v + at, length, pieces);
            for (int i = 0; i < n_pieces && n < last; i++) ids[n++] = pieces[i];
        }
        from = to;
    }
    ids[n++] = tok->special[SEP];
    *n_tokens = n;
done:
    mcs_codes_free(&raw);
    mcs_codes_free(&norm);
    return st;
}

enum mcs_status mcs_tokenizer_encode(const struct tokenizer *tok, const char *text, int context_length, int32_t *ids,
                                     int *n_tokens)
{
    if (tok->bpe) return mcs_bpe_encode(tok->bpe, text, context_length, ids, n_tokens);
    return encode(tok, text, 1, context_length, ids, n_tokens);
}

enum mcs_status mcs_tokenizer_encode_raw(const struct tokenizer *tok, const char *text, int context_length,
                                         int32_t *ids, int *n_tokens)
{
    if (tok->bpe) return mcs_bpe_encode_raw(tok->bpe, text, context_length, ids, n_tokens);
    return encode(tok, text, 0, context_length, ids, n_tokens);
}

enum mcs_status mcs_tokenizer_words(const char *text, char **words)
{
    enum mcs_status st = MCS_OK;
    struct codes raw = {0}, norm = {0}, out = {0};
    int64_t length;

    MCS_TRY_GOTO(mcs_utf8_decode(text, (int64_t)strlen(text), "text", &raw), st, done);
    MCS_TRY_GOTO(normalise(raw.v, raw.n, &norm), st, done);
    for (int64_t at = 0; (length = next_word(&norm, &at)) > 0; at += length) {
        for (int64_t i = 0; i < length; i++) MCS_TRY_GOTO(mcs_codes_add(&out, norm.v[at + i]), st, done);
        MCS_TRY_GOTO(mcs_codes_add(&out, '\n'), st, done);
    }
    MCS_TRY_GOTO(mcs_utf8_encode(&out, words), st, done);
done:
    mcs_codes_free(&raw);
    mcs_codes_free(&norm);
    mcs_codes_free(&out);
    return st;
}

/* Byte-pair encoding of OpenAI's CLIP. */
#include "data/text/bpe_parts.h"

#include "data/io/gzip.h"

#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES = 16 << 20, LINE_BYTES = 1024, WORD_KINDS = MCS_BPE_LETTER | MCS_BPE_NUMBER | MCS_BPE_SPACE };

/* open_clip's names, then transformers'. */
static const char *const special_text[2][2] = {{"<start_of_text>", "<end_of_text>"},
                                               {"<|startoftext|>", "<|endoftext|>"}};

static int kind_of(uint32_t code)
{
    int low = 0, high = mcs_bpe_n_kinds;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (mcs_bpe_kinds[middle].last < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < mcs_bpe_n_kinds && mcs_bpe_kinds[low].first <= code ? mcs_bpe_kinds[low].value : 0;
}

/* ---- the file ---- */

static uint32_t hash_text(const char *text, int n)
{
    uint32_t h = 2166136261u;
    for (int i = 0; i < n; i++) h = (h ^ (unsigned char)text[i]) * 16777619u;
    return h & (SLOTS - 1);
}

/* The slot of the symbol with this text, or the empty slot where it belongs. */
static uint32_t find_slot(const struct bpe *b, const char *text, int n)
{
    for (uint32_t slot = hash_text(text, n);; slot = (slot + 1) & (SLOTS - 1)) {
        const int32_t k = b->slots[slot];
        if (k < 0 || (b->symbols[k].n_bytes == n && !memcmp(b->symbols[k].text, text, (size_t)n))) return slot;
    }
}

static void add_symbol(struct bpe *b, const char *text, int n, int32_t id)
{
    const uint32_t slot = find_slot(b, text, n);
    if (b->slots[slot] >= 0) {
        b->symbols[b->slots[slot]].id = id;
        return;
    }
    b->symbols[b->n_symbols] = (struct symbol){text, n, id};
    b->slots[slot] = b->n_symbols++;
}

static uint32_t pair_slot(const struct bpe *b, int32_t left, int32_t right)
{
    uint32_t slot = ((uint32_t)left * 2654435761u ^ (uint32_t)right * 40503u) & (SLOTS - 1);
    while (b->merges[slot].left >= 0 && (b->merges[slot].left != left || b->merges[slot].right != right))
        slot = (slot + 1) & (SLOTS - 1);
    return slot;
}

/* The bytes that stand for themselves in the file; the others are U+0100 and on, in order. */
static int is_printable(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* Adds the symbols of single bytes, whose ids count the printable bytes first; returns the end of their texts. */
static char *add_bytes(struct bpe *b, char *at)
{
    for (int end = 0; end < 2; end++)
        for (int printable = 1, id = 256 * end; printable >= 0; printable--)
            for (int byte = 0, other = 0; byte < 256; byte++) {
                if (is_printable(byte) != printable) continue;
                const uint32_t code = printable ? (uint32_t)byte : 0x100u + (uint32_t)other++;
                char *text = at;
                at += mcs_utf8_write(code, at);
                if (end) memcpy(at, "</w>", 4), at += 4;
                add_symbol(b, text, (int)(at - text), id++);
            }
    return at;
}

/* The two pieces of a line, separated by one space. 0: it has other parts. */
static int split(const char *line, const char *stop, const char **gap)
{
    *gap = memchr(line, ' ', (size_t)(stop - line));
    return *gap && *gap > line && *gap + 1 < stop && !memchr(*gap + 1, ' ', (size_t)(stop - *gap - 1));
}

/* Adds the merges of the text, whose first line is a comment: symbols first, since a merge may use a later one's. */
static enum mcs_status add_merges(struct bpe *b, const char *path, const char *text, const char *end, char *at)
{
    for (int pass = 0; pass < 2; pass++) {
        const char *line = memchr(text, '\n', (size_t)(end - text));
        int n = 0;
        for (line = line ? line + 1 : end; line < end && n < N_MERGES; n++) {
            const char *stop = memchr(line, '\n', (size_t)(end - line)), *gap;
            if (!stop) stop = end;
            const int whole = (int)(stop - line) - (stop > line && stop[-1] == '\r');
            MCS_REQUIRE(whole < LINE_BYTES && split(line, line + whole, &gap), MCS_E_DATA,
                        "%s: line %d is not a merge of two pieces", path, n + 2);
            const int left = (int)(gap - line), right = whole - left - 1;
            if (pass == 0) {
                char *joined = at;
                memcpy(at, line, (size_t)left);
                memcpy(at + left, gap + 1, (size_t)right);
                at += left + right;
                add_symbol(b, joined, left + right, N_BYTES + n);
            } else {
                const int32_t l = b->slots[find_slot(b, line, left)], r = b->slots[find_slot(b, gap + 1, right)];
                char joined[LINE_BYTES];
                if (l >= 0 && r >= 0) {
                    memcpy(joined, line, (size_t)left);
                    memcpy(joined + left, gap + 1, (size_t)right);
                    struct merge *m = &b->merges[pair_slot(b, l, r)];
                    *m = (struct merge){l, r, b->slots[find_slot(b, joined, left + right)], n};
                }
            }
            line = stop + 1;
        }
        b->n_merges = n;
    }
    MCS_REQUIRE(b->n_merges > 0, MCS_E_DATA, "%s: has no merges; want bpe_simple_vocab_16e6.txt.gz", path);
    return MCS_OK;
}

static enum mcs_status read_text(const char *path, char **text, int64_t *n)
{
    struct gzip_input *in;
    enum mcs_status st = MCS_OK;
    *text = NULL;
    MCS_TRY(mcs_gzip_open(path, &in));
    *text = malloc(FILE_BYTES + 1);
    MCS_REQUIRE_GOTO(*text, MCS_E_NOMEM, st, done, "%s: no memory to read it", path);
    MCS_TRY_GOTO(mcs_gzip_read_some(in, *text, FILE_BYTES + 1, n), st, done);
    MCS_REQUIRE_GOTO(*n <= FILE_BYTES, MCS_E_DATA, st, done, "%s: more than %d bytes of merges", path, FILE_BYTES);
done:
    mcs_gzip_close(in);
    return st;
}

enum mcs_status mcs_bpe_from_text(const char *path, const char *text, int64_t n, struct bpe **out)
{
    enum mcs_status st = MCS_OK;
    struct bpe *b = calloc(1, sizeof *b);

    *out = NULL;
    MCS_REQUIRE(b, MCS_E_NOMEM, "%s: no memory for the merges", path);
    b->bytes = malloc((size_t)n + N_BYTES * 8);
    b->symbols = malloc((N_BYTES + N_MERGES) * sizeof *b->symbols);
    b->slots = malloc(SLOTS * sizeof *b->slots);
    b->merges = malloc(SLOTS * sizeof *b->merges);
    MCS_REQUIRE_GOTO(b->bytes && b->symbols && b->slots && b->merges, MCS_E_NOMEM, st, done,
                     "%s: no memory for the merges", path);
    for (int i = 0; i < SLOTS; i++) b->slots[i] = b->merges[i].left = -1;
    st = add_merges(b, path, text, text + n, add_bytes(b, b->bytes));
done:
    if (st != MCS_OK) mcs_bpe_close(b);
    if (st == MCS_OK) *out = b;
    return st;
}

enum mcs_status mcs_bpe_open(const char *path, struct bpe **out)
{
    char *text = NULL;
    int64_t n = 0;
    *out = NULL;
    enum mcs_status st = read_text(path, &text, &n);
    if (st == MCS_OK) st = mcs_bpe_from_text(path, text, n, out);
    free(text);
    return st;
}

void mcs_bpe_close(struct bpe *b)
{
    if (!b) return;
    free(b->bytes);
    free(b->symbols);
    free(b->slots);
    free(b->merges);
    free(b);
}

int mcs_bpe_n_ids(const struct bpe *b)
{
    return N_BYTES + b->n_merges + 2;
}

int32_t mcs_bpe_id(const struct bpe *b, const char *piece)
{
    for (int k = 0; k < 4; k++)
        if (!strcmp(piece, special_text[k / 2][k % 2])) return mcs_bpe_n_ids(b) - 2 + k % 2;
    const int32_t symbol = b->slots[find_slot(b, piece, (int)strlen(piece))];
    return symbol < 0 ? -1 : b->symbols[symbol].id;
}

/* ---- lower case ---- */

/* A capital sigma at i ends a word: a cased character before it and none after it, ignorable ones aside. */
static int is_final_sigma(const struct codes *c, int64_t i)
{
    int64_t k = i - 1;
    while (k >= 0 && kind_of(c->v[k]) & MCS_BPE_IGNORABLE) k--;
    if (k < 0 || !(kind_of(c->v[k]) & MCS_BPE_CASED)) return 0;
    for (k = i + 1; k < c->n && kind_of(c->v[k]) & MCS_BPE_IGNORABLE;) k++;
    return k == c->n || !(kind_of(c->v[k]) & MCS_BPE_CASED);
}

/* by_char: every character alone, as transformers does it; a capital sigma then never ends a word. */
static enum mcs_status lower(const struct codes *src, int by_char, struct codes *dst)
{
    for (int64_t i = 0; i < src->n; i++) {
        const uint32_t code = src->v[i];
        if (code == 0x130) { /* the one character whose lower case is two */
            MCS_TRY(mcs_codes_add(dst, 'i'));
            MCS_TRY(mcs_codes_add(dst, 0x307));
        } else if (code == 0x3A3) {
            MCS_TRY(mcs_codes_add(dst, !by_char && is_final_sigma(src, i) ? 0x3C2 : 0x3C3));
        } else {
            MCS_TRY(mcs_codes_add(dst, mcs_unicode_lower_current(code)));
        }
    }
    return MCS_OK;
}

/* ---- words ---- */

/* The length of `text` at v, 0: another text. any_case: U+017F is an s too. */
static int64_t match(const char *text, const uint32_t *v, int64_t n, int any_case)
{
    int64_t i = 0;
    for (; text[i]; i++)
        if (i >= n || (v[i] != (uint32_t)text[i] && !(any_case && text[i] == 's' && v[i] == 0x17F))) return 0;
    return i;
}

/* The length of the word at v, by the first alternative of the reference's pattern that matches; 0: white space. plain:
 * transformers' pattern, for which U+0345 is no white space, which matches by case and has no special tokens (they were
 * found before). */
static int64_t word_length(const uint32_t *v, int64_t n, int plain)
{
    static const char *const fixed[] = {
        "<start_of_text>", "<end_of_text>", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    const int first = plain && v[0] == 0x345 ? 0 : kind_of(v[0]) & WORD_KINDS;
    int64_t length;
    for (size_t k = plain ? 2 : 0; k < sizeof fixed / sizeof *fixed; k++)
        if ((length = match(fixed[k], v, n, !plain))) return length;
    if (first & MCS_BPE_SPACE) return 0;
    if (first & MCS_BPE_NUMBER) return 1;
    for (length = 1; length < n; length++)
        if ((plain && v[length] == 0x345 ? 0 : kind_of(v[length]) & WORD_KINDS) != first) break;
    return length;
}

/* Applies the merges to the symbols of a word, in place; returns how many are left. Of all pairs the merge of the
 * lowest rank is applied everywhere, from the left, until none is known. rank: scratch of n. */
static int64_t merge_symbols(const struct bpe *b, int32_t *symbol, int32_t *rank, int64_t n)
{
    for (;;) {
        int32_t best = INT32_MAX;
        for (int64_t i = 0; i + 1 < n; i++) {
            const struct merge *m = &b->merges[pair_slot(b, symbol[i], symbol[i + 1])];
            rank[i] = m->left >= 0 ? m->rank : INT32_MAX;
            if (rank[i] < best) best = rank[i];
        }
        if (best == INT32_MAX) return n;
        int64_t kept = 0;
        for (int64_t i = 0; i < n; i++) {
            if (i + 1 < n && rank[i] == best) {
                symbol[kept++] = b->merges[pair_slot(b, symbol[i], symbol[i + 1])].result;
                i++;
            } else {
                symbol[kept++] = symbol[i];
            }
        }
        n = kept;
    }
}

/* Scratch of a text: symbols and ranks of its longest word. */
struct word_scratch {
    int32_t *symbol, *rank;
};

static int64_t encode_word(const struct bpe *b, const uint32_t *v, int64_t n, struct word_scratch *s)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        char bytes[4];
        const int length = mcs_utf8_write(v[i], bytes);
        for (int k = 0; k < length; k++) {
            const unsigned char byte = (unsigned char)bytes[k];
            char text[8];
            uint32_t code = byte;
            if (!is_printable(byte)) {
                code = 0x100;
                for (int other = 0; other < byte; other++) code += !is_printable(other);
            }
            int m = mcs_utf8_write(code, text);
            if (i + 1 == n && k + 1 == length) memcpy(text + m, "</w>", 4), m += 4;
            s->symbol[count++] = b->slots[find_slot(b, text, m)];
        }
    }
    return merge_symbols(b, s->symbol, s->rank, count);
}

/* Which special token of a table stands at v, -1: none. */
static int special_at(const char *const names[2], const uint32_t *v, int64_t n, int64_t *length)
{
    for (int k = 0; k < 2; k++)
        if ((*length = match(names[k], v, n, 0))) return k;
    return -1;
}

/* Appends the ids of the words of a text, up to `end` ids in all. plain: as in word_length. */
static enum mcs_status add_words(const struct bpe *b, const struct codes *text, int plain, int end, int32_t *ids,
                                 int *n)
{
    struct word_scratch s = {malloc((size_t)(text->n * 4 + 1) * sizeof *s.symbol),
                             malloc((size_t)(text->n * 4 + 1) * sizeof *s.rank)};
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(s.symbol && s.rank, MCS_E_NOMEM, st, done, "no memory for a text of %lld characters",
                     (long long)text->n);
    for (int64_t i = 0, length; i < text->n && *n < end; i += length ? length : 1) {
        const uint32_t *v = text->v + i;
        int64_t whole;
        length = word_length(v, text->n - i, plain);
        const int which = plain ? -1 : special_at(special_text[0], v, length, &whole);
        if (which >= 0) {
            ids[(*n)++] = mcs_bpe_n_ids(b) - 2 + which;
            continue;
        }
        const int64_t count = length ? encode_word(b, v, length, &s) : 0;
        for (int64_t k = 0; k < count && *n < end; k++) ids[(*n)++] = b->symbols[s.symbol[k]].id;
    }
done:
    free(s.symbol);
    free(s.rank);
    return st;
}

enum mcs_status mcs_bpe_encode(const struct bpe *b, const char *text, int context_length, int32_t *ids, int *n_tokens)
{
    enum mcs_status st = MCS_OK;
    struct codes raw = {0}, low = {0};
    int n = 1;

    MCS_REQUIRE(context_length >= 2, MCS_E_USAGE, "a context of %d tokens: at least 2 are needed", context_length);
    MCS_TRY_GOTO(mcs_utf8_decode(text, (int64_t)strlen(text), "text", &raw), st, done);
    MCS_TRY_GOTO(mcs_text_clean(&raw), st, done);
    MCS_TRY_GOTO(lower(&raw, 0, &low), st, done);
    ids[0] = mcs_bpe_n_ids(b) - 2;
    MCS_TRY_GOTO(add_words(b, &low, 0, context_length - 1, ids, &n), st, done);
    ids[n++] = mcs_bpe_n_ids(b) - 1;
    *n_tokens = n;
done:
    mcs_codes_free(&raw);
    mcs_codes_free(&low);
    return st;
}

/* The text between two special tokens: NFC, lower case, words. */
static enum mcs_status add_part(const struct bpe *b, const uint32_t *v, int64_t length, int end, int32_t *ids, int *n)
{
    enum mcs_status st = MCS_OK;
    struct codes part = {0}, low = {0};
    for (int64_t i = 0; i < length; i++) MCS_TRY_GOTO(mcs_codes_add(&part, v[i]), st, done);
    MCS_TRY_GOTO(mcs_codes_compose(&part), st, done);
    MCS_TRY_GOTO(lower(&part, 1, &low), st, done);
    st = add_words(b, &low, 1, end, ids, n);
done:
    mcs_codes_free(&part);
    mcs_codes_free(&low);
    return st;
}

enum mcs_status mcs_bpe_encode_raw(const struct bpe *b, const char *text, int context_length, int32_t *ids,
                                   int *n_tokens)
{
    enum mcs_status st = MCS_OK;
    struct codes raw = {0};
    const int end = context_length - 1;
    int n = 1;

    MCS_REQUIRE(context_length >= 2, MCS_E_USAGE, "a context of %d tokens: at least 2 are needed", context_length);
    MCS_TRY_GOTO(mcs_utf8_decode(text, (int64_t)strlen(text), "text", &raw), st, done);
    ids[0] = mcs_bpe_n_ids(b) - 2;
    for (int64_t from = 0, length; from < raw.n && n < end;) {
        const int which = special_at(special_text[1], raw.v + from, raw.n - from, &length);
        if (which >= 0) {
            ids[n++] = mcs_bpe_n_ids(b) - 2 + which;
            from += length;
            continue;
        }
        int64_t to = from + 1;
        while (to < raw.n && special_at(special_text[1], raw.v + to, raw.n - to, &length) < 0) to++;
        MCS_TRY_GOTO(add_part(b, raw.v + from, to - from, end, ids, &n), st, done);
        from = to;
    }
    ids[n++] = mcs_bpe_n_ids(b) - 1;
    *n_tokens = n;
done:
    mcs_codes_free(&raw);
    return st;
}

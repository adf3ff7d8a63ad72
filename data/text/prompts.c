/* prompts.json through jansson, which rejects duplicate names and invalid UTF-8. */
#include "data/text/prompts.h"

#include "data/io/file.h"
#include "data/io/json.h"

#include <stdlib.h>
#include <string.h>

enum { PROMPT_BYTES = 256 << 20, MAX_STEM = 1024 };

static int is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == 0;
}

/* Adds an entry for n texts; the caller fills texts and increments n, so that after a failure exactly the existing
 * texts are freed. */
static enum mcs_status append(struct prompts *prompts, const char *name, size_t n, struct prompt **entry)
{
    if ((prompts->n & (prompts->n - 1)) == 0) { /* full at each power of two */
        struct prompt *larger = realloc(prompts->v, (prompts->n ? 2 * (size_t)prompts->n : 1) * sizeof *larger);
        MCS_REQUIRE(larger, MCS_E_NOMEM, "no memory for %d prompts", prompts->n + 1);
        prompts->v = larger;
    }
    struct prompt *p = &prompts->v[prompts->n++];
    p->n = 0;
    p->name = strdup(name);
    p->texts = calloc(n, sizeof *p->texts);
    MCS_REQUIRE(p->name && p->texts, MCS_E_NOMEM, "no memory for the prompt of \"%s\"", name);
    *entry = p;
    return MCS_OK;
}

static enum mcs_status append_text(struct prompt *p, const char *text)
{
    p->texts[p->n] = strdup(text);
    MCS_REQUIRE(p->texts[p->n], MCS_E_NOMEM, "no memory for the prompt of \"%s\"", p->name);
    p->n++;
    return MCS_OK;
}

enum mcs_status mcs_prompts_add(struct prompts *prompts, const char *name, const char *const *texts, int n)
{
    struct prompt *p;
    for (int i = 0; i < prompts->n; i++)
        MCS_REQUIRE(strcmp(prompts->v[i].name, name) != 0, MCS_E_DATA, "prompts: \"%s\" is there twice", name);
    MCS_REQUIRE(n > 0, MCS_E_DATA, "prompts: \"%s\" has no text", name);
    for (int i = 0; i < n; i++)
        MCS_REQUIRE(!is_blank(texts[i]), MCS_E_DATA, "prompts: \"%s\": text %d is empty", name, i + 1);
    MCS_TRY(append(prompts, name, (size_t)n, &p));
    for (int i = 0; i < n; i++) MCS_TRY(append_text(p, texts[i]));
    return MCS_OK;
}

static enum mcs_status read_entry(const char *path, const char *name, const json_t *value, struct prompts *prompts)
{
    struct prompt *p;
    size_t n = json_is_array(value) ? json_array_size(value) : 1;

    MCS_REQUIRE(n > 0, MCS_E_DATA, "%s: \"%s\": the list of texts is empty", path, name);
    MCS_TRY(append(prompts, name, n, &p));
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_is_array(value) ? json_array_get(value, i) : value);
        MCS_REQUIRE(text, MCS_E_DATA, "%s: \"%s\": want a text or a list of texts", path, name);
        MCS_REQUIRE(!is_blank(text), MCS_E_DATA, "%s: \"%s\": text %zu is empty", path, name, i + 1);
        MCS_TRY(append_text(p, text));
    }
    return MCS_OK;
}

/* ---- finding ---- */

static int by_text(const void *a, const void *b)
{
    const struct prompt_key *x = a, *y = b;
    const int order = strcmp(x->text, y->text);
    return order ? order : (x->item > y->item) - (x->item < y->item);
}

/* The first of `n` sorted keys with this text, or NULL. */
static const struct prompt_key *first_key(const struct prompt_key *keys, int n, const char *text)
{
    int lo = 0, hi = n;
    while (lo < hi) {
        const int middle = lo + (hi - lo) / 2;
        if (strcmp(keys[middle].text, text) < 0)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo < n && !strcmp(keys[lo].text, text) ? &keys[lo] : NULL;
}

static enum mcs_status add_key(struct prompt_key *keys, int *n, const char *text, int item)
{
    keys[*n] = (struct prompt_key){strdup(text), item};
    MCS_REQUIRE(keys[*n].text, MCS_E_NOMEM, "no memory to look prompts up");
    ++*n;
    return MCS_OK;
}

static void free_keys(struct prompt_key *keys, int n)
{
    for (int i = 0; i < n; i++) free(keys[i].text);
    free(keys);
}

/* Sorts names and stems, so that 100,000 prompts and as many images take no time to match. */
static enum mcs_status make_index(struct prompts *p)
{
    char stem[MAX_STEM];
    p->names = calloc((size_t)p->n + 1, sizeof *p->names);
    p->stems = calloc(2 * (size_t)p->n + 1, sizeof *p->stems);
    MCS_REQUIRE(p->names && p->stems, MCS_E_NOMEM, "no memory to look %d prompts up", p->n);
    for (int i = 0; i < p->n; i++) {
        const char *name = p->v[i].name;
        mcs_file_stem(name, stem, sizeof stem);
        MCS_TRY(add_key(p->names, &p->n_indexed, name, i));
        MCS_TRY(add_key(p->stems, &p->n_stems, stem, i));
        if (strcmp(stem, name) != 0) MCS_TRY(add_key(p->stems, &p->n_stems, name, i));
    }
    qsort(p->names, (size_t)p->n_indexed, sizeof *p->names, by_text);
    qsort(p->stems, (size_t)p->n_stems, sizeof *p->stems, by_text);
    return MCS_OK;
}

/* Entries that mcs_prompts_add has added since the index was made. */
static const struct prompt *find_added(const struct prompts *prompts, const char *base, const char *want)
{
    const struct prompt *by_stem = NULL;
    char have[MAX_STEM];
    for (int i = prompts->n_indexed; i < prompts->n; i++) {
        const struct prompt *p = &prompts->v[i];
        if (strcmp(p->name, base) == 0) return p;
        mcs_file_stem(p->name, have, sizeof have);
        if (!by_stem && strcmp(p->name, "*") != 0 && (strcmp(have, want) == 0 || strcmp(p->name, want) == 0))
            by_stem = p;
    }
    return by_stem;
}

const struct prompt *mcs_prompts_find(const struct prompts *prompts, const char *image)
{
    const char *base = mcs_path_name(image);
    char want[MAX_STEM];
    mcs_file_stem(base, want, sizeof want);
    const struct prompt_key *name = first_key(prompts->names, prompts->n_indexed, base);
    const struct prompt_key *stem = first_key(prompts->stems, prompts->n_stems, want);
    const struct prompt_key *any = first_key(prompts->names, prompts->n_indexed, "*");
    if (name) return &prompts->v[name->item];
    const struct prompt *added = find_added(prompts, base, want);
    if (added && (strcmp(added->name, base) == 0 || !stem)) return added;
    if (stem && strcmp(prompts->v[stem->item].name, "*") != 0) return &prompts->v[stem->item];
    if (any) return &prompts->v[any->item];
    for (int i = prompts->n_indexed; i < prompts->n; i++)
        if (!strcmp(prompts->v[i].name, "*")) return &prompts->v[i];
    return NULL;
}

enum mcs_status mcs_prompts_read(const char *path, struct prompts *prompts)
{
    enum mcs_status st = MCS_OK;
    char *bytes = NULL;
    int64_t n_bytes;
    struct arena names = {0};
    json_error_t error;
    json_t *root = NULL, *value;
    const char *name;

    memset(prompts, 0, sizeof *prompts);
    MCS_TRY_GOTO(mcs_file_read(path, PROMPT_BYTES, &bytes, &n_bytes), st, done);
    const char *begin = bytes;
    if (n_bytes >= 3 && memcmp(begin, "\xEF\xBB\xBF", 3) == 0) begin += 3; /* a BOM */
    const int64_t n = bytes + n_bytes - begin;
    MCS_TRY_GOTO(mcs_json_check_size(path, begin, n), st, done);
    root = json_loadb(begin, (size_t)n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    MCS_REQUIRE_GOTO(root, MCS_E_DATA, st, done, "%s: line %d, column %d: not valid JSON: %s", path, error.line,
                     error.column, error.text);
    MCS_REQUIRE_GOTO(json_is_object(root), MCS_E_DATA, st, done,
                     "%s: line 1: want an object {\"image name or *\": \"text\" or [\"text\", ...]}", path);
    json_object_foreach(root, name, value)
        MCS_TRY_GOTO(read_entry(path, mcs_json_name(&names, name), value, prompts), st, done);
    MCS_REQUIRE_GOTO(prompts->n, MCS_E_DATA, st, done,
                     "%s: no prompt in it; use {\"*\": \"text\"} for one of all images", path);
    MCS_TRY_GOTO(make_index(prompts), st, done);
done:
    mcs_arena_free(&names);
    json_decref(root);
    free(bytes);
    if (st != MCS_OK) mcs_prompts_free(prompts);
    return st;
}

enum mcs_status mcs_prompts_write(const char *path, const struct prompts *prompts)
{
    enum mcs_status st = MCS_OK;
    json_t *root = json_object();
    char *text = NULL;
    int bad = !root;

    for (int i = 0; i < prompts->n && !bad; i++) {
        const struct prompt *p = &prompts->v[i];
        json_t *value = p->n == 1 ? json_string(p->texts[0]) : json_array();
        for (int k = 0; k < p->n && p->n > 1; k++) bad |= json_array_append_new(value, json_string(p->texts[k])) != 0;
        bad |= mcs_json_put(root, p->name, value) != 0;
    }
    /* jansson returns NULL both for text that is not UTF-8 and when out of memory */
    MCS_REQUIRE_GOTO(!bad, MCS_E_DATA, st, done, "%s: a prompt is not UTF-8", path);
    text = json_dumps(root, JSON_INDENT(2));
    MCS_REQUIRE_GOTO(text, MCS_E_NOMEM, st, done, "%s: no memory for the text", path);
    size_t n = strlen(text);
    text[n] = '\n'; /* replaces the NUL: the length is passed */
    MCS_TRY_GOTO(mcs_file_write(path, text, (int64_t)n + 1), st, done);
done:
    free(text);
    json_decref(root);
    return st;
}

void mcs_prompts_free(struct prompts *prompts)
{
    for (int i = 0; i < prompts->n; i++) {
        for (int k = 0; k < prompts->v[i].n; k++) free(prompts->v[i].texts[k]);
        free(prompts->v[i].texts);
        free(prompts->v[i].name);
    }
    free_keys(prompts->names, prompts->n_indexed);
    free_keys(prompts->stems, prompts->n_stems);
    free(prompts->v);
    memset(prompts, 0, sizeof *prompts);
}

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

const struct prompt *mcs_prompts_find(const struct prompts *prompts, const char *image)
{
    const char *base = mcs_path_name(image);
    const struct prompt *by_stem = NULL, *any = NULL;
    char want[MAX_STEM], have[MAX_STEM];

    mcs_file_stem(base, want, sizeof want);
    for (int i = 0; i < prompts->n; i++) {
        const struct prompt *p = &prompts->v[i];
        if (strcmp(p->name, base) == 0) return p;
        mcs_file_stem(p->name, have, sizeof have);
        if (!any && strcmp(p->name, "*") == 0)
            any = p;
        else if (!by_stem && (strcmp(have, want) == 0 || strcmp(p->name, want) == 0))
            by_stem = p;
    }
    return by_stem ? by_stem : any;
}

void mcs_prompts_free(struct prompts *prompts)
{
    for (int i = 0; i < prompts->n; i++) {
        for (int k = 0; k < prompts->v[i].n; k++) free(prompts->v[i].texts[k]);
        free(prompts->v[i].texts);
        free(prompts->v[i].name);
    }
    free(prompts->v);
    memset(prompts, 0, sizeof *prompts);
}

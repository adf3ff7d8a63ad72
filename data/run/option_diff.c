/* Differences between two resolved configs, by the names of their options. */
#include "data/run/run_folder.h"

#include <string.h>

/* Options that change no result of a case or a step: output paths, display, distribution of the work, the choice of
 * configurations, of which each has its own record. */
static const char *const without_effect[] = {"output",           "quiet",        "json",         "trace", "gpus", "gpu",
                                             "checkpoint-every", "preprocessed", "configuration"};
/* Options that name inputs, whose contents are compared instead. */
static const char *const input_options[] = {"input", "inputs",  "images", "labels", "model", "clip",
                                            "sam",   "pairs",   "texts",  "noise",  "mask",  "prompts-from",
                                            "atlas", "prompts", "raw",    "dataset"};

static int is_in(const char *const *names, size_t n, const char *line, size_t length)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(names[i]) == length && !strncmp(names[i], line, length)) return 1;
    return 0;
}

/* A line "key: value". */
struct line {
    const char *key, *value;
    int n_key, n_value;
};

/* The next relevant line of *at; 0 at the end. */
static int next_line(const char **at, int threads, struct line *l)
{
    while (**at) {
        const char *start = *at;
        const size_t n = strcspn(start, "\n");
        const char *colon = memchr(start, ':', n);
        *at = start + n + (start[n] == '\n');
        const size_t key = colon ? (size_t)(colon - start) : n, from = colon && colon[1] == ' ' ? key + 2 : key;
        if (is_in(without_effect, sizeof without_effect / sizeof *without_effect, start, key)) continue;
        if (is_in(input_options, sizeof input_options / sizeof *input_options, start, key)) continue;
        if (!threads && key == 7 && !strncmp(start, "threads", key)) continue;
        *l = (struct line){start, start + from, (int)key, (int)(n - from)};
        return 1;
    }
    return 0;
}

char *mcs_options_filter(const char *text, int threads, struct arena *arena)
{
    char *kept = mcs_arena_alloc(arena, strlen(text) + 2), *to = kept;
    struct line l;
    if (!kept) return mcs_arena_strdup(arena, "");
    while (next_line(&text, threads, &l)) {
        const size_t n = (size_t)(l.value + l.n_value - l.key);
        memcpy(to, l.key, n);
        to[n] = '\n';
        to += n + 1;
    }
    *to = '\0';
    return kept;
}

static int find(const char *text, int threads, const struct line *key, struct line *found)
{
    while (next_line(&text, threads, found))
        if (found->n_key == key->n_key && !strncmp(found->key, key->key, (size_t)key->n_key)) return 1;
    return 0;
}

int mcs_options_differ(const char *now, const char *before, int threads, struct arena *arena, const char **text)
{
    struct line a, b;
    int n = 0;
    *text = "";
    for (const char *at = now; next_line(&at, threads, &a);) {
        const int there = find(before, threads, &a, &b);
        if (there && a.n_value == b.n_value && !memcmp(a.value, b.value, (size_t)a.n_value)) continue;
        *text = mcs_arena_printf(arena, "%s%s--%.*s %.*s, was %.*s", *text, n++ ? "; " : "", a.n_key, a.key, a.n_value,
                                 a.value, there ? b.n_value : 9, there ? b.value : "not given");
    }
    for (const char *at = before; next_line(&at, threads, &b);) {
        if (find(now, threads, &b, &a)) continue;
        *text = mcs_arena_printf(arena, "%s%s--%.*s not given, was %.*s", *text, n++ ? "; " : "", b.n_key, b.key,
                                 b.n_value, b.value);
    }
    return n;
}

const char *mcs_options_verb(const char *text, struct arena *arena)
{
    while (*text && strncmp(text, "verb:", 5) != 0) {
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    if (!*text) return NULL;
    text += 5 + strspn(text + 5, " \t\"'");
    const size_t n = strcspn(text, " \t\"'\r\n");
    return n ? mcs_arena_printf(arena, "%.*s", (int)n, text) : NULL;
}

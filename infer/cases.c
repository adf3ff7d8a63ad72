#include "infer/cases.h"

#include "data/io/file.h"
#include "engine/base/escape.h"
#include "engine/base/path.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEM_BYTES = 512 };

static int by_stem(const void *a, const void *b)
{
    const struct case_file *x = a, *y = b;
    int c = strcmp(x->stem, y->stem);
    return c ? c : strcmp(x->name, y->name);
}

static int ends_in(const char *name, const char *ending)
{
    size_t n = strlen(name), k = strlen(ending);
    return n >= k && !strcmp(name + n - k, ending);
}

/* Keeps one file per stem. */
static enum mcs_status keep_preferred(const char *folder, const char *prefer, struct case_list *list)
{
    int n = 0;
    for (int i = 0; i < list->n;) {
        int end = i, n_best = 0, best = i;
        for (; end < list->n && !strcmp(list->files[end].stem, list->files[i].stem); end++)
            if (prefer && ends_in(list->files[end].name, prefer)) {
                best = end;
                n_best++;
            }
        MCS_REQUIRE(end == i + 1 || n_best == 1, MCS_E_DATA,
                    "%s: %s and %s have one stem; cases are matched by stem, so keep one of them", folder,
                    list->files[i].name, list->files[i + 1].name);
        list->files[n++] = list->files[best];
        i = end;
    }
    list->n = n;
    return MCS_OK;
}

enum mcs_status mcs_cases_list(const char *folder, const char *endings, const char *prefer, struct case_list *list)
{
    *list = (struct case_list){0};
    struct file_list found = {0};
    MCS_REQUIRE(mcs_folder_exists(folder), MCS_E_NOINPUT, "%s: no such folder", folder);
    MCS_TRY(mcs_folder_list(folder, endings, &found));
    list->files = mcs_arena_alloc(&list->arena, ((size_t)found.n + 1) * sizeof *list->files);
    list->n = list->files ? found.n : 0;
    for (int i = 0; i < list->n; i++) {
        char stem[STEM_BYTES];
        mcs_file_stem(found.names[i], stem, STEM_BYTES);
        list->files[i].stem = mcs_arena_strdup(&list->arena, stem);
        list->files[i].name = mcs_arena_strdup(&list->arena, found.names[i]);
        list->files[i].path = mcs_arena_printf(&list->arena, "%s/%s", folder, found.names[i]);
    }
    mcs_file_list_free(&found);
    if (list->n) qsort(list->files, (size_t)list->n, sizeof *list->files, by_stem);
    enum mcs_status st = MCS_OK;
    MCS_TRY_GOTO(mcs_arena_status(&list->arena), st, done);
    MCS_REQUIRE_GOTO(list->n, MCS_E_NOINPUT, st, done, "%s: no file in it ends in %s", folder, endings);
    MCS_TRY_GOTO(keep_preferred(folder, prefer, list), st, done);
done:
    if (st != MCS_OK) mcs_cases_free(list);
    return st;
}

void mcs_cases_free(struct case_list *list)
{
    mcs_arena_free(&list->arena);
    *list = (struct case_list){0};
}

static int is_stem(const void *stem, const void *file)
{
    return strcmp(stem, ((const struct case_file *)file)->stem);
}

const struct case_file *mcs_cases_find(const struct case_list *list, const char *stem)
{
    return list->n ? bsearch(stem, list->files, (size_t)list->n, sizeof *list->files, is_stem) : NULL;
}

enum mcs_status mcs_case_name_check(const char *folder, const char *stem, const char *suffix)
{
    const long limit = pathconf(folder, _PC_NAME_MAX), name_max = limit > 0 ? limit : NAME_MAX;
    const size_t n = strlen(stem) + strlen(suffix), whole = strlen(folder) + 1 + n;
    MCS_REQUIRE(n <= (size_t)name_max, MCS_E_DATA,
                "the name is too long: its result would have %zu bytes with \"%s\", %ld are allowed; rename the file",
                n, suffix, name_max);
    MCS_REQUIRE(whole < MCS_PATH_BYTES, MCS_E_DATA, "the path of its result would have %zu bytes, %d are allowed",
                whole, MCS_PATH_BYTES - 1);
    return MCS_OK;
}

/* ---- failures ---- */

void mcs_failures_add(struct failure_list *f, const char *stem, const char *reason)
{
    if (f->n == f->capacity) {
        int capacity = f->capacity ? 2 * f->capacity : 16;
        struct case_failure *items = mcs_arena_alloc(&f->arena, (size_t)capacity * sizeof *items);
        if (!items) return; /* mcs_failures_write reports it */
        if (f->n) memcpy(items, f->items, (size_t)f->n * sizeof *items);
        f->items = items;
        f->capacity = capacity;
    }
    f->items[f->n++] = (struct case_failure){mcs_arena_strdup(&f->arena, stem), mcs_arena_strdup(&f->arena, reason)};
}

void mcs_failures_add_held(struct failure_list *f, const char *stem)
{
    mcs_failures_add(f, stem, mcs_error_message());
    mcs_error_clear();
}

const char *mcs_csv_field(struct arena *a, const char *text)
{
    const char *guard = text[strspn(text, "'")] && strchr("=+-@\t\r\n", text[strspn(text, "'")]) ? "'" : "";
    text = mcs_arena_printf(a, "%s%s", guard, mcs_text_encode(a, text));
    if (!strpbrk(text, ",\"\r\n")) return text;
    char *quoted = mcs_arena_alloc(a, 2 * strlen(text) + 3), *to = quoted;
    if (!quoted) return "";
    *to++ = '"';
    for (; *text; text++) {
        if (*text == '"') *to++ = '"';
        *to++ = *text;
    }
    *to++ = '"';
    return quoted;
}

enum mcs_status mcs_failures_take(struct failure_list *f, const char *stem, enum mcs_status st)
{
    if (!f || (st != MCS_E_DATA && st != MCS_E_SHAPE)) return st;
    mcs_failures_add_held(f, stem);
    return MCS_OK;
}

enum mcs_status mcs_failures_write(const struct failure_list *f, const char *folder)
{
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_arena_status(&f->arena));
    MCS_TRY(mcs_path(path, "%s/failures.csv", folder));
    if (!f->n) {
        MCS_REQUIRE(!mcs_file_exists(path) || !remove(path), MCS_E_IO, "%s: cannot remove the list of an older run",
                    path);
        return MCS_OK;
    }
    struct arena a = {0};
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *s = open_memstream(&text, &n_bytes);
    MCS_REQUIRE(s, MCS_E_NOMEM, "%s: no memory", path);
    fprintf(s, "case,reason\n");
    for (int i = 0; i < f->n; i++)
        fprintf(s, "%s,%s\n", mcs_csv_field(&a, f->items[i].stem), mcs_csv_field(&a, f->items[i].reason));
    const int written = fclose(s) == 0;
    enum mcs_status st = mcs_arena_status(&a);
    if (st == MCS_OK && !written) st = MCS_FAIL(MCS_E_NOMEM, "%s: no memory", path);
    if (st == MCS_OK) st = mcs_file_write(path, text, (int64_t)n_bytes);
    free(text);
    mcs_arena_free(&a);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

void mcs_failures_free(struct failure_list *f)
{
    mcs_arena_free(&f->arena);
    *f = (struct failure_list){0};
}

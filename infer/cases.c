#include "infer/cases.h"

#include "data/image/media.h"
#include "data/io/file.h"
#include "data/text/unicode.h"
#include "engine/base/escape.h"
#include "engine/base/path.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEM_BYTES = 512, MANY_FILES = 20000 };
static const char FIRST_CHANNEL[] = "_0000";

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

/* ---- names ---- */

/* Normal form C of a name; names that are not UTF-8, or pure ASCII, are not changed. */
static const char *normal_name(struct arena *a, const char *name)
{
    struct codes codes = {0};
    char *text = NULL;
    const char *c = name;
    while (*c && !(*c & 0x80)) c++;
    if (!*c) return name;
    if (mcs_utf8_decode(name, (int64_t)strlen(name), "a name", &codes) == MCS_OK &&
        mcs_codes_compose(&codes) == MCS_OK && mcs_utf8_encode(&codes, &text) == MCS_OK)
        name = mcs_arena_strdup(a, text);
    else
        mcs_error_clear();
    mcs_codes_free(&codes);
    free(text);
    return name;
}

static int by_key(const void *a, const void *b)
{
    const struct case_key *x = a, *y = b;
    const int order = strcmp(x->text, y->text);
    return order ? order : x->file - y->file;
}

static void make_keys(struct case_list *list)
{
    list->keys = mcs_arena_alloc(&list->arena, ((size_t)list->n + 1) * sizeof *list->keys);
    for (int i = 0; list->keys && i < list->n; i++)
        list->keys[i] = (struct case_key){normal_name(&list->arena, list->files[i].stem), i};
    if (mcs_arena_status(&list->arena) == MCS_OK && list->n)
        qsort(list->keys, (size_t)list->n, sizeof *list->keys, by_key);
}

enum mcs_status mcs_cases_list(const char *folder, const char *endings, const char *prefer, struct case_list *list)
{
    *list = (struct case_list){0};
    struct file_list found = {0};
    MCS_REQUIRE(mcs_folder_exists(folder), MCS_E_NOINPUT, "%s: no such folder", folder);
    const int media = !strcmp(endings, MCS_MEDIA_ENDINGS) || !strcmp(endings, MCS_IMAGE_ENDINGS);
    MCS_TRY(media ? mcs_media_list(folder, endings, &found) : mcs_folder_list(folder, endings, &found));
    list->files = mcs_arena_alloc(&list->arena, ((size_t)found.n + 1) * sizeof *list->files);
    list->n = list->files ? found.n : 0;
    for (int i = 0; i < list->n; i++) {
        char stem[STEM_BYTES];
        const size_t length = strlen(found.names[i]);
        if (found.names[i][length - 1] == '/') /* a DICOM series */
            snprintf(stem, sizeof stem, "%.*s", (int)length - 1, found.names[i]);
        else
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
    make_keys(list);
    MCS_TRY_GOTO(mcs_arena_status(&list->arena), st, done);
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

/* The one file of this name in normal form C, or NULL. */
static const struct case_file *find_normal(const struct case_list *list, const char *stem)
{
    struct arena a = {0};
    const char *key = normal_name(&a, stem);
    int lo = 0, hi = list->n;
    while (key && lo < hi) {
        const int middle = lo + (hi - lo) / 2;
        if (strcmp(list->keys[middle].text, key) < 0)
            lo = middle + 1;
        else
            hi = middle;
    }
    const int found = key && lo < list->n && !strcmp(list->keys[lo].text, key);
    const int twice = found && lo + 1 < list->n && !strcmp(list->keys[lo + 1].text, key);
    mcs_arena_free(&a);
    return found && !twice ? &list->files[list->keys[lo].file] : NULL;
}

const struct case_file *mcs_cases_partner(const struct case_list *from, int i, const struct case_list *in)
{
    const char *stem = from->files[i].stem;
    char other[STEM_BYTES + sizeof FIRST_CHANNEL];
    const struct case_file *f = mcs_cases_find(in, stem);
    if (!f) f = find_normal(in, stem);
    if (f) return f;
    const size_t n = strlen(stem), suffix = sizeof FIRST_CHANNEL - 1;
    if (n > suffix && !strcmp(stem + n - suffix, FIRST_CHANNEL))
        snprintf(other, sizeof other, "%.*s", (int)(n - suffix), stem);
    else
        snprintf(other, sizeof other, "%s%s", stem, FIRST_CHANNEL);
    return find_normal(from, other) ? NULL : find_normal(in, other);
}

/* Changed, added and removed bytes from a to b (Levenshtein). */
static int changes(const char *a, const char *b)
{
    int row[STEM_BYTES + 1];
    const int n = (int)strnlen(b, STEM_BYTES);
    for (int k = 0; k <= n; k++) row[k] = k;
    for (int i = 0; a[i]; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int k = 1; k <= n; k++) {
            const int replaced = diagonal + (a[i] != b[k - 1]);
            diagonal = row[k];
            row[k] = (row[k] < row[k - 1] ? row[k] : row[k - 1]) + 1;
            if (replaced < row[k]) row[k] = replaced;
        }
    }
    return row[n];
}

const char *mcs_cases_nearest(const struct case_list *list, const char *stem)
{
    int best = 0, least = list->n ? changes(list->files[0].stem, stem) : 0;
    if (!list->n || list->n > MANY_FILES) return NULL;
    for (int i = 1; i < list->n; i++) {
        const int n = changes(list->files[i].stem, stem);
        if (n >= least) continue;
        least = n;
        best = i;
    }
    return list->files[best].stem;
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

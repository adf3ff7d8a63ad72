#include "data/run/run_record.h"

#include "data/io/file.h"
#include "engine/base/path.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const int64_t MAX_RECORD = (int64_t)1 << 31;

char *mcs_record_encode(struct arena *a, const char *text)
{
    json_t *whole = json_string(text);
    const int utf8 = whole != NULL;
    json_decref(whole);
    char *out = mcs_arena_alloc(a, 3 * strlen(text) + 1), *to = out;
    if (!out) return mcs_arena_strdup(a, "");
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '%' || (*c < 32 && *c != '\n') || *c == 127 || (!utf8 && *c > 127))
            to += sprintf(to, "%%%02X", *c);
        else
            *to++ = (char)*c;
    }
    *to = '\0';
    return out;
}

char *mcs_record_decode(struct arena *a, const char *stored)
{
    char *out = mcs_arena_alloc(a, strlen(stored) + 1), *to = out;
    unsigned code;
    if (!out) return mcs_arena_strdup(a, "");
    for (; *stored; stored++) {
        if (*stored == '%' && sscanf(stored + 1, "%2X", &code) == 1 && stored[1] && stored[2])
            *to++ = (char)code, stored += 2;
        else
            *to++ = *stored;
    }
    *to = '\0';
    return out;
}

const char *mcs_record_get(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

void mcs_record_free(struct run_record *r)
{
    json_decref(r->cases);
    json_decref(r->options);
    json_decref(r->files);
    json_decref(r->known);
    *r = (struct run_record){0};
}

void mcs_record_line(struct run_record *r, json_t *line)
{
    struct arena a = {0};
    const char *verb = mcs_record_get(line, "verb");
    if (json_object_get(line, "case")) {
        json_object_set(r->cases, mcs_arena_printf(&a, "%s/%s", verb, mcs_record_get(line, "case")), line);
    } else if (json_object_get(line, "text")) {
        json_object_set(r->options, mcs_arena_printf(&a, "%s/%s", verb, mcs_record_get(line, "options")), line);
    } else if (json_object_get(line, "file")) {
        json_object_set(r->files, mcs_record_get(line, "file"), json_object_get(line, "sha256"));
        json_object_set_new(r->known, mcs_record_get(line, "sha256"), json_true());
    }
    mcs_arena_free(&a);
    json_decref(line);
}

enum mcs_status mcs_record_read(const char *path, struct run_record *r)
{
    char *text;
    int64_t n;
    *r = (struct run_record){json_object(), json_object(), json_object(), json_object(), 0};
    if (!mcs_file_exists(path)) return MCS_OK;
    const enum mcs_status st = mcs_file_read(path, MAX_RECORD, &text, &n);
    if (st != MCS_OK) {
        mcs_record_free(r);
        return mcs_trace(st, __FILE__, __LINE__);
    }
    for (char *at = text, *end; at < text + n; at = end + 1) {
        end = memchr(at, '\n', (size_t)(text + n - at));
        r->cut = !end;
        if (!end) break;
        json_t *line = json_loadb(at, (size_t)(end - at), JSON_REJECT_DUPLICATES, NULL);
        if (json_is_object(line))
            mcs_record_line(r, line);
        else
            json_decref(line);
    }
    free(text);
    return MCS_OK;
}

/* The keys of an object, sorted; owned by the arena. NULL: no memory. */
static const char **sorted_keys(json_t *object, struct arena *a)
{
    const char *key, **keys = mcs_arena_alloc(a, (json_object_size(object) + 1) * sizeof *keys);
    json_t *value;
    size_t n = 0;
    if (!keys) return NULL;
    json_object_foreach(object, key, value) keys[n++] = key;
    qsort(keys, n, sizeof *keys, mcs_text_compare);
    return keys;
}

static void put_lines(FILE *f, json_t *table, struct arena *a)
{
    const char **keys = sorted_keys(table, a);
    for (size_t i = 0; keys && i < json_object_size(table); i++) {
        json_dumpf(json_object_get(table, keys[i]), f, RECORD_DUMP);
        fputc('\n', f);
    }
}

enum mcs_status mcs_record_write(const char *path, const struct run_record *r)
{
    struct arena a = {0};
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    MCS_REQUIRE(f, MCS_E_NOMEM, "%s: no memory", path);
    put_lines(f, r->options, &a);
    put_lines(f, r->cases, &a);
    const char **names = sorted_keys(r->files, &a);
    for (size_t i = 0; names && i < json_object_size(r->files); i++) {
        json_t *line = json_pack("{s:s, s:O}", "file", names[i], "sha256", json_object_get(r->files, names[i]));
        json_dumpf(line, f, RECORD_DUMP);
        fputc('\n', f);
        json_decref(line);
    }
    enum mcs_status st = mcs_arena_status(&a);
    const int closed = fclose(f);
    if (st != MCS_OK)
        mcs_trace(st, __FILE__, __LINE__);
    else if (closed != 0)
        st = MCS_FAIL(MCS_E_NOMEM, "%s: no memory", path);
    else if (n)
        st = mcs_file_write(path, text, (int64_t)n);
    else
        remove(path);
    free(text);
    mcs_arena_free(&a);
    return st;
}

/* Cache of the last four records read; an entry is valid while its file is unchanged. */
static struct {
    char path[MCS_PATH_BYTES];
    struct stat info;
    struct run_record record;
} cached[4];

int mcs_record_knows(const char *path, const char *hex)
{
    static int oldest;
    struct stat info;
    int k = 0;
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode)) return 0;
    while (k < 4 && strcmp(cached[k].path, path) != 0) k++;
    if (k == 4) k = oldest++ % 4;
    const struct stat *old = &cached[k].info;
    if (strcmp(cached[k].path, path) != 0 || old->st_ino != info.st_ino || old->st_size != info.st_size ||
        old->st_mtim.tv_sec != info.st_mtim.tv_sec || old->st_mtim.tv_nsec != info.st_mtim.tv_nsec) {
        mcs_record_free(&cached[k].record);
        *cached[k].path = '\0';
        if (mcs_record_read(path, &cached[k].record) != MCS_OK) {
            mcs_error_clear();
            return 0;
        }
        cached[k].info = info;
        if (!mcs_path_fits(cached[k].path, "%s", path)) return 0;
    }
    return json_object_get(cached[k].record.known, hex) != NULL;
}

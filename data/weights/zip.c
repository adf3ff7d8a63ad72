#include "data/weights/zip.h"

#include "engine/base/input.h"
#include "engine/base/memory.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
    END_BYTES = 22,
    LOCATOR_BYTES = 20,
    END64_BYTES = 56,
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    MAX_COMMENT = 65535
};
static const uint64_t MAX_DIRECTORY = (uint64_t)1 << 30;

/* Where the central directory lies. */
struct end {
    uint64_t n, n_bytes, at;
};

static uint64_t little(const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = n - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

/* zip64: the locator before the end record says where the larger end record is. */
static enum mcs_status read_end64(int fd, const char *path, int64_t end_at, struct end *end)
{
    uint8_t locator[LOCATOR_BYTES], record[END64_BYTES];
    MCS_REQUIRE(end_at >= LOCATOR_BYTES, MCS_E_DATA, "%s: damaged zip: no zip64 record", path);
    MCS_TRY(mcs_input_read(fd, path, locator, LOCATOR_BYTES, end_at - LOCATOR_BYTES));
    const uint64_t at = little(locator + 8, 8);
    MCS_REQUIRE(memcmp(locator, "PK\6\7", 4) == 0 && at <= (uint64_t)end_at && (uint64_t)end_at - at >= END64_BYTES,
                MCS_E_DATA, "%s: damaged zip: no zip64 record", path);
    MCS_TRY(mcs_input_read(fd, path, record, END64_BYTES, (int64_t)at));
    MCS_REQUIRE(memcmp(record, "PK\6\6", 4) == 0 && little(record + 16, 4) == 0 && little(record + 20, 4) == 0,
                MCS_E_DATA, "%s: damaged zip: its zip64 record", path);
    *end = (struct end){little(record + 32, 8), little(record + 40, 8), little(record + 48, 8)};
    return MCS_OK;
}

static enum mcs_status find_end(int fd, const char *path, int64_t n_bytes, struct end *end)
{
    enum mcs_status st = MCS_OK;
    const int64_t tail = n_bytes < END_BYTES + MAX_COMMENT ? n_bytes : END_BYTES + MAX_COMMENT, from = n_bytes - tail;
    uint8_t *bytes = malloc((size_t)tail + 1);
    int64_t i = tail - END_BYTES;
    MCS_REQUIRE(bytes, MCS_E_NOMEM, "%s: no memory to read it", path);
    MCS_TRY_GOTO(mcs_input_read(fd, path, bytes, tail, from), st, done);
    while (i >= 0 &&
           (memcmp(bytes + i, "PK\5\6", 4) != 0 || i + END_BYTES + (int64_t)little(bytes + i + 20, 2) != tail))
        i--;
    MCS_REQUIRE_GOTO(i >= 0, MCS_E_DATA, st, done,
                     "%s: truncated or damaged: a zip file without its directory at the end; download it again, and "
                     "compare its size with the publisher's",
                     path);
    const uint8_t *e = bytes + i;
    MCS_REQUIRE_GOTO((little(e + 4, 2) == 0 || little(e + 4, 2) == 0xffff) &&
                         (little(e + 6, 2) == 0 || little(e + 6, 2) == 0xffff),
                     MCS_E_DATA, st, done, "%s: a zip file on several disks", path);
    *end = (struct end){little(e + 10, 2), little(e + 12, 4), little(e + 16, 4)};
    if (end->n == 0xffff || end->n_bytes == 0xffffffff || end->at == 0xffffffff)
        MCS_TRY_GOTO(read_end64(fd, path, from + i, end), st, done);
    MCS_REQUIRE_GOTO(end->at <= (uint64_t)(from + i) && end->n_bytes <= (uint64_t)(from + i) - end->at &&
                         end->n_bytes <= MAX_DIRECTORY && end->n <= end->n_bytes / CENTRAL_BYTES,
                     MCS_E_DATA, st, done, "%s: damaged zip: its directory lies outside the file", path);
done:
    free(bytes);
    return st;
}

/* Replaces sizes of 0xffffffff by those of the zip64 field, which has only these, in this order. */
static int apply_zip64(const uint8_t *extra, int64_t n, uint64_t *size, uint64_t *stored, uint64_t *at)
{
    uint64_t *const values[] = {size, stored, at};
    for (int64_t i = 0; i + 4 <= n; i += 4 + (int64_t)little(extra + i + 2, 2)) {
        const int64_t length = (int64_t)little(extra + i + 2, 2);
        if (length > n - i - 4) return 0;
        if (little(extra + i, 2) != 1) continue;
        int64_t k = i + 4;
        for (int v = 0; v < 3; v++) {
            if (*values[v] != 0xffffffff) continue;
            if (k + 8 > i + 4 + length) return 0;
            *values[v] = little(extra + k, 8);
            k += 8;
        }
        return 1;
    }
    return *size != 0xffffffff && *stored != 0xffffffff && *at != 0xffffffff;
}

/* Parses one entry of the directory; `limit`: where the directory begins. `at` of the entry: its local header. */
static enum mcs_status parse_entry(const char *path, const uint8_t **p, const uint8_t *end, int64_t limit,
                                   struct arena *arena, struct zip_entry *entry)
{
    const uint8_t *c = *p;
    MCS_REQUIRE(end - c >= CENTRAL_BYTES && memcmp(c, "PK\1\2", 4) == 0, MCS_E_DATA, "%s: damaged zip: its directory",
                path);
    const int64_t name = (int64_t)little(c + 28, 2), extra = (int64_t)little(c + 30, 2),
                  comment = (int64_t)little(c + 32, 2);
    uint64_t stored = little(c + 20, 4), size = little(c + 24, 4), at = little(c + 42, 4);
    MCS_REQUIRE(end - c - CENTRAL_BYTES >= name + extra + comment, MCS_E_DATA, "%s: damaged zip: its directory", path);
    const char *text = (const char *)c + CENTRAL_BYTES;
    MCS_REQUIRE(name > 0 && name < 1024 && !memchr(text, 0, (size_t)name), MCS_E_DATA,
                "%s: damaged zip: a name of %lld bytes", path, (long long)name);
    entry->name = mcs_arena_printf(arena, "%.*s", (int)name, text);
    MCS_TRY(mcs_arena_status(arena));
    MCS_REQUIRE(!(little(c + 8, 2) & 0x2041), MCS_E_DATA, "%s: %.200s: encrypted", path, entry->name);
    entry->method = (int)little(c + 10, 2);
    MCS_REQUIRE(apply_zip64(c + CENTRAL_BYTES + name, extra, &size, &stored, &at) && (size == stored || entry->method),
                MCS_E_DATA, "%s: damaged zip: sizes of %.200s", path, entry->name);
    MCS_REQUIRE(at <= (uint64_t)limit && (uint64_t)limit - at >= (uint64_t)(LOCAL_BYTES + name) &&
                    stored <= (uint64_t)limit - at - (uint64_t)(LOCAL_BYTES + name),
                MCS_E_DATA, "%s: damaged zip: %.200s lies outside the file", path, entry->name);
    entry->at = (int64_t)at;
    entry->n_bytes = (int64_t)stored;
    entry->crc = (uint32_t)little(c + 16, 4);
    *p = c + CENTRAL_BYTES + name + extra + comment;
    return MCS_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct zip_entry *x = a, *y = b;
    return x->at != y->at ? (x->at < y->at ? -1 : 1) : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct zip_entry *)a)->name, ((const struct zip_entry *)b)->name);
}

/* Finds where each entry's contents begin, behind its local header, and that they do not overlap. */
static enum mcs_status find_contents(int fd, const char *path, int64_t limit, struct zip_directory *d)
{
    uint8_t head[LOCAL_BYTES + 1024];
    int64_t free_from = 0;
    qsort(d->entries, (size_t)d->n, sizeof *d->entries, by_place);
    for (int i = 0; i < d->n; i++) {
        struct zip_entry *e = &d->entries[i];
        const int64_t name = (int64_t)strlen(e->name);
        MCS_REQUIRE(e->at >= free_from, MCS_E_DATA, "%s: damaged zip: %.200s overlaps another entry", path, e->name);
        MCS_TRY(mcs_input_read(fd, path, head, LOCAL_BYTES + name, e->at));
        MCS_REQUIRE(memcmp(head, "PK\3\4", 4) == 0 && (int)little(head + 8, 2) == e->method &&
                        (int64_t)little(head + 26, 2) == name && memcmp(head + LOCAL_BYTES, e->name, (size_t)name) == 0,
                    MCS_E_DATA, "%s: damaged zip: %.200s differs from the directory", path, e->name);
        e->at += LOCAL_BYTES + name + (int64_t)little(head + 28, 2);
        MCS_REQUIRE(e->at <= limit && e->n_bytes <= limit - e->at, MCS_E_DATA,
                    "%s: damaged zip: %.200s lies outside the file", path, e->name);
        free_from = e->at + e->n_bytes;
    }
    qsort(d->entries, (size_t)d->n, sizeof *d->entries, by_name);
    for (int i = 1; i < d->n; i++)
        MCS_REQUIRE(by_name(&d->entries[i - 1], &d->entries[i]) != 0, MCS_E_DATA, "%s: damaged zip: %.200s twice", path,
                    d->entries[i].name);
    return MCS_OK;
}

enum mcs_status mcs_zip_read(int fd, const char *path, int64_t n_bytes, struct arena *arena, struct zip_directory *d)
{
    struct end end;
    enum mcs_status st = MCS_OK;
    *d = (struct zip_directory){0};
    MCS_TRY(find_end(fd, path, n_bytes, &end));
    MCS_REQUIRE(end.n < INT_MAX, MCS_E_DATA, "%s: damaged zip: too many entries", path);
    MCS_TRY(mcs_memory_check((int64_t)(end.n_bytes + end.n * (sizeof *d->entries + 64)), "%s: its directory", path));
    uint8_t *bytes = malloc(end.n_bytes + 1);
    MCS_REQUIRE(bytes, MCS_E_NOMEM, "%s: no memory for its directory", path);
    const uint8_t *p = bytes;
    d->entries = mcs_arena_alloc(arena, (end.n + 1) * sizeof *d->entries);
    MCS_REQUIRE_GOTO(d->entries, MCS_E_NOMEM, st, done, "%s: no memory for its directory", path);
    MCS_TRY_GOTO(mcs_input_read(fd, path, bytes, (int64_t)end.n_bytes, (int64_t)end.at), st, done);
    for (; d->n < (int)end.n; d->n++)
        MCS_TRY_GOTO(parse_entry(path, &p, bytes + end.n_bytes, (int64_t)end.at, arena, &d->entries[d->n]), st, done);
    MCS_TRY_GOTO(find_contents(fd, path, (int64_t)end.at, d), st, done);
done:
    free(bytes);
    return st;
}

const struct zip_entry *mcs_zip_find(const struct zip_directory *d, const char *name)
{
    const struct zip_entry key = {.name = name};
    return d->n ? bsearch(&key, d->entries, (size_t)d->n, sizeof key, by_name) : NULL;
}

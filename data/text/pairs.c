/* Tables of image-caption pairs; see the header for the rules. */
#include "data/text/pairs.h"

#include "data/image/media.h"
#include "data/io/file.h"
#include "data/text/unicode.h"
#include "engine/base/escape.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/base/path.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TABLE_BYTES = 1 << 30, MAX_STEM = 1024 };

/* Makes room for one more item after n, doubling the array when it is full. */
static enum mcs_status grow(void **items, int n, int *capacity, size_t item_bytes, const char *what)
{
    if (n < *capacity) return MCS_OK;
    MCS_REQUIRE(*capacity <= INT_MAX / 4, MCS_E_DATA, "%s: too many entries", what);
    int more = *capacity ? *capacity * 2 : 64;
    MCS_TRY(mcs_memory_check((int64_t)more * (int64_t)item_bytes, "%s: %d entries", what, more));
    void *larger = realloc(*items, (size_t)more * item_bytes);
    MCS_REQUIRE(larger, MCS_E_NOMEM, "%s: no memory for %d entries", what, more);
    *items = larger;
    *capacity = more;
    return MCS_OK;
}

static enum mcs_status copy_text(const char *text, char **copy)
{
    *copy = strdup(text);
    MCS_REQUIRE(*copy, MCS_E_NOMEM, "no memory for a text of %zu bytes", strlen(text));
    return MCS_OK;
}

/* Reads one field at *p, unquoted in place and ended by a NUL; *p moves past its terminator, which is returned in
 * *ended_by. */
static enum mcs_status read_field(const char *path, char **p, const char *end, char separator, int *line, char **field,
                                  char *ended_by)
{
    char *from = *p, *to = *p;
    int begin = *line;

    *field = from;
    if (from < end && *from == '"') {
        for (from++;; from++) {
            MCS_REQUIRE(from < end, MCS_E_DATA, "%s: the quote opened in line %d is never closed", path, begin);
            if (*from == '"' && (from + 1 == end || from[1] != '"')) break;
            if (*from == '"') from++;
            *line += *from == '\n' || (*from == '\r' && (from + 1 == end || from[1] != '\n'));
            *to++ = *from;
        }
        from++;
        MCS_REQUIRE(from == end || *from == separator || *from == '\n' || *from == '\r', MCS_E_DATA,
                    "%s: line %d: text after a closing quote; a quote inside a field is written twice", path, *line);
    } else {
        while (from < end && *from != separator && *from != '\n' && *from != '\r') from++;
        to = from;
    }
    *ended_by = from < end ? *from : '\n';
    if (from < end && *from == '\r') {
        *ended_by = '\n';
        if (from + 1 < end && from[1] == '\n') from++;
    }
    if (*ended_by == '\n') ++*line;
    *p = from < end ? from + 1 : from;
    *to = 0; /* overwrites the separator, a quote or the NUL after the file */
    return MCS_OK;
}

static enum mcs_status check_text(const char *path, const char *bytes, int64_t n_bytes)
{
    int line = 1;
    for (int64_t i = 0; i < n_bytes;) {
        uint32_t code;
        int n = mcs_utf8_read(bytes + i, n_bytes - i, &code);
        MCS_REQUIRE(n, MCS_E_DATA, "%s: line %d is not UTF-8 (byte 0x%02X); save the table as UTF-8", path, line,
                    (unsigned char)bytes[i]);
        MCS_REQUIRE(code, MCS_E_DATA, "%s: line %d holds a NUL byte; this is no text table", path, line);
        line += code == '\n';
        i += n;
    }
    return MCS_OK;
}

enum mcs_status mcs_csv_read(const char *path, char separator, struct csv_table *table)
{
    enum mcs_status st = MCS_OK;
    int64_t n_bytes;
    int line = 1, cell_capacity = 0, line_capacity = 0, n_cells = 0;

    memset(table, 0, sizeof *table);
    MCS_REQUIRE(separator > 0 && !strchr("\"\r\n", separator), MCS_E_USAGE,
                "a separator must be one ASCII character, neither a quote nor a line end");
    MCS_TRY_GOTO(mcs_file_read(path, TABLE_BYTES, &table->bytes, &n_bytes), st, fail);
    MCS_TRY_GOTO(check_text(path, table->bytes, n_bytes), st, fail);
    char *p = table->bytes, *end = p + n_bytes;
    if (n_bytes >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) p += 3;
    while (p < end) {
        int begin = line, n = 0;
        char ended_by = separator;
        if (*p == '\n' || *p == '\r') { /* an empty row */
            p += *p == '\r' && p + 1 < end && p[1] == '\n' ? 2 : 1;
            line++;
            continue;
        }
        for (; ended_by == separator; n++) {
            MCS_TRY_GOTO(grow((void **)&table->cells, n_cells, &cell_capacity, sizeof *table->cells, path), st, fail);
            MCS_TRY_GOTO(read_field(path, &p, end, separator, &line, &table->cells[n_cells], &ended_by), st, fail);
            n_cells++;
        }
        if (table->n_rows == 0) table->n_columns = n;
        MCS_REQUIRE_GOTO(n == table->n_columns, MCS_E_DATA, st, fail,
                         "%s: line %d has %d fields, the first line has %d; quote a field that holds '%c'", path, begin,
                         n, table->n_columns, separator);
        MCS_TRY_GOTO(grow((void **)&table->lines, table->n_rows, &line_capacity, sizeof *table->lines, path), st, fail);
        table->lines[table->n_rows++] = begin;
    }
    return MCS_OK;
fail:
    mcs_csv_free(table);
    return st;
}

void mcs_csv_free(struct csv_table *table)
{
    free(table->bytes);
    free(table->cells);
    free(table->lines);
    memset(table, 0, sizeof *table);
}

/* Cuts ASCII white space off both ends, in place. */
static char *trimmed(char *text)
{
    static const char blanks[] = " \t\r\n\v\f";
    text += strspn(text, blanks);
    size_t n = strlen(text);
    while (n && strchr(blanks, text[n - 1])) n--;
    text[n] = 0;
    return text;
}

/* Removes the apostrophe that mcs_csv_field puts before a cell that a spreadsheet would read as a formula. */
static char *without_guard(char *text)
{
    const char *first = text + strspn(text, "'");
    return text[0] == '\'' && *first && strchr("=+-@\t\r\n", *first) ? text + 1 : text;
}

int mcs_csv_column(const struct csv_table *table, const char *name)
{
    for (int c = 0; table->n_rows && c < table->n_columns; c++)
        if (strcmp(trimmed(table->cells[c]), name) == 0) return c;
    return -1;
}

const char *mcs_pair_fault_text(enum pair_fault fault)
{
    switch (fault) {
    case MCS_PAIR_NO_IMAGE: return "no such image";
    case MCS_PAIR_NO_NAME: return "a caption without an image";
    case MCS_PAIR_EMPTY_CAPTION: return "an image without a caption";
    case MCS_PAIR_SHORT_CAPTION: return "the caption is too short";
    case MCS_PAIR_NO_ROW: return "no row names this image";
    }
    return "";
}

static int count_codes(const char *text)
{
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static enum mcs_status leave_out(struct pairs *pairs, int *capacity, enum pair_fault fault, int line, const char *name)
{
    MCS_TRY(grow((void **)&pairs->left_out, pairs->n_left_out, capacity, sizeof *pairs->left_out, "left-out rows"));
    struct pair_left_out *l = &pairs->left_out[pairs->n_left_out];
    MCS_TRY(copy_text(name, &l->name));
    l->fault = fault;
    l->line = line;
    pairs->n_left_out++;
    return MCS_OK;
}

/* A stem and the item it belongs to, sorted, so that equal stems are adjacent. */
struct stem {
    const char *text;
    int item;
};

static int by_stem(const void *a, const void *b)
{
    const struct stem *x = a, *y = b;
    int order = strcmp(x->text, y->text);
    return order ? order : x->item - y->item;
}

/* Two images with one stem would write to one result: refused. Several rows for one image are allowed. */
static enum mcs_status check_stems(const char *csv_path, const struct pairs *pairs)
{
    enum mcs_status st = MCS_OK;
    struct stem *stems = malloc(((size_t)pairs->n + 1) * sizeof *stems);
    MCS_REQUIRE(stems, MCS_E_NOMEM, "%s: no memory for %d rows", csv_path, pairs->n);
    for (int i = 0; i < pairs->n; i++) stems[i] = (struct stem){pairs->v[i].stem, i};
    qsort(stems, (size_t)pairs->n, sizeof *stems, by_stem);
    for (int i = 1; i < pairs->n; i++) {
        const struct pair *x = &pairs->v[stems[i - 1].item], *y = &pairs->v[stems[i].item];
        MCS_REQUIRE_GOTO(strcmp(x->stem, y->stem) != 0 || strcmp(x->image, y->image) == 0, MCS_E_DATA, st, done,
                         "%s: %s and %s have the same stem; rename one of them", csv_path, x->image, y->image);
    }
done:
    free(stems);
    return st;
}

/* Lists the images of the folder that no row of the table names. */
static enum mcs_status find_rowless(const struct csv_table *table, int column, const char *folder, struct pairs *pairs,
                                    int *capacity)
{
    enum mcs_status st = MCS_OK;
    struct file_list files = {0};
    int n = table->n_rows - 1;
    char full[MCS_PATH_BYTES], **named = malloc(((size_t)n + 1) * sizeof *named);

    MCS_REQUIRE_GOTO(named, MCS_E_NOMEM, st, done, "%s: no memory for %d names", folder, n);
    MCS_TRY_GOTO(mcs_folder_list(folder, MCS_MEDIA_ENDINGS ";.npy", &files), st, done);
    for (int r = 0; r < n; r++) {
        char *name = table->cells[(r + 1) * table->n_columns + column];
        size_t prefix = strlen(folder);
        if (strncmp(name, folder, prefix) == 0 && name[prefix] == '/') name += prefix + 1; /* an absolute name */
        named[r] = name;
    }
    qsort(named, (size_t)n, sizeof *named, mcs_text_compare);
    for (int i = 0; i < files.n; i++) {
        if (bsearch(&files.names[i], named, (size_t)n, sizeof *named, mcs_text_compare)) continue;
        MCS_TRY_GOTO(mcs_path(full, "%s/%s", folder, files.names[i]), st, done);
        MCS_TRY_GOTO(leave_out(pairs, capacity, MCS_PAIR_NO_ROW, 0, full), st, done);
    }
done:
    mcs_file_list_free(&files);
    free(named);
    return st;
}

enum mcs_status mcs_pairs_read(const char *csv_path, const struct pairs_options *options, struct pairs *pairs)
{
    static const struct pairs_options defaults;
    const struct pairs_options *o = options ? options : &defaults;
    const char *image_name = o->image_column ? o->image_column : "filename";
    const char *caption_name = o->caption_column ? o->caption_column : "Caption", *slash = strrchr(csv_path, '/');
    enum mcs_status st = MCS_OK;
    struct csv_table table = {0};
    struct arena names = {0};
    char path[MCS_PATH_BYTES], stem[MAX_STEM];
    int capacity = 0, left_capacity = 0;

    memset(pairs, 0, sizeof *pairs);
    MCS_TRY(mcs_csv_read(csv_path, o->separator ? o->separator : ',', &table));
    int image = mcs_csv_column(&table, image_name), caption = mcs_csv_column(&table, caption_name);
    MCS_REQUIRE_GOTO(table.n_rows, MCS_E_DATA, st, done, "%s: the table is empty", csv_path);
    MCS_REQUIRE_GOTO(
        image >= 0 && caption >= 0, MCS_E_DATA, st, done,
        "%s: no column \"%s\" among %d, the first of which is \"%.60s\"; name the columns and the separator", csv_path,
        image < 0 ? image_name : caption_name, table.n_columns, table.cells[0]);
    for (int r = 1; r < table.n_rows; r++) {
        char *name = mcs_text_decode(&names, without_guard(trimmed(table.cells[r * table.n_columns + image])));
        char *text = without_guard(trimmed(table.cells[r * table.n_columns + caption]));
        int line = table.lines[r], fits;
        while (strncmp(name, "./", 2) == 0) name += 2;
        table.cells[r * table.n_columns + image] = name;
        if (name[0] == '/' || (!o->image_folder && !slash))
            fits = mcs_path_fits(path, "%s", name);
        else if (o->image_folder)
            fits = mcs_path_fits(path, "%s/%s", o->image_folder, name);
        else
            fits = mcs_path_fits(path, "%.*s/%s", (int)(slash - csv_path), csv_path, name);
        int found = name[0] && fits && mcs_file_exists(path) && !mcs_folder_exists(path);
        if (!found || !text[0] || count_codes(text) < o->min_codes) {
            enum pair_fault fault = !name[0]   ? MCS_PAIR_NO_NAME
                                    : !found   ? MCS_PAIR_NO_IMAGE
                                    : !text[0] ? MCS_PAIR_EMPTY_CAPTION
                                               : MCS_PAIR_SHORT_CAPTION;
            MCS_TRY_GOTO(leave_out(pairs, &left_capacity, fault, line, fits && name[0] ? path : name), st, done);
            continue;
        }
        mcs_file_stem(path, stem, sizeof stem);
        MCS_TRY_GOTO(grow((void **)&pairs->v, pairs->n, &capacity, sizeof *pairs->v, csv_path), st, done);
        struct pair *p = &pairs->v[pairs->n];
        memset(p, 0, sizeof *p);
        pairs->n++; /* before the copies, so that a failure frees the ones made */
        MCS_TRY_GOTO(copy_text(path, &p->image), st, done);
        MCS_TRY_GOTO(copy_text(text, &p->caption), st, done);
        MCS_TRY_GOTO(copy_text(stem, &p->stem), st, done);
    }
    if (o->image_folder) MCS_TRY_GOTO(find_rowless(&table, image, o->image_folder, pairs, &left_capacity), st, done);
    MCS_TRY_GOTO(mcs_arena_status(&names), st, done);
    MCS_REQUIRE_GOTO(pairs->n, MCS_E_DATA, st, done, "%s: no row can be used%s%s%s%s", csv_path,
                     pairs->n_left_out ? "; the first: " : "", pairs->n_left_out ? pairs->left_out[0].name : "",
                     pairs->n_left_out ? ": " : "",
                     pairs->n_left_out ? mcs_pair_fault_text(pairs->left_out[0].fault) : "");
    MCS_TRY_GOTO(check_stems(csv_path, pairs), st, done);
done:
    mcs_csv_free(&table);
    mcs_arena_free(&names);
    if (st != MCS_OK) mcs_pairs_free(pairs);
    return st;
}

void mcs_pairs_free(struct pairs *pairs)
{
    for (int i = 0; i < pairs->n; i++) {
        free(pairs->v[i].image);
        free(pairs->v[i].caption);
        free(pairs->v[i].stem);
    }
    for (int i = 0; i < pairs->n_left_out; i++) free(pairs->left_out[i].name);
    free(pairs->v);
    free(pairs->left_out);
    memset(pairs, 0, sizeof *pairs);
}

void mcs_pairs_report(const struct pairs *p, const char *csv_path)
{
    enum { SHOWN = 10 };
    for (int i = 0; i < p->n_left_out && i < SHOWN; i++)
        mcs_warn("%s:%d: %s left out: %s", csv_path, p->left_out[i].line, p->left_out[i].name,
                 mcs_pair_fault_text(p->left_out[i].fault));
    if (p->n_left_out > SHOWN) mcs_warn("%s: %d more rows or images left out", csv_path, p->n_left_out - SHOWN);
}

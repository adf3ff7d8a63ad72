/* Tables of image-caption pairs; see the header for the rules. */
#include "data/text/pairs.h"

#include "data/image/media.h"
#include "data/io/file.h"
#include "engine/base/escape.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/base/path.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STEM = 1024 };

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

/* The columns' names in quotes, for a message; long lists are cut. */
static const char *column_names(const struct csv_table *table, char *text, size_t n_bytes)
{
    size_t at = 0;
    *text = 0;
    for (int c = 0; c < table->n_columns && at + 80 < n_bytes; c++)
        at += (size_t)snprintf(text + at, n_bytes - at, "%s\"%.60s\"", c ? ", " : "", table->cells[c]);
    return text;
}

static enum mcs_status check_columns(const char *csv_path, const struct csv_table *table, const char *image_name,
                                     int image, const char *caption_name, int caption)
{
    char names[1024];
    const int none = image < 0;
    MCS_REQUIRE(image >= 0 && caption >= 0, MCS_E_DATA,
                "%s: no column \"%s\"; it has %d: %s; name the right one by %s%s", csv_path,
                none ? image_name : caption_name, table->n_columns, column_names(table, names, sizeof names),
                none ? "--image-column" : "--caption-column",
                table->n_columns == 1 ? ", or the character between columns by --separator" : "");
    return MCS_OK;
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
    MCS_TRY(mcs_csv_read(csv_path, o->separator, &table));
    int image = mcs_csv_column(&table, image_name), caption = mcs_csv_column(&table, caption_name);
    MCS_REQUIRE_GOTO(table.n_rows, MCS_E_DATA, st, done, "%s: the table is empty", csv_path);
    MCS_TRY_GOTO(check_columns(csv_path, &table, image_name, image, caption_name, caption), st, done);
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

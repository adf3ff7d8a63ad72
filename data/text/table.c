/* Tables of text: separators, encodings, rows. */
#include "data/io/file.h"
#include "data/text/pairs.h"
#include "data/text/unicode.h"
#include "engine/base/memory.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { TABLE_BYTES = 1 << 30 };

enum mcs_status mcs_csv_separator(const char *text, char *separator)
{
    *separator = 0;
    if (!text) return MCS_OK;
    if (!strcmp(text, "\\t") || !strcasecmp(text, "tab"))
        *separator = '\t';
    else if (text[0] && !text[1] && strchr(",;\t", text[0]))
        *separator = text[0];
    MCS_REQUIRE(*separator, MCS_E_USAGE,
                "--separator %s: want , or ; or tab (also \\t); without the option the header decides", text);
    return MCS_OK;
}

/* ---- encodings ---- */

/* A code point of UTF-16 at unit i of n; *i moves past it. */
static enum mcs_status read_utf16(const char *path, const uint8_t *bytes, int big, int64_t n, int64_t *i,
                                  uint32_t *code)
{
    uint32_t unit[2] = {0, 0};
    for (int k = 0; k < 2 && *i + k < n; k++)
        unit[k] = (uint32_t)bytes[2 * (*i + k) + !big] << 8 | bytes[2 * (*i + k) + big];
    *code = unit[0];
    const int64_t at = (*i)++;
    if (unit[0] < 0xD800 || unit[0] > 0xDFFF) return MCS_OK;
    MCS_REQUIRE(unit[0] < 0xDC00 && unit[1] >= 0xDC00 && unit[1] <= 0xDFFF, MCS_E_DATA,
                "%s: damaged UTF-16 at byte %lld; save the table as UTF-8", path, (long long)(2 * at + 2));
    *code = 0x10000 + ((unit[0] - 0xD800) << 10) + (unit[1] - 0xDC00);
    ++*i;
    return MCS_OK;
}

/* Text that begins with a byte order mark of UTF-16 becomes UTF-8; other text is not changed. */
static enum mcs_status from_utf16(const char *path, char **bytes, int64_t *n_bytes)
{
    const uint8_t *from = (const uint8_t *)*bytes;
    const int little = *n_bytes >= 2 && from[0] == 0xFF && from[1] == 0xFE,
              big = *n_bytes >= 2 && from[0] == 0xFE && from[1] == 0xFF;
    if (!little && !big) return MCS_OK;
    MCS_REQUIRE(*n_bytes % 2 == 0, MCS_E_DATA, "%s: UTF-16 of an odd number of bytes: truncated", path);
    const int64_t n = *n_bytes / 2 - 1;
    MCS_TRY(mcs_memory_check(3 * n, "%s: %lld characters", path, (long long)n));
    char *text = malloc((size_t)(3 * n) + 1);
    MCS_REQUIRE(text, MCS_E_NOMEM, "%s: no memory for %lld characters", path, (long long)n);
    int64_t to = 0;
    for (int64_t i = 0; i < n;) {
        uint32_t code;
        const enum mcs_status st = read_utf16(path, from + 2, big, n, &i, &code);
        if (st != MCS_OK) {
            free(text);
            return st;
        }
        to += mcs_utf8_write(code, text + to);
    }
    text[to] = 0;
    free(*bytes);
    *bytes = text;
    *n_bytes = to;
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

/* ---- separators ---- */

/* A first line such as "sep=;" (Excel's) is no row: it says the separator unless the caller does. */
static char *separator_line(char *p, const char *end, char *separator, int *line)
{
    if (end - p < 6 || memcmp(p, "sep=", 4) != 0 || !strchr(",;\t", p[4]) || (p[5] != '\n' && p[5] != '\r')) return p;
    if (!*separator) *separator = p[4];
    ++*line;
    return p + (p[5] == '\r' && end - p > 6 && p[6] == '\n' ? 7 : 6);
}

/* The most frequent of tab, semicolon and comma in the first row outside of quotes; comma where there is none. */
static char guess_separator(const char *p, const char *end)
{
    static const char known[] = "\t;,";
    int counts[3] = {0}, quoted = 0, best = 2;
    while (p < end && (*p == '\n' || *p == '\r')) p++;
    for (; p < end && (quoted || (*p != '\n' && *p != '\r')); p++) {
        quoted ^= *p == '"';
        const char *which = quoted || !*p ? NULL : strchr(known, *p);
        if (which) counts[which - known]++;
    }
    for (int i = 0; i < 3; i++)
        if (counts[i] > counts[best]) best = i;
    return known[best];
}

/* ---- rows ---- */

/* Makes room for one more item after n, doubling the array when it is full. */
static enum mcs_status grow(void **items, int n, int *capacity, size_t item_bytes, const char *what)
{
    if (n < *capacity) return MCS_OK;
    MCS_REQUIRE(*capacity <= INT_MAX / 4, MCS_E_DATA, "%s: too many entries", what);
    const int more = *capacity ? *capacity * 2 : 64;
    MCS_TRY(mcs_memory_check((int64_t)more * (int64_t)item_bytes, "%s: %d entries", what, more));
    void *larger = realloc(*items, (size_t)more * item_bytes);
    MCS_REQUIRE(larger, MCS_E_NOMEM, "%s: no memory for %d entries", what, more);
    *items = larger;
    *capacity = more;
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

enum mcs_status mcs_csv_read(const char *path, char separator, struct csv_table *table)
{
    enum mcs_status st = MCS_OK;
    int64_t n_bytes;
    int line = 1, cell_capacity = 0, line_capacity = 0, n_cells = 0;

    memset(table, 0, sizeof *table);
    MCS_REQUIRE(separator >= 0 && (!separator || !strchr("\"\r\n", separator)), MCS_E_USAGE,
                "a separator must be one ASCII character, neither a quote nor a line end");
    MCS_TRY_GOTO(mcs_file_read(path, TABLE_BYTES, &table->bytes, &n_bytes), st, fail);
    MCS_TRY_GOTO(from_utf16(path, &table->bytes, &n_bytes), st, fail);
    MCS_TRY_GOTO(check_text(path, table->bytes, n_bytes), st, fail);
    char *p = table->bytes, *end = p + n_bytes;
    if (n_bytes >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) p += 3;
    p = separator_line(p, end, &separator, &line);
    if (!separator) separator = guess_separator(p, end);
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

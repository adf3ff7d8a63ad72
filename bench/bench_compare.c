/* `bench compare A B`: matches the rows of two results by model, op, what, pass and shape; prints the ratio of their
 * medians. */
#include "bench/bench.h"
#include "data/io/file.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 64 << 20, MOST_COLUMNS = 32, KEYS = 5 };
static const char *const keys[KEYS] = {"model", "op", "what", "pass", "shape"};

struct entry {
    char key[KEYS][64];
    double median;
    int matched;
};
struct table {
    struct entry *row;
    int n;
};

static enum mcs_status add(struct table *t, const char *const key[KEYS], double median, const char *path, int line)
{
    MCS_REQUIRE(median > 0 && isfinite(median), MCS_E_DATA, "%s:%d: a median of %g s; want a positive number", path,
                line, median);
    if ((t->n & (t->n - 1)) == 0) { /* capacity doubles */
        struct entry *more = realloc(t->row, (size_t)(t->n ? 2 * t->n : 1) * sizeof *more);
        MCS_REQUIRE(more, MCS_E_NOMEM, "%s: no memory for its rows", path);
        t->row = more;
    }
    struct entry *e = &t->row[t->n++];
    *e = (struct entry){.median = median};
    for (int i = 0; i < KEYS; i++) snprintf(e->key[i], sizeof e->key[i], "%s", key[i]);
    return MCS_OK;
}

/* Splits a line of CSV in place; a field may be in double quotes (this program writes no quotes inside). Returns the
 * number of fields. */
static int cut(char *line, char *field[MOST_COLUMNS])
{
    int n = 0;
    while (n < MOST_COLUMNS) {
        const int quoted = *line == '"';
        field[n++] = line += quoted;
        line += strcspn(line, quoted ? "\"" : ",");
        if (quoted && *line) *line++ = '\0';
        if (*line != ',') break;
        *line++ = '\0';
    }
    return n;
}

static int column(char *const *field, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(field[i], name) == 0) return i;
    return -1;
}

static enum mcs_status read_csv(const char *path, char *text, struct table *t)
{
    int at[KEYS], median = -1, n_columns = 0, line_number = 0;
    char *save = NULL;
    for (char *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
        char *field[MOST_COLUMNS], *end;
        const char *key[KEYS];
        const int n = cut(line, field);
        if (line_number++ == 0) {
            n_columns = n;
            median = column(field, n, "median_s");
            MCS_REQUIRE(median >= 0, MCS_E_DATA, "%s: no column median_s: not a result of mcsam bench", path);
            for (int i = 0; i < KEYS; i++) {
                at[i] = column(field, n, keys[i]);
                MCS_REQUIRE(at[i] >= 0, MCS_E_DATA, "%s: no column %s: not a result of mcsam bench", path, keys[i]);
            }
            continue;
        }
        MCS_REQUIRE(n == n_columns, MCS_E_DATA, "%s:%d: %d columns, the first line has %d", path, line_number, n,
                    n_columns);
        for (int i = 0; i < KEYS; i++) key[i] = field[at[i]];
        const double v = strtod(field[median], &end);
        MCS_REQUIRE(end != field[median] && !*end, MCS_E_DATA, "%s:%d: '%s' is no time", path, line_number,
                    field[median]);
        MCS_TRY(add(t, key, v, path, line_number));
    }
    return MCS_OK;
}

static enum mcs_status read_jsonl(const char *path, char *text, struct table *t)
{
    int line_number = 0;
    char *save = NULL;
    for (char *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
        json_error_t error;
        const char *key[KEYS];
        json_t *o = json_loads(line, 0, &error);
        line_number++;
        const json_t *median = json_object_get(o, "median_s");
        enum mcs_status st = MCS_OK;
        if (!json_is_object(o)) st = MCS_FAIL(MCS_E_DATA, "%s:%d: no JSON object", path, line_number);
        for (int i = 0; i < KEYS; i++) key[i] = json_string_value(json_object_get(o, keys[i]));
        if (median) { /* else it is the line about the machine */
            for (int i = 0; i < KEYS && st == MCS_OK; i++)
                if (!key[i]) st = MCS_FAIL(MCS_E_DATA, "%s:%d: no text \"%s\"", path, line_number, keys[i]);
            if (st == MCS_OK) st = add(t, key, json_number_value(median), path, line_number);
        }
        json_decref(o);
        MCS_TRY(st);
    }
    return MCS_OK;
}

static enum mcs_status read_table(const char *path, struct table *t)
{
    char *text;
    int64_t n;
    MCS_TRY(mcs_file_read(path, MOST_BYTES, &text, &n));
    const enum mcs_status st = text[0] == '{' ? read_jsonl(path, text, t) : read_csv(path, text, t);
    free(text);
    MCS_TRY(st);
    MCS_REQUIRE(t->n, MCS_E_DATA, "%s: no rows", path);
    return MCS_OK;
}

static struct entry *partner(const struct table *t, const struct entry *of)
{
    for (int i = 0; i < t->n; i++)
        if (!t->row[i].matched && memcmp(t->row[i].key, of->key, sizeof of->key) == 0) return &t->row[i];
    return NULL;
}

static enum mcs_status percent_of(const char *text, double *v)
{
    char *end;
    *v = strtod(text, &end);
    MCS_REQUIRE(end != text && (!*end || strcmp(end, "%") == 0) && *v >= 0 && *v <= 1e6, MCS_E_USAGE,
                "--fail-above: '%s' is no percentage such as 5%%", text);
    return MCS_OK;
}

static enum mcs_status report(const char *name_a, const char *name_b, struct table *a, struct table *b, double bound,
                              int json)
{
    int n_both = 0, n_slower = 0, n_alone = 0;
    double log_sum = 0;
    if (!json)
        printf("| model | op | what | pass | shape | A ms | B ms | B / A |\n|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < a->n; i++) {
        struct entry *x = &a->row[i], *y = partner(b, x);
        if (!y) continue;
        x->matched = y->matched = 1;
        const double ratio = y->median / x->median;
        const int slower = ratio > 1 + bound / 100;
        n_both++, n_slower += slower, log_sum += log(ratio);
        if (json)
            printf(
                "{\"model\": \"%s\", \"op\": \"%s\", \"what\": \"%s\", \"pass\": \"%s\", \"shape\": \"%s\", \"a_s\": "
                "%.6g, \"b_s\": %.6g, \"ratio\": %.4f, \"slower\": %s}\n",
                x->key[0], x->key[1], x->key[2], x->key[3], x->key[4], x->median, y->median, ratio,
                slower ? "true" : "false");
        else
            printf("| %s | %s | %s | %s | %s | %.3f | %.3f | %.3f%s |\n", x->key[0], x->key[1], x->key[2], x->key[3],
                   x->key[4], x->median * 1e3, y->median * 1e3, ratio, slower ? " SLOWER" : "");
    }
    for (int which = 0; which < 2; which++) {
        const struct table *t = which ? b : a;
        for (int i = 0; i < t->n; i++) {
            const struct entry *x = &t->row[i];
            if (x->matched) continue;
            n_alone++;
            if (!json)
                printf("only in %s: %s, %s, %s, %s, %s\n", which ? name_b : name_a, x->key[0], x->key[1], x->key[2],
                       x->key[3], x->key[4]);
        }
    }
    MCS_REQUIRE(n_both, MCS_E_DATA, "%s and %s have no row in common", name_a, name_b);
    const double mean = exp(log_sum / n_both);
    if (json)
        printf("{\"rows\": %d, \"alone\": %d, \"slower\": %d, \"mean_ratio\": %.4f}\n", n_both, n_alone, n_slower,
               mean);
    else
        printf("\n%d rows in both, %d in one alone; geometric mean of B / A: %.3f\n", n_both, n_alone, mean);
    MCS_REQUIRE(!n_slower, MCS_E_FAIL, "%d of %d rows are more than %g %% slower in %s", n_slower, n_both, bound,
                name_b);
    return MCS_OK;
}

enum mcs_status mcs_bench_compare(const char *name_a, const char *name_b, const struct bench_options *o)
{
    struct table a = {0}, b = {0};
    double bound;
    MCS_TRY(percent_of(o->fail_above, &bound));
    enum mcs_status st = read_table(name_a, &a);
    if (st == MCS_OK) st = read_table(name_b, &b);
    if (st == MCS_OK) st = report(name_a, name_b, &a, &b, bound, o->common.json);
    free(a.row);
    free(b.row);
    return st;
}

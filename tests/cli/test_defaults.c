/* The defaults in docs/cli.md are those of the program. In each verb's section a table "| option | default | |" lists
 * options and their defaults in the same order; both are compared with the defaults that `mcsam VERB --help` prints in
 * brackets. The table of coarse, which has a column for each form, is compared with mcs_coarse_defaults. */
#include "infer/coarse/coarse.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 160, MAX_NAME = 64, MAX_LINE = 4096, MAX_IN_ROW = 16 };

struct known {
    char name[MAX_NAME], def[MAX_NAME], letter;
    int documented;
};
static struct known known[MAX_OPTIONS];
static int n_known, n_of_the_verb; /* the verb's options precede the common ones */

/* "[0.5]" at the end of an option's help, or before "; also --NAME", is its default. */
static void read_default(const char *help, char *def)
{
    const char *end = strstr(help, "; also --"), *from, *to;
    if (!end) end = help + strlen(help);
    def[0] = '\0';
    if (end == help || end[-1] != ']') return;
    to = from = end - 1;
    while (from > help && *from != '[') from--;
    snprintf(def, MAX_NAME, "%.*s", (int)(to - from - 1), from + 1);
}

static void end_of_option(const char *help, struct known *k)
{
    if (n_known && help[0]) read_default(help, k->def);
}

/* Fills `known` from the help of a verb. */
static void read_help(const char *verb)
{
    static char help[MAX_LINE];
    char line[128];
    int common = 0;
    snprintf(line, sizeof line, "mcsam %s --help", verb);
    cr_assert_eq(shell(line), 0, "%s", line);
    n_known = n_of_the_verb = 0;
    help[0] = '\0';
    for (char *at = shell_output, *next; at && *at; at = next) {
        next = strchr(at, '\n');
        if (next) *next++ = '\0';
        const size_t indent = strspn(at, " ");
        const char *name = strstr(at, "--");
        if (!strcmp(at, "For every verb:")) common = 1;
        if (indent >= 2 && indent <= 6 && at[indent] == '-' && name) {
            end_of_option(help, &known[n_known ? n_known - 1 : 0]);
            cr_assert_lt(n_known, MAX_OPTIONS);
            struct known *k = &known[n_known++];
            *k = (struct known){.letter = at[indent + 1] == '-' ? 0 : at[indent + 1]};
            snprintf(k->name, sizeof k->name, "%.*s", (int)strcspn(name + 2, " "), name + 2);
            if (!common) n_of_the_verb = n_known;
            snprintf(help, sizeof help, "%.*s", (int)sizeof help - 1, at);
        } else if (indent >= 10) {
            const size_t n = strlen(help);
            snprintf(help + n, sizeof help - n, " %s", at + indent);
        } else {
            end_of_option(help, &known[n_known ? n_known - 1 : 0]);
            help[0] = '\0';
        }
    }
}

static struct known *find(const char *name, char letter)
{
    for (int i = 0; i < n_known; i++)
        if (name ? !strcmp(known[i].name, name) : known[i].letter == letter) return &known[i];
    return NULL;
}

/* The options of a table's first cell: each `...` with a long name, or with only a short one. */
static int read_options(const char *cell, struct known **row, const char *where)
{
    char tick[MAX_LINE];
    int n = 0;
    for (const char *at = strchr(cell, '`'); at; at = strchr(at, '`')) {
        const char *end = strchr(at + 1, '`');
        cr_assert(end, "%s", where);
        snprintf(tick, sizeof tick, "%.*s", (int)(end - at - 1), at + 1);
        at = end + 1;
        char *dashes = strstr(tick, "--");
        if (!dashes && tick[0] != '-') continue; /* words that are no options */
        if (!dashes) {
            row[n] = find(NULL, tick[1]);
            cr_assert(row[n], "%s: there is no option -%c", where, tick[1]);
            n++;
        }
        for (; dashes; dashes = strstr(dashes, "--")) {
            dashes += 2;
            const size_t length = strcspn(dashes, " ,");
            const char after = dashes[length];
            dashes[length] = '\0';
            row[n] = find(dashes, 0);
            cr_assert(row[n], "%s: there is no option --%s", where, dashes);
            n++;
            dashes[length] = after;
        }
        cr_assert_lt(n, MAX_IN_ROW);
    }
    return n;
}

/* `a`, none, `b` of the second cell. */
static int read_defaults(const char *cell, char def[MAX_IN_ROW][MAX_NAME], const char *where)
{
    int n = 0;
    while (*(cell += strspn(cell, " ,"))) {
        cr_assert_lt(n, MAX_IN_ROW, "%s", where);
        if (*cell == '`') {
            const size_t length = strcspn(cell + 1, "`");
            snprintf(def[n++], MAX_NAME, "%.*s", (int)length, cell + 1);
            cell += length + 2;
        } else {
            const size_t length = strcspn(cell, " ,");
            cr_assert(length == 4 && !strncmp(cell, "none", 4), "%s: '%s' is no default", where, cell);
            def[n++][0] = '\0';
            cell += length;
        }
    }
    return n;
}

/* Cells of a table's row; in place. */
static int split_row(char *line, char *cells[8])
{
    int n = 0;
    for (char *at = line + 1, *bar; n < 8 && (bar = strchr(at, '|')); at = bar + 1) {
        *bar = '\0';
        cells[n++] = at;
    }
    return n;
}

static void check_row(const char *section, char *line)
{
    char def[MAX_IN_ROW][MAX_NAME], *cells[8], where[256];
    struct known *row[MAX_IN_ROW];
    snprintf(where, sizeof where, "docs/cli.md, %s: %.80s", section, line);
    cr_assert_eq(split_row(line, cells), 3, "%s", where);
    const int n = read_options(cells[0], row, where), n_def = read_defaults(cells[1], def, where);
    cr_expect(n_def == 0 || n_def == n, "%s: %d options, %d defaults", where, n, n_def);
    for (int i = 0; i < n; i++) {
        const char *want = n_def == n ? def[i] : "";
        cr_expect_str_eq(row[i]->def, want, "%s: --%s is '%s' in the program, '%s' in the table", where, row[i]->name,
                         row[i]->def, want);
        row[i]->documented = 1;
    }
}

static void setup(void)
{
    shell_open(MCS_BINARY, "");
}
TestSuite(defaults, .init = setup, .fini = shell_close, .timeout = 60);

/* Calls `row` for each row of each table with this header, in every section. */
static int each_table(const char *header, void (*begin)(const char *section),
                      void (*row)(const char *section, char *line), void (*end)(const char *section))
{
    FILE *f = fopen(MCS_SOURCE_DIR "/docs/cli.md", "r");
    static char line[MAX_LINE], section[128];
    int in_table = 0, n = 0;
    cr_assert(f, "no docs/cli.md");
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        if (!strncmp(line, "## ", 3)) snprintf(section, sizeof section, "%.*s", (int)sizeof section - 1, line + 3);
        if (!strcmp(line, header)) {
            in_table = 1;
            begin(section);
        } else if (in_table && line[0] != '|') {
            in_table = 0;
            end(section);
            n++;
        } else if (in_table && strncmp(line, "|---", 4) != 0) {
            row(section, line);
        }
    }
    fclose(f);
    return n;
}

static int is_common(const char *section)
{
    return !strcmp(section, "For every verb");
}

static void begin_table(const char *section)
{
    read_help(is_common(section) ? "devices" : section);
}

/* A default that is in no table is undocumented. */
static void end_table(const char *section)
{
    const int from = is_common(section) ? n_of_the_verb : 0, to = is_common(section) ? n_known : n_of_the_verb;
    cr_expect(to > from);
    for (int i = from; i < to; i++)
        cr_expect(known[i].documented || !known[i].def[0], "docs/cli.md, %s: --%s, default %s, is missing", section,
                  known[i].name, known[i].def);
}

Test(defaults, of_the_tables_are_those_of_the_program)
{
    const int n = each_table("| option | default | |", begin_table, check_row, end_table);
    cr_expect(n >= 16, "only %d tables", n);
}

/* Every verb with defaults besides the common options has such a table, except the demo, whose defaults are in
 * configs/demo.yaml. */
Test(defaults, every_verb_has_a_table)
{
    char verbs[64][32];
    int n_verbs = 0;
    cr_assert_eq(shell("mcsam --help"), 0);
    for (char *at = shell_output, *next; at && *at; at = next) {
        next = strchr(at, '\n');
        if (next) *next++ = '\0';
        if (strncmp(at, "  ", 2) != 0 || at[2] == ' ' || sscanf(at, "  %31[a-z-]", verbs[n_verbs]) != 1) continue;
        n_verbs++;
        cr_assert_lt(n_verbs, 64);
    }
    cr_assert(n_verbs > 10, "%d verbs", n_verbs);
    for (int i = 0; i < n_verbs; i++) {
        char line[256];
        int n_defaults = 0;
        read_help(verbs[i]);
        for (int k = 0; k < n_of_the_verb; k++) n_defaults += known[k].def[0] != 0;
        if (!n_defaults || !strncmp(verbs[i], "demo", 4)) continue;
        snprintf(line, sizeof line,
                 "sed -n '/^## %s$/,/^## /p' %s/docs/cli.md | grep -cE '^. option . (default|paper) '", verbs[i],
                 MCS_SOURCE_DIR);
        cr_expect_eq(shell(line), 0, "docs/cli.md, %s: no table of options", verbs[i]);
    }
}

/* ---- coarse ---- */

static const char *const thresholds[] = {"otsu", "kmeans"}, *const ranks[] = {"confidence", "area", "text", "both"};

/* The default of one option in a form, as written in the table. */
static const char *coarse_default(const char *option, enum mcs_form form)
{
    static char text[MAX_NAME];
    const struct coarse_options o = mcs_coarse_defaults(form);
    double number = -1;
    if (!strcmp(option, "threshold")) return thresholds[o.threshold];
    if (!strcmp(option, "rank")) return ranks[o.rank];
    if (!strcmp(option, "window")) return "auto";
    if (!strcmp(option, "boxes")) return o.merge_boxes ? "merged" : "each";
    if (!strcmp(option, "keep")) number = o.keep;
    if (!strcmp(option, "min-confidence")) number = (double)o.min_confidence;
    if (!strcmp(option, "min-area")) number = o.min_area;
    if (!strcmp(option, "grow")) number = o.grow_px;
    if (!strcmp(option, "points")) number = o.n_points;
    if (!strcmp(option, "negative-points")) number = o.n_negative;
    if (number < 0) return "";
    snprintf(text, sizeof text, "%g", number);
    return text;
}

/* Words and numbers of a cell, without code marks. */
static int read_words(const char *cell, char word[MAX_IN_ROW][MAX_NAME])
{
    int n = 0;
    while (*(cell += strspn(cell, " ,`"))) {
        const size_t length = strcspn(cell, " ,`");
        snprintf(word[n++], MAX_NAME, "%.*s", (int)length, cell);
        cell += length;
    }
    return n;
}

static void check_coarse_row(const char *section, char *line)
{
    char word[MAX_IN_ROW][MAX_NAME], *cells[8], where[256];
    struct known *row[MAX_IN_ROW];
    snprintf(where, sizeof where, "docs/cli.md, %s: %.80s", section, line);
    cr_assert_eq(split_row(line, cells), 4, "%s", where);
    const int n = read_options(cells[0], row, where);
    for (int form = 0; form < 2; form++) {
        const int n_words = read_words(cells[1 + form], word);
        cr_expect(n_words == 0 || n_words == n, "%s: %d options, %d defaults", where, n, n_words);
        for (int i = 0; i < n; i++) {
            const char *want = coarse_default(row[i]->name, form ? MCS_RELEASE : MCS_PAPER);
            cr_expect_str_eq(n_words == n ? word[i] : "", want, "%s: --%s is '%s'", where, row[i]->name, want);
            /* a default in the option table must hold in both forms, or be -1, which means the form's default */
            cr_expect(!row[i]->def[0] || !strcmp(row[i]->def, "-1") || !strcmp(row[i]->def, want),
                      "%s: --%s: help says %s", where, row[i]->name, row[i]->def);
            row[i]->documented = 1;
        }
    }
}

Test(defaults, of_coarse_by_form)
{
    cr_expect_eq(each_table("| option | paper | release | |", begin_table, check_coarse_row, end_table), 1);
}

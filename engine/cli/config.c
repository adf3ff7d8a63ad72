#include "engine/cli/config.h"

#include "engine/base/escape.h"
#include "engine/base/input.h"
#include "engine/base/memory.h"
#include "engine/base/newfile.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

extern char **environ;

enum {
    NAME_MAX_BYTES = 64,
    YAML_MAX_BYTES = 1 << 20,
    YAML_MAX_DEPTH = 4,    /* nesting of mappings that keys can use */
    YAML_MAX_NESTING = 16, /* nesting of lists and mappings that is read at all */
    YAML_MAX_NODES = 1 << 14,
    YAML_MAX_DIRECTIVES = 8, /* lines that begin with %: libyaml compares each with all others, quadratic time */
    HELP_COLUMN = 32,
    HELP_WIDTH = 110
};
enum source { FROM_NOWHERE, FROM_DEFAULT, FROM_FILE, FROM_ENVIRONMENT, FROM_COMMAND_LINE };

static const struct mcs_option common_table[] = {
    {"config", 0, MCS_FIELD(mcs_common, config), .value = "FILE", .help = "read options from a YAML file"},
    {"device", 0, MCS_FIELD(mcs_common, device.kind), .def = "cpu", .choices = "cpu|cuda|cudasim",
     .help = "where to compute"},
    {"gpu", 0, MCS_FIELD(mcs_common, device.gpu), .def = "0", .lo = 0, .hi = 1023, .value = "N",
     .help = "which GPU, counted from 0"},
    {"threads", 0, MCS_FIELD(mcs_common, device.threads), .def = "0", .lo = 0, .hi = 4096, .value = "N",
     .help = "threads of the CPU; 0: as many as it has"},
    {"seed", 0, MCS_FIELD(mcs_common, seed), .def = "1", .lo = 0, .hi = 9e18, .value = "N",
     .help = "seed of all random numbers"},
    {"form", 0, MCS_FIELD(mcs_common, form_text), .def = "paper", .value = "FORM",
     .help = "paper or release, or by stage: loss=paper,coarse=release (stages: loss, saliency, coarse, sam, train, "
             "metrics)"},
    {"precision", 0, MCS_FIELD(mcs_common, device.precision), .def = "auto", .choices = "auto|fp32|bf16",
     .help = "number format of activations and products; auto: bf16 on a GPU, fp32 on the CPU"},
    {"max-memory", 0, MCS_FIELD(mcs_common, max_memory), .value = "SIZE",
     .help = "memory that may be taken, as 8G or 512M; a file that needs more is refused (default: what the machine "
             "has free)"},
    {"trace", 0, MCS_FIELD(mcs_common, trace), .value = "FILE", .help = "write a Perfetto trace of the steps"},
    {"dry-run", 0, MCS_FIELD(mcs_common, dry_run),
     .help = "say what would be done and the memory it needs, do nothing"},
    {"json", 0, MCS_FIELD(mcs_common, json), .help = "results on standard output as JSON"},
    {"quiet", 'q', MCS_FIELD(mcs_common, quiet), .help = "only warnings and errors on standard error"},
    {"help", 'h', MCS_FIELD(mcs_common, help), .help = "print this text"},
    {0},
};

static const struct mcs_option no_options[] = {{0}};

/* One parse: the rows of both tables, and the source of each value. */
struct parse {
    const struct mcs_verb *verb;
    struct arena *arena;
    char *options;
    int n_rows;
    const struct mcs_option **rows;
    enum source *from;
    enum source args_from;
};

/* An option on the command line, kept until file and environment are read. */
struct word {
    int row;
    const char *text, *where;
};

/* ---- names ---- */

static char fold(char c)
{
    return c == '_' ? '-' : (char)tolower((unsigned char)c);
}

static int same_name(const char *a, const char *b)
{
    for (; *a && fold(*a) == fold(*b); a++) b++;
    return !*a && !*b;
}

int mcs_edit_distance(const char *a, const char *b)
{
    int na = (int)strnlen(a, NAME_MAX_BYTES), nb = (int)strnlen(b, NAME_MAX_BYTES);
    int row[3][NAME_MAX_BYTES + 1]; /* rows i-2, i-1 and i of the table, used in rotation */
    for (int j = 0; j <= nb; j++) row[0][j] = j;
    for (int i = 1; i <= na; i++) {
        int *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= nb; j++) {
            int best = last[j - 1] + (fold(a[i - 1]) != fold(b[j - 1]));
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]) &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[na % 3][nb];
}

static const char *nearest_row(const struct parse *p, const char *name)
{
    const char *best = "help";
    int distance = 1 << 20;
    for (int i = 0; i < p->n_rows; i++) {
        const char *names[2] = {p->rows[i]->name, p->rows[i]->alias};
        for (int k = 0; k < 2; k++) {
            const int d = names[k] ? mcs_edit_distance(name, names[k]) : distance;
            if (d < distance) {
                distance = d;
                best = names[k];
            }
        }
    }
    return best;
}

static int find_row(const struct parse *p, const char *name)
{
    for (int i = 0; i < p->n_rows; i++)
        if (same_name(p->rows[i]->name, name) || (p->rows[i]->alias && same_name(p->rows[i]->alias, name))) return i;
    return -1;
}

static int find_letter(const struct parse *p, char letter)
{
    for (int i = 0; i < p->n_rows; i++)
        if (p->rows[i]->letter && p->rows[i]->letter == letter) return i;
    return -1;
}

/* Compares word k of "a|b|c" with text; returns its length and, through `word`, its start, or 0 when there is no word
 * k. */
static int choice_word(const char *choices, int k, const char **word)
{
    for (; k > 0; k--) {
        choices = strchr(choices, '|');
        if (!choices) return 0;
        choices++;
    }
    *word = choices;
    return (int)strcspn(choices, "|");
}

static int is_choice(const struct mcs_option *o)
{
    return o->choices && o->type == MCS_OPT_FLAG;
}

static int takes_value(const struct mcs_option *o)
{
    return o->type != MCS_OPT_FLAG || o->choices;
}

/* ---- values ---- */

static enum mcs_status set_choice(const struct mcs_option *o, const char *text, const char *where, void *field)
{
    const char *word = NULL;
    for (int k = 0, n; (n = choice_word(o->choices, k, &word)) > 0; k++) {
        if ((int)strlen(text) != n || strncmp(text, word, (size_t)n) != 0) continue;
        if (o->type == MCS_OPT_FLAG) *(int *)field = k;
        return MCS_OK;
    }
    char nearest[NAME_MAX_BYTES] = "";
    int distance = 1 << 20;
    for (int k = 0, n; (n = choice_word(o->choices, k, &word)) > 0; k++) {
        char one[NAME_MAX_BYTES];
        snprintf(one, sizeof one, "%.*s", n, word);
        const int d = mcs_edit_distance(text, one);
        if (d < distance) {
            distance = d;
            memcpy(nearest, one, sizeof one);
        }
    }
    return MCS_FAIL(MCS_E_USAGE, "%s: want one of %s, got '%s'; did you mean '%s'?", where, o->choices, text, nearest);
}

static enum mcs_status check_range(const struct mcs_option *o, double v, const char *text, const char *where)
{
    MCS_REQUIRE(o->lo == o->hi || (v >= o->lo && v <= o->hi), MCS_E_USAGE, "%s: %s is out of range, want %g to %g",
                where, text, o->lo, o->hi);
    return MCS_OK;
}

static enum mcs_status set_flag(const char *text, const char *where, int *field)
{
    static const char *const words[] = {"false", "no", "off", "0", "true", "yes", "on", "1"};
    for (int k = 0; k < 8; k++)
        if (same_name(text, words[k])) {
            *field = k >= 4;
            return MCS_OK;
        }
    return MCS_FAIL(MCS_E_USAGE, "%s: want true or false, got '%s'", where, text);
}

/* The array doubles when its length is a power of two. */
static void list_append(struct arena *arena, struct mcs_strings *list, const char *text)
{
    if ((list->n & (list->n - 1)) == 0) {
        const char **v = mcs_arena_alloc(arena, sizeof *v * (2 * (size_t)list->n + 1));
        if (list->n) memcpy(v, list->v, sizeof *v * (size_t)list->n);
        list->v = v;
    }
    list->v[list->n++] = text;
}

/* Appends the words of "a b c". */
static void list_append_words(struct arena *arena, struct mcs_strings *list, const char *text)
{
    char *copy = mcs_arena_strdup(arena, text), *rest = NULL;
    for (char *w = strtok_r(copy, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) list_append(arena, list, w);
}

/* Sets one option from text. A list is emptied when a source of higher priority sets it for the first time. */
static enum mcs_status set_value(struct parse *p, int row, const char *text, const char *where, enum source from)
{
    const struct mcs_option *o = p->rows[row];
    void *field = p->options + o->offset;
    const int first = p->from[row] != from;
    p->from[row] = from;
    char *end = NULL;
    errno = 0;
    switch (o->type) {
    case MCS_OPT_STRING:
        if (o->choices) MCS_TRY(set_choice(o, text, where, field));
        *(const char **)field = from == FROM_FILE ? mcs_text_decode(p->arena, text) : mcs_arena_strdup(p->arena, text);
        return MCS_OK;
    case MCS_OPT_INT: {
        const long long v = strtoll(text, &end, 10);
        MCS_REQUIRE(end != text && !*end, MCS_E_USAGE, "%s: want a whole number, got '%s'", where, text);
        MCS_REQUIRE(errno == 0, MCS_E_USAGE, "%s: %s is too large", where, text);
        MCS_TRY(check_range(o, (double)v, text, where));
        *(int64_t *)field = v;
        return MCS_OK;
    }
    case MCS_OPT_REAL: {
        const double v = strtod(text, &end);
        MCS_REQUIRE(end != text && !*end && isfinite(v), MCS_E_USAGE, "%s: want a number, got '%s'", where, text);
        MCS_TRY(check_range(o, v, text, where));
        *(double *)field = v;
        return MCS_OK;
    }
    case MCS_OPT_FLAG:
        if (is_choice(o)) return set_choice(o, text, where, field);
        return set_flag(text, where, field);
    case MCS_OPT_LIST:
        if (first) *(struct mcs_strings *)field = (struct mcs_strings){0, NULL};
        if (from == FROM_DEFAULT || from == FROM_ENVIRONMENT)
            list_append_words(p->arena, field, text);
        else
            list_append(p->arena, field,
                        from == FROM_FILE ? mcs_text_decode(p->arena, text) : mcs_arena_strdup(p->arena, text));
        return MCS_OK;
    }
    return MCS_OK;
}

enum mcs_status mcs_form_parse(const char *text, enum mcs_form form[MCS_FORM_STAGES])
{
    const char *at = text;
    while (*at) {
        char item[2 * NAME_MAX_BYTES];
        const size_t n = strcspn(at, ",");
        MCS_REQUIRE(n < sizeof item, MCS_E_USAGE, "--form: '%s' is too long", text);
        memcpy(item, at, n);
        item[n] = '\0';
        at += n + (at[n] == ',');
        char *word = strchr(item, '=');
        if (word) *word++ = '\0';
        const char *value = word ? word : item;
        const int paper = strcmp(value, "paper") == 0;
        MCS_REQUIRE(paper || strcmp(value, "release") == 0, MCS_E_USAGE,
                    "--form: want paper or release, got '%s' (in '%s')", value, text);
        int found = 0;
        for (int s = 0; s < MCS_FORM_STAGES; s++) {
            if (word && strcmp(item, mcs_form_stage_names[s]) != 0) continue;
            form[s] = paper ? MCS_PAPER : MCS_RELEASE;
            found = 1;
        }
        if (found) continue;
        int best = 0;
        for (int s = 1; s < MCS_FORM_STAGES; s++)
            if (mcs_edit_distance(item, mcs_form_stage_names[s]) < mcs_edit_distance(item, mcs_form_stage_names[best]))
                best = s;
        return MCS_FAIL(MCS_E_USAGE, "--form: unknown stage '%s'; did you mean '%s'?", item,
                        mcs_form_stage_names[best]);
    }
    return MCS_OK;
}

/* ---- command line ---- */

/* Splits the words into options and plain words. Stores the options in `words` (argc entries), their number in n_words.
 */
static enum mcs_status read_words(struct parse *p, int argc, char **argv, struct word *words, int *n_words)
{
    struct mcs_common *common = (struct mcs_common *)p->options;
    const char *verb = p->verb->name;
    int open_list = -1; /* "-f 0 1 2": where a verb takes no plain words, they are appended to the list before them */
    *n_words = 0;
    for (int i = 0; i < argc; i++) {
        char *a = argv[i];
        if (strcmp(a, "--") == 0) {
            for (i++; i < argc; i++) list_append(p->arena, &common->args, mcs_arena_strdup(p->arena, argv[i]));
            break;
        }
        if (a[0] != '-' || !a[1] || isdigit((unsigned char)a[1])) {
            if (open_list >= 0 && !p->verb->args)
                words[(*n_words)++] = (struct word){open_list, a, p->rows[open_list]->name};
            else
                list_append(p->arena, &common->args, mcs_arena_strdup(p->arena, a));
            continue;
        }
        const char *name = a + 1 + (a[1] == '-');
        char *value = strchr(a, '=');
        char key[NAME_MAX_BYTES];
        snprintf(key, sizeof key, "%.*s", (int)(value ? (size_t)(value - name) : strlen(name)), name);
        if (value) value++;
        int row = a[1] == '-' || name[1] ? find_row(p, key) : -1, off = 0;
        if (row < 0 && a[1] != '-') {
            row = find_letter(p, a[1]);
            if (row >= 0 && a[2]) value = a + 2 + (a[2] == '=');
        }
        if (row < 0 && fold(key[0]) == 'n' && fold(key[1]) == 'o' && fold(key[2]) == '-') {
            row = find_row(p, key + 3);
            if (row >= 0 && takes_value(p->rows[row])) row = -1;
            off = row >= 0;
        }
        MCS_REQUIRE(row >= 0, MCS_E_USAGE, "%s: unknown option '%s'; did you mean --%s? (mcsam %s --help lists all)",
                    verb, a, nearest_row(p, key), verb);
        const struct mcs_option *o = p->rows[row];
        const char *where = mcs_arena_printf(p->arena, "%s: --%s", verb, o->name);
        if (takes_value(o) && !value) {
            MCS_REQUIRE(i + 1 < argc, MCS_E_USAGE, "%s: needs a value, %s", where,
                        o->value     ? o->value
                        : o->choices ? o->choices
                                     : "TEXT");
            value = argv[++i];
        }
        MCS_REQUIRE(!(off && value), MCS_E_USAGE, "%s: '%s' takes no value", where, a);
        words[(*n_words)++] = (struct word){row, value ? value : off ? "false" : "true", where};
        open_list = o->type == MCS_OPT_LIST ? row : -1;
    }
    if (common->args.n) p->args_from = FROM_COMMAND_LINE;
    return MCS_OK;
}

/* ---- environment ---- */

static const char *environment_name(const struct mcs_option *o, char dst[NAME_MAX_BYTES + 8])
{
    int n = snprintf(dst, NAME_MAX_BYTES + 8, "MCSAM_%s", o->name);
    for (int i = 6; i < n && dst[i]; i++)
        dst[i] = dst[i] == '-' || dst[i] == '.' ? '_' : (char)toupper((unsigned char)dst[i]);
    return dst;
}

static const char *environment_value(char **env, const char *name)
{
    const size_t n = strlen(name);
    for (; env && *env; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=' && (*env)[n + 1]) return *env + n + 1;
    return NULL;
}

static enum mcs_status read_environment(struct parse *p, char **env)
{
    for (int i = 0; i < p->n_rows; i++) {
        char name[NAME_MAX_BYTES + 8];
        const char *value = environment_value(env, environment_name(p->rows[i], name));
        if (value && !same_name(p->rows[i]->name, "help")) MCS_TRY(set_value(p, i, value, name, FROM_ENVIRONMENT));
    }
    return MCS_OK;
}

/* ---- YAML ---- */

static int is_null(const yaml_node_t *n)
{
    const char *s = (const char *)n->data.scalar.value;
    return n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && (!*s || strcmp(s, "~") == 0 || strcmp(s, "null") == 0);
}

static enum mcs_status scalar_of(const yaml_node_t *n, const char *where, const char **text)
{
    MCS_REQUIRE(n && n->type == YAML_SCALAR_NODE, MCS_E_USAGE, "%s: want a single value", where);
    *text = (const char *)n->data.scalar.value;
    MCS_REQUIRE(strlen(*text) == n->data.scalar.length, MCS_E_DATA, "%s: a NUL character in the value", where);
    return MCS_OK;
}

static enum mcs_status read_args(struct parse *p, yaml_document_t *doc, const yaml_node_t *node, const char *where)
{
    struct mcs_common *common = (struct mcs_common *)p->options;
    struct mcs_strings args = {0, NULL};
    MCS_REQUIRE(node->type == YAML_SEQUENCE_NODE, MCS_E_USAGE, "%s: want a list", where);
    for (yaml_node_item_t *it = node->data.sequence.items.start; it < node->data.sequence.items.top; it++) {
        const char *text = NULL;
        MCS_TRY(scalar_of(yaml_document_get_node(doc, *it), where, &text));
        list_append(p->arena, &args, mcs_text_decode(p->arena, text));
    }
    if (p->args_from < FROM_FILE) common->args = args;
    return MCS_OK;
}

static enum mcs_status read_pair(struct parse *p, const char *path, yaml_document_t *doc, const char *key,
                                 const char *where, const yaml_node_t *node)
{
    if (strcmp(key, "version") == 0) return MCS_OK;
    if (strcmp(key, "args") == 0) return read_args(p, doc, node, where);
    const char *text = NULL;
    if (strcmp(key, "verb") == 0) {
        MCS_TRY(scalar_of(node, where, &text));
        MCS_REQUIRE(strcmp(text, p->verb->name) == 0, MCS_E_USAGE, "%s: the file is for '%s', not for '%s'", path, text,
                    p->verb->name);
        return MCS_OK;
    }
    const int row = find_row(p, key);
    MCS_REQUIRE(row >= 0 && strcmp(key, "help") != 0 && strcmp(key, "config") != 0, MCS_E_USAGE,
                "%s: unknown key; did you mean '%s'? (mcsam %s --help lists all)", where, nearest_row(p, key),
                p->verb->name);
    MCS_REQUIRE(p->from[row] != FROM_FILE, MCS_E_USAGE, "%s: given twice", where);
    if (node->type == YAML_SEQUENCE_NODE) {
        MCS_REQUIRE(p->rows[row]->type == MCS_OPT_LIST, MCS_E_USAGE, "%s: want a single value, got a list", where);
        *(struct mcs_strings *)(p->options + p->rows[row]->offset) = (struct mcs_strings){0, NULL};
        p->from[row] = FROM_FILE;
        for (yaml_node_item_t *it = node->data.sequence.items.start; it < node->data.sequence.items.top; it++) {
            MCS_TRY(scalar_of(yaml_document_get_node(doc, *it), where, &text));
            MCS_TRY(set_value(p, row, text, where, FROM_FILE));
        }
        return MCS_OK;
    }
    MCS_TRY(scalar_of(node, where, &text));
    return is_null(node) ? MCS_OK : set_value(p, row, text, where, FROM_FILE);
}

static enum mcs_status read_mapping(struct parse *p, const char *path, yaml_document_t *doc, const yaml_node_t *map,
                                    const char *prefix, int depth)
{
    const int line = map ? (int)map->start_mark.line + 1 : 1;
    MCS_REQUIRE(map && map->type == YAML_MAPPING_NODE, MCS_E_USAGE, "%s:%d: want 'key: value' lines", path, line);
    MCS_REQUIRE(depth < YAML_MAX_DEPTH, MCS_E_USAGE, "%s:%d: nested too deeply", path, line);
    for (yaml_node_pair_t *it = map->data.mapping.pairs.start; it < map->data.mapping.pairs.top; it++) {
        const yaml_node_t *k = yaml_document_get_node(doc, it->key), *v = yaml_document_get_node(doc, it->value);
        const char *name = NULL,
                   *where = mcs_arena_printf(p->arena, "%s:%d", path, k ? (int)k->start_mark.line + 1 : line);
        MCS_TRY(scalar_of(k, where, &name));
        const char *key = mcs_arena_printf(p->arena, "%s%s", prefix, name);
        where = mcs_arena_printf(p->arena, "%s: %s", where, key);
        if (v->type == YAML_MAPPING_NODE)
            MCS_TRY(read_mapping(p, path, doc, v, mcs_arena_printf(p->arena, "%s.", key), depth + 1));
        else
            MCS_TRY(read_pair(p, path, doc, key, where, v));
    }
    return MCS_OK;
}

static enum mcs_status not_yaml(const char *path, const yaml_parser_t *parser)
{
    return MCS_FAIL(MCS_E_DATA, "%s:%d: not YAML: %s", path, (int)parser->problem_mark.line + 1,
                    parser->problem ? parser->problem : "no memory");
}

/* Parses the file without building anything. Refuses input on which libyaml takes far longer than linear time (nested
 * brackets, aliases, directives), and a second document. */
static enum mcs_status check_yaml(const char *path, const unsigned char *bytes, size_t n)
{
    yaml_parser_t parser;
    yaml_event_t event;
    enum mcs_status st = MCS_OK;
    int nodes = 0, nesting = 0, documents = 0, directives = 0;
    for (size_t i = 0; i < n; i++)
        directives += bytes[i] == '%' && (i == 0 || bytes[i - 1] == '\n' || bytes[i - 1] == '\r');
    MCS_REQUIRE(directives <= YAML_MAX_DIRECTIVES, MCS_E_DATA, "%s: more than %d directives (lines that begin with %%)",
                path, YAML_MAX_DIRECTIVES);
    MCS_REQUIRE(yaml_parser_initialize(&parser), MCS_E_NOMEM, "%s: no memory to parse it", path);
    yaml_parser_set_input_string(&parser, bytes, n);
    for (yaml_event_type_t type = YAML_NO_EVENT; type != YAML_STREAM_END_EVENT;) {
        if (!yaml_parser_parse(&parser, &event)) {
            st = not_yaml(path, &parser);
            break;
        }
        type = event.type;
        const int line = (int)event.start_mark.line + 1;
        yaml_event_delete(&event);
        nesting += type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT;
        nesting -= type == YAML_SEQUENCE_END_EVENT || type == YAML_MAPPING_END_EVENT;
        nodes += type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT || type == YAML_SCALAR_EVENT;
        documents += type == YAML_DOCUMENT_START_EVENT;
        MCS_REQUIRE_GOTO(type != YAML_ALIAS_EVENT, MCS_E_DATA, st, done,
                         "%s:%d: aliases (*name) are not read here; write the value itself", path, line);
        MCS_REQUIRE_GOTO(nesting <= YAML_MAX_NESTING, MCS_E_DATA, st, done, "%s:%d: nested more than %d deep", path,
                         line, YAML_MAX_NESTING);
        MCS_REQUIRE_GOTO(nodes <= YAML_MAX_NODES, MCS_E_DATA, st, done,
                         "%s:%d: more than %d keys and values, not a file of options", path, line, YAML_MAX_NODES);
        MCS_REQUIRE_GOTO(documents <= 1, MCS_E_DATA, st, done, "%s: more than one YAML document", path);
    }
done:
    yaml_parser_delete(&parser);
    return st;
}

/* At most YAML_MAX_BYTES of a regular file, into the arena. */
static enum mcs_status read_bytes(const char *path, struct arena *arena, unsigned char **bytes, size_t *n)
{
    int64_t n_bytes = 0;
    int fd;
    MCS_TRY(mcs_input_open(path, &fd, &n_bytes));
    enum mcs_status st = MCS_OK;
    if (n_bytes > YAML_MAX_BYTES)
        st = MCS_FAIL(MCS_E_DATA, "%s: more than %d bytes, not a file of options", path, YAML_MAX_BYTES);
    *n = (size_t)n_bytes;
    if (st == MCS_OK) {
        *bytes = mcs_arena_alloc(arena, *n);
        st = mcs_input_read(fd, path, *bytes, n_bytes, 0);
    }
    close(fd);
    return st;
}

/* Loads the only document of a file. On MCS_OK the caller deletes `doc`; an empty file gives a document without a root.
 */
static enum mcs_status load_yaml(const char *path, struct arena *arena, yaml_document_t *doc)
{
    unsigned char *bytes;
    size_t n;
    yaml_parser_t parser;
    MCS_TRY(read_bytes(path, arena, &bytes, &n));
    MCS_TRY(check_yaml(path, bytes, n));
    MCS_REQUIRE(yaml_parser_initialize(&parser), MCS_E_NOMEM, "%s: no memory to parse it", path);
    yaml_parser_set_input_string(&parser, bytes, n);
    const enum mcs_status st = yaml_parser_load(&parser, doc) ? MCS_OK : not_yaml(path, &parser);
    yaml_parser_delete(&parser);
    return st;
}

static enum mcs_status read_file(struct parse *p, const char *path)
{
    yaml_document_t doc;
    MCS_TRY(load_yaml(path, p->arena, &doc));
    const yaml_node_t *root = yaml_document_get_root_node(&doc);
    const enum mcs_status st = root ? read_mapping(p, path, &doc, root, "", 0) : MCS_OK;
    yaml_document_delete(&doc);
    MCS_TRY(st);
    return MCS_OK;
}

enum mcs_status mcs_config_verb(const char *path, struct arena *arena, const char **verb)
{
    yaml_document_t doc;
    MCS_TRY(load_yaml(path, arena, &doc));
    const yaml_node_t *root = yaml_document_get_root_node(&doc);
    *verb = NULL;
    if (root && root->type == YAML_MAPPING_NODE)
        for (yaml_node_pair_t *it = root->data.mapping.pairs.start; it < root->data.mapping.pairs.top; it++) {
            const yaml_node_t *k = yaml_document_get_node(&doc, it->key), *v = yaml_document_get_node(&doc, it->value);
            if (k->type == YAML_SCALAR_NODE && v->type == YAML_SCALAR_NODE &&
                strcmp((const char *)k->data.scalar.value, "verb") == 0)
                *verb = mcs_arena_strdup(arena, (const char *)v->data.scalar.value);
        }
    yaml_document_delete(&doc);
    MCS_REQUIRE(*verb, MCS_E_DATA, "%s: no key 'verb', want a config saved with a run", path);
    return MCS_OK;
}

/* ---- all sources together ---- */

static void collect_rows(struct parse *p)
{
    const struct mcs_option *tables[2] = {p->verb->options ? p->verb->options : no_options, common_table};
    int n = 0;
    for (int t = 0; t < 2; t++)
        for (const struct mcs_option *o = tables[t]; o->name; o++) n++;
    p->rows = mcs_arena_alloc(p->arena, sizeof *p->rows * (size_t)n);
    p->from = mcs_arena_alloc(p->arena, sizeof *p->from * (size_t)n);
    for (int t = 0; t < 2; t++)
        for (const struct mcs_option *o = tables[t]; o->name; o++) p->rows[p->n_rows++] = o;
}

static enum mcs_status check_words(const struct parse *p)
{
    const struct mcs_common *common = (const struct mcs_common *)p->options;
    const struct mcs_verb *v = p->verb;
    const int most = v->args ? v->max_args : 0;
    MCS_REQUIRE(common->args.n <= most, MCS_E_USAGE, "%s: '%s' is too much: %s%s", v->name, common->args.v[most],
                v->args ? "want " : "it takes options only", v->args ? v->args : "");
    MCS_REQUIRE(!v->args || common->args.n >= v->min_args, MCS_E_USAGE, "%s: want %s (mcsam %s --help)", v->name,
                v->args, v->name);
    return MCS_OK;
}

enum mcs_status mcs_config_parse_env(const struct mcs_verb *verb, int argc, char **argv, char **env,
                                     struct arena *arena, void *options)
{
    struct parse p = {.verb = verb, .arena = arena, .options = options};
    struct mcs_common *common = options;
    memset(options, 0, verb->options_bytes);
    common->verb = verb;
    collect_rows(&p);
    struct word *words = mcs_arena_alloc(arena, sizeof *words * (size_t)(argc + 1));
    int n_words = 0;
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            common->help = 1;
            return MCS_OK;
        }
    MCS_TRY(read_words(&p, argc, argv, words, &n_words));
    for (int i = 0; i < p.n_rows; i++)
        if (p.rows[i]->def) MCS_TRY(set_value(&p, i, p.rows[i]->def, p.rows[i]->name, FROM_DEFAULT));
    const char *file = environment_value(env, "MCSAM_CONFIG");
    for (int i = 0; i < n_words; i++)
        if (strcmp(p.rows[words[i].row]->name, "config") == 0) file = words[i].text;
    if (file) MCS_TRY(read_file(&p, file));
    MCS_TRY(read_environment(&p, env));
    for (int i = 0; i < n_words; i++)
        MCS_TRY(set_value(&p, words[i].row, words[i].text, words[i].where, FROM_COMMAND_LINE));
    MCS_TRY(mcs_form_parse(common->form_text, common->form));
    int64_t max_memory = 0;
    if (common->max_memory) MCS_TRY(mcs_memory_parse(common->max_memory, "--max-memory", &max_memory));
    for (int i = 0; i < p.n_rows; i++)
        MCS_REQUIRE(!p.rows[i]->required || p.from[i] != FROM_NOWHERE, MCS_E_USAGE,
                    "%s: --%s %s is required (mcsam %s --help)", verb->name, p.rows[i]->name,
                    p.rows[i]->value ? p.rows[i]->value : "VALUE", verb->name);
    return check_words(&p);
}

enum mcs_status mcs_config_parse(const struct mcs_verb *verb, int argc, char **argv, struct arena *arena, void *options)
{
    return mcs_config_parse_env(verb, argc, argv, environ, arena, options);
}

/* ---- writing ---- */

/* A growing text; owned by the arena, which keeps the shorter copies too: these texts are small. */
struct text {
    struct arena *arena;
    char *s;
    size_t used, capacity;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const size_t n = (size_t)vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (t->used + n + 1 > t->capacity) {
        t->capacity = 2 * (t->used + n + 1);
        char *s = mcs_arena_alloc(t->arena, t->capacity);
        if (t->used) memcpy(s, t->s, t->used);
        t->s = s;
    }
    vsnprintf(t->s + t->used, n + 1, fmt, again);
    va_end(again);
    t->used += n;
}

/* The code point of the character of n bytes at s where YAML requires an escape: controls, line ends, byte order marks;
 * else 0. */
static unsigned escaped_code(const char *s, int n)
{
    const unsigned char *p = (const unsigned char *)s;
    if (n == 1) return p[0] < 32 || p[0] == 127 ? p[0] : 0;
    if (n == 2) return p[0] == 0xC2 && p[1] < 0xA0 ? p[1] : 0;
    const unsigned code = n == 3 ? (p[0] & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u) : 0;
    return code == 0x2028 || code == 0x2029 || code == 0xFEFF || code >= 0xFFFE ? code : 0;
}

/* YAML is UTF-8: other bytes of a path are encoded by mcs_text_encode, and decoded when a file is read. */
static void put_quoted(struct text *t, const char *s)
{
    s = mcs_text_encode(t->arena, s);
    put(t, "\"");
    for (int n; (n = mcs_text_utf8_length(s)) > 0; s += n) {
        const unsigned code = escaped_code(s, n);
        if (code)
            put(t, code < 256 ? "\\x%02X" : "\\u%04X", code);
        else
            put(t, "%s%.*s", *s == '"' || *s == '\\' ? "\\" : "", n, s);
    }
    put(t, "\"");
}

static void put_list(struct text *t, const struct mcs_strings *list)
{
    put(t, "[");
    for (int i = 0; i < list->n; i++) {
        if (i) put(t, ", ");
        put_quoted(t, list->v[i]);
    }
    put(t, "]\n");
}

/* The shortest text that reads back as the same number. */
static void put_real(struct text *t, double v)
{
    char s[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, v);
        if (strtod(s, NULL) == v) break;
    }
    put(t, "%s\n", s);
}

static void put_row(struct text *t, const struct mcs_option *o, const void *options)
{
    const void *field = (const char *)options + o->offset;
    const char *word = NULL;
    if (o->type == MCS_OPT_STRING && !*(const char *const *)field) return;
    put(t, "%s: ", o->name);
    switch (o->type) {
    case MCS_OPT_STRING:
        put_quoted(t, *(const char *const *)field);
        put(t, "\n");
        break;
    case MCS_OPT_INT: put(t, "%lld\n", (long long)*(const int64_t *)field); break;
    case MCS_OPT_REAL: put_real(t, *(const double *)field); break;
    case MCS_OPT_FLAG:
        if (o->choices) {
            const int n = choice_word(o->choices, *(const int *)field, &word);
            put(t, "%.*s\n", n, n ? word : "");
        } else
            put(t, "%s\n", *(const int *)field ? "true" : "false");
        break;
    case MCS_OPT_LIST: put_list(t, field); break;
    }
}

char *mcs_config_text(const void *options, struct arena *arena)
{
    const struct mcs_common *common = options;
    struct text t = {.arena = arena};
    put(&t, "verb: %s\nversion: %s\n", common->verb->name, MCS_VERSION);
    if (common->verb->args) {
        put(&t, "args: ");
        put_list(&t, &common->args);
    }
    for (const struct mcs_option *o = common->verb->options ? common->verb->options : no_options; o->name; o++)
        put_row(&t, o, options);
    static const char *const left_out[] = {"help", "config", "dry-run", "form", "json", "quiet", "trace", "max-memory"};
    for (const struct mcs_option *o = common_table; o->name; o++) {
        int skip = 0;
        for (size_t k = 0; k < sizeof left_out / sizeof *left_out; k++) skip |= strcmp(o->name, left_out[k]) == 0;
        if (!skip) put_row(&t, o, options);
    }
    put(&t, "form: \"%s\"\n", mcs_form_text(common->form, arena));
    return t.s;
}

struct mcs_command mcs_config_command(const void *options, struct arena *arena)
{
    const struct mcs_common *common = options;
    return (struct mcs_command){common->verb->name, common->config, mcs_config_text(options, arena)};
}

enum mcs_status mcs_config_save(const char *path, const void *options)
{
    struct arena arena = {0};
    const char *text = mcs_config_text(options, &arena);
    const enum mcs_status st = mcs_file_write(path, text, (int64_t)strlen(text));
    mcs_arena_free(&arena);
    MCS_TRY(st);
    return MCS_OK;
}

/* One row of the help: "  -i, --input DIR    text", the text wrapped. */
static void put_help_row(struct text *t, const struct mcs_option *o)
{
    char left[256], tail[160] = "";
    const char *value = o->value ? o->value : o->choices ? o->choices : o->type == MCS_OPT_INT ? "N" : "VALUE";
    snprintf(left, sizeof left, "  %c%c%c --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
             o->letter ? ',' : ' ', o->name, takes_value(o) ? " " : "", takes_value(o) ? value : "");
    if (o->required)
        snprintf(tail, sizeof tail, " (required)");
    else if (o->def && *o->def && !(o->type == MCS_OPT_FLAG && !o->choices))
        snprintf(tail, sizeof tail, " [%s]", o->def);
    put(t, "%-*s", HELP_COLUMN, left);
    int at = (int)strlen(left);
    if (at >= HELP_COLUMN - 1) {
        put(t, "\n%*s", HELP_COLUMN, "");
    }
    at = HELP_COLUMN;
    char *words = mcs_arena_printf(t->arena, "%s%s%s%s", o->help ? o->help : "", tail, o->alias ? "; also --" : "",
                                   o->alias ? o->alias : "");
    char *rest = NULL;
    for (char *w = strtok_r(words, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) {
        const int n = (int)strlen(w);
        if (at > HELP_COLUMN && at + 1 + n > HELP_WIDTH) {
            put(t, "\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
        }
        put(t, "%s%s", at > HELP_COLUMN ? " " : "", w);
        at += n + (at > HELP_COLUMN);
    }
    put(t, "\n");
}

char *mcs_config_help(const struct mcs_verb *verb, struct arena *arena)
{
    struct text t = {.arena = arena};
    put(&t, "Usage: mcsam %s%s%s [OPTION]...\n%s\n", verb->name, verb->args ? " " : "", verb->args ? verb->args : "",
        verb->line);
    if (verb->options && verb->options->name) {
        put(&t, "\nOptions:\n");
        for (const struct mcs_option *o = verb->options; o->name; o++) put_help_row(&t, o);
    }
    put(&t, "\nFor every verb:\n");
    for (const struct mcs_option *o = common_table; o->name; o++) put_help_row(&t, o);
    if (verb->details) put(&t, "\n%s\n", verb->details);
    return t.s;
}

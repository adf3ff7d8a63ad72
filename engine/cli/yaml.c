/* Options in a YAML file. */
#include "engine/base/escape.h"
#include "engine/base/input.h"
#include "engine/cli/config_parse.h"

#include <string.h>
#include <unistd.h>
#include <yaml.h>

enum {
    YAML_MAX_BYTES = 1 << 20,
    YAML_MAX_DEPTH = 4,    /* nesting of mappings that keys can use */
    YAML_MAX_NESTING = 16, /* nesting of lists and mappings that is read at all */
    YAML_MAX_NODES = 1 << 14,
    YAML_MAX_DIRECTIVES = 8 /* lines that begin with %: libyaml compares each with all others, quadratic time */
};

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

static enum mcs_status read_args(struct config_parse *p, yaml_document_t *doc, const yaml_node_t *node,
                                 const char *where)
{
    struct mcs_common *common = (struct mcs_common *)p->options;
    struct mcs_strings args = {0, NULL};
    MCS_REQUIRE(node->type == YAML_SEQUENCE_NODE, MCS_E_USAGE, "%s: want a list", where);
    for (yaml_node_item_t *it = node->data.sequence.items.start; it < node->data.sequence.items.top; it++) {
        const char *text = NULL;
        MCS_TRY(scalar_of(yaml_document_get_node(doc, *it), where, &text));
        mcs_strings_append(p->arena, &args, mcs_text_decode(p->arena, text));
    }
    if (p->args_from < FROM_FILE) common->args = args;
    return MCS_OK;
}

static enum mcs_status read_pair(struct config_parse *p, const char *path, yaml_document_t *doc, const char *key,
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
    const int row = mcs_option_find(p, key);
    MCS_REQUIRE(row >= 0 && strcmp(key, "help") != 0 && strcmp(key, "config") != 0, MCS_E_USAGE,
                "%s: unknown key; did you mean '%s'? (mcsam %s --help lists all)", where, mcs_option_nearest(p, key),
                p->verb->name);
    MCS_REQUIRE(p->from[row] != FROM_FILE, MCS_E_USAGE, "%s: given twice", where);
    if (node->type == YAML_SEQUENCE_NODE) {
        MCS_REQUIRE(p->rows[row]->type == MCS_OPT_LIST, MCS_E_USAGE, "%s: want a single value, got a list", where);
        *(struct mcs_strings *)(p->options + p->rows[row]->offset) = (struct mcs_strings){0, NULL};
        p->from[row] = FROM_FILE;
        for (yaml_node_item_t *it = node->data.sequence.items.start; it < node->data.sequence.items.top; it++) {
            MCS_TRY(scalar_of(yaml_document_get_node(doc, *it), where, &text));
            MCS_TRY(mcs_option_set(p, row, text, where, FROM_FILE));
        }
        return MCS_OK;
    }
    MCS_TRY(scalar_of(node, where, &text));
    return is_null(node) ? MCS_OK : mcs_option_set(p, row, text, where, FROM_FILE);
}

static enum mcs_status read_mapping(struct config_parse *p, const char *path, yaml_document_t *doc,
                                    const yaml_node_t *map, const char *prefix, int depth)
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
        st = mcs_arena_status(arena);
    }
    if (st == MCS_OK) st = mcs_input_read(fd, path, *bytes, n_bytes, 0);
    close(fd);
    return st;
}

/* Loads the only document of a file. On MCS_OK the caller deletes `doc`. An empty file: a document without a root. */
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

enum mcs_status mcs_config_read_file(struct config_parse *p, const char *path)
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

/* All sources of a verb's options together. */
#include "engine/base/memory.h"
#include "engine/cli/config_parse.h"

#include <string.h>

extern char **environ;

static enum mcs_status collect_rows(struct config_parse *p)
{
    const struct mcs_option *tables[2] = {p->verb->options ? p->verb->options : mcs_no_options, mcs_common_options};
    int n = 0;
    for (int t = 0; t < 2; t++)
        for (const struct mcs_option *o = tables[t]; o->name; o++) n++;
    p->rows = mcs_arena_alloc(p->arena, sizeof *p->rows * (size_t)n);
    p->from = mcs_arena_alloc(p->arena, sizeof *p->from * (size_t)n);
    MCS_TRY(mcs_arena_status(p->arena));
    for (int t = 0; t < 2; t++)
        for (const struct mcs_option *o = tables[t]; o->name; o++) p->rows[p->n_rows++] = o;
    return MCS_OK;
}

static enum mcs_status check_words(const struct config_parse *p)
{
    const struct mcs_common *common = (const struct mcs_common *)p->options;
    const struct mcs_verb *v = p->verb;
    const int most = v->args ? v->max_args : 0;
    MCS_REQUIRE(common->args.n <= most, MCS_E_USAGE, "%s: '%s' is too much: %s%s", v->name, common->args.v[most],
                v->args ? "want " : "it takes options only", v->args ? v->args : "");
    MCS_REQUIRE(!v->args || common->args.n >= v->min_args, MCS_E_USAGE, "%s: want %s (mcsam %s --help)", v->name,
                v->args, v->name);
    for (int i = 0; i < common->args.n; i++)
        MCS_REQUIRE(common->args.v[i][0], MCS_E_USAGE, "%s: word %d is empty, want %s", v->name, i + 1, v->args);
    return MCS_OK;
}

enum mcs_status mcs_config_parse_env(const struct mcs_verb *verb, int argc, char **argv, char **env,
                                     struct arena *arena, void *options)
{
    struct config_parse p = {.verb = verb, .arena = arena, .options = options};
    struct mcs_common *common = options;
    memset(options, 0, verb->options_bytes);
    common->verb = verb;
    MCS_TRY(collect_rows(&p));
    struct word *words = mcs_arena_alloc(arena, sizeof *words * (size_t)(argc + 1));
    MCS_TRY(mcs_arena_status(arena));
    int n_words = 0;
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            common->help = 1;
            return MCS_OK;
        }
    MCS_TRY(mcs_config_read_words(&p, argc, argv, words, &n_words));
    for (int i = 0; i < p.n_rows; i++)
        if (p.rows[i]->def) MCS_TRY(mcs_option_set(&p, i, p.rows[i]->def, p.rows[i]->name, FROM_DEFAULT));
    const char *file = mcs_environment_value(env, "MCSAM_CONFIG");
    for (int i = 0; i < n_words; i++)
        if (strcmp(p.rows[words[i].row]->name, "config") == 0) file = words[i].text;
    if (file) MCS_TRY(mcs_config_read_file(&p, file));
    MCS_TRY(mcs_config_read_environment(&p, env));
    for (int i = 0; i < n_words; i++)
        MCS_TRY(mcs_option_set(&p, words[i].row, words[i].text, words[i].where, FROM_COMMAND_LINE));
    MCS_TRY(mcs_arena_status(arena));
    MCS_TRY(mcs_form_parse(common->form_text, common->form));
    int64_t max_memory = 0;
    if (common->max_memory) MCS_TRY(mcs_memory_parse(common->max_memory, "--max-memory", &max_memory));
    for (int i = 0; i < p.n_rows; i++)
        MCS_REQUIRE(!p.rows[i]->required || p.from[i] != FROM_NOWHERE, MCS_E_USAGE,
                    "%s: --%s %s is required (mcsam %s --help)", verb->name, p.rows[i]->name,
                    p.rows[i]->value ? p.rows[i]->value : "VALUE", verb->name);
    MCS_TRY(check_words(&p));
    common->command = mcs_config_command(options, arena);
    return MCS_OK;
}

enum mcs_status mcs_config_parse(const struct mcs_verb *verb, int argc, char **argv, struct arena *arena, void *options)
{
    return mcs_config_parse_env(verb, argc, argv, environ, arena, options);
}

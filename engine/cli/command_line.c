/* Options on the command line. */
#include "engine/cli/config_parse.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum mcs_status mcs_config_read_words(struct config_parse *p, int argc, char **argv, struct word *words, int *n_words)
{
    struct mcs_common *common = (struct mcs_common *)p->options;
    const char *verb = p->verb->name;
    int open_list = -1; /* "-f 0 1 2": where a verb takes no plain words, they are appended to the list before them */
    *n_words = 0;
    for (int i = 0; i < argc; i++) {
        char *a = argv[i];
        if (strcmp(a, "--") == 0) {
            for (i++; i < argc; i++) mcs_strings_append(p->arena, &common->args, mcs_arena_strdup(p->arena, argv[i]));
            break;
        }
        if (a[0] != '-' || !a[1] || isdigit((unsigned char)a[1])) {
            if (open_list >= 0 && !p->verb->args)
                words[(*n_words)++] = (struct word){open_list, a, p->rows[open_list]->name};
            else
                mcs_strings_append(p->arena, &common->args, mcs_arena_strdup(p->arena, a));
            continue;
        }
        const char *name = a + 1 + (a[1] == '-');
        char *value = strchr(a, '=');
        char key[OPTION_NAME_BYTES];
        snprintf(key, sizeof key, "%.*s", (int)(value ? (size_t)(value - name) : strlen(name)), name);
        if (value) value++;
        int row = a[1] == '-' || name[1] ? mcs_option_find(p, key) : -1, off = 0;
        if (row < 0 && a[1] != '-') {
            row = mcs_option_find_letter(p, a[1]);
            if (row >= 0 && a[2]) value = a + 2 + (a[2] == '=');
        }
        /* --no-NAME sets a flag to false. */
        if (row < 0 && strncasecmp(key, "no", 2) == 0 && (key[2] == '-' || key[2] == '_')) {
            row = mcs_option_find(p, key + 3);
            if (row >= 0 && mcs_option_takes_value(p->rows[row])) row = -1;
            off = row >= 0;
        }
        MCS_REQUIRE(row >= 0, MCS_E_USAGE, "%s: unknown option '%s'; did you mean --%s? (mcsam %s --help lists all)",
                    verb, a, mcs_option_nearest(p, key), verb);
        const struct mcs_option *o = p->rows[row];
        const char *where = mcs_arena_printf(p->arena, "%s: --%s", verb, o->name);
        if (mcs_option_takes_value(o) && !value) {
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

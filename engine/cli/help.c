/* A verb's help text. */
#include "engine/base/text_cut.h"
#include "engine/cli/config_parse.h"
#include "engine/cli/growing_text.h"

#include <stdio.h>
#include <string.h>

enum { HELP_COLUMN = 32, HELP_WIDTH = 110 };

/* One row of the help: "  -i, --input DIR    text", the text wrapped. */
static void put_help_row(struct growing_text *t, const struct mcs_option *o)
{
    char left[256], tail[160] = "";
    const char *value = o->value ? o->value : o->choices ? o->choices : o->type == MCS_OPT_INT ? "N" : "VALUE";
    snprintf(left, sizeof left, "  %c%c%c --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
             o->letter ? ',' : ' ', o->name, mcs_option_takes_value(o) ? " " : "",
             mcs_option_takes_value(o) ? value : "");
    if (o->required)
        snprintf(tail, sizeof tail, " (required)");
    else if (o->def && *o->def && !(o->type == MCS_OPT_FLAG && !o->choices))
        mcs_text_cut(tail, sizeof tail, " [%s]", o->def);
    mcs_text_put(t, "%-*s", HELP_COLUMN, left);
    int at = (int)strlen(left);
    if (at >= HELP_COLUMN - 1) {
        mcs_text_put(t, "\n%*s", HELP_COLUMN, "");
    }
    at = HELP_COLUMN;
    char *words = mcs_arena_printf(t->arena, "%s%s%s%s", o->help ? o->help : "", tail, o->alias ? "; also --" : "",
                                   o->alias ? o->alias : "");
    char *rest = NULL;
    for (char *w = strtok_r(words, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) {
        const int n = (int)strlen(w);
        if (at > HELP_COLUMN && at + 1 + n > HELP_WIDTH) {
            mcs_text_put(t, "\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
        }
        mcs_text_put(t, "%s%s", at > HELP_COLUMN ? " " : "", w);
        at += n + (at > HELP_COLUMN);
    }
    mcs_text_put(t, "\n");
}

char *mcs_config_help(const struct mcs_verb *verb, struct arena *arena)
{
    struct growing_text t = {.arena = arena};
    mcs_text_put(&t, "Usage: mcsam %s%s%s [OPTION]...\n%s\n", verb->name, verb->args ? " " : "",
                 verb->args ? verb->args : "", verb->line);
    if (verb->options && verb->options->name) {
        mcs_text_put(&t, "\nOptions:\n");
        for (const struct mcs_option *o = verb->options; o->name; o++) put_help_row(&t, o);
    }
    mcs_text_put(&t, "\nFor every verb:\n");
    for (const struct mcs_option *o = mcs_common_options; o->name; o++) put_help_row(&t, o);
    if (verb->details) mcs_text_put(&t, "\n%s\n", verb->details);
    return t.s;
}

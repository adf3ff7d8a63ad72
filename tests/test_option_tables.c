/* Every verb's table of options, against tests/expected/option_tables.txt: names, letters, kinds, defaults, words,
 * ranges and which ones are required. docs/cli.md says the same to users. */
#include "engine/config.h"
#include "tests/support_expected.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All but bench, which is no part of the libraries. */
#define VERBS(X)                                                                                                       \
    X(coarse)                                                                                                          \
    X(demo)                                                                                                            \
    X(demo_start)                                                                                                      \
    X(diff)                                                                                                            \
    X(embed)                                                                                                           \
    X(ensemble)                                                                                                        \
    X(evaluate)                                                                                                        \
    X(finetune) X(info) X(predict) X(replay) X(report) X(retrieve) X(saliency) X(sam) X(segment) X(train) X(uncertainty)
#define X(name) extern const struct mcs_verb mcs_verb_##name;
VERBS(X)
#undef X

static void write_option(FILE *out, const struct mcs_option *o)
{
    static const char *const kinds[] = {"text", "integer", "number", "flag", "list"};
    fprintf(out, "  --%s", o->name);
    if (o->letter) fprintf(out, " -%c", o->letter);
    if (o->alias) fprintf(out, " --%s", o->alias);
    fprintf(out, ": %s", o->type == MCS_OPT_FLAG && o->choices ? "choice" : kinds[o->type]);
    if (o->value) fprintf(out, " %s", o->value);
    if (o->choices) fprintf(out, " of %s", o->choices);
    if (o->def) fprintf(out, ", default '%s'", o->def);
    if (o->lo < o->hi) fprintf(out, ", %.10g to %.10g", o->lo, o->hi);
    if (o->lo > o->hi) fprintf(out, ", no range: %.10g to %.10g", o->lo, o->hi);
    if (o->required) fprintf(out, ", required");
    fputs("\n", out);
}

static void write_verb(FILE *out, const struct mcs_verb *v)
{
    fprintf(out, "%s", v->name);
    if (v->args) fprintf(out, " %s, %d to %d of them", v->args, v->min_args, v->max_args);
    fputs("\n", out);
    for (const struct mcs_option *o = v->options; o && o->name; o++) write_option(out, o);
}

Test(option_tables, are_those_that_were_checked)
{
    static const struct mcs_verb *const verbs[] = {
#define X(name) &mcs_verb_##name,
        VERBS(X)
#undef X
    };
    char *text;
    size_t n_bytes;
    FILE *out = open_memstream(&text, &n_bytes);
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) write_verb(out, verbs[i]);
    fclose(out);
    expected_check("option_tables.txt", text);
    free(text);
}

/* Every verb's option table equals tests/expected/option_tables.txt: names, short names, types, defaults, choices,
 * ranges and required options. Users' scripts and configuration files rely on them. And every verb names the missing
 * input when its inputs do not exist. */
#include "engine/base/log.h"
#include "engine/cli/config.h"
#include "tests/support/support_expected.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The verbs, each with arguments that name an input "nowhere". */
#define VERBS(X)                                                                                                       \
    X(info, "nowhere")                                                                                                 \
    X(automask, "-m nowhere -i nowhere -o out")                                                                        \
    X(coarse, "-i nowhere -o out")                                                                                     \
    X(dataset, "verify -i nowhere")                                                                                    \
    X(convert, "nowhere -o out")                                                                                       \
    X(diff, "nowhere nowhere")                                                                                         \
    X(embed, "-m nowhere -i nowhere -o out.h5")                                                                        \
    X(ensemble, "-i nowhere -o out")                                                                                   \
    X(evaluate, "-i nowhere -r nowhere -o out")                                                                        \
    X(predict, "-m nowhere -i nowhere -o out")                                                                         \
    X(report, "nowhere")                                                                                               \
    X(retrieve, "-m nowhere --pairs nowhere")                                                                          \
    X(saliency, "-m nowhere -i nowhere -t x -o out")                                                                   \
    X(sam, "-m nowhere -i nowhere -o out")                                                                             \
    X(segment, "--clip nowhere --sam nowhere -i nowhere -t x -o out")                                                  \
    X(uncertainty, "-i nowhere -o out")                                                                                \
    X(demo, "--clip nowhere -o out")                                                                                   \
    X(demo_start, "clip --atlas nowhere -o out")                                                                       \
    X(finetune, "-m nowhere --pairs nowhere -o out")                                                                   \
    X(plan, "-d 5 --raw nowhere --preprocessed out")                                                                   \
    X(preprocess, "-d 5 --raw nowhere --preprocessed out")                                                             \
    X(replay, "nowhere")                                                                                               \
    X(train, "-i nowhere -l nowhere -o out")
#define X(name, arguments) extern const struct mcs_verb mcs_verb_##name;
VERBS(X)
#undef X

static const struct {
    const struct mcs_verb *verb;
    const char *arguments;
} verbs[] = {
#define X(name, arguments) {&mcs_verb_##name, arguments},
    VERBS(X)
#undef X
};
enum { N_VERBS = sizeof verbs / sizeof *verbs };

static const char *or_dash(const char *text)
{
    return text ? text : "-";
}

static void print_table(FILE *f, const struct mcs_verb *verb)
{
    static const char *const types[] = {
        [MCS_OPT_STRING] = "text", [MCS_OPT_INT] = "integer", [MCS_OPT_REAL] = "number",
        [MCS_OPT_FLAG] = "flag",   [MCS_OPT_LIST] = "list",
    };
    fprintf(f, "%s: words %s, %d to %d\n", verb->name, or_dash(verb->args), verb->min_args, verb->max_args);
    for (const struct mcs_option *o = verb->options; o && o->name; o++) {
        fprintf(f, "  --%s", o->name);
        if (o->letter) fprintf(f, ", -%c", o->letter);
        if (o->alias) fprintf(f, ", --%s", o->alias);
        fprintf(f, ": %s, default %s", types[o->type], or_dash(o->def));
        if (o->choices) fprintf(f, ", one of %s", o->choices);
        if (o->lo < o->hi || o->lo > o->hi) fprintf(f, ", from %.9g to %.9g", o->lo, o->hi);
        fprintf(f, "%s, value %s\n", o->required ? ", required" : "", or_dash(o->value));
    }
}

/* Runs a verb in this process with arguments separated by spaces. */
static void expect_missing_input(const struct mcs_verb *verb, const char *arguments)
{
    char words[128], *argv[16], *rest = NULL, *env[] = {NULL};
    struct arena arena = {0};
    void *options = calloc(1, verb->options_bytes);
    int argc = 0;
    snprintf(words, sizeof words, "%s", arguments);
    for (char *w = strtok_r(words, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) argv[argc++] = w;
    cr_assert(options);
    cr_assert_eq(mcs_config_parse_env(verb, argc, argv, env, &arena, options), MCS_OK, "%s: %s", verb->name,
                 mcs_error_message());
    cr_expect_eq(verb->run(options), MCS_E_NOINPUT, "%s", verb->name);
    cr_expect(strstr(mcs_error_message(), "nowhere"), "%s: %s", verb->name, mcs_error_message());
    mcs_error_clear();
    mcs_arena_free(&arena);
    free(options);
}

Test(option_tables, are_those_that_users_know_and_missing_inputs_are_named)
{
    char *text, folder[] = "/tmp/mcs_options_XXXXXX";
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    cr_assert(f && mkdtemp(folder) && chdir(folder) == 0);
    mcs_log_quiet(1);
    for (int v = 0; v < N_VERBS; v++) {
        print_table(f, verbs[v].verb);
        expect_missing_input(verbs[v].verb, verbs[v].arguments);
    }
    fclose(f);
    cr_expect(chdir("/") == 0);
    char line[64];
    snprintf(line, sizeof line, "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
    expected_check("option_tables.txt", text);
    free(text);
}

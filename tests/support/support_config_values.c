#include "tests/support/support_config_values.h"

#include "tests/support/support_config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct mcs_option values_table[] = {
    {"input", 'i', MCS_FIELD(value_options, input), .required = 1, .value = "DIR", .help = "where from"},
    {"kind", 0, MCS_FIELD(value_options, kind), .def = "a", .choices = "a|bc", .help = "a text that is a choice"},
    {"step-count", 's', MCS_FIELD(value_options, steps), .def = "10", .lo = 1, .hi = 1000, .alias = "iterations"},
    {"any-number", 0, MCS_FIELD(value_options, any), .lo = 0},
    {"learning-rate", 0, MCS_FIELD(value_options, rate), .def = "0.1", .lo = -1, .hi = 1, .value = "X",
     .help = "how fast"},
    {"rank", 0, MCS_FIELD(value_options, rank), .def = "area", .choices = "confidence|area|text", .help = "by what"},
    {"fill", 'y', MCS_FIELD(value_options, fill), .def = "false", .help = "fill holes"},
    {"folds", 'f', MCS_FIELD(value_options, folds), .def = "0 1", .value = "N", .help = "which"},
    {"lesion.contrast", 0, MCS_FIELD(value_options, contrast), .def = "2", .help = "nested"},
    {0},
};

static enum mcs_status values_run(const void *o)
{
    return MCS_OK;
}

const struct mcs_verb values_verb = {.name = "try",
                                     .line = "a verb to try",
                                     .options = values_table,
                                     .options_bytes = sizeof(struct value_options),
                                     .run = values_run,
                                     .details = "And more."};
const struct mcs_verb values_verb_args = {.name = "words",
                                          .line = "takes words",
                                          .options = values_table,
                                          .options_bytes = sizeof(struct value_options),
                                          .run = values_run,
                                          .args = "SRC [DST]",
                                          .min_args = 1,
                                          .max_args = 2};
const struct mcs_verb values_verb_plain = {
    .name = "plain", .line = "no options", .options_bytes = sizeof(struct mcs_common), .run = values_run};
struct arena values_arena;
struct value_options values_got;
char values_file[64];

void values_open(void)
{
    snprintf(values_file, sizeof values_file, "/tmp/mcs_values_%ld.yaml", (long)getpid());
}

void values_close(void)
{
    unlink(values_file);
    mcs_arena_free(&values_arena);
    mcs_error_clear();
}

static void values_write_bytes(const char *text, size_t n)
{
    FILE *f = fopen(values_file, "w");
    cr_assert(f);
    cr_assert_eq(fwrite(text, 1, n, f), n);
    fclose(f);
}

void values_write(const char *text)
{
    values_write_bytes(text, strlen(text));
}

enum mcs_status values_parse(const struct mcs_verb *v, char **env, const char *line)
{
    return config_parse_line(v, env, line, values_file, &values_arena, &values_got);
}

void values_good(const struct mcs_verb *v, char **env, const char *line)
{
    cr_assert_eq(values_parse(v, env, line), MCS_OK, "'%s': %s", line, mcs_error_message());
}

void values_bad(const struct mcs_verb *v, const char *line, enum mcs_status st, const char *want)
{
    cr_expect_eq(values_parse(v, NULL, line), st, "'%s': %s", line, mcs_error_message());
    cr_expect_str_eq(mcs_error_message(), want, "'%s': got %s, want %s", line, mcs_error_message(), want);
}

void values_saved(const char *line, const char *want)
{
    GOOD(line);
    const char *text = strstr(mcs_config_text(&values_got, &values_arena), "input:");
    char own[4096];
    snprintf(own, sizeof own, "%.*s", (int)(strstr(text, "device: ") - text), text);
    cr_expect_str_eq(own, want, "'%s' gives\n%s, want\n%s", line, own, want);
}

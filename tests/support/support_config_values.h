/* A table with every kind of option, verbs with it, and command lines that are parsed into it or refused. */
#ifndef MCS_SUPPORT_CONFIG_VALUES_H
#define MCS_SUPPORT_CONFIG_VALUES_H

#include "engine/cli/config.h"

struct value_options {
    struct mcs_common common;
    const char *input, *kind;
    int64_t steps, any;
    double rate, contrast;
    int rank, fill;
    struct mcs_strings folds;
};

/* Without arguments, with one or two arguments, and without options. */
extern const struct mcs_verb values_verb, values_verb_args, values_verb_plain;
extern struct arena values_arena;
extern struct value_options values_got;
extern char values_file[64]; /* an options file, which "%" in a line stands for */
/* Before and after each test. */
void values_open(void);
void values_close(void);
void values_write(const char *text);
/* Parses a line into values_got (config_parse_line). */
enum mcs_status values_parse(const struct mcs_verb *v, char **env, const char *line);
/* The line is parsed, or the test ends. */
void values_good(const struct mcs_verb *v, char **env, const char *line);
#define GOOD(line) values_good(&values_verb, NULL, line)

/* The line is refused with this status and exactly this message. */
void values_bad(const struct mcs_verb *v, const char *line, enum mcs_status st, const char *want);
#define BAD(line, want) values_bad(&values_verb, line, MCS_E_USAGE, want)

/* The line's options give this saved text, of which only the verb's rows are compared. */
void values_saved(const char *line, const char *want);

#endif

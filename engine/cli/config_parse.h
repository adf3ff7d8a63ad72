/* One parse of a verb's options, shared by the readers of its sources: command line (command_line.c), environment
 * (environment.c) and YAML file (yaml.c). config.h is the interface. */
#ifndef MCS_CONFIG_PARSE_H
#define MCS_CONFIG_PARSE_H

#include "engine/cli/config.h"

enum { OPTION_NAME_BYTES = 64 };
/* Where a value came from; a later one in this list replaces an earlier one. */
enum source { FROM_NOWHERE, FROM_DEFAULT, FROM_FILE, FROM_ENVIRONMENT, FROM_COMMAND_LINE };

extern const struct mcs_option mcs_common_options[]; /* of every verb */
extern const struct mcs_option mcs_no_options[];     /* an empty table */

/* One parse: the rows of both tables, and the source of each value. */
struct config_parse {
    const struct mcs_verb *verb;
    struct arena *arena;
    char *options; /* the verb's structure */
    int n_rows;
    const struct mcs_option **rows; /* (n_rows) the verb's options, then the common ones */
    enum source *from;              /* (n_rows) */
    enum source args_from;          /* of the words that are not options */
};

/* An option on the command line, kept until file and environment are read. */
struct word {
    int row;           /* index into rows */
    const char *text;  /* its value, as mcs_option_set reads it */
    const char *where; /* for messages */
};

/* ---- options.c ---- */

/* The row of a long name or alias, of a letter; -1: none. */
int mcs_option_find(const struct config_parse *p, const char *name);
int mcs_option_find_letter(const struct config_parse *p, char letter);
/* The long name or alias nearest to an unknown one. */
const char *mcs_option_nearest(const struct config_parse *p, const char *name);
/* The length of word k of "a|b|c" and, in *word, its start; 0: there is no word k. */
int mcs_option_choice(const char *choices, int k, const char **word);
int mcs_option_takes_value(const struct mcs_option *o);
/* Sets one option from text. A list is emptied when a source of higher priority sets it for the first time. where: for
 * messages. E_USAGE. */
enum mcs_status mcs_option_set(struct config_parse *p, int row, const char *text, const char *where, enum source from);
/* Appends `text`, which is not copied. The array doubles when its length is a power of two. */
void mcs_strings_append(struct arena *arena, struct mcs_strings *list, const char *text);

/* ---- the sources ---- */

/* Splits the words into options and plain words. The options are stored in `words` (at most argc), the plain words in
 * common->args. */
enum mcs_status mcs_config_read_words(struct config_parse *p, int argc, char **argv, struct word *words, int *n_words);
/* The value of NAME in the environment; NULL: none, or empty. */
const char *mcs_environment_value(char **env, const char *name);
enum mcs_status mcs_config_read_environment(struct config_parse *p, char **env);
enum mcs_status mcs_config_read_file(struct config_parse *p, const char *path);

#endif

/* A line of options, parsed in a test. */
#ifndef MCS_SUPPORT_CONFIG_H
#define MCS_SUPPORT_CONFIG_H

#include "engine/cli/config.h"

/* Clears the error message and parses a line of at most 63 words, split at blanks; the word "%" stands for `file`. The
 * words are valid until the next call. env: NULL, or what mcs_config_parse_env takes. */
enum mcs_status config_parse_line(const struct mcs_verb *v, char **env, const char *line, char *file,
                                  struct arena *arena, void *options);

#endif

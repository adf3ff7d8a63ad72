/* Parses a command line in a test. */
#ifndef MCS_SUPPORT_CONFIG_H
#define MCS_SUPPORT_CONFIG_H

#include "engine/cli/config.h"

/* Clears the error message and parses a line of at most 63 words separated by blanks; the word "%" is replaced by
 * `file`. The words are valid until the next call. env: the environment for mcs_config_parse_env, or NULL. */
enum mcs_status config_parse_line(const struct mcs_verb *v, char **env, const char *line, char *file,
                                  struct arena *arena, void *options);

#endif

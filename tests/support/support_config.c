#include "tests/support/support_config.h"

#include <stdio.h>
#include <string.h>

enum mcs_status config_parse_line(const struct mcs_verb *v, char **env, const char *line, char *file,
                                  struct arena *arena, void *options)
{
    static char words[512], *argv[64];
    int n = 0;
    snprintf(words, sizeof words, "%s", line);
    for (char *w = strtok(words, " "); w; w = strtok(NULL, " ")) argv[n++] = strcmp(w, "%") == 0 ? file : w;
    mcs_error_clear();
    return mcs_config_parse_env(v, n, argv, env, arena, options);
}

/* Options in the environment: MCSAM_ and the name in capitals. */
#include "engine/cli/config_parse.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const char *environment_name(const struct mcs_option *o, char dst[OPTION_NAME_BYTES + 8])
{
    int n = snprintf(dst, OPTION_NAME_BYTES + 8, "MCSAM_%s", o->name);
    for (int i = 6; i < n && dst[i]; i++)
        dst[i] = dst[i] == '-' || dst[i] == '.' ? '_' : (char)toupper((unsigned char)dst[i]);
    return dst;
}

const char *mcs_environment_value(char **env, const char *name)
{
    const size_t n = strlen(name);
    for (; env && *env; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=' && (*env)[n + 1]) return *env + n + 1;
    return NULL;
}

enum mcs_status mcs_config_read_environment(struct config_parse *p, char **env)
{
    for (int i = 0; i < p->n_rows; i++) {
        char name[OPTION_NAME_BYTES + 8];
        const char *value = mcs_environment_value(env, environment_name(p->rows[i], name));
        if (value && strcmp(p->rows[i]->name, "help") != 0)
            MCS_TRY(mcs_option_set(p, i, value, name, FROM_ENVIRONMENT));
    }
    return MCS_OK;
}

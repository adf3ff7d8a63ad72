/* The command of a run, for the layers that do not know the command line: they name it in messages and record it
 * beside their results. */
#ifndef MCS_COMMAND_H
#define MCS_COMMAND_H

struct mcs_command {
    const char *verb;    /* name */
    const char *config;  /* path of the file of options that was read; NULL: none */
    const char *options; /* all options as resolved, YAML; a run's config.yaml */
};

#endif

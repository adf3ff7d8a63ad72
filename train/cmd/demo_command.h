/* The verb demo on the command line. */
#ifndef MCS_DEMO_COMMAND_H
#define MCS_DEMO_COMMAND_H

#include "engine/cli/config.h"
#include "train/demo/demo_run.h"

struct demo_command {
    struct mcs_common common;
    struct demo_options o; /* command, device, seed and form are set by mcs_demo_command_options */
};

/* The options for mcs_demo_run, with those of every verb; owned by the arena. */
struct demo_options mcs_demo_command_options(const struct demo_command *c, struct arena *arena);

#endif

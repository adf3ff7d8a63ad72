/* The commands that train on several ranks: opening and closing the run folder around the process group. */
#ifndef MCS_RANK_COMMAND_H
#define MCS_RANK_COMMAND_H

#include "engine/cli/config.h"
#include "train/run/process_group.h"

struct rank_command {
    const void *command;             /* the verb's structure of options */
    const struct mcs_common *common; /* its first field */
    const char *output;              /* run folder */
    int64_t gpus;                    /* --gpus */
    struct run_folder *run;          /* rank 0's, set by mcs_rank_command_run; NULL on other ranks and in a dry run */
};

/* Opens the run folder, runs body on every rank with r as its ctx, and closes the folder. */
enum mcs_status mcs_rank_command_run(struct rank_command *r,
                                     enum mcs_status (*body)(void *ctx, const struct process_group *group));
/* Rank 0, before anything is written into the folder: refuses its checkpoint if that is of another config (E_DATA), and
 * saves the options. config: the options, and the lines of train/run/training_data.h. */
enum mcs_status mcs_rank_command_begin(const struct rank_command *r, const char *config);

#endif

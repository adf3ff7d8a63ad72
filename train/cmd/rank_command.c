#include "train/cmd/rank_command.h"

#include "data/run/run_folder.h"
#include "engine/base/path.h"
#include "train/run/checkpoint.h"

enum mcs_status mcs_rank_command_run(struct rank_command *r,
                                     enum mcs_status (*body)(void *ctx, const struct process_group *group))
{
    const struct process_group_options group = {.command = &r->common->command,
                                                .device = &r->common->device,
                                                .dry_run = r->common->dry_run,
                                                .gpus = r->gpus,
                                                .run = r->output,
                                                .config = r->common->command.options};
    MCS_TRY(mcs_process_group_open_run(&group, &r->run));
    return mcs_run_close(r->run, mcs_process_group_run(&group, body, r));
}

enum mcs_status mcs_rank_command_begin(const struct rank_command *r, const char *config)
{
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(path, "%s/checkpoint.h5", r->output));
    MCS_TRY(mcs_checkpoint_check(path, config));
    return mcs_run_save_config(r->run);
}

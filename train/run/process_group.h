/* The process group of a training command: starts its ranks, opens a device and a communicator on each, and broadcasts
 * rank 0's weights. Collectives inside a step are in engine/dist/data_parallel.h. */
#ifndef MCS_PROCESS_GROUP_H
#define MCS_PROCESS_GROUP_H

#include "engine/base/command.h"
#include "engine/base/device_options.h"
#include "engine/dist/comm.h"
#include "engine/optim.h"

/* The process group as one rank sees it. */
struct process_group {
    struct device *device;
    struct comm *comm; /* NULL: one rank, or a dry run */
    int rank, size;
};

struct process_group_options {
    const struct mcs_command *command;       /* for mcs_process_group_open_run */
    const struct mcs_device_options *device; /* its gpu is the first rank's; its threads are shared by the ranks */
    int dry_run;
    int64_t gpus;       /* --gpus: number of ranks, as threads of this process; 0: one, or a launcher's ranks */
    const char *run;    /* folder of the run; rendezvous of launched ranks is in RUN/.ranks */
    const char *config; /* resolved options; must be the same on all ranks */
};

/* Runs body on every rank of this process with its device opened: GPU (--gpu + local rank) modulo the number of GPUs. A
 * dry run executes rank 0 only, without a communicator. E_USAGE: both a launcher and --gpus, more --gpus than GPUs,
 * inconsistent launcher variables. */
enum mcs_status mcs_process_group_run(const struct process_group_options *o,
                                      enum mcs_status (*body)(void *ctx, const struct process_group *group), void *ctx);

/* Opens the run's folder for a training verb: rank 0's process creates and locks it. *run is NULL in a dry run and on
 * launched processes of other ranks. */
struct run_folder;
enum mcs_status mcs_process_group_open_run(const struct process_group_options *o, struct run_folder **run);

/* E_USAGE if the batch size is not a multiple of the number of ranks. */
enum mcs_status mcs_process_group_check_batch(int size, int64_t batch);
/* Broadcasts rank 0's weights, moments and number of steps done. c == NULL: one rank. */
enum mcs_status mcs_process_group_broadcast(struct comm *c, struct params *p, struct optim *o, int64_t *step);

#endif

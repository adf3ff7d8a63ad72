/* The ranks of a training command, and what they do together beside what happens inside a step (engine/dist/joint.h).
 */
#ifndef MCS_TEAM_H
#define MCS_TEAM_H

#include "engine/cli/config.h"
#include "engine/dist/comm.h"
#include "engine/optim.h"

/* What one rank has. */
struct team {
    struct device *device;
    struct comm *comm; /* NULL: one rank, or a dry run */
    int rank, size;
};

struct team_options {
    const struct mcs_common *common;
    int64_t gpus;       /* --gpus: so many ranks as threads of this process; 0: one, or those that a launcher started */
    const char *run;    /* folder of the run: launched ranks meet in RUN/.ranks */
    const char *config; /* resolved options; must be the same on all ranks */
};
/* The option of every training verb. */
#define MCS_GPUS_OPTION(structure)                                                                                     \
    {                                                                                                                  \
        "gpus", 0, MCS_FIELD(structure, gpus),                                                                         \
            .alias = "ranks", .def = "0", .lo = 0, .hi = 64, .value = "N",                                             \
            .help =                                                                                                    \
                "train on N GPUs (with --device cpu: shares of its cores); 0: one, or as mpirun, srun or RANK and "    \
                "WORLD_SIZE say"                                                                                       \
    }

/* Runs body on every rank of this process, each with its device opened: GPU --gpu + its number on its machine, in turn
 * over those there are. In a dry run rank 0 alone runs, without a communicator. E_USAGE: a launcher and --gpus both,
 * more ranks here than GPUs, a launcher's variables that make no sense. */
enum mcs_status mcs_team_run(const struct team_options *o, enum mcs_status (*body)(void *ctx, const struct team *t),
                             void *ctx);

/* Opens the run's folder for a training verb: makes it and locks it, on the process that has rank 0. *run is NULL in a
 * dry run and on launched processes of other ranks. */
struct run_folder;
enum mcs_status mcs_team_open_run(const struct team_options *o, struct run_folder **run);

/* E_USAGE where a batch does not divide into the ranks. */
enum mcs_status mcs_team_check(int size, int64_t batch);
/* Gives rank 0's weights, moments and number of steps done to all. c == NULL: one rank. */
enum mcs_status mcs_team_start(struct comm *c, struct params *p, struct optim *o, int64_t *step);

#endif

/* The rank of this process or thread, and the number of ranks. A rank is a process that a launcher started, or a thread
 * of this process; each uses a separate device. */
#ifndef MCS_RANKS_H
#define MCS_RANKS_H

#include "engine/base/status.h"

struct ranks {
    int rank, size;
    int local_rank;       /* among the ranks of its machine: the device's number; -1: unknown until the rendezvous */
    const char *launcher; /* "srun", ...; NULL: no launcher */
    const char *folder;   /* folder of the rendezvous: mcs_comm_open */
    int follows;          /* set by a communicator: this rank failed because another one left */
};

/* Reads the launcher's variables from env ("NAME=value", NULL-ended; NULL: this process's environment): Open MPI's,
 * MVAPICH's and MPICH's mpirun, RANK / WORLD_SIZE / LOCAL_RANK (torchrun; MASTER_ADDR is not needed), and srun. If
 * several of the first four are set, they must agree; they take precedence over srun, which may have started one
 * launcher per machine. srun is recognised by SLURM_STEP_NUM_TASKS, since a batch script too has SLURM_NTASKS and
 * SLURM_PROCID. None: rank 0 of 1. E_USAGE: a variable without its counterpart, not a number, a rank beyond the size,
 * launchers that contradict each other. */
enum mcs_status mcs_ranks_find(char *const *env, struct ranks *r);

/* Runs body as n ranks, each a thread; rank 0 is the calling thread, the others print no messages. Waits for all.
 * Returns the status and message of the lowest rank that failed by itself, else of the lowest rank that failed because
 * another did. Creates and removes the folder of the rendezvous. n 1: calls body directly. */
enum mcs_status mcs_ranks_run(int n, enum mcs_status (*body)(void *ctx, struct ranks *r), void *ctx);

#endif

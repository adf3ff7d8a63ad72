/* Which rank of how many this is. A rank is a process that a launcher started, or a thread of this process; each has a
 * device of its own. */
#ifndef MCS_RANKS_H
#define MCS_RANKS_H

#include "engine/base/status.h"

struct ranks {
    int rank, size;
    int local_rank;       /* among the ranks of its machine: the device's number; -1: not known before they meet */
    const char *launcher; /* "srun", ...; NULL: nobody started several */
    const char *folder;   /* where they meet: mcs_comm_open */
    int follows;          /* set by a communicator: this rank failed since another one left */
};

/* Reads the launcher's variables out of env ("NAME=value", NULL-ended; NULL: this process's own): Open MPI's, MVAPICH's
 * and MPICH's mpirun, RANK / WORLD_SIZE / LOCAL_RANK (torchrun; MASTER_ADDR is not needed), and srun. The first four
 * must agree where several are set; they stand before srun's, which may have started one launcher a machine. srun is
 * known by SLURM_STEP_NUM_TASKS, since a batch script too has SLURM_NTASKS and SLURM_PROCID. None: rank 0 of 1.
 * E_USAGE: a variable without its partner, no number, a rank beyond the size, launchers that contradict each other. */
enum mcs_status mcs_ranks_find(char *const *env, struct ranks *r);

/* Runs body as n ranks, each a thread; rank 0 is the calling thread, the others print no messages. Waits for all. The
 * status and message are those of the first rank, by number, that failed by itself, else of the first that failed. The
 * folder where they meet is made and removed here. n 1: calls body alone. */
enum mcs_status mcs_ranks_run(int n, enum mcs_status (*body)(void *ctx, struct ranks *r), void *ctx);

#endif

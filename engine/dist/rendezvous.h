/* Rendezvous: ranks find each other through small files in a folder that all of them see. Files that an earlier launch
 * left there do no harm: each rank has a new name (machine, process, thread, time), rank 0 writes the list of names it
 * saw, each rank looks for its name in the list and confirms, and the list is complete only when all ranks have
 * confirmed it.
 *
 * MPI is not used: it would need a build for each MPI (no common binary interface before MPI 5) for this exchange
 * alone, since the data goes by NCCL. */
#ifndef MCS_RENDEZVOUS_H
#define MCS_RENDEZVOUS_H

#include "engine/base/path.h"
#include "engine/dist/ranks.h"

#include <stddef.h>

enum { RENDEZVOUS_NAME_BYTES = 96, UNIQUE_ID_BYTES = 512 };

struct rendezvous {
    char folder[MCS_PATH_BYTES];
    char name[RENDEZVOUS_NAME_BYTES], leader[RENDEZVOUS_NAME_BYTES]; /* this rank's and rank 0's */
    int rank, size, local_rank;
    int n_machines;
    struct rendezvous_peer *peers; /* (size) */
    void *heartbeat;               /* touches FOLDER/alive.RANK regularly */
};

/* Waits for all ranks. unique_id (UNIQUE_ID_BYTES bytes): rank 0's is copied to all. same: text that must be equal on
 * all ranks, such as a hash of the options. E_FAIL after timeout_s seconds, with the ranks that are missing; E_USAGE
 * where `same` differs; E_IO. */
enum mcs_status mcs_rendezvous(struct rendezvous *m, const struct ranks *r, const char *same, double timeout_s,
                               char *unique_id);
/* Tells the other ranks that this one leaves (message NULL: without an error), and removes its files. */
void mcs_rendezvous_leave(struct rendezvous *m, const char *message);
/* Watches the other ranks: returns 1 and the reason in `what` where one has left, or has shown no heartbeat for
 * heartbeat_timeout_s seconds since the first call. Costs a few file system calls per rank: call it about once a second
 * while waiting. */
int mcs_rendezvous_lost(struct rendezvous *m, double heartbeat_timeout_s, char *what, size_t n);

#endif

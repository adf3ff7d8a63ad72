/* How ranks find each other: through small files in a folder that all of them see. What an earlier launch left there
 * does no harm: each rank names itself anew (machine, process, thread, time), rank 0 writes down the names it saw, each
 * rank looks for its own among them and confirms, and only when all have confirmed this very list is it complete.
 *
 * MPI would need a build for each MPI (no common binary interface before MPI 5), and of all it offers only this
 * exchange is wanted: the data goes by NCCL. */
#ifndef MCS_RENDEZVOUS_H
#define MCS_RENDEZVOUS_H

#include "engine/dist/ranks.h"

#include <stddef.h>

enum { RENDEZVOUS_NAME = 96, UNIQUE_ID_BYTES = 512 };

struct rendezvous {
    char folder[1024];
    char name[RENDEZVOUS_NAME], leader[RENDEZVOUS_NAME]; /* this rank's and rank 0's */
    int rank, size, local_rank;
    int n_machines;
    struct rendezvous_peer *peers; /* (size) */
    void *heartbeat;               /* keeps FOLDER/alive.RANK young */
};

/* Waits until all ranks are here. unique_id (UNIQUE_ID_BYTES bytes): rank 0's is copied to all. same: a text that must
 * be the same on all ranks, such as a hash of the options. E_FAIL after timeout_s seconds, with the ranks that are
 * missing; E_USAGE where `same` differs; E_IO. */
enum mcs_status mcs_rendezvous(struct rendezvous *m, const struct ranks *r, const char *same, double timeout_s,
                               char *unique_id);
/* Tells the others that this rank leaves (message NULL: in peace), and removes its files. */
void mcs_rendezvous_leave(struct rendezvous *m, const char *message);
/* Looks after the others: 1 and what happened in `what` where one has left, or has shown no sign of life for
 * heartbeat_timeout_s seconds since the first look. Costs a few file system calls a rank: to be called about once a
 * second while waiting.
 */
int mcs_rendezvous_lost(struct rendezvous *m, double heartbeat_timeout_s, char *what, size_t n);

#endif

/* A communicator: collective operations of several ranks. Every rank calls the same collectives in the same order with
 * the same sizes. All memory named here is device memory, floats. Where the device has queues, a call is enqueued: it
 * comes after the device's earlier steps, runs concurrently with later ones, and later steps see its results after
 * mcs_comm_join. Elsewhere a call is finished when it returns.
 *
 *     struct comm *c;
 *     MCS_TRY(mcs_comm_open(&(struct comm_options){.ranks = r}, device, &c));    // c is NULL for one rank
 *     MCS_TRY(mcs_comm_allreduce_sum(c, gradient, n, "gradient"));
 *     mcs_comm_close(c, st);                                                     // tells the others of a failure
 *
 * If a rank leaves, by an error or killed, the other ranks' current or next collective fails with E_FAIL and a message
 * that names the rank and the collective: at once on one machine, within half a minute on several. After a failure the
 * only valid call is mcs_comm_close. Sums are added in an order that depends on the number of ranks alone. c == NULL
 * means one rank and is valid in every call but mcs_comm_allgather. */
#ifndef MCS_COMM_H
#define MCS_COMM_H

#include "engine/backend.h"
#include "engine/dist/rendezvous.h"

struct comm_options {
    struct ranks *ranks;
    const char *same; /* text that must be equal on all ranks, such as the resolved options; NULL: nothing to compare */
    double rendezvous_s; /* longest wait for all ranks to arrive; 0: 300 s */
    double timeout_s; /* longest wait in a collective while the others are alive; 0: MCSAM_COMM_TIMEOUT, else 900 s */
    double heartbeat_timeout_s; /* a rank without a heartbeat for so long counts as dead (several machines); 0: 30 s */
};

struct comm;
struct comm_ops {
    const char *name;
    int enqueues; /* calls return at once and can be recorded for replay with the steps around them */
    void (*make_unique_id)(char id[UNIQUE_ID_BYTES]);       /* rank 0 makes it; the rendezvous hands it to all ranks */
    void (*drop_unique_id)(const char id[UNIQUE_ID_BYTES]); /* after a rendezvous that failed; may be NULL */
    enum mcs_status (*attach)(struct comm *c, const char id[UNIQUE_ID_BYTES]);
    enum mcs_status (*allreduce_sum)(struct comm *c, float *x, int64_t n);
    enum mcs_status (*allgather)(struct comm *c, const float *src, float *dst, int64_t n);
    enum mcs_status (*broadcast)(struct comm *c, float *x, int64_t n);
    enum mcs_status (*join)(struct comm *c); /* enqueues a wait for the collectives; NULL: nothing to wait for */
    enum mcs_status (*wait)(struct comm *c); /* waits for all enqueued work while watching for lost ranks */
    void (*detach)(struct comm *c, const char *message); /* message for the other ranks; NULL: left without an error */
};
/* engine/dist/host.c: ranks of one machine, threads or processes, through memory they share. */
extern const struct comm_ops mcs_comm_host;

struct comm {
    const struct comm_ops *ops;
    struct device *device;
    struct ranks *ranks;
    struct rendezvous rendezvous;
    int rank, size;
    double timeout_s, heartbeat_timeout_s;
    const char *what, *doing; /* the current collective: "gradient", "allreduce" */
    int64_t n_calls;          /* collectives so far */
    int broken;               /* a collective failed: only mcs_comm_close is valid */
    float *scratch;           /* device, (COMM_VALUES (1 + size)), for mcs_comm_values */
    float *gathered;          /* host, (size) */
    void *state;              /* the implementation's data */
};

/* Runs the rendezvous of all ranks in ranks->folder and the communicator: the device's where it has one
 * (backend->comm), else the one in host memory. Sets ranks->local_rank where it was -1. E_DEVICE: ranks of several
 * machines on a device without a communicator. */
enum mcs_status mcs_comm_open(const struct comm_options *o, struct device *d, struct comm **c);
void mcs_comm_close(struct comm *c, enum mcs_status st);
int mcs_comm_rank(const struct comm *c);
int mcs_comm_size(const struct comm *c);

/* what: a name for messages; must stay valid. x (n) := sum over ranks. */
enum mcs_status mcs_comm_allreduce_sum(struct comm *c, float *x, int64_t n, const char *what);
/* dst (size,n) := src (n) of each rank; src must not be inside dst. c == NULL: copies nothing, E_FAIL. */
enum mcs_status mcs_comm_allgather(struct comm *c, const float *src, float *dst, int64_t n, const char *what);
/* x (n) := rank 0's x. */
enum mcs_status mcs_comm_broadcast(struct comm *c, float *x, int64_t n, const char *what);
/* The device's later work sees the results of all collectives so far. */
enum mcs_status mcs_comm_join(struct comm *c);
/* Waits until all enqueued work is done, and reports errors. */
enum mcs_status mcs_comm_wait(struct comm *c);
/* For host values: all (size,n) := mine (n) of each rank. n at most COMM_VALUES. Waits. c == NULL: all := mine. */
enum { COMM_VALUES = 64 };
enum mcs_status mcs_comm_values(struct comm *c, const float *mine, int n, float *all, const char *what);
/* largest := the largest v of all ranks, so that all ranks take the same decision. Waits. */
enum mcs_status mcs_comm_allreduce_max(struct comm *c, int v, int *largest, const char *what);
/* Waits until all ranks have called it. */
enum mcs_status mcs_comm_barrier(struct comm *c, const char *what);

/* For implementations: marks the communicator as broken and returns E_FAIL with the collective's name and number, and
 * `happened` as the reason. */
enum mcs_status mcs_comm_lost(struct comm *c, const char *happened);

#endif

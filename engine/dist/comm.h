/* A communicator: what several ranks do together. Every rank calls the same collectives in the same order with the same
 * sizes. All memory named here is the device's, floats. Where the device has queues a call is enqueued: it sees what
 * the device's steps before it made, runs beside those after it, and is over for them at mcs_comm_join. Elsewhere it is
 * over when it returns.
 *
 *     struct comm *c;
 *     MCS_TRY(mcs_comm_open(&(struct comm_options){.ranks = r}, device, &c));    // NULL where there is one rank
 *     MCS_TRY(mcs_comm_allreduce_sum(c, gradient, n, "gradient"));
 *     mcs_comm_close(c, st);                                                     // st tells the others why, if it
 * failed
 *
 * A rank that leaves, by an error or killed, ends the others' next or present collective with E_FAIL and a message that
 * names it and the collective: at once on one machine, within half a minute on several. After a failure a communicator
 * is only good for closing. Sums are added in an order that the number of ranks alone fixes. Every call takes c ==
 * NULL: one rank. */
#ifndef MCS_COMM_H
#define MCS_COMM_H

#include "engine/backend.h"
#include "engine/dist/rendezvous.h"

struct comm_options {
    struct ranks *ranks;
    const char *same;    /* must be the same on all ranks, such as the resolved options; NULL: nothing */
    double rendezvous_s; /* longest wait for all ranks to come; 0: 300 s */
    double timeout_s; /* longest wait in a collective while the others are alive; 0: MCSAM_COMM_TIMEOUT, else 900 s */
    double heartbeat_timeout_s; /* without a sign of life for so long a rank is taken for dead (several machines); 0: 30
                                   s */
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
    enum mcs_status (*join)(struct comm *c); /* NULL: nothing is left to join */
    enum mcs_status (*wait)(struct comm *c); /* for all that is enqueued; the others are watched */
    void (*detach)(struct comm *c, const char *message);
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
    const char *what, *doing; /* the collective at hand: "gradient", "sum" */
    int64_t n_calls;
    int broken;
    float *scratch;  /* device, for mcs_comm_values */
    float *gathered; /* host, (size) */
    void *state;     /* the implementation's data */
};

/* Meets the other ranks in ranks->folder. The device's own communicator is used where it has one (backend->comm), else
 * memory of the machine. ranks->local_rank is set where it was -1. E_DEVICE: ranks of several machines on a device
 * without a communicator. */
enum mcs_status mcs_comm_open(const struct comm_options *o, struct device *d, struct comm **c);
void mcs_comm_close(struct comm *c, enum mcs_status st);
int mcs_comm_rank(const struct comm *c);
int mcs_comm_size(const struct comm *c);

/* what: for messages, must live on. x (n) := sum over ranks. */
enum mcs_status mcs_comm_allreduce_sum(struct comm *c, float *x, int64_t n, const char *what);
/* dst (size,n) := src (n) of each rank; src may not lie in dst. c == NULL: copies nothing, E_FAIL. */
enum mcs_status mcs_comm_allgather(struct comm *c, const float *src, float *dst, int64_t n, const char *what);
/* x (n) := rank 0's. */
enum mcs_status mcs_comm_broadcast(struct comm *c, float *x, int64_t n, const char *what);
/* What the device runs from here on sees the results of all collectives so far. */
enum mcs_status mcs_comm_join(struct comm *c);
/* Waits until all that was enqueued is done, and reports what failed. */
enum mcs_status mcs_comm_wait(struct comm *c);
/* Numbers of the host: all (size,n) := mine (n) of each rank. n at most COMM_VALUES. Waits. c == NULL: all := mine. */
enum { COMM_VALUES = 64 };
enum mcs_status mcs_comm_values(struct comm *c, const float *mine, int n, float *all, const char *what);
/* The largest of all ranks' v: what they agree on. Waits. */
enum mcs_status mcs_comm_allreduce_max(struct comm *c, int v, int *largest, const char *what);
/* All ranks have come here. */
enum mcs_status mcs_comm_barrier(struct comm *c, const char *what);

/* For implementations: the failure of a collective of which `happened` is the reason, with its name and number. */
enum mcs_status mcs_comm_lost(struct comm *c, const char *happened);

#endif

/* What a device must offer: memory, and an implementation of every op of ops.def. A missing op is a link error. */
#ifndef MCS_BACKEND_H
#define MCS_BACKEND_H

#include "engine/tape/graph.h"

struct op_impl {
    /* Once per step when a plan is bound: sets s->prepared and s->workspace_bytes, reads shapes only (data is not
     * placed yet). */
    enum mcs_status (*prepare)(struct step *s, struct device *d);
    enum mcs_status (*fwd)(const struct step *s);
    enum mcs_status (*bwd)(const struct step *s); /* NULL for NOGRAD ops */
    void (*release)(struct step *s);              /* frees s->prepared; may be NULL */
};

/* What bench asks of a device; a backend may have none of it, and a part may be NULL. */
struct peer { /* another implementation of a step, with buffers of its own, on the step's data */
    const char *name;
    char missing[160]; /* why it cannot be run here; "" if it can */
    int adds_bias;
};
struct device_counts {
    uint64_t launches, blocks, threads, tensor_products; /* m16n8k16, a warp's each */
};
struct measure {
    /* seconds (n) of n calls of f by the device's own clock, each enqueued after its caches were filled otherwise. */
    enum mcs_status (*time)(struct device *d, enum mcs_status (*f)(void *), void *arg, int n, double *seconds);
    enum mcs_status (*copy)(struct device *d, void *dst, const void *src, int64_t bytes); /* within it, enqueued */
    /* Peer number `which` of a prepared step with its data, *p NULL: there are no more. */
    enum mcs_status (*peer_new)(const struct step *s, int which, struct peer **p);
    enum mcs_status (*peer_run)(void *p);
    void (*peer_free)(struct peer *p);
    /* What was done since the last call, everything enqueued included. A device that has it tells no times. */
    enum mcs_status (*counts)(struct device *d, struct device_counts *c);
};

struct optim_update; /* engine/optim.h */
struct comm_ops;
struct device_ops;

struct backend {
    const char *name;
    const struct op_impl *ops;                                           /* MCS_N_OPS of them */
    enum mcs_status (*alloc)(struct device *d, int64_t bytes, void **p); /* 64-byte aligned, not cleared */
    void (*free)(struct device *d, void *p);
    /* E_NOMEM, with what would fit, where fixed + by_batch bytes are not free now; by_batch grows with the batch. NULL:
     * there is as much as the system gives. */
    enum mcs_status (*room)(struct device *d, int64_t fixed, int64_t by_batch, int64_t batch);
    enum mcs_status (*upload)(struct device *d, void *dst, const void *src, int64_t bytes);
    enum mcs_status (*download)(struct device *d, void *dst, const void *src, int64_t bytes);
    enum mcs_status (*zero)(struct device *d, void *dst, int64_t bytes);
    enum mcs_status (*sync)(struct device *d); /* waits, and reports what failed since */
    /* For engine/optim.c: the gradient's norm over the ranges, in an order that the ranges alone fix, then one update
     * of the weights by the clipped gradient, or none where the norm is not finite. optim_norm waits for the last
     * update and says that norm. No heap allocation in a step. */
    enum mcs_status (*optim_update)(struct device *d, const struct optim_update *u);
    enum mcs_status (*optim_norm)(struct device *d, double *norm);
    /* Before the steps of a run are enqueued: what they read of `run`. NULL: steps read it themselves. */
    enum mcs_status (*begin_run)(struct device *d, const struct run_state *run);
    /* Steps enqueued between begin and end are recorded, not run; replay enqueues them all at once, with the same
     * pointers. NULL: the backend runs each step when it is called. */
    enum mcs_status (*capture_begin)(struct device *d);
    enum mcs_status (*capture_end)(struct device *d, void **captured);
    enum mcs_status (*replay)(struct device *d, void *captured);
    void (*captured_free)(struct device *d, void *captured);
    void (*close)(struct device *d); /* when no exec or params use it */
    /* Collectives that run on the device (engine/dist/comm.h); NULL, or returns NULL: they go through the host. */
    const struct comm_ops *(*comm)(void);
    const struct device_ops *device_ops;    /* engine/device_ops.h; never NULL */
    const struct measure *(*measure)(void); /* NULL, or returns NULL: the host's clock */
};

struct device {
    const struct backend *backend;
    void *state; /* the backend's own */
};

/* engine/cpu/cpu.c. threads 0 = all cores. Several threads may each have one open; close when no exec or params use it.
 */
enum mcs_status mcs_cpu_open(int threads, struct device *d);
void mcs_cpu_close(struct device *d);

static inline void mcs_device_close(struct device *d)
{
    if (d->backend) d->backend->close(d);
}

#endif

/* The interface that a device implements: memory, and an implementation of every op of ops.def. A missing op is a link
 * error. */
#ifndef MCS_BACKEND_H
#define MCS_BACKEND_H

#include "engine/tape/graph.h"

struct op_impl {
    /* Called once per step when an executor is made: sets s->prepared and s->workspace_bytes. Reads shapes only, since
     * tensors have no memory yet. */
    enum mcs_status (*prepare)(struct step *s);
    enum mcs_status (*fwd)(const struct step *s);
    enum mcs_status (*bwd)(const struct step *s); /* NULL for an op without a backward pass (ops.def) */
    void (*release)(struct step *s);              /* frees s->prepared; may be NULL */
};

/* Measurements for `bench`. All of it is optional: a backend may have no struct measure, and any member may be NULL. */
struct peer { /* another implementation of a step for comparison, with private buffers, run on the step's data */
    const char *name;
    char missing[160]; /* why it cannot be run here; "" if it can */
    int adds_bias;     /* its output has the bias; else it is compared without */
};
struct device_counts {
    uint64_t launches, blocks, threads, tensor_products; /* tensor_products: m16n8k16 MMAs, counted per warp */
};
struct measure {
    /* seconds (n): durations of n calls of f by the device's clock. The caches are overwritten before each call; calls
     * are enqueued. */
    enum mcs_status (*time)(struct device *d, enum mcs_status (*f)(void *), void *arg, int n, double *seconds);
    enum mcs_status (*copy)(struct device *d, void *dst, const void *src, int64_t bytes); /* enqueued on the device */
    /* Creates peer number `which` for a prepared step and its data; *p is NULL when there are no more. */
    enum mcs_status (*peer_new)(const struct step *s, int which, struct peer **p);
    enum mcs_status (*peer_run)(void *p);
    void (*peer_free)(struct peer *p);
    /* The device's work since the last call, enqueued work included. A device that has this call does not measure
     * times. */
    enum mcs_status (*counts)(struct device *d, struct device_counts *c);
};

struct optim_update; /* engine/optim.h */
struct comm_ops;
struct device_ops;

struct backend {
    const char *name;
    const struct op_impl *ops;                                           /* MCS_N_OPS entries */
    enum mcs_status (*alloc)(struct device *d, int64_t bytes, void **p); /* 64-byte aligned, not cleared */
    void (*free)(struct device *d, void *p);                             /* p NULL: nothing */
    /* E_NOMEM, with the batch that would fit, where fixed + by_batch bytes are not free now; by_batch is proportional
     * to the batch. NULL: no check. */
    enum mcs_status (*check_memory)(struct device *d, int64_t fixed, int64_t by_batch, int64_t batch);
    enum mcs_status (*upload)(struct device *d, void *dst, const void *src, int64_t bytes);
    enum mcs_status (*download)(struct device *d, void *dst, const void *src, int64_t bytes);
    enum mcs_status (*zero)(struct device *d, void *dst, int64_t bytes);
    enum mcs_status (*sync)(struct device *d); /* waits, and reports errors since the last sync */
    /* For engine/optim.c: computes the gradient's norm over the ranges, summed in an order that the ranges alone
     * determine, then updates the weights once by the clipped gradient, or not at all where the norm is not finite.
     * optim_norm waits for the last update and returns that norm. No heap allocation in a step. */
    enum mcs_status (*optim_update)(struct device *d, const struct optim_update *u);
    enum mcs_status (*optim_norm)(struct device *d, double *norm);
    /* Called before a run's steps are enqueued: copies the parts of `run` that they read. NULL: steps read `run`
     * themselves. */
    enum mcs_status (*begin_run)(struct device *d, const struct run_state *run);
    /* Steps enqueued between begin and end are recorded, not run; replay enqueues all of them at once, with the same
     * pointers. NULL: the backend runs each step when it is called, so that there is nothing to record. */
    enum mcs_status (*capture_begin)(struct device *d);
    enum mcs_status (*capture_end)(struct device *d, void **captured);
    enum mcs_status (*replay)(struct device *d, void *captured);
    void (*captured_free)(struct device *d, void *captured);
    void (*close)(struct device *d); /* after all exec and params that use it are freed */
    /* Collectives that run on the device (engine/dist/comm.h). NULL, or a NULL result: collectives go through host
     * memory. */
    const struct comm_ops *(*comm)(void);
    const struct device_ops *device_ops;    /* engine/device_ops.h; never NULL */
    const struct measure *(*measure)(void); /* NULL, or a NULL result: times are taken by the host's clock */
};

struct device {
    const struct backend *backend;
    void *state;                /* the backend's data */
    enum mcs_dtype activations; /* of graphs made for it: MCS_F32 after the backend's open; mcs_device_open sets it */
};

/* engine/cpu/cpu.c. threads 0 = all cores. Each thread may open one. Close it after all exec and params that use it are
 * freed. */
enum mcs_status mcs_cpu_open(int threads, struct device *d);
void mcs_cpu_close(struct device *d);

static inline void mcs_device_close(struct device *d)
{
    if (d->backend) d->backend->close(d);
}

#endif

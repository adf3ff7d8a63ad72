/* Runs a planned graph on a device: a loop over a flat array of steps. */
#ifndef MCS_EXEC_H
#define MCS_EXEC_H

#include "engine/backend.h"
#include "engine/plan.h"

struct exec {
    struct graph *graph;
    struct device *device;
    struct plan plan;
    char *arena, *workspace;
    /* Called after step i was enqueued, to enqueue what belongs behind it (collectives); NULL: nothing. Set once,
     * before the first run. no_capture: it waits for the device, so the steps cannot be recorded for replay. */
    enum mcs_status (*after_step)(void *ctx, int i);
    void *after_ctx;
    int no_capture;
    double *step_seconds; /* sums by step once they are timed, else NULL */
    int64_t n_runs;
    struct { /* all steps, the forward ones, the backward ones */
        int64_t n_runs;
        void *captured; /* by backends that can, of the second run on; replayed while steps are not timed */
    } part[3];
};

/* Plans the graph, prepares every step, allocates the arena and binds all tensors. The graph's params must be allocated
 * (mcs_params_alloc) and, where the graph has a backward part, have gradients. Owned by the caller; the graph must
 * outlive it. */
enum mcs_status mcs_exec_new(struct graph *g, struct device *d, struct exec **e);
void mcs_exec_free(struct exec *e);

/* Copies into an input (or a seed's gradient) / out of a kept tensor: as many floats (or int32) as it has elements,
 * whatever the device keeps them in. */
enum mcs_status mcs_exec_set(struct exec *e, const struct tensor *t, const void *src);
enum mcs_status mcs_exec_get(struct exec *e, const struct tensor *t, void *dst);

/* All steps; the forward steps alone; the backward steps alone (after a forward). No heap allocation. */
enum mcs_status mcs_exec_run(struct exec *e);
enum mcs_status mcs_exec_forward(struct exec *e);
enum mcs_status mcs_exec_backward(struct exec *e);

/* Times each step from now on, into step_seconds; the device is waited for after each. E_NOMEM. */
enum mcs_status mcs_exec_time_steps(struct exec *e);

/* The trace of --trace, a Perfetto (Chrome JSON) file: every executor made while it is open times its steps and adds
 * them when it is freed, as one process of the trace, each step with its mean time over the runs. E_IO. Close is E_IO
 * too where a write failed, and does nothing where no trace is open. */
enum mcs_status mcs_exec_trace_open(const char *path);
enum mcs_status mcs_exec_trace_close(void);

#endif

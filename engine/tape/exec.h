/* Runs a planned graph on a device: a loop over a flat array of steps. */
#ifndef MCS_EXEC_H
#define MCS_EXEC_H

#include "engine/backend.h"
#include "engine/tape/plan.h"

/* Device memory that executors use in turn: activations, inputs and workspace, each as large as the largest of them
 * asks for. Constants belong to each executor.
 *
 *     struct exec_memory memory = {.device = d};
 *     for (int i = 0; i < n; i++) MCS_TRY(mcs_exec_new_in(&memory, graph[i], &exec[i])); // plans; takes no memory yet
 *     MCS_TRY(mcs_exec_memory_alloc(&memory));                                           // now each of them can run
 *     ... for (int i = 0; i < n; i++) mcs_exec_free(exec[i]); mcs_exec_memory_free(&memory);
 *
 * Inputs hold until inputs of another executor are set, kept tensors until another executor runs. So each run sets all
 * of its executor's inputs but the constants; and the inputs of the next run, whichever executor it is of, may be set
 * while a device still works on the last one, and before what that one leaves is read. */
struct exec_memory {
    struct device *device;
    char *activations, *inputs, *workspace;
    int64_t activation_bytes, input_bytes, workspace_bytes; /* allocated */
    struct exec *first;                                     /* the executors that use it */
};

struct exec {
    struct graph *graph;
    struct device *device;
    struct plan plan;
    struct exec_memory *memory; /* shared, or own */
    struct exec_memory own;
    struct exec *next; /* in memory's list */
    char *constants;
    int bound; /* its tensors point into memory */
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

/* The same in memory that it shares, which must outlive it: plans and prepares alone, so that e->plan is known; the
 * parameters may still be without memory. */
enum mcs_status mcs_exec_new_in(struct exec_memory *m, struct graph *g, struct exec **e);
/* Gives memory to all executors made since the last call. Where one needs more than there is, all memory is taken anew:
 * inputs and kept tensors are lost, and what was captured is captured again. E_NOMEM: none of them can run. */
enum mcs_status mcs_exec_memory_alloc(struct exec_memory *m);
/* What all of them take together, known before mcs_exec_memory_alloc: the largest activations, inputs and workspace,
 * and everyone's constants. mcs_plan_bytes of it is what is allocated. */
struct plan mcs_exec_memory_plan(const struct exec_memory *m);
/* After its executors are freed. */
void mcs_exec_memory_free(struct exec_memory *m);

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

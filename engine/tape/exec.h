/* Runs a planned graph on a device: a loop over a flat array of steps. */
#ifndef MCS_EXEC_H
#define MCS_EXEC_H

#include "engine/backend.h"
#include "engine/tape/plan.h"

/* Device memory that executors share: activations, inputs and workspace, each as large as the largest executor needs.
 * Constants belong to each executor.
 *
 *     struct exec_memory memory = {.device = d};
 *     for (int i = 0; i < n; i++) MCS_TRY(mcs_exec_new_in(&memory, graph[i], &exec[i]));    // plans only
 *     MCS_TRY(mcs_exec_memory_alloc(&memory));                                              // now each of them can run
 *     ...
 *     for (int i = 0; i < n; i++) mcs_exec_free(exec[i]);
 *     mcs_exec_memory_free(&memory);
 *
 * Inputs are valid until another executor's inputs are set, kept tensors until another executor runs. So set all inputs
 * of an executor (but its constants) before each run. The inputs of the next run, of whichever executor, may be set
 * while the device still works on the last run and before its results are read. */
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
    struct exec_memory *memory; /* shared, or &own */
    struct exec_memory own;
    struct exec *next; /* in memory's list */
    char *constants;
    int bound; /* its tensors point into memory */
    /* Called after step i was enqueued, to enqueue work that follows it (collectives); NULL: nothing. Set once, before
     * the first run. no_capture: after_step waits for the device, so the steps cannot be recorded for replay. */
    enum mcs_status (*after_step)(void *ctx, int i);
    void *after_ctx;
    int no_capture;
    double *step_seconds; /* sum of times per step when steps are timed, else NULL */
    int64_t n_runs;       /* forward passes, alone or within a run of all steps; for mean times */
    struct {              /* by part: all steps, the forward ones, the backward ones */
        int64_t n_runs;
        /* Recorded in the second run, on backends that can; replayed from then on while steps are not timed. */
        void *captured;
    } part[3];
};

/* Plans the graph, prepares every step, allocates memory and binds all tensors. The graph's params must be allocated
 * (mcs_params_alloc) and, where the graph has a backward part, have gradients. Owned by the caller; the graph must
 * outlive it. */
enum mcs_status mcs_exec_new(struct graph *g, struct device *d, struct exec **e);
void mcs_exec_free(struct exec *e);

/* The same in shared memory, which must outlive it: only plans and prepares, so that e->plan is known; the parameters
 * need no memory yet. */
enum mcs_status mcs_exec_new_in(struct exec_memory *m, struct graph *g, struct exec **e);
/* Allocates memory for all executors made since the last call. If one needs more than is allocated, everything is
 * reallocated: inputs and kept tensors are lost, and recorded steps are recorded again. E_NOMEM: none can run. */
enum mcs_status mcs_exec_memory_alloc(struct exec_memory *m);
/* The total of all executors, known before mcs_exec_memory_alloc: the largest activations, inputs and workspace, and
 * the sum of constants. mcs_plan_bytes of the result is the number of bytes allocated. */
struct plan mcs_exec_memory_plan(const struct exec_memory *m);
/* Call it after its executors are freed. */
void mcs_exec_memory_free(struct exec_memory *m);

/* Copies into an input (or a seed's gradient), or out of a kept tensor: one float (or int32) per element, whatever type
 * the device stores. */
enum mcs_status mcs_exec_set(struct exec *e, const struct tensor *t, const void *src);
enum mcs_status mcs_exec_get(struct exec *e, const struct tensor *t, void *dst);

/* Runs all steps; only the forward steps; only the backward steps (after a forward). No heap allocation. */
enum mcs_status mcs_exec_run(struct exec *e);
enum mcs_status mcs_exec_forward(struct exec *e);
enum mcs_status mcs_exec_backward(struct exec *e);

/* From now on times each step, into step_seconds, by waiting for the device after each. E_NOMEM. */
enum mcs_status mcs_exec_time_steps(struct exec *e);

/* The trace of --trace, a Perfetto (Chrome JSON) file. Every executor made while it is open times its steps; when it is
 * freed, it is written as one process of the trace, with each step's mean time over the runs. E_IO. Close returns E_IO
 * where a write failed, and does nothing where no trace is open. */
enum mcs_status mcs_exec_trace_open(const char *path);
enum mcs_status mcs_exec_trace_close(void);

#endif

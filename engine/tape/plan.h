/* Memory planning: where every tensor of a graph is stored, and how many bytes that takes, before anything runs. Three
 * regions, each with its offsets, multiples of 64:
 *
 *     activations   outputs of steps and their gradients; memory is reused by liveness
 *     inputs        tensors that the caller fills before a run (mcs_input), one after the other
 *     constants     tensors that are filled once: mcs_constant, and the gradients of the losses (TENSOR_SEED)
 *
 * and one workspace, as large as the largest that a step asks for. */
#ifndef MCS_PLAN_H
#define MCS_PLAN_H

#include "engine/tape/graph.h"

#include <stdio.h>

struct plan {
    int64_t activation_bytes, input_bytes, constant_bytes; /* of the three regions */
    int64_t workspace_bytes;                               /* 0 until the steps are prepared */
    int64_t param_bytes, grad_bytes;
    int64_t sum_bytes; /* sum over the three regions without reuse */
};
enum plan_region { PLAN_ACTIVATIONS, PLAN_INPUTS, PLAN_CONSTANTS };
/* The region of a tensor that is neither a parameter nor a parameter's gradient. */
enum plan_region mcs_plan_region(const struct tensor *t);
/* Device memory of a run, apart from the parameters and their gradients: the three regions and the workspace. */
int64_t mcs_plan_bytes(const struct plan *plan);
/* Sets first_step, last_step and offset of every tensor that owns storage in the graph. */
enum mcs_status mcs_plan_make(struct graph *g, struct plan *plan);
/* One line per step: index, op, scope, shapes, bytes, offset. */
void mcs_plan_dump(const struct graph *g, const struct plan *plan, FILE *f);
/* Live bytes over time, for the report and --dry-run: live_bytes[i] during step i (g->n_steps values). */
void mcs_plan_timeline(const struct graph *g, int64_t *live_bytes);

#endif

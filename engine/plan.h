/* Where every tensor of a graph lives: one activation arena whose places are reused by liveness, one workspace as large
 * as the largest wish. A plan knows its bytes before anything runs. Offsets are multiples of 64. */
#ifndef MCS_PLAN_H
#define MCS_PLAN_H

#include "engine/graph.h"

#include <stdio.h>

struct plan {
    int64_t activation_bytes; /* of the arena, inputs included */
    int64_t workspace_bytes;  /* 0 until the steps were prepared */
    int64_t param_bytes, grad_bytes;
    int64_t sum_bytes; /* what the activations would take without reuse */
};
/* Sets first_step, last_step and offset of every tensor that has storage of its own in the graph. */
enum mcs_status mcs_plan_make(struct graph *g, struct plan *plan);
/* A line a step: index, op, scope, shapes, bytes, offset. */
void mcs_plan_dump(const struct graph *g, const struct plan *plan, FILE *f);
/* The arena over time, for the report and --dry-run: live_bytes[i] during step i (g->n_steps values). */
void mcs_plan_timeline(const struct graph *g, int64_t *live_bytes);

#endif

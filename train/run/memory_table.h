/* The table that --dry-run of a training verb prints: the device memory of a run by purpose. */
#ifndef MCS_MEMORY_TABLE_H
#define MCS_MEMORY_TABLE_H

#include "engine/optim.h"
#include "engine/tape/plan.h"

/* Bytes on one device. plan: the memory shared by the compiled graphs, and the constants of all of them. */
struct train_memory {
    int64_t weights, gradients, moments;
    struct plan plan;
};
/* Weights, gradients and moments of the parameters with this optimizer; plan stays 0. */
struct train_memory mcs_memory_of(const struct params *p, enum optim_kind kind);
int64_t mcs_memory_bytes(const struct train_memory *m);
/* Prints a table in MiB after the line `head`, or one line of JSON whose first members are `json` ("\"steps\": 7"). */
void mcs_memory_print(const struct train_memory *m, int as_json, const char *head, const char *json);

#endif

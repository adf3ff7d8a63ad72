/* What --dry-run of a training verb says: the device memory that a run takes, part by part. */
#ifndef MCS_MEMORY_TABLE_H
#define MCS_MEMORY_TABLE_H

#include "engine/optim.h"
#include "engine/tape/plan.h"

/* Bytes on one device. `plan` holds what the planned graphs share, constants of all of them. */
struct train_memory {
    int64_t weights, gradients, moments;
    struct plan plan;
};
/* The parameters' part, by the optimizer that will train them. */
struct train_memory mcs_memory_of(const struct params *p, enum optim_kind kind);
int64_t mcs_memory_bytes(const struct train_memory *m);
/* Prints it: a table in MiB after the line `head`, or as a JSON object of one line, whose first members are `json`
 * ("\"steps\": 7"). */
void mcs_memory_print(const struct train_memory *m, int as_json, const char *head, const char *json);

#endif

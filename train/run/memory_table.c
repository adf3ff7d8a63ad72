#include "train/run/memory_table.h"

#include <stdio.h>

struct train_memory mcs_memory_of(const struct params *p, enum optim_kind kind)
{
    const int64_t bytes = p->n_values * (int64_t)sizeof(float);
    return (struct train_memory){
        .weights = bytes, .gradients = bytes, .moments = kind == OPTIM_ADAMW ? 2 * bytes : bytes};
}

int64_t mcs_memory_bytes(const struct train_memory *m)
{
    return m->weights + m->gradients + m->moments + mcs_plan_bytes(&m->plan);
}

void mcs_memory_print(const struct train_memory *m, int as_json, const char *head, const char *json)
{
    const struct {
        const char *name;
        int64_t bytes;
    } rows[] = {{"weights", m->weights},
                {"gradients", m->gradients},
                {"moments", m->moments},
                {"activations", m->plan.activation_bytes},
                {"inputs", m->plan.input_bytes},
                {"constants", m->plan.constant_bytes},
                {"workspace", m->plan.workspace_bytes},
                {"all", mcs_memory_bytes(m)}};
    const double mib = 1048576;
    if (as_json)
        printf("{%s", json);
    else
        printf("%s\ndevice memory of one rank, MiB:\n", head);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        printf(as_json ? ", \"%s_mib\": %.3f" : "  %-11s %12.3f\n", rows[i].name, (double)rows[i].bytes / mib);
    if (as_json) printf(", \"bytes\": %lld}\n", (long long)mcs_memory_bytes(m));
}

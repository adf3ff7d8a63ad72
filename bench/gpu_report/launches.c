/* The launches that ./run gpu-report counts: each case of launches.def and of tests/cases once forward and once backward
 * on the simulated device in checked mode, in float32 and in bf16. Arguments: names of ops, all if there is none. */
#include <stdio.h>
#include <string.h>

#include "engine/cuda/module.h"
#include "tests/cudasim/cudasim.h"
#include "tests/support_cases.h"

#define CASE(op_, name_, ...) {.op = OP_##op_, .name = name_, __VA_ARGS__},
static const struct op_case launches[] = {
#include "bench/gpu_report/launches.def"
};
#undef CASE

int main(int n_args, char **args)
{
    struct device device;
    int failed = 0;
    if (mcs_cuda_module.open(0, &device) != MCS_OK) {
        fprintf(stderr, "%s\n", mcs_error_message());
        return 1;
    }
    const int n_launches = (int)(sizeof launches / sizeof launches[0]);
    for (int i = 0; i < n_launches + mcs_n_cases; i++) {
        const struct op_case *c = i < n_launches ? &launches[i] : &mcs_cases[i - n_launches];
        int wanted = n_args == 1;
        for (int a = 1; a < n_args; a++) wanted |= strcmp(args[a], mcs_op_table[c->op].name) == 0;
        if (!wanted || !device.backend->ops[c->op].fwd) continue;
        for (int half = 0; half < 2; half++) {
            struct case_backend b = {.name = half ? "cuda bf16" : "cuda", .device = &device, .half = half};
            b.impl[c->op] = &device.backend->ops[c->op];
            failed += mcs_case_launch(c, &b);
        }
    }
    mcs_device_close(&device);
    return failed || cudasim_reports() ? 1 : 0;
}

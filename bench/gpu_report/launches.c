/* The launches whose counters ./run gpu-report reads: each case of launches.def, or, with the argument `cases`, of
 * tests/cases, once forward and once backward on the simulated device in checked mode, in float32 and in bf16. */
#include <stdio.h>
#include <string.h>

#include "engine/cuda/module.h"
#include "tests/cudasim/cudasim.h"
#include "tests/support/support_cases.h"

#define CASE(op_, name_, ...) {.op = OP_##op_, .name = name_, __VA_ARGS__},
static const struct op_case launches[] = {
#include "bench/gpu_report/launches.def"
};
#undef CASE

int main(int n_args, char **args)
{
    struct device device;
    const int cases = n_args > 1 && strcmp(args[1], "cases") == 0;
    int failed = 0;
    if (mcs_cuda_module.open(0, &device) != MCS_OK) {
        fprintf(stderr, "%s\n", mcs_error_message());
        return 1;
    }
    const int n = cases ? mcs_n_cases : (int)(sizeof launches / sizeof launches[0]);
    for (int i = 0; i < n; i++) {
        const struct op_case *c = cases ? &mcs_cases[i] : &launches[i];
        if (!device.backend->ops[c->op].fwd) continue;
        for (int half = 0; half < 2; half++) {
            struct case_backend b = {.name = half ? "cuda bf16" : "cuda", .device = &device, .half = half};
            b.impl[c->op] = &device.backend->ops[c->op];
            failed += mcs_case_launch(c, &b);
        }
    }
    mcs_device_close(&device);
    return failed || cudasim_reports() ? 1 : 0;
}

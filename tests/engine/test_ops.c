/* Every op of the CPU backend against its float64 oracle, on the cases of tests/cases. */
#include <criterion/criterion.h>
#include <omp.h>

#include "tests/support/support_cases.h"

static void run_op(enum mcs_op op)
{
    static struct device device;
    struct case_backend cpu = {.name = "cpu", .device = &device, .set_threads = omp_set_num_threads};
    int n = 0, failed = 0;
    cr_assert(mcs_cpu_open(2, &device) == MCS_OK, "%s", mcs_error_message());
    cpu.impl[op] = &device.backend->ops[op];
    for (int i = 0; i < mcs_n_cases; i++)
        if (mcs_cases[i].op == op) {
            n++;
            failed += mcs_case_run(&mcs_cases[i], &cpu);
        }
    mcs_cpu_close(&device);
    cr_assert(n > 0, "%s: no case in tests/cases/%s.def", mcs_op_table[op].name, mcs_op_table[op].name);
    cr_assert(failed == 0, "%s: %d checks failed in %d cases", mcs_op_table[op].name, failed, n);
}

#define OP(name, inputs, outputs, attr)                                                                                \
    Test(ops, name)                                                                                                    \
    {                                                                                                                  \
        run_op(OP_##name);                                                                                             \
    }
#include "engine/tape/ops.def"
#undef OP

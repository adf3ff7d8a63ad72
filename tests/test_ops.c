/* Every op of the CPU backend against its float64 oracle, on the cases of tests/cases. */
#include <criterion/criterion.h>
#include <omp.h>

#include "tests/support_cases.h"

#define OP(name, n_in, n_out, attr, keep_in, keep_out, grad)                                                           \
    extern const struct op_impl mcs_cpu_##name __attribute__((weak));
#include "engine/ops.def"
#undef OP

static struct device device;
static const struct case_backend cpu = {
    .name = "cpu",
    .impl =
        {
#define OP(name, n_in, n_out, attr, keep_in, keep_out, grad) &mcs_cpu_##name,
#include "engine/ops.def"
#undef OP
        },
    .device = &device,
    .set_threads = omp_set_num_threads,
};

static void run_op(enum mcs_op op)
{
    int n = 0, failed = 0;
    if (!cpu.impl[op] || !mcs_case_has_oracle(op)) cr_skip_test("%s: not there yet", mcs_op_table[op].name);
    for (int i = 0; i < mcs_n_cases; i++)
        if (mcs_cases[i].op == op) {
            n++;
            failed += mcs_case_run(&mcs_cases[i], &cpu);
        }
    cr_assert(n > 0, "%s: no case in tests/cases/%s.def", mcs_op_table[op].name, mcs_op_table[op].name);
    cr_assert(failed == 0, "%s: %d checks failed in %d cases", mcs_op_table[op].name, failed, n);
}

#define OP(name, n_in, n_out, attr, keep_in, keep_out, grad)                                                           \
    Test(ops, name)                                                                                                    \
    {                                                                                                                  \
        run_op(OP_##name);                                                                                             \
    }
#include "engine/ops.def"
#undef OP

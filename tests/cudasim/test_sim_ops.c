/* Every op of the CUDA backend against its float64 oracle on the cases of tests/cases, in float32 and bf16, with
 * threads, blocks and streams in order and in random orders. The checked program must produce no reports. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "engine/cuda/module.h"
#include "engine/tape/amp.h"
#include "tests/cudasim/cudasim.h"
#include "tests/support/support_cases.h"

static void check_reports(const char *op, const char *name)
{
    for (int i = 0; i < cudasim_reports(); i++) cr_expect(0, "%s \"%s\": %s", op, name, cudasim_report_text(i));
    cudasim_reports_clear();
}

/* For the mutation test: the environment can ask to stop at the first failure and to run one order of threads. */
static int in_a_hurry(void)
{
    return getenv("TEST_FIRST_FAILURE") != NULL;
}

/* Number of thread orders for each case. The checked program finds a missing barrier in any order (README.md) and takes
 * ten times as long as the plain one: one order there unless TEST_ALL_ORDERS is set (the full tier). */
static int orders(void)
{
    if (in_a_hurry()) return 1;
    return cudasim_checked() && !getenv("TEST_ALL_ORDERS") ? 1 : 3;
}

static int run_cases(enum mcs_op op, int half, uint64_t seed)
{
    struct device device;
    int failed = 0;
    cudasim_seed(seed);
    cr_assert(mcs_cuda_module.open(0, &device) == MCS_OK, "%s", mcs_error_message());
    struct case_backend b = {
        .name = half ? "cuda bf16" : "cuda", .device = &device, .half = half, .exact = cudasim_checked()};
    b.impl[op] = &device.backend->ops[op];
    for (int i = 0; i < mcs_n_cases; i++) {
        if (mcs_cases[i].op != op) continue;
        failed += mcs_case_run(&mcs_cases[i], &b);
        failed += cudasim_reports() > 0;
        check_reports(mcs_op_table[op].name, mcs_cases[i].name);
        if (failed && in_a_hurry()) break;
    }
    mcs_device_close(&device);
    cr_expect(cudasim_bytes_held() == 0, "%s: %zu bytes of device memory left", mcs_op_table[op].name,
              cudasim_bytes_held());
    return failed;
}

static void run_op(enum mcs_op op, int half)
{
    const uint64_t seeds[] = {0, 11, 12};
    if (half && !mcs_amp_slots(op)) return; /* ops of losses and coordinates stay in float32 in a bf16 graph */
    for (int i = 0; i < orders(); i++) {
        const int failed = run_cases(op, half, seeds[i]);
        cr_expect(failed == 0, "%s, %s, seed %d: %d checks failed", mcs_op_table[op].name, half ? "bf16" : "float32",
                  (int)seeds[i], failed);
    }
}

#define OP(name, inputs, outputs, attr)                                                                                \
    Test(cuda_ops, name)                                                                                               \
    {                                                                                                                  \
        run_op(OP_##name, 0);                                                                                          \
    }                                                                                                                  \
    Test(cuda_bf16_ops, name)                                                                                          \
    {                                                                                                                  \
        run_op(OP_##name, 1);                                                                                          \
    }
#include "engine/tape/ops.def"
#undef OP

/* A process group of ranks on the CPU: the fields that each rank gets, the broadcast of rank 0, and the batches that
 * are refused. */
#include "engine/base/log.h"
#include "infer/unet/unet_model.h"
#include "infer/weights.h"
#include "train/run/process_group.h"
#include "train/unet/unet_train.h"

#include <criterion/criterion.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

enum { RANKS = 3 };

struct seen {
    int64_t first_step; /* what rank 0 has done */
    int64_t step[RANKS], optim_step[RANKS];
    int size[RANKS], calls;
    char weights[RANKS][65];
    float m[RANKS], v[RANKS];
};

/* Ranks begin with other weights, moments and steps; rank 0's count. */
static enum mcs_status start(void *ctx, const struct process_group *group)
{
    struct seen *seen = ctx;
    struct unet_plans p;
    struct unet_model m;
    struct optim *optim;
    const struct optim_options adamw = mcs_unet_adamw();
    MCS_TRY(mcs_unet_plans_make(1, 2, 16, 16, 3, 2, 8, &p));
    MCS_TRY(mcs_unet_model_new(&p, 5 + (uint64_t)group->rank, group->device, &m));
    MCS_TRY(mcs_params_alloc_grad(m.params));
    MCS_TRY(mcs_optim_new(m.params, &adamw, NULL, &optim));
    const int64_t last = m.params->n_values - 1;
    optim->m[last] = 0.5f + (float)group->rank, optim->v[last] = 0.25f + (float)group->rank;
    int64_t step = group->rank ? 2 * group->rank : seen->first_step;
    MCS_TRY(mcs_process_group_broadcast(group->comm, m.params, optim, &step));
    seen->step[group->rank] = step, seen->optim_step[group->rank] = optim->step;
    seen->size[group->rank] = group->size;
    seen->m[group->rank] = optim->m[last], seen->v[group->rank] = optim->v[last];
    MCS_TRY(mcs_weights_sha256(m.params, seen->weights[group->rank]));
    __atomic_add_fetch(&seen->calls, 1, __ATOMIC_RELAXED);
    mcs_optim_free(optim);
    mcs_unet_model_close(&m);
    return MCS_OK;
}

static void check_start(int64_t first_step, int64_t gpus)
{
    const struct mcs_device_options device = {.threads = 2};
    struct seen seen = {.first_step = first_step};
    const int n = gpus > 1 ? (int)gpus : 1;
    const struct process_group_options o = {.device = &device, .gpus = gpus, .run = "/tmp", .config = "a: 1\n"};
    OK(mcs_process_group_run(&o, start, &seen));
    cr_expect_eq(seen.calls, n);
    for (int r = 0; r < n; r++) {
        cr_expect_eq(seen.step[r], first_step, "rank %d: step %lld", r, (long long)seen.step[r]);
        cr_expect(n == 1 || seen.optim_step[r] == first_step);
        cr_expect_eq(seen.size[r], n);
        cr_expect_str_eq(seen.weights[r], seen.weights[0]);
        cr_expect(seen.m[r] == 0.5f && seen.v[r] == 0.25f, "rank %d: moments %g %g", r, (double)seen.m[r],
                  (double)seen.v[r]);
    }
}

/* Steps are sent as two numbers, of 20 bits each. */
Test(process_group, all_start_from_the_first_rank, .timeout = 60)
{
    static const int64_t steps[] = {9, (1 << 20) - 1, 1 << 20, 3 * (1 << 20) + 77};
    mcs_log_quiet(1);
    for (int i = 0; i < 4; i++) check_start(steps[i], i % 2 ? RANKS : 2);
    check_start(12, 0);
    check_start(12, 1);
}

Test(process_group, batches_that_divide)
{
    OK(mcs_process_group_check_batch(1, 7));
    OK(mcs_process_group_check_batch(3, 9));
    cr_expect_eq(mcs_process_group_check_batch(3, 10), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "a batch of 10 does not divide into 3 ranks"), "%s", mcs_error_message());
    mcs_error_clear();
}
